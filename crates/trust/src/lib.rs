//! Whose image it is: signatures of cosign and sigstore beside an image, and whether one holds for exactly its digest.
//!
//! Nothing is asked but the registry that has the image: keys and trust roots are files. What is verified, and by what, is in
//! docs/trust.md.

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

/// Why an image is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry does not give its signatures.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// None of its signatures holds.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Whether a signature of one of `signers`, beside `image`, holds for exactly `digest`: that of the index, where it is one. Gives the
/// signer. `memory` keeps what was read from a registry that counts it.
///
/// # Errors
/// The registry cannot be asked, or no signature holds: then the one that came nearest says why.
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
