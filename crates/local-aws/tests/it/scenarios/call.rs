//! A call, and what of its answer is looked at.

use reqwest::Method;
use serde_json::Value;

/// One call and what of its answer is looked at.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) request: Request,
    /// JSON pointers, names of XML elements, or `header:` names. `name<pointer` keeps the value under a name: it is put into
    /// later requests as `{name}`, and shown as `{name}`, since it is another one on each side.
    pub(crate) shown: &'static [&'static str],
}

#[derive(Clone)]
pub(crate) enum Request {
    /// A service that takes JSON, what stands before an action in `x-amz-target`, the action and its input.
    Json(&'static str, &'static str, &'static str, &'static str),
    /// A service that takes forms, and the form.
    Form(&'static str, &'static str),
    S3 {
        method: Method,
        path: &'static str,
        headers: &'static [(&'static str, &'static str)],
        body: &'static str,
    },
}

/// Finds the value at a place.
type Look = Box<dyn Fn(&str) -> Option<String>>;

/// What of an answer is looked at.
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    /// The refusal's code.
    pub(crate) code: Option<String>,
    /// The value at one of the places of [`Call`].
    pub(crate) value: Look,
}

/// The value that a JSON pointer means, as text.
pub(crate) fn pointed(document: &Value, pointer: &str) -> Option<String> {
    document.pointer(pointer).map(words)
}

/// A value as text.
pub(crate) fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
