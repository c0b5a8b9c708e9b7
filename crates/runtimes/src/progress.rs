//! Progress of a run.

use docker::Step;
use registry::Digest;

/// The state of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The build runs.
    Building {
        /// The platform of this build.
        platform: String,
        /// Where the base comes from.
        base: String,
    },
    /// A step of the build has begun.
    Step(Step),
    /// The image is saved from the engine, compared with its inputs, and compressed.
    Packing,
    /// The image is being sent to the registry.
    Pushing {
        /// Bytes that the registry has now.
        done: u64,
        /// Bytes in total; bytes that the registry already has are not sent.
        bytes: u64,
    },
    /// The pushed image is being read back.
    Verifying,
    /// Its tags are being put.
    Tagging,
    /// Finished.
    Done {
        /// How.
        how: CompletedAction,
        /// The digest of the build.
        digest: Digest,
    },
}

/// What was done for a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompletedAction {
    /// Built.
    Built,
    /// Pushed from this machine's store.
    Pushed,
    /// A tag was put on an image of the registry.
    Promoted,
}

/// Receives the progress.
pub trait Progress: Send + Sync {
    /// Information for the user.
    fn line(&self, runtime: &str, line: &str);

    /// A line of a builder's output, for the verbose display.
    fn output(&self, runtime: &str, line: &str);

    /// A warning that is always shown.
    fn warn(&self, runtime: &str, line: &str);

    /// A runtime has a new state.
    fn state(&self, runtime: &str, state: &State);
}
