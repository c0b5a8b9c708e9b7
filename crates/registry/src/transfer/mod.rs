//! One blob on its way: from a registry, into a registry, or both at once, with every byte verified.

pub(crate) mod progress;
pub(crate) mod source;
pub(crate) mod upload;
