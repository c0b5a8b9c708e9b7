//! Results of earlier runs, used without images.lock: the digest for a source's platforms, and the last digest put at each target.
//! The file is below target/; losing it costs one GET per image.

mod journal;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use registry::mirror::Mapping;
use registry::{Digest, Manifest, Reference};
use serde::Deserialize;

use super::Platforms;
use super::lock::PlatformSet;
use super::manifests::Manifests;
use journal::{Journal, Kind, Unread};

/// The old format, one JSON document that was rewritten each time. It is imported once.
const OLD_VERSION: u32 = 1;

/// Pause between two writes while images are copied one after another.
const PAUSE: Duration = Duration::from_millis(250);

/// A cache in a file.
#[derive(Debug)]
pub struct Cache {
    state: Mutex<State>,
    manifests: Manifests,
}

#[derive(Debug)]
struct State {
    journal: Journal,
    /// The blobs of manifests that have no target yet.
    standing: HashMap<Digest, Vec<Digest>>,
    written: Option<Instant>,
}

/// The old format.
#[derive(Debug, Deserialize)]
struct OldFormat {
    version: u32,
    wanted: BTreeMap<String, BTreeMap<String, Digest>>,
    #[serde(default)]
    meant: BTreeMap<String, Digest>,
    #[serde(default)]
    blobs: BTreeMap<String, Vec<Digest>>,
    placed: BTreeMap<String, Digest>,
}

impl Cache {
    /// Opens the cache; manifests are in a folder next to its file. An unreadable file causes a warning and is replaced.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifests = Manifests::new(path.with_file_name("manifests"));
        let (mut journal, unread) = Journal::open(path, today());
        let problem = match unread {
            None => None,
            Some(Unread::Io(why)) => Some(why.to_string()),
            Some(Unread::Form(bytes)) => take_over(&mut journal, &bytes).err(),
        };
        if let Some(problem) = problem {
            tracing::warn!("the cache {name} is unreadable and starts empty: {problem}");
        }
        Self { state: Mutex::new(State { journal, standing: HashMap::new(), written: None }), manifests }
    }

    /// Whether an earlier run verified a signature of this signer ([`trust::Signer::id`]) over the digest. The result depends only
    /// on these two, so it stays valid.
    pub fn signed(&self, digest: Digest, signer: &str) -> bool {
        self.state().journal.get(Kind::Signed, &signed_key(digest, signer)).is_some()
    }

    /// Records a verified signature.
    pub fn sign(&self, digest: Digest, signer: &str) {
        self.state().journal.put(Kind::Signed, &signed_key(digest, signer), "1".to_owned());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn digest(&mut self, kind: Kind, key: &str) -> Option<Digest> {
        self.journal.get(kind, key)?.parse().ok()
    }

    /// Appends new facts. Those that other runs wrote in the meantime stay.
    fn save(&mut self) {
        self.written = Some(Instant::now());
        if let Err(why) = self.journal.append() {
            tracing::warn!("the cache of this run cannot be saved: {why}");
        }
    }
}

/// Days since 1970.
pub(crate) fn today() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / 86_400).unwrap_or(u32::MAX)
}

/// Key for source and platforms.
fn wanted_key(source: &str, set: &str) -> String {
    format!("{source} {set}")
}

fn repository(source: &Reference) -> String {
    format!("{}/{}", source.registry(), source.repository())
}

/// Key for digest and signer.
fn signed_key(digest: Digest, signer: &str) -> String {
    format!("{digest} {signer}")
}

fn joined(blobs: &[Digest]) -> String {
    blobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn take_over(journal: &mut Journal, bytes: &[u8]) -> Result<(), String> {
    let old: OldFormat = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
    if old.version != OLD_VERSION {
        return Err(format!("it has version {}, which is not known", old.version));
    }
    for (source, sets) in &old.wanted {
        for (set, wanted) in sets {
            journal.put(Kind::Wanted, &wanted_key(source, set), wanted.to_string());
        }
    }
    for (source, digest) in &old.meant {
        journal.put(Kind::SourceDigest, source, digest.to_string());
    }
    for (target, digest) in &old.placed {
        journal.put(Kind::TargetDigest, target, digest.to_string());
    }
    for (manifest, blobs) in &old.blobs {
        journal.put(Kind::Blobs, manifest, joined(blobs));
    }
    // If this fails, the next write reports it.
    journal.append().or(Ok(()))
}

impl Mapping for Cache {
    fn get(&self, source: Digest, platforms: &Platforms) -> Option<Digest> {
        let set = PlatformSet::from(platforms).to_string();
        self.state().digest(Kind::Wanted, &wanted_key(&source.to_string(), &set))
    }

    fn put(&self, source: Digest, platforms: &Platforms, wanted: Digest) {
        let set = PlatformSet::from(platforms).to_string();
        let key = wanted_key(&source.to_string(), &set);
        self.state().journal.put(Kind::Wanted, &key, wanted.to_string());
    }

    fn is_made_of(&self, digest: Digest, source: Digest) -> bool {
        let begin = wanted_key(&source.to_string(), "");
        self.state().journal.has_under(Kind::Wanted, &begin, &digest.to_string())
    }

    fn source_digest(&self, source: &Reference) -> Option<Digest> {
        self.state().digest(Kind::SourceDigest, &source.to_string())
    }

    fn record_source_digest(&self, source: &Reference, digest: Digest) {
        self.state().journal.put(Kind::SourceDigest, &source.to_string(), digest.to_string());
    }

    fn blobs(&self, digest: Digest) -> Vec<Digest> {
        let mut state = self.state();
        if let Some(blobs) = state.standing.get(&digest) {
            return blobs.clone();
        }
        let blobs = state.journal.get(Kind::Blobs, &digest.to_string()).unwrap_or_default();
        blobs.split(',').filter_map(|blob| blob.parse().ok()).collect()
    }

    /// Written with the call of [`Mapping::place`] that follows.
    fn record_blobs(&self, digest: Digest, blobs: Vec<Digest>) {
        self.state().standing.insert(digest, blobs);
    }

    fn target_digest(&self, target: &Reference) -> Option<Digest> {
        self.state().digest(Kind::TargetDigest, &target.to_string())
    }

    /// Written soon: otherwise, after a kill and a change upstream, the next run would not recognise this run's image at the target
    /// as its own.
    fn record_target_digest(&self, target: &Reference, digest: Digest) {
        let mut state = self.state();
        if let Some(blobs) = state.standing.remove(&digest) {
            state.journal.put(Kind::Blobs, &digest.to_string(), joined(&blobs));
        }
        let is_news = state.journal.put(Kind::TargetDigest, &target.to_string(), digest.to_string());
        if is_news && state.written.is_none_or(|written| written.elapsed() >= PAUSE) {
            state.save();
        }
    }

    fn manifest(&self, digest: Digest) -> Option<Manifest> {
        self.manifests.get(digest)
    }

    fn record_manifest(&self, manifest: &Manifest) {
        self.manifests.put(manifest);
    }

    fn has_artifacts(&self, source: &Reference, target: &Reference) -> bool {
        let from = self.state().journal.get(Kind::Artifacts, &target.to_string());
        from.is_some_and(|from| from == repository(source))
    }

    fn record_artifacts(&self, source: &Reference, target: &Reference) {
        self.state().journal.put(Kind::Artifacts, &target.to_string(), repository(source));
    }

    fn flush(&self) {
        let mut state = self.state();
        if !state.journal.is_dirty() {
            return;
        }
        state.save();
        if let Err(why) = state.journal.compact() {
            tracing::debug!("the cache of earlier runs cannot be compacted: {why}");
        }
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
    fn the_next_run_knows_the_results_of_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/cache.json");
        let (source, target): (Reference, Reference) = ("a:b".parse().unwrap(), "h:1/a:b".parse().unwrap());
        let (index, image, other) = (Digest::of(b"index"), Digest::of(b"image"), Digest::of(b"other"));
        {
            let cache = Cache::open(&path);
            assert_eq!(cache.get(index, &amd64()), None);
            cache.put(index, &amd64(), image);
            cache.put(index, &both(["linux/arm64", "linux/amd64"]), other);
            cache.record_source_digest(&source, index);
            assert!(!path.exists(), "learning alone writes nothing yet");
            cache.record_blobs(image, vec![other]);
            cache.record_blobs(other, vec![index]);
            cache.record_artifacts(&source, &target.with_digest(image));
            cache.record_target_digest(&target, image);
            assert_eq!(
                Cache::open(&path).target_digest(&target),
                Some(image),
                "the first is written at once"
            );
            cache.record_target_digest(&target.with_tag("d").unwrap(), image);
            cache.flush();
            assert_eq!(Cache::open(&path).target_digest(&target.with_tag("d").unwrap()), Some(image));
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
        assert_eq!((cache.source_digest(&source), cache.source_digest(&target)), (Some(index), None));
        assert_eq!(cache.blobs(image), [other]);
        assert_eq!(cache.blobs(other), [], "it was put nowhere");
        assert_eq!(cache.target_digest(&target), Some(image));
        assert_eq!(cache.target_digest(&target.with_tag("c").unwrap()), None);
        assert!(cache.has_artifacts(&source, &target.with_digest(image)));
        assert!(cache.has_artifacts(&source.with_tag("c").unwrap(), &target.with_digest(image)));
        let elsewhere = ["c:b", "h:1/a:b"].map(|name| name.parse::<Reference>().unwrap());
        assert!(elsewhere.iter().all(|source| !cache.has_artifacts(source, &target.with_digest(image))));
        assert!(!cache.has_artifacts(&source, &target.with_digest(index)));
    }

    #[test]
    fn two_simultaneous_runs_keep_the_results_of_both() {
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
    fn a_run_without_new_results_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.json");
        let target: Reference = "h:1/a:b".parse().unwrap();
        {
            let cache = Cache::open(&path);
            cache.record_target_digest(&target, Digest::of(b"x"));
        }
        let before = std::fs::metadata(&path).unwrap();
        {
            let cache = Cache::open(&path);
            cache.record_target_digest(&target, Digest::of(b"x"));
        }
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), before.ino());
    }

    #[test]
    fn the_old_format_is_read_once_and_converted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mapping.json");
        let (source, target): (Reference, Reference) = ("a:b".parse().unwrap(), "h:1/a:b".parse().unwrap());
        let (index, image, layer) = (Digest::of(b"index"), Digest::of(b"image"), Digest::of(b"layer"));
        let old = serde_json::json!({
            "version": 1,
            "wanted": { index.to_string(): { "linux/amd64": image } },
            "meant": { source.to_string(): index },
            "blobs": { image.to_string(): [layer, index] },
            "placed": { target.to_string(): image },
        });
        std::fs::write(&path, serde_json::to_vec_pretty(&old).unwrap()).unwrap();
        for _ in 0..2 {
            let cache = Cache::open(&path);
            assert_eq!(cache.get(index, &amd64()), Some(image));
            assert_eq!(
                (cache.source_digest(&source), cache.target_digest(&target)),
                (Some(index), Some(image))
            );
            assert_eq!(cache.blobs(image), [layer, index]);
            assert!(std::fs::read_to_string(&path).unwrap().starts_with("{\"version\":2,"));
        }
    }

    #[test]
    fn a_broken_cache_file_is_started_again() {
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
            assert_eq!(cache.target_digest(&target), None, "{text}");
            cache.record_target_digest(&target, Digest::of(b"y"));
            assert_eq!(Cache::open(&path).target_digest(&target), Some(Digest::of(b"y")), "{text}");
        }
    }

    #[test]
    fn a_valid_signature_is_remembered_for_its_digest_and_signer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache.json");
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        Cache::open(&path).sign(one, "a key");
        let cache = Cache::open(&path);
        assert!(cache.signed(one, "a key") && !cache.signed(one, "another") && !cache.signed(two, "a key"));
    }

    #[test]
    fn an_unwritable_directory_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let target: Reference = "h:1/a:b".parse().unwrap();
        let cache = Cache::open(file.join("cache.json"));
        cache.record_target_digest(&target, Digest::of(b"x"));
        assert_eq!(cache.target_digest(&target), Some(Digest::of(b"x")));
    }
}
