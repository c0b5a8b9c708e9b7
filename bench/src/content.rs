//! Image content: deterministic, incompressible, and valid enough that an engine unpacks it.
//!
//! A layer is a gzip stream of stored blocks (RFC 1951, 3.2.4) around a tar archive (POSIX ustar) with one file of
//! random bytes: what random bytes compress to anyway, without spending a compressor's time on gigabytes.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The most that one stored block can carry.
const STORED: usize = 65_535;

/// What a registry keeps under one digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// `sha256:<hex>`.
    pub digest: String,
    /// In bytes.
    pub size: u64,
}

impl Blob {
    /// The blob that `bytes` are.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: format!("sha256:{}", hex::encode(Sha256::digest(bytes))), size: bytes.len() as u64 }
    }
}

/// A layer: the compressed blob, and the digest of the archive in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// What the registry keeps.
    pub blob: Blob,
    /// What the image's configuration calls it.
    pub diff_id: String,
}

/// Writes the layer `name`, whose compressed form is `size` bytes give or take a few hundred.
///
/// # Errors
/// What `out` fails with.
pub fn write_layer(out: impl Write, name: &str, size: u64) -> io::Result<Layer> {
    // 512 header, 1,024 end, up to 511 of padding, 5 a stored block, 18 around it all.
    let file = size.saturating_sub(1_536 + 18 + 5 * (size / STORED as u64 + 1)).max(1);
    let mut gzip = Gzip::new(out)?;
    gzip.write_all(&tar_header(&format!("bench/{}", name.replace(['/', ':'], "-")), file))?;
    let mut random = Random::new(name);
    let mut left = file;
    let mut buffer = vec![0; 1 << 18];
    while left > 0 {
        let part = usize::try_from(left.min(buffer.len() as u64)).map_err(io::Error::other)?;
        random.fill(&mut buffer[..part]);
        gzip.write_all(&buffer[..part])?;
        left -= part as u64;
    }
    let padding = usize::try_from(file.next_multiple_of(512) - file).map_err(io::Error::other)?;
    gzip.write_all(&vec![0; padding + 1_024])?;
    gzip.finish()
}

/// The header of a regular file, as ustar wants it. Times and owners are zero, so that the bytes never change.
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

/// A stream of random bytes that its name decides (SplitMix64).
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

/// Gzip with stored blocks that hashes what goes in and what comes out.
struct Gzip<W> {
    out: W,
    pending: Vec<u8>,
    crc: crc32fast::Hasher,
    length: u64,
    inner: Sha256,
    outer: Sha256,
    written: u64,
}

impl<W: Write> Gzip<W> {
    fn new(out: W) -> io::Result<Self> {
        let mut gzip = Self {
            out,
            pending: Vec::with_capacity(STORED),
            crc: crc32fast::Hasher::new(),
            length: 0,
            inner: Sha256::new(),
            outer: Sha256::new(),
            written: 0,
        };
        // RFC 1952: magic, deflate, no flags, no time, no extra flags, unknown system.
        gzip.emit(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        Ok(gzip)
    }

    fn emit(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outer.update(bytes);
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn block(&mut self, last: bool) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let length = u16::try_from(pending.len()).map_err(io::Error::other)?;
        let [low, high] = length.to_le_bytes();
        self.emit(&[u8::from(last), low, high, !low, !high])?;
        self.emit(&pending)?;
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.inner.update(bytes);
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = (STORED - self.pending.len()).min(bytes.len());
            self.pending.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            if self.pending.len() == STORED {
                self.block(false)?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Layer> {
        self.block(true)?;
        let crc = self.crc.clone().finalize().to_le_bytes();
        self.emit(&crc)?;
        // The length modulo 2^32.
        self.emit(&self.length.to_le_bytes()[..4])?;
        self.out.flush()?;
        Ok(Layer {
            blob: Blob {
                digest: format!("sha256:{}", hex::encode(self.outer.finalize())),
                size: self.written,
            },
            diff_id: format!("sha256:{}", hex::encode(self.inner.finalize())),
        })
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
        assert!(layer.blob.size.abs_diff(200_000) < 1_000, "{}", layer.blob.size);
        let other = write_layer(io::sink(), "b", 200_000).unwrap();
        assert_ne!(other.blob.digest, layer.blob.digest);
        assert_ne!(other.diff_id, layer.diff_id);
    }

    #[test]
    fn gzip_and_tar_of_the_system_read_it_and_agree_on_the_diff_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer.tar.gz");
        let layer = write_layer(std::fs::File::create(&path).unwrap(), "x/y:1", 150_000).unwrap();
        let tar = crate::process::read("gzip", &["-dc", path.to_str().unwrap()]).unwrap();
        assert_eq!(Blob::of(&tar).digest, layer.diff_id);
        let list = crate::process::read("tar", &["-tzvf", path.to_str().unwrap()]).unwrap();
        let list = String::from_utf8(list).unwrap();
        assert!(list.contains("bench/x-y-1"), "{list}");
    }
}
