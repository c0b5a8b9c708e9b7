//! The resources: what the real provider knows of each beside its schema, and the calls.

mod alias;
mod key;
mod lifecycle_policy;
mod pull_through_cache_rule;
mod repository;
mod repository_creation_template;
mod repository_policy;

use crate::api::{Api, ApiError};
use crate::values::{Object, Value};

/// What a schema does not say about a type.
#[derive(Debug)]
pub(crate) struct Traits {
    /// What cannot be changed on a resource that exists.
    pub(crate) force_new: &'static [&'static str],
    /// What an attribute is when the configuration does not say: `attribute` or `block.attribute`.
    pub(crate) defaults: &'static [(&'static str, Default)],
    /// Blocks that keep the service's choice when the configuration has none.
    pub(crate) keep_blocks: &'static [&'static str],
    /// JSON documents, which are equal when their contents are.
    pub(crate) documents: &'static [&'static str],
    /// Whether it has tags.
    pub(crate) tagged: bool,
}

/// A default's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    Text(&'static str),
    Flag(bool),
}

impl From<Default> for Value {
    fn from(default: Default) -> Self {
        match default {
            Default::Text(text) => text.into(),
            Default::Flag(flag) => flag.into(),
        }
    }
}

/// Why a resource could not be made, read, changed or ended: the real provider's summary.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(String);

/// Puts the real provider's words before a service's answer.
trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, ApiError> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{}: {error}", what())))
    }
}

/// A type of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Alias,
    Key,
    LifecyclePolicy,
    PullThroughCacheRule,
    Repository,
    RepositoryCreationTemplate,
    RepositoryPolicy,
}

impl Resource {
    /// The type that terraform calls by this name.
    pub(crate) fn named(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "aws_kms_alias" => Self::Alias,
            "aws_kms_key" => Self::Key,
            "aws_ecr_lifecycle_policy" => Self::LifecyclePolicy,
            "aws_ecr_pull_through_cache_rule" => Self::PullThroughCacheRule,
            "aws_ecr_repository" => Self::Repository,
            "aws_ecr_repository_creation_template" => Self::RepositoryCreationTemplate,
            "aws_ecr_repository_policy" => Self::RepositoryPolicy,
            _ => return None,
        })
    }

    /// What its schema does not say.
    pub(crate) fn traits(self) -> &'static Traits {
        match self {
            Self::Alias => &alias::TRAITS,
            Self::Key => &key::TRAITS,
            Self::LifecyclePolicy => &lifecycle_policy::TRAITS,
            Self::PullThroughCacheRule => &pull_through_cache_rule::TRAITS,
            Self::Repository => &repository::TRAITS,
            Self::RepositoryCreationTemplate => &repository_creation_template::TRAITS,
            Self::RepositoryPolicy => &repository_policy::TRAITS,
        }
    }

    /// Makes it. `state` has an `id` as soon as there is something to remember, even if a later step fails.
    pub(crate) async fn create(self, api: &Api, state: &mut Object) -> Result<(), Failure> {
        match self {
            Self::Alias => alias::create(api, state).await,
            Self::Key => key::create(api, state).await,
            Self::LifecyclePolicy => lifecycle_policy::put(api, state).await,
            Self::PullThroughCacheRule => pull_through_cache_rule::create(api, state).await,
            Self::Repository => repository::create(api, state).await,
            Self::RepositoryCreationTemplate => repository_creation_template::create(api, state).await,
            Self::RepositoryPolicy => repository_policy::put(api, state).await,
        }
    }

    /// Brings `state` up to date; false says that the resource is gone.
    pub(crate) async fn read(self, api: &Api, state: &mut Object) -> Result<bool, Failure> {
        match self {
            Self::Alias => alias::read(api, state).await,
            Self::Key => key::read(api, state).await,
            Self::LifecyclePolicy => lifecycle_policy::read(api, state).await,
            Self::PullThroughCacheRule => pull_through_cache_rule::read(api, state).await,
            Self::Repository => repository::read(api, state).await,
            Self::RepositoryCreationTemplate => repository_creation_template::read(api, state).await,
            Self::RepositoryPolicy => repository_policy::read(api, state).await,
        }
    }

    /// Changes what differs between `prior` and `state`.
    pub(crate) async fn update(self, api: &Api, prior: &Object, state: &mut Object) -> Result<(), Failure> {
        match self {
            Self::Alias => alias::update(api, prior, state).await,
            Self::Key => key::update(api, prior, state).await,
            Self::LifecyclePolicy => lifecycle_policy::put(api, state).await,
            Self::PullThroughCacheRule => pull_through_cache_rule::update(api, prior, state).await,
            Self::Repository => repository::update(api, prior, state).await,
            Self::RepositoryCreationTemplate => repository_creation_template::update(api, prior, state).await,
            Self::RepositoryPolicy => repository_policy::put(api, state).await,
        }
    }

    /// Ends it. What is gone already is no failure.
    pub(crate) async fn delete(self, api: &Api, state: &Object) -> Result<(), Failure> {
        match self {
            Self::Alias => alias::delete(api, state).await,
            Self::Key => key::delete(api, state).await,
            Self::LifecyclePolicy => lifecycle_policy::delete(api, state).await,
            Self::PullThroughCacheRule => pull_through_cache_rule::delete(api, state).await,
            Self::Repository => repository::delete(api, state).await,
            Self::RepositoryCreationTemplate => repository_creation_template::delete(api, state).await,
            Self::RepositoryPolicy => repository_policy::delete(api, state).await,
        }
    }
}

/// The resource's name in messages and calls.
fn id(state: &Object) -> &str {
    crate::values::text(state, "id").unwrap_or_default()
}

/// Writes a text from an answer; what the answer does not have stays as it is.
fn set(state: &mut Object, name: &str, value: &serde_json::Value) {
    if let Some(text) = value.as_str() {
        state.insert(name.to_owned(), text.into());
    }
}

/// Whether a member differs.
fn changed(prior: &Object, state: &Object, name: &str) -> bool {
    prior.get(name) != state.get(name)
}

/// The service's document, unless it says the same as the state's.
fn set_document(state: &mut Object, name: &str, found: &serde_json::Value) {
    if let Some(found) = found.as_str()
        && !crate::values::text(state, name).is_some_and(|known| crate::values::same_document(known, found))
    {
        state.insert(name.to_owned(), found.into());
    }
}

/// Treats an answer that says "not there" as none.
fn if_there<T>(result: Result<T, ApiError>, codes: &[&str]) -> Result<Option<T>, ApiError> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is(codes) => Ok(None),
        Err(error) => Err(error),
    }
}
