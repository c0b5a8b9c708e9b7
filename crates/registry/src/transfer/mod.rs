//! One blob on its way: from a registry, into a registry, or both at once, with every byte verified.

pub(crate) mod blob_upload;
pub(crate) mod progress;
pub(crate) mod source;
