//! Hashes bytes while they are read or written.

use std::io::{Read, Write};

use registry::Digest;
use sha2::{Digest as _, Sha256};

use super::ArchiveError;

/// Hashes everything that `from` yields and passes it to `on_bytes`.
pub(crate) fn hash(
    from: &mut impl Read,
    mut on_bytes: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<Digest, ArchiveError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer).map_err(ArchiveError::Read)? {
            0 => return to_digest(hasher).map_err(ArchiveError::Read),
            read => {
                hasher.update(&buffer[..read]);
                on_bytes(&buffer[..read])?;
            }
        }
    }
}

fn to_digest(hasher: Sha256) -> std::io::Result<Digest> {
    format!("sha256:{}", hex::encode(hasher.finalize())).parse().map_err(std::io::Error::other)
}

/// A writer that hashes and counts.
pub(crate) struct Hashing<W> {
    to: W,
    hasher: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    /// A writer to `to`, before the first byte.
    pub fn new(to: W) -> Self {
        Self { to, hasher: Sha256::new(), size: 0 }
    }

    /// The inner writer, the digest of the bytes written, and their number.
    pub fn finish(self) -> std::io::Result<(W, Digest, u64)> {
        Ok((self.to, to_digest(self.hasher)?, self.size))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
