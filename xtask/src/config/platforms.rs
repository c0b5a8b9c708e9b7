//! Which platforms of an image are wanted.

use registry::Platform;

/// What of a source is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Platforms {
    /// Everything, the index byte for byte.
    All,
    /// These; never empty.
    Only(Vec<Platform>),
}
