//! The resources: what the real provider knows of each in addition to its schema, and the calls.

mod alias;
mod key;
mod lifecycle_policy;
mod pull_through_cache_rule;
mod repository;
mod repository_creation_template;
mod repository_policy;

use std::pin::Pin;

use crate::api::{Api, ApiError};
use crate::values::{Object, Value};

/// A resource type: what is not in its schema, and the calls.
pub(crate) struct Resource {
    /// Terraform's name of the type.
    pub(crate) name: &'static str,
    /// Attributes that cannot be changed on an existing resource.
    pub(crate) force_new: &'static [&'static str],
    /// Defaults for attributes that are not configured: `attribute` or `block.attribute`.
    pub(crate) defaults: &'static [(&'static str, Default)],
    /// Blocks that keep the service's value if they are not configured.
    pub(crate) keep_blocks: &'static [&'static str],
    /// JSON documents, which are compared by content.
    pub(crate) documents: &'static [&'static str],
    /// Whether it has tags.
    pub(crate) tagged: bool,
    /// Creates the resource. The state has an `id` as soon as something exists, even if a later step fails.
    pub(crate) create: for<'a> fn(&'a Api, &'a mut Object) -> Call<'a, ()>,
    /// Updates the state; returns false if the resource no longer exists.
    pub(crate) read: for<'a> fn(&'a Api, &'a mut Object) -> Call<'a, bool>,
    /// Changes what differs between the two states.
    pub(crate) update: for<'a> fn(&'a Api, &'a Object, &'a mut Object) -> Call<'a, ()>,
    /// Deletes the resource. A missing one is not an error.
    pub(crate) delete: for<'a> fn(&'a Api, &'a Object) -> Call<'a, ()>,
}

/// A call in progress.
type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// All resource types.
const RESOURCES: [&Resource; 7] = [
    &alias::RESOURCE,
    &key::RESOURCE,
    &lifecycle_policy::RESOURCE,
    &pull_through_cache_rule::RESOURCE,
    &repository::RESOURCE,
    &repository_creation_template::RESOURCE,
    &repository_policy::RESOURCE,
];

impl Resource {
    /// The resource type with this name.
    pub(crate) fn named(type_name: &str) -> Option<&'static Self> {
        RESOURCES.into_iter().find(|resource| resource.name == type_name)
    }
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

/// Why a resource could not be created, read, changed or deleted: the real provider's summary.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(String);

/// Adds the real provider's message to a service's error.
trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> During<T> for Result<T, ApiError> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{}: {error}", what())))
    }
}

/// The resource's name in messages and calls.
fn id(state: &Object) -> &str {
    crate::values::text(state, "id").unwrap_or_default()
}

/// Sets a text from an answer; a missing one is left unchanged.
fn set(state: &mut Object, name: &str, value: &serde_json::Value) {
    if let Some(text) = value.as_str() {
        state.insert(name.to_owned(), text.into());
    }
}

/// Whether a member has changed.
fn changed(prior: &Object, state: &Object, name: &str) -> bool {
    prior.get(name) != state.get(name)
}

/// Sets the service's document, unless it has the same content as the state's.
fn set_document(state: &mut Object, name: &str, found: &serde_json::Value) {
    if let Some(found) = found.as_str()
        && !crate::values::text(state, name).is_some_and(|known| crate::values::same_document(known, found))
    {
        state.insert(name.to_owned(), found.into());
    }
}

/// Converts a "not found" error to `None`.
fn if_there<T>(result: Result<T, ApiError>, codes: &[&str]) -> Result<Option<T>, ApiError> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is(codes) => Ok(None),
        Err(error) => Err(error),
    }
}
