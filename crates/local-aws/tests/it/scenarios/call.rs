//! A call, and the parts of its answer that are compared.

use reqwest::Method;
use serde_json::Value;

/// One call and the parts of its answer that are compared.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) request: Request,
    /// JSON pointers, names of XML elements, or `header:` names. `name<pointer` stores the value under a name: it is put into later
    /// requests as `{name}`, and shown as `{name}`, because each side has another value.
    pub(crate) shown: &'static [&'static str],
}

#[derive(Clone)]
pub(crate) enum Request {
    /// A service with a JSON protocol: the prefix of an action in `x-amz-target`, the action and its input.
    Json(&'static str, &'static str, &'static str, &'static str),
    /// A service with a form protocol, and the form.
    Form(&'static str, &'static str),
    S3 {
        method: Method,
        path: &'static str,
        headers: &'static [(&'static str, &'static str)],
        body: &'static str,
    },
}

/// Finds the value at a position.
type Look = Box<dyn Fn(&str) -> Option<String>>;

/// The parts of an answer that are compared.
pub(crate) struct Answer {
    pub(crate) status: Option<u16>,
    /// The error code of the refusal.
    pub(crate) code: Option<String>,
    /// The value at one of the positions of [`Call`].
    pub(crate) value: Look,
}

/// The value at a JSON pointer, as text.
pub(crate) fn pointed(document: &Value, pointer: &str) -> Option<String> {
    document.pointer(pointer).map(words)
}

/// A value as text.
pub(crate) fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
