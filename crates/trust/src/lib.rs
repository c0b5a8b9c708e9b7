//! Verifies that an image has a signature of cosign or sigstore for exactly its digest.
//!
//! Only the image's registry is contacted: keys and trust roots are files. docs/trust.md describes what is verified, and how.

mod bundle;
mod candidate;
mod certificate;
mod checkpoint;
mod der;
mod find;
mod key;
mod log;
mod refusal;
mod root;
mod signer;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timestamp;

use registry::mirror::Mapping;
use registry::{Client, Digest, Reference};

pub use key::{KeyError, PublicKey};
pub use refusal::{Clock, Refusal};
pub use root::{RootError, TrustRoot};
pub use signer::{Identity, Signer};

/// Why an image is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry does not return its signatures.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// None of its signatures is valid.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Checks that `image` has a signature of one of `signers` for exactly `digest`, which is the index's for an index. Returns the signer.
/// `memory` stores what was read from a registry with rate limits.
///
/// # Errors
/// The registry cannot be reached, or no signature is valid: then the error is that of the signature that passed the most checks.
pub async fn verify<'s>(
    client: &Client,
    memory: &dyn Mapping,
    image: &Reference,
    digest: Digest,
    signers: &'s [Signer],
    now: jiff::Timestamp,
) -> Result<&'s Signer, Error> {
    let found = find::candidates(client, memory, image, digest).await?;
    let nearest = |all: Vec<Refusal>| all.into_iter().max_by_key(Refusal::distance);
    let mut refusals = Vec::new();
    for candidate in found {
        let candidate = match candidate {
            Ok(candidate) => candidate,
            Err(refusal) => {
                refusals.push(refusal);
                continue;
            }
        };
        for signer in signers {
            match signer.check(&candidate, digest, now) {
                Ok(()) => return Ok(signer),
                Err(refusal) => refusals.push(refusal),
            }
        }
    }
    Err(nearest(refusals).unwrap_or(Refusal::Missing).into())
}
