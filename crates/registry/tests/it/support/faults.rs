//! Faults on the way, produced by the server itself on a chosen request.

use std::time::Duration;

/// A fault.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This reply instead of the real one.
    Reply { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// The reply's body ends after this number of bytes (modulo its length), and the connection with it.
    CutReply(usize),
    /// This number of bytes of the request (modulo its length) is read, then the connection ends.
    CutRequest(usize),
    /// This byte of the reply's body is changed.
    CorruptReply(usize),
    /// This byte of the request's body is changed before it is stored.
    CorruptRequest(usize),
    /// The reply's body is compressed, and a header says so.
    Pack,
    /// A header says that the body is compressed, but it is not.
    Label,
    /// The reply is well-formed, but this number of bytes shorter.
    Truncate(usize),
    /// The reply is delayed by this time.
    Delay(Duration),
    /// The reply's body comes one byte at a time.
    Trickle,
    /// No reply at all.
    Hang,
    /// The request is carried out, and the connection ends before the reply.
    LoseReply,
    /// No connections are accepted for a while.
    Refuse(Duration),
    /// All tokens and passwords issued so far become invalid.
    Expire,
    /// The blob is redirected to another host, where an `Authorization` is an error.
    Elsewhere,
    /// The request is redirected with this status and its query, to another host or relative to this one.
    SentOn { status: u16, elsewhere: bool },
}

impl Fault {
    pub fn status(status: u16) -> Self {
        Self::Reply { status, headers: Vec::new(), body: String::new() }
    }

    pub fn too_many(retry_after: Option<u64>) -> Self {
        let headers = retry_after.map(|seconds| ("retry-after", seconds.to_string())).into_iter().collect();
        Self::error(429, "TOOMANYREQUESTS", "Rate exceeded", headers)
    }

    pub fn error(status: u16, code: &str, message: &str, headers: Vec<(&'static str, String)>) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string();
        Self::Reply { status, headers, body }
    }
}

/// The requests that a fault is for: method and a part of the path with its query, this number of times after this number of
/// others.
#[derive(Clone, Debug)]
pub struct Rule {
    pub method: &'static str,
    pub path: String,
    pub skip: usize,
    pub times: usize,
    pub fired: usize,
    pub fault: Fault,
}

impl Rule {
    /// The fault for the first such request.
    pub fn new(method: &'static str, path: &str, fault: Fault) -> Self {
        Self { method, path: path.to_owned(), skip: 0, times: 1, fired: 0, fault }
    }

    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    pub fn skip(self, skip: usize) -> Self {
        Self { skip, ..self }
    }
}

/// The fault for a request, if it is its turn.
pub fn next(rules: &mut [Rule], method: &str, path: &str) -> Option<Fault> {
    let matches = |rule: &Rule| (rule.method == "*" || rule.method == method) && path.contains(&rule.path);
    for rule in rules.iter_mut().filter(|rule| rule.times > 0 && matches(rule)) {
        if rule.skip > 0 {
            rule.skip -= 1;
            continue;
        }
        rule.times -= 1;
        rule.fired += 1;
        return Some(rule.fault.clone());
    }
    None
}
