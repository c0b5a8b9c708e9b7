//! The plan for one runtime.

use std::sync::Arc;

use dockerfile::{Dockerfile, Layer, Needs};
use registry::{Digest, Platform, Reference};
use serde::Serialize;

use super::context::BuildContext;
use super::key::Inputs;
use super::{Hold, Runtime, RuntimeError};

/// A resolved base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its upstream name.
    pub name: Reference,
    /// The digest that the name refers to.
    pub digest: Digest,
    /// Whether the digest is pinned, by `images.lock` or in the name; else it comes from the upstream.
    pub locked: bool,
}

/// What to do for one runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Action {
    /// Nothing to do.
    Nothing,
    /// The build is at the registry; the runtime tag is moved to it.
    Promote {
        /// The build.
        digest: Digest,
    },
    /// The build is in the container client's store and is pushed.
    Push,
    /// The runtime is built.
    Build {
        /// Without any cache.
        forced: bool,
    },
}

impl Action {
    /// The action in a word or two, for reports.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "up to date",
            Self::Promote { .. } => "promote",
            Self::Push => "push",
            Self::Build { .. } => "build",
        }
    }
}

/// One runtime of a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The runtime's name.
    pub name: String,
    /// What to do.
    pub action: Action,
    /// The reason, for the user.
    pub reason: String,
    /// The build key.
    pub key: String,
    /// The inputs of the key.
    pub inputs: Inputs,
    /// The base; `None` for a build from scratch, or if it is not resolved.
    pub base: Option<Base>,
    /// The digest that the runtime tag refers to now.
    pub seen: Option<Digest>,
    /// The hold on a build, if there is one.
    pub held: Option<Hold>,
    /// Why the base's registry could not be reached, if the runtime's current build used this base or the runtime is held: then there is
    /// nothing to do.
    pub unanswered: Option<registry::Error>,
    /// The base's digest in `images.lock` and the upstream's, if they were compared and differ.
    pub base_moved: Option<(Digest, Digest)>,
    pub(super) runtime: Runtime,
    pub(super) context: BuildContext,
    pub(super) dockerfile: Arc<Dockerfile>,
    pub(super) needs: Needs,
}

impl Planned {
    /// The base's name, even if it could not be resolved.
    pub fn base_name(&self) -> Option<&Reference> {
        self.runtime.base.as_ref()
    }

    /// The instructions that can make a layer of its image for `platform`, the lowest layer first.
    pub(super) fn layers(&self, platform: &Platform) -> Vec<Layer> {
        self.dockerfile.layers(&self.runtime.given(), platform)
    }
}

/// `repository:tag`.
pub(super) fn tagged(repository: &Reference, runtime: &str, tag: &str) -> Result<Reference, RuntimeError> {
    let named = |source| RuntimeError::Name { runtime: runtime.to_owned(), source };
    repository.with_tag(tag).map_err(named)
}

/// Compares without the variant, which not all clients report.
pub(super) fn same_machine(one: &Platform, other: &Platform) -> bool {
    let bare = |platform: &Platform| Platform { variant: None, ..platform.clone() };
    bare(one).matches(&bare(other))
}
