//! What was done for a runtime.

use std::time::{Duration, Instant};

use registry::Digest;
use serde::Serialize;

use super::RuntimeError;
use super::smoke::Smoke;

/// What became of one runtime.
#[derive(Debug)]
pub struct Outcome {
    /// The runtime's name.
    pub name: String,
    /// What was done, or why it could not be.
    pub result: Result<Done, RuntimeError>,
    /// When it was begun.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
}

/// What was done for a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The build that the runtime tag means now; `None` without a registry.
    pub digest: Option<Digest>,
    /// What the runtime tag meant before, where it was moved.
    pub replaced: Option<Digest>,
    /// The build's own tag, where one was pushed.
    pub build_tag: Option<String>,
    /// Whether it was built.
    pub built: bool,
    /// Bytes that were sent to the registry.
    pub sent: u64,
    /// Whether the runtime tag was moved.
    pub moved: bool,
    /// The pinned base, as the engine pulled it.
    pub base_from: Option<String>,
    /// Its names in the container client's store, one a platform.
    pub local: Vec<String>,
    /// What it answered, where it was tried.
    pub smoke: Option<Smoke>,
}
