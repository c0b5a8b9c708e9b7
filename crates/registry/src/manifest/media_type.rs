//! Media types of manifests.

/// The types that are accepted: both families, indexes included, so that a registry converts nothing.
pub const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.artifact.manifest.v1+json";

/// What a manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One image, or an artifact shaped like one.
    Image,
    /// A list of manifests, one for each platform.
    Index,
    /// Anything else, for instance docker's schema 1.
    Other,
}

impl Kind {
    /// The kind that `media_type` names.
    pub fn of(media_type: &str) -> Self {
        match media_type {
            OCI_IMAGE
            | "application/vnd.docker.distribution.manifest.v2+json"
            | "application/vnd.oci.artifact.manifest.v1+json" => Self::Image,
            OCI_INDEX | "application/vnd.docker.distribution.manifest.list.v2+json" => Self::Index,
            _ => Self::Other,
        }
    }
}

/// Whether `media_type` names a manifest, supported or not: then the type inside the manifest does not replace it.
pub(crate) fn is_manifest(media_type: &str) -> bool {
    Kind::of(media_type) != Kind::Other
        || media_type.starts_with("application/vnd.docker.distribution.manifest.")
}

/// Docker's schema 1, which has no configuration and is not supported.
pub(super) const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";

pub(crate) const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Layers that their vendor forbids to redistribute.
pub(crate) fn is_foreign_layer(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
        || media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
}
