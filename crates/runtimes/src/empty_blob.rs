//! An artifact's content where its manifest says it all, and the configuration of those that have none
//! (<https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidance-for-an-empty-descriptor>).

use registry::{Descriptor, Digest};

/// The content.
pub(super) const EMPTY: &[u8] = b"{}";

/// What names it.
pub(super) fn empty() -> Descriptor {
    Descriptor::new("application/vnd.oci.empty.v1+json", Digest::of(EMPTY), EMPTY.len() as u64)
}
