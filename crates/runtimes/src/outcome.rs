//! The result for a runtime.

use std::time::{Duration, Instant};

use registry::Digest;
use serde::Serialize;

use super::RuntimeError;
use super::smoke::Smoke;

/// The result for one runtime.
#[derive(Debug)]
pub struct Outcome {
    /// The runtime's name.
    pub name: String,
    /// What was done, or why it failed.
    pub result: Result<Done, RuntimeError>,
    /// Start time.
    pub began: Instant,
    /// Duration.
    pub took: Duration,
}

/// What was done for a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The build that the runtime tag refers to now; `None` without a registry.
    pub digest: Option<Digest>,
    /// The build that the runtime tag referred to before, if it was moved.
    pub replaced: Option<Digest>,
    /// The build's own tag, if one was pushed.
    pub build_tag: Option<String>,
    /// Whether it was built.
    pub built: bool,
    /// Bytes sent to the registry.
    pub sent: u64,
    /// Whether the runtime tag was moved.
    pub moved: bool,
    /// The pinned base, as the engine pulled it.
    pub base_from: Option<String>,
    /// Its names in the container client's store, one per platform.
    pub local: Vec<String>,
    /// Its answer, if it was tested.
    pub smoke: Option<Smoke>,
}
