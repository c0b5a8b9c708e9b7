//! Manifests of registries that count reads, one file each, so that a dry run and the next run need only one pull.

use std::path::PathBuf;
use std::sync::Once;
use std::time::{Duration, SystemTime};

use registry::{Digest, Manifest};

use super::atomic;

/// Manifests older than this are deleted.
const KEPT: Duration = Duration::from_secs(90 * 86_400);

/// A folder of manifests, named by digest. Losing it costs one GET per manifest.
#[derive(Debug)]
pub(super) struct Manifests {
    folder: PathBuf,
    tidied: Once,
}

impl Manifests {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, tidied: Once::new() }
    }

    /// The manifest of this digest. `None` if there is no file, or the file was changed.
    pub(super) fn get(&self, digest: Digest) -> Option<Manifest> {
        let bytes = std::fs::read(self.path(digest)).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let media_type = std::str::from_utf8(&bytes[..end]).ok()?;
        let manifest = Manifest::new(media_type, bytes[end + 1..].to_vec());
        (manifest.digest() == digest).then_some(manifest)
    }

    /// Stores a manifest: its media type, which not every manifest contains, and its bytes.
    pub(super) fn put(&self, manifest: &Manifest) {
        let written = atomic::write_soon(&self.path(manifest.digest()), |file| {
            writeln!(file, "{}", manifest.media_type())?;
            file.write_all(manifest.bytes())
        });
        if let Err(why) = written {
            tracing::debug!("manifest {} is not kept for the next run: {why}", manifest.digest());
        }
        self.tidied.call_once(|| self.tidy());
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string().replace(':', "-"))
    }

    fn tidy(&self) {
        let now = SystemTime::now();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            if written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age > KEPT)) {
                // Another run may have deleted it.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_manifest_is_returned_unless_its_file_was_changed_or_is_old() {
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("manifests");
        let manifests = Manifests::new(folder.clone());
        let manifest = Manifest::new("application/vnd.oci.image.manifest.v1+json", "{\n\"layers\": []}\n");
        assert_eq!(manifests.get(manifest.digest()), None);
        manifests.put(&manifest);
        assert_eq!(manifests.get(manifest.digest()), Some(manifest.clone()));

        let path = manifests.path(manifest.digest());
        let bytes = std::fs::read(&path).unwrap();
        for spoiled in [&bytes[..bytes.len() - 1], b"", b"no line's end"] {
            std::fs::write(&path, spoiled).unwrap();
            assert_eq!(manifests.get(manifest.digest()), None);
        }

        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let other = Manifest::new("application/vnd.oci.image.index.v1+json", "{}");
        Manifests::new(folder.clone()).put(&other);
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [manifests.path(other.digest())]);
    }
}
