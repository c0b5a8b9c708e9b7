//! What is told on the way.

use docker::Step;
use registry::Digest;

/// How far a runtime is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being built.
    Building {
        /// For which platform.
        platform: String,
        /// Where the base comes from.
        base: String,
    },
    /// A step of the build has begun.
    Step(Step),
    /// Its image is taken out of the engine, compared with its inputs, and compressed.
    Packing,
    /// Its bytes are on their way to the registry.
    Pushing {
        /// Bytes that are there by now.
        done: u64,
        /// Bytes that are to be there; what is there already is not sent.
        bytes: u64,
    },
    /// It is at the registry and being read back.
    Verifying,
    /// Its tags are being put.
    Tagging,
    /// It is where it should be.
    Done {
        /// What that took.
        how: How,
        /// The build that was put there.
        digest: Digest,
    },
}

/// What brought a runtime to where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A build.
    Built,
    /// A push of what this machine had built before.
    Pushed,
    /// A tag, put on what the registry had.
    Promoted,
}

/// Who hears how it goes.
pub trait Progress: Send + Sync {
    /// Something that the user should know.
    fn line(&self, runtime: &str, line: &str);

    /// A line of a builder's output, for those who want to see every one.
    fn output(&self, runtime: &str, line: &str);

    /// What the user has to know whatever is shown.
    fn warn(&self, runtime: &str, line: &str);

    /// A runtime has come to a new state.
    fn state(&self, runtime: &str, state: &State);
}
