//! The resources: what the real provider knows of each beside its schema, and the calls.

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

/// A type of resource: what its schema does not say, and the calls.
pub(crate) struct Resource {
    /// What terraform calls it.
    pub(crate) name: &'static str,
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
    /// Makes it. The state has an `id` as soon as there is something to remember, even if a later step fails.
    pub(crate) create: for<'a> fn(&'a Api, &'a mut Object) -> Call<'a, ()>,
    /// Brings the state up to date; false says that the resource is gone.
    pub(crate) read: for<'a> fn(&'a Api, &'a mut Object) -> Call<'a, bool>,
    /// Changes what differs between the state before and the state.
    pub(crate) update: for<'a> fn(&'a Api, &'a Object, &'a mut Object) -> Call<'a, ()>,
    /// Ends it. What is gone already is no failure.
    pub(crate) delete: for<'a> fn(&'a Api, &'a Object) -> Call<'a, ()>,
}

/// A call under way.
type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// All of them.
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
    /// The type that terraform calls by this name.
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
