//! Finds signatures in the places where cosign puts them: under its tag, and among the image's referrers.

use registry::mirror::{Mapping, read_once};
use registry::{Client, Descriptor, Digest, Error, ErrorKind, Manifest, Reference, lists};

use crate::bundle;
use crate::candidate::Candidate;
use crate::refusal::Refusal;

/// The media type of a layer with cosign's signature.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Cosign's own form as a referrer (its experimental OCI 1.1 mode).
const REFERRER: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Most signatures that are checked per image: real images have fewer, and a list could be endless.
const MOST: usize = 64;

/// Largest payload or bundle of a signature, in bytes.
const LARGEST: u64 = 1 << 20;

/// A signature, or why it cannot be read.
type Found = Result<Candidate, Refusal>;

/// All signatures of an image.
///
/// # Errors
/// The registry cannot be reached, or refuses.
pub(crate) async fn candidates(
    client: &Client,
    memory: &dyn Mapping,
    image: &Reference,
    digest: Digest,
) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    if let Some(there) = lists::cosign_tagged(client, image, digest, "sig").await?
        && let Ok(tag) = image.with_tag(&lists::cosign_tag(digest, "sig"))
        && let Some(manifest) = read_once(client, memory, &tag, there.digest).await?
    {
        read(client, image, &manifest, &mut found).await?;
    }
    for descriptor in lists::referrers(client, image, digest).await?.into_iter().take(MOST) {
        if !may_sign(&descriptor) {
            continue;
        }
        let name = image.with_digest(descriptor.digest);
        if let Some(manifest) = read_once(client, memory, &name, descriptor.digest).await? {
            read(client, image, &manifest, &mut found).await?;
        }
    }
    Ok(found)
}

/// Whether a referrer may be a signature, by its descriptor. A list that clients maintain may lack the type, and cosign 3 writes the type
/// of the empty configuration into it.
fn may_sign(descriptor: &Descriptor) -> bool {
    let ours =
        |kind: &String| [REFERRER, EMPTY].contains(&kind.as_str()) || kind.starts_with(bundle::MEDIA_TYPE);
    descriptor.artifact_type.as_ref().is_none_or(ours)
}

/// Reads the signatures of one manifest.
async fn read(
    client: &Client,
    image: &Reference,
    manifest: &Manifest,
    found: &mut Vec<Found>,
) -> Result<(), Error> {
    let Ok(parsed) = manifest.image() else {
        found.push(Err(Refusal::malformed("its manifest")));
        return Ok(());
    };
    for layer in parsed.layers {
        let is_bundle = layer.media_type.starts_with(bundle::MEDIA_TYPE);
        if (!is_bundle && layer.media_type != PAYLOAD) || found.len() >= MOST {
            continue;
        }
        if layer.size > LARGEST {
            found.push(Err(Refusal::malformed(format!("it has {} bytes", layer.size))));
            continue;
        }
        let bytes = match registry::blobs::bytes(client, image, &layer).await {
            Ok(bytes) => bytes,
            // If one is damaged, the others are still checked.
            Err(error) if is_damaged(&error) => {
                found.push(Err(Refusal::malformed(error.kind().to_string())));
                continue;
            }
            Err(error) => return Err(error),
        };
        if is_bundle {
            found.extend(bundle::read(&bytes).transpose());
        } else {
            found.push(Candidate::of_layer(bytes, &layer.annotations.unwrap_or_default()));
        }
    }
    Ok(())
}

fn is_damaged(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DigestMismatch { .. } | ErrorKind::SizeMismatch { .. } | ErrorKind::NotFound { .. }
    )
}
