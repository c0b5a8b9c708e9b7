//! The position and the digest of a blob.

use std::io::{self, Read};

use registry::Digest;
use sha2::{Digest as _, Sha256};

/// A blob's position in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: u64,
    pub(crate) size: u64,
}

/// Reads to the end and returns the digest.
pub(crate) fn hash(content: &mut impl Read) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match content.read(&mut buffer)? {
            0 => return digest(hasher),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The digest of the hashed bytes.
pub(crate) fn digest(hasher: Sha256) -> io::Result<Digest> {
    format!("sha256:{}", hex::encode(hasher.finalize())).parse().map_err(io::Error::other)
}
