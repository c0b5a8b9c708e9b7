//! What is to be done for one runtime, as a plan says it.

use std::sync::Arc;

use dockerfile::{Dockerfile, Layer, Needs};
use registry::{Digest, Platform, Reference};
use serde::Serialize;

use super::context::BuildContext;
use super::key::Inputs;
use super::{Hold, Runtime, RuntimeError};

/// A base that is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// By its upstream name.
    pub name: Reference,
    /// What the name means.
    pub digest: Digest,
    /// Whether `images.lock` said so; else the upstream did.
    pub locked: bool,
}

/// What is done for one runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Action {
    /// It is as it should be.
    Nothing,
    /// The build is at the registry; the runtime tag is moved to it.
    Promote {
        /// The build.
        digest: Digest,
    },
    /// The build is in the container client's store; it is pushed.
    Push,
    /// It is built.
    Build {
        /// Without any cache.
        forced: bool,
    },
}

impl Action {
    /// In a word or two, as reports have it.
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
    /// What is done.
    pub action: Action,
    /// Why, for people.
    pub reason: String,
    /// The build key.
    pub key: String,
    /// What the key is made of.
    pub inputs: Inputs,
    /// The base.
    pub base: Option<Base>,
    /// What the runtime tag means now.
    pub seen: Option<Digest>,
    /// On which build the runtime is held.
    pub held: Option<Hold>,
    /// Why the base's registry could not be asked, where the runtime is what the last run made of it, or is held: then nothing
    /// is to be done.
    pub unanswered: Option<registry::Error>,
    /// From what to what the base has moved away from `images.lock`, where that was asked.
    pub base_moved: Option<(Digest, Digest)>,
    pub(super) runtime: Runtime,
    pub(super) context: BuildContext,
    pub(super) dockerfile: Arc<Dockerfile>,
    pub(super) needs: Needs,
}

impl Planned {
    /// The base's name, also where nobody could say what it means.
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

/// Compares without the variant, which not every client reports.
pub(super) fn same_machine(one: &Platform, other: &Platform) -> bool {
    let bare = |platform: &Platform| Platform { variant: None, ..platform.clone() };
    bare(one).matches(&bare(other))
}
