//! Image content: deterministic, with the size and the cost of real layers.
//!
//! A layer is a gzip of a tar archive (POSIX ustar) of files with words and random bytes, which compresses to about half: clients that
//! decompress what they copy have the same cost as with real images. Layers of a GiB and more are random bytes in stored blocks, as
//! compressing them would take minutes.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// From this size on, in bytes, content is random and not compressed.
const STORED: u64 = 1 << 30;
/// Number of different words in content.
const WORDS: usize = 2_048;

/// A blob in the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// `sha256:<hex>`.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
}

impl Blob {
    /// The blob of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))), size: bytes.len() as u64 }
    }
}

/// A layer: the compressed blob, and the digest of its archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// The compressed blob.
    pub blob: Blob,
    /// Its digest in the image's configuration.
    pub diff_id: String,
}

/// Writes the layer `name`, whose compressed size is `size` bytes or a little more.
///
/// # Errors
/// `out` cannot be written.
pub fn write_layer(out: impl Write, name: &str, size: u64) -> io::Result<Layer> {
    let stored = size >= STORED;
    let level = if stored { Compression::none() } else { Compression::fast() };
    let mut archive =
        Archive { gzip: GzBuilder::new().mtime(0).write(Hashing::new(out), level), inner: Sha256::new() };
    let mut content = Content::new(name, stored);
    // Small compared with the layer, so that the last file exceeds the size only a little.
    let unit = usize::try_from((size / 64).clamp(512, 1 << 20)).map_err(io::Error::other)? / 512 * 512;
    let mut file = vec![0; unit];
    let dir = name.replace(['/', ':'], "-");
    for number in 0_u64.. {
        archive.put(&tar_header(&format!("bench/{dir}/{number}"), unit as u64))?;
        content.fill(&mut file);
        archive.put(&file)?;
        archive.gzip.flush()?;
        if archive.gzip.get_ref().written >= size {
            break;
        }
    }
    // An archive ends with two empty blocks.
    archive.put(&[0; 1_024])?;
    let Archive { gzip, inner } = archive;
    let mut out = gzip.finish()?;
    out.flush()?;
    Ok(Layer {
        blob: Blob { digest: format!("sha256:{}", hex::encode(out.hash.finalize())), size: out.written },
        diff_id: format!("sha256:{}", hex::encode(inner.finalize())),
    })
}

/// An archive that is hashed and then compressed.
struct Archive<W: Write> {
    gzip: GzEncoder<Hashing<W>>,
    inner: Sha256,
}

impl<W: Write> Archive<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.update(bytes);
        self.gzip.write_all(bytes)
    }
}

/// Counts and hashes the bytes written through it.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    written: u64,
}

impl<W> Hashing<W> {
    fn new(out: W) -> Self {
        Self { out, hash: Sha256::new(), written: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The ustar header of a regular file. Times and owners are zero, so that the bytes never change.
fn tar_header(name: &str, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A stream of random numbers seeded by a name (SplitMix64).
struct Random(u64);

impl Random {
    fn new(name: &str) -> Self {
        let hash = Sha256::digest(name.as_bytes());
        Self(hash.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}

/// The content of files.
struct Content {
    random: Random,
    /// Empty for random bytes only.
    words: Vec<Vec<u8>>,
}

impl Content {
    fn new(name: &str, stored: bool) -> Self {
        // The same words in all layers, like real files in one language.
        let mut letters = Random::new("words");
        let word = |_| {
            let length = 4 + letters.next() % 9;
            (0..length).map(|_| b"abcdefghijklmnopqrstuvwxyz_ \n"[(letters.next() % 29) as usize]).collect()
        };
        let words = if stored { Vec::new() } else { (0..WORDS).map(word).collect() };
        Self { random: Random::new(name), words }
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        if self.words.is_empty() {
            return self.random.fill(buffer);
        }
        let mut rest = buffer;
        while !rest.is_empty() {
            let number = self.random.next();
            let mut bytes = [0; 48];
            let part: &[u8] = if number.is_multiple_of(64) {
                self.random.fill(&mut bytes);
                &bytes
            } else {
                &self.words[(number >> 32) as usize % WORDS]
            };
            let count = part.len().min(rest.len());
            let (head, tail) = rest.split_at_mut(count);
            head.copy_from_slice(&part[..count]);
            rest = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_the_same_every_time_and_another_name_is_another_layer() {
        let mut first = Vec::new();
        let layer = write_layer(&mut first, "a", 200_000).unwrap();
        let mut second = Vec::new();
        write_layer(&mut second, "a", 200_000).unwrap();
        assert_eq!(first, second);
        assert_eq!(layer.blob, Blob::of(&first));
        assert!((200_000..203_000).contains(&layer.blob.size), "{}", layer.blob.size);
        let other = write_layer(io::sink(), "b", 200_000).unwrap();
        assert_ne!(other.blob.digest, layer.blob.digest);
        assert_ne!(other.diff_id, layer.diff_id);
    }

    #[test]
    fn a_tiny_layer_stays_tiny() {
        let layer = write_layer(io::sink(), "tiny", 4_096).unwrap();
        assert!((4_096..5_000).contains(&layer.blob.size), "{}", layer.blob.size);
    }

    #[test]
    fn gzip_and_tar_of_the_system_read_it_and_agree_on_the_diff_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer.tar.gz");
        let layer = write_layer(std::fs::File::create(&path).unwrap(), "x/y:1", 150_000).unwrap();
        let tar = crate::process::read("gzip", &["-dc", path.to_str().unwrap()]).unwrap();
        assert_eq!(Blob::of(&tar).digest, layer.diff_id);
        let ratio = tar.len() as f64 / layer.blob.size as f64;
        assert!((1.7..3.5).contains(&ratio), "unpacked by packed: {ratio}");
        let list = crate::process::read("tar", &["-tzvf", path.to_str().unwrap()]).unwrap();
        let list = String::from_utf8(list).unwrap();
        assert!(list.contains("bench/x-y-1/0"), "{list}");
    }
}
