//! What earlier runs learned, where there is no images.lock: which digest a source's platforms come to, and what was last put
//! where. It lives under target/; losing it costs one GET per image, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use registry::mirror::Mapping;
use registry::{Digest, Reference};
use serde::{Deserialize, Serialize};

use super::Platforms;
use super::lock::PlatformSet;

/// The form of the file; another one is ignored.
const VERSION: u32 = 1;

/// Between two writes while images come in one after another: the whole file is written each time.
const PAUSE: Duration = Duration::from_millis(250);

/// A memory in a file.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    content: Content,
    dirty: bool,
    written: Option<Instant>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// Source digest, then platforms, to the wanted digest.
    wanted: BTreeMap<String, BTreeMap<String, Digest>>,
    /// Source to what its name meant when it was last asked.
    #[serde(default)]
    meant: BTreeMap<String, Digest>,
    /// Manifest to the blobs that it stands on, for those that were put somewhere.
    #[serde(default)]
    blobs: BTreeMap<String, Vec<Digest>>,
    /// Target to what was put there.
    placed: BTreeMap<String, Digest>,
}

impl Cache {
    /// Opens the cache. A file that cannot be read is named in a warning and begun anew.
    pub(crate) fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let content = read(&path);
        Self { path, state: Mutex::new(State { content, ..State::default() }) }
    }

    /// Writes what is new, beside what other runs wrote in the meantime.
    fn save(&self, state: &mut State) {
        if state.dirty {
            // Tried once: a folder that cannot be written to is warned of once.
            state.dirty = false;
            state.written = Some(Instant::now());
            self.write(&mut state.content);
        }
    }

    fn write(&self, content: &mut Content) {
        let mut merged = read(&self.path);
        for (source, sets) in std::mem::take(&mut content.wanted) {
            merged.wanted.entry(source).or_default().extend(sets);
        }
        merged.meant.append(&mut content.meant);
        merged.placed.append(&mut content.placed);
        merged.blobs.append(&mut content.blobs);
        let placed: BTreeSet<String> = merged.placed.values().map(ToString::to_string).collect();
        merged.blobs.retain(|manifest, _| placed.contains(manifest));
        merged.version = VERSION;
        *content = merged;
        let written = serde_json::to_vec_pretty(&content)
            .map_err(std::io::Error::from)
            .and_then(|text| super::atomic::write_soon(&self.path, &text));
        if let Err(why) = written {
            tracing::warn!("what this run learned cannot be kept for the next one: {why}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The content of a file; nothing where it is missing or not ours.
fn read(path: &Path) -> Content {
    let problem = match std::fs::read(path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Content::default(),
        Err(why) => why.to_string(),
        Ok(bytes) => match serde_json::from_slice::<Content>(&bytes) {
            Ok(content) if content.version == VERSION => return content,
            Ok(content) => format!("it has version {}, not {VERSION}", content.version),
            Err(why) => why.to_string(),
        },
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    tracing::warn!("{name}, what earlier runs learned, is begun anew: {problem}");
    Content::default()
}

impl Mapping for Cache {
    fn get(&self, source: Digest, platforms: &Platforms) -> Option<Digest> {
        let set = PlatformSet::from(platforms).to_string();
        self.state().content.wanted.get(&source.to_string())?.get(&set).copied()
    }

    fn put(&self, source: Digest, platforms: &Platforms, wanted: Digest) {
        let set = PlatformSet::from(platforms).to_string();
        let mut state = self.state();
        let sets = state.content.wanted.entry(source.to_string()).or_default();
        if sets.insert(set, wanted) != Some(wanted) {
            state.dirty = true;
        }
    }

    fn meant(&self, source: &Reference) -> Option<Digest> {
        self.state().content.meant.get(&source.to_string()).copied()
    }

    fn mean(&self, source: &Reference, digest: Digest) {
        let mut state = self.state();
        if state.content.meant.insert(source.to_string(), digest) != Some(digest) {
            state.dirty = true;
        }
    }

    fn blobs(&self, digest: Digest) -> Vec<Digest> {
        self.state().content.blobs.get(&digest.to_string()).cloned().unwrap_or_default()
    }

    /// Written with [`Mapping::place`], which follows.
    fn stand_on(&self, digest: Digest, blobs: Vec<Digest>) {
        self.state().content.blobs.insert(digest.to_string(), blobs);
    }

    fn placed(&self, target: &Reference) -> Option<Digest> {
        self.state().content.placed.get(&target.to_string()).copied()
    }

    /// Written soon: a run that is killed should not take its own work for somebody else's when upstream has moved by the time
    /// that it starts again.
    fn place(&self, target: &Reference, digest: Digest) {
        let mut state = self.state();
        if state.content.placed.insert(target.to_string(), digest) == Some(digest) {
            return;
        }
        state.dirty = true;
        if state.written.is_none_or(|written| written.elapsed() >= PAUSE) {
            self.save(&mut state);
        }
    }

    fn flush(&self) {
        self.save(&mut self.state());
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd64() -> Platforms {
        Platforms::Only(vec!["linux/amd64".parse().unwrap()])
    }

    fn both(order: [&str; 2]) -> Platforms {
        Platforms::Only(order.iter().map(|platform| platform.parse().unwrap()).collect())
    }

    #[test]
    fn what_one_run_learns_the_next_one_knows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/cache.json");
        let (source, target): (Reference, Reference) = ("a:b".parse().unwrap(), "h:1/a:b".parse().unwrap());
        let (index, image, other) = (Digest::of(b"index"), Digest::of(b"image"), Digest::of(b"other"));
        {
            let cache = Cache::open(&path);
            assert_eq!(cache.get(index, &amd64()), None);
            cache.put(index, &amd64(), image);
            cache.put(index, &both(["linux/arm64", "linux/amd64"]), other);
            cache.mean(&source, index);
            assert!(!path.exists(), "learning alone writes nothing yet");
            cache.stand_on(image, vec![other]);
            cache.stand_on(other, vec![index]);
            cache.place(&target, image);
            assert_eq!(Cache::open(&path).placed(&target), Some(image), "the first is written at once");
            cache.place(&target.with_tag("d").unwrap(), image);
            cache.flush();
            assert_eq!(Cache::open(&path).placed(&target.with_tag("d").unwrap()), Some(image));
            cache.put(index, &Platforms::All, index);
        }
        let cache = Cache::open(&path);
        assert_eq!(cache.get(index, &amd64()), Some(image));
        assert_eq!(
            cache.get(index, &both(["linux/amd64", "linux/arm64"])),
            Some(other),
            "the order is nothing"
        );
        assert_eq!(cache.get(index, &Platforms::All), Some(index));
        assert_eq!(cache.get(image, &Platforms::All), None);
        assert_eq!((cache.meant(&source), cache.meant(&target)), (Some(index), None));
        assert_eq!(cache.blobs(image), [other]);
        assert_eq!(cache.blobs(other), [], "it was put nowhere");
        assert_eq!(cache.placed(&target), Some(image));
        assert_eq!(cache.placed(&target.with_tag("c").unwrap()), None);
    }

    #[test]
    fn two_runs_at_once_keep_both_their_memories() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.json");
        let (one, two) = (Cache::open(&path), Cache::open(&path));
        one.put(Digest::of(b"1"), &amd64(), Digest::of(b"one"));
        two.put(Digest::of(b"2"), &amd64(), Digest::of(b"two"));
        drop(one);
        drop(two);
        let cache = Cache::open(&path);
        assert_eq!(cache.get(Digest::of(b"1"), &amd64()), Some(Digest::of(b"one")));
        assert_eq!(cache.get(Digest::of(b"2"), &amd64()), Some(Digest::of(b"two")));
    }

    #[test]
    fn a_run_that_learns_nothing_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.json");
        let target: Reference = "h:1/a:b".parse().unwrap();
        {
            let cache = Cache::open(&path);
            cache.place(&target, Digest::of(b"x"));
        }
        let before = std::fs::metadata(&path).unwrap();
        {
            let cache = Cache::open(&path);
            cache.place(&target, Digest::of(b"x"));
        }
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), before.ino());
    }

    #[test]
    fn broken_files_are_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.json");
        let long = format!(
            "{{\"version\": 2, \"wanted\": {{}}, \"placed\": {{\"h:1/a:b\": \"{}\"}}}}",
            Digest::of(b"x")
        );
        let target: Reference = "h:1/a:b".parse().unwrap();
        for text in
            ["", "{", "[]", "\u{0}", "{\"version\": 1, \"wanted\": {}, \"placed\": {\"a\": \"b\"}}", &long]
        {
            std::fs::write(&path, text).unwrap();
            let cache = Cache::open(&path);
            assert_eq!(cache.placed(&target), None, "{text}");
            cache.place(&target, Digest::of(b"y"));
            assert_eq!(Cache::open(&path).placed(&target), Some(Digest::of(b"y")), "{text}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_to_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let target: Reference = "h:1/a:b".parse().unwrap();
        let cache = Cache::open(file.join("cache.json"));
        cache.place(&target, Digest::of(b"x"));
        assert_eq!(cache.placed(&target), Some(Digest::of(b"x")));
    }
}
