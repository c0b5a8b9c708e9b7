//! Layers: gzip-compressed tar archives whose bytes depend only on their description.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;

/// A written layer, with the data for manifests and configurations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// SHA-256 of the compressed archive, with its prefix.
    pub(crate) digest: String,
    /// SHA-256 of the archive itself, with its prefix.
    pub(crate) diff_id: String,
    /// Size of the compressed archive, in bytes.
    pub(crate) size: u64,
}

/// `sha256:` and the digest of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Writes an archive with the files that `fill` adds.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write(
    path: &Path,
    compression: Compression,
    fill: impl FnOnce(&mut Archive) -> io::Result<()>,
) -> Result<Layer, Error> {
    let write = || {
        let file = Hashed::new(BufWriter::with_capacity(1 << 18, File::create(path)?));
        // No name, time or operating system in the header: the same bytes everywhere.
        let gzip = GzBuilder::new().mtime(0).operating_system(255).write(file, compression);
        // The caller writes small pieces; hashing and compressing are faster with large ones.
        let plain = Hashed::new(gzip);
        let mut archive = Archive(tar::Builder::new(BufWriter::with_capacity(1 << 18, plain)));
        fill(&mut archive)?;
        let plain = archive.0.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        let (gzip, diff_id, _) = plain.finish();
        let (file, digest, size) = gzip.finish()?.finish();
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Layer { digest, diff_id, size })
    };
    write().map_err(Error::file("write", path))
}

/// A tar archive being written, owned by root and dated at the epoch, except for a directory copied from this machine.
pub(crate) struct Archive(tar::Builder<BufWriter<Hashed<Compressed>>>);

/// The compressed file behind an archive.
type Compressed = flate2::write::GzEncoder<Hashed<BufWriter<File>>>;

impl Archive {
    /// Adds a file with its content.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.stream(path, mode, content.len() as u64, content)
    }

    /// Adds a file of `size` bytes from `content`.
    pub(crate) fn stream(&mut self, path: &str, mode: u32, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_size(size);
        self.0.append_data(&mut header, path, content)
    }

    /// Adds a directory.
    pub(crate) fn directory(&mut self, path: &str) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        self.0.append_data(&mut header, path, io::empty())
    }

    /// Adds everything below `root`, sorted by name, with its modes, owners and links. Device files are left out: the container engine adds
    /// its own.
    pub(crate) fn tree(&mut self, root: &Path) -> io::Result<()> {
        let mut linked = std::collections::HashMap::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(below) = waiting.pop() {
            let path = root.join(&below);
            let metadata = path.symlink_metadata()?;
            let kind = metadata.file_type();
            let mut header = tar::Header::new_gnu();
            header.set_metadata(&metadata);
            header.set_size(0);
            if kind.is_dir() {
                let mut names: Vec<_> =
                    path.read_dir()?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
                names.sort_unstable_by(|a, b| b.cmp(a));
                waiting.extend(names.into_iter().map(|name| below.join(name)));
                if !below.as_os_str().is_empty() {
                    header.set_entry_type(tar::EntryType::Directory);
                    self.0.append_data(&mut header, &below, io::empty())?;
                }
            } else if kind.is_symlink() {
                header.set_entry_type(tar::EntryType::Symlink);
                self.0.append_link(&mut header, &below, path.read_link()?)?;
            } else if kind.is_file() {
                if metadata.nlink() > 1
                    && let Some(first) = linked.insert((metadata.dev(), metadata.ino()), below.clone())
                {
                    header.set_entry_type(tar::EntryType::Link);
                    self.0.append_link(&mut header, &below, &first)?;
                    linked.insert((metadata.dev(), metadata.ino()), first);
                } else {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(metadata.len());
                    self.0.append_data(&mut header, &below, File::open(&path)?)?;
                }
            } else {
                debug_assert!(
                    kind.is_char_device() || kind.is_block_device() || kind.is_fifo() || kind.is_socket()
                );
            }
        }
        Ok(())
    }
}

/// Counts and hashes the bytes written through it.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    fn finish(self) -> (W, String, u64) {
        (self.inner, format!("sha256:{}", hex::encode(self.hash.finalize())), self.count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Incompressible pseudo-random bytes: Steele, Lea and Flood's splitmix64, seeded by a name.
///
/// Implemented here because a crate's generator may change with its version, and the digests of the sample images must not.
pub(crate) struct Noise {
    state: u64,
    left: u64,
    word: [u8; 8],
    /// How many bytes of `word` are used, so that the result does not depend on the size of the reader's buffer.
    used: usize,
}

impl Noise {
    /// `size` bytes for `name`.
    pub(crate) fn new(name: &str, size: u64) -> Self {
        let seed = Sha256::digest(name.as_bytes());
        let state = seed.iter().take(8).fold(0, |state, byte| (state << 8) | u64::from(*byte));
        Self { state, left: size, word: [0; 8], used: 8 }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        while filled < wanted {
            if self.used == self.word.len() {
                self.word = self.next().to_le_bytes();
                self.used = 0;
            }
            let take = (self.word.len() - self.used).min(wanted - filled);
            buffer[filled..filled + take].copy_from_slice(&self.word[self.used..self.used + take]);
            self.used += take;
            filled += take;
        }
        self.left -= wanted as u64;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_the_same_every_time_with_correct_digests() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            write(&dir.path().join(name), Compression::none(), |archive| {
                archive.directory("opt")?;
                archive.stream("opt/noise", 0o644, 100_000, Noise::new("a", 100_000))
            })
            .unwrap()
        };
        let first = make("a");
        assert_eq!(first, make("b"));
        let bytes = std::fs::read(dir.path().join("a")).unwrap();
        assert_eq!((digest_of(&bytes), bytes.len() as u64), (first.digest, first.size));
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(digest_of(&plain), first.diff_id);
        // This must never change: the sample images have the same digests on every machine.
        let mut noise = Vec::new();
        Noise::new("a", 9).read_to_end(&mut noise).unwrap();
        assert_eq!(noise.len(), 9);
        assert_eq!(first.diff_id, "sha256:277d973c68b98d34926c706f2ed53c8c8a935308a484f5363fc4e2159083a871");
    }

    #[test]
    fn a_tree_keeps_links_modes_and_hard_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::write(root.join("bin/a"), "x").unwrap();
        std::fs::hard_link(root.join("bin/a"), root.join("bin/b")).unwrap();
        std::os::unix::fs::symlink("a", root.join("bin/c")).unwrap();
        let file = dir.path().join("layer");
        write(&file, Compression::fast(), |archive| archive.tree(&root)).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&file).unwrap()));
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let link = entry.link_name().unwrap().map(|link| link.display().to_string());
                (entry.path().unwrap().display().to_string(), entry.header().entry_type(), link)
            })
            .collect();
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        assert_eq!(
            entries,
            [
                ("bin".to_owned(), Directory, None),
                ("bin/a".to_owned(), Regular, None),
                ("bin/b".to_owned(), Link, Some("bin/a".to_owned())),
                ("bin/c".to_owned(), Symlink, Some("a".to_owned())),
            ]
        );
    }
}
