//! The kinds of errors, and their messages.

use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::manifest::ManifestError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No, or wrong, credentials: 401, also after they were renewed.
    #[error("not authorised{}", said(message))]
    Unauthorized {
        /// What the registry said.
        message: String,
    },
    /// The registry accepts neither Basic nor Bearer authentication.
    #[error("the registry requires {schemes} authentication, which is not supported")]
    UnknownLogin {
        /// The schemes' names.
        schemes: String,
    },
    /// The token service, which the registry names, gives no token.
    #[error("the token service {service} gives no token: {answer}")]
    TokenService {
        /// Its host, with its port if it has one.
        service: String,
        /// What it answers.
        answer: String,
    },
    /// The credentials expired during a request that cannot be repeated; they have been renewed.
    #[error("the credentials expired in the middle of an upload{}", said(message))]
    Expired {
        /// What the registry said.
        message: String,
    },
    /// The credentials are valid and do not allow it: 403.
    #[error("access denied{}", said(message))]
    Denied {
        /// What the registry said.
        message: String,
    },
    /// The manifest or blob does not exist.
    #[error("not found{}", said(message))]
    NotFound {
        /// What the registry said.
        message: String,
    },
    /// The repository does not exist, and this registry does not create it.
    #[error("the repository does not exist{}", said(message))]
    NameUnknown {
        /// What the registry said.
        message: String,
    },
    /// The tag exists and cannot be moved.
    #[error("the tag cannot be overwritten{}", said(message))]
    TagImmutable {
        /// What the registry said.
        message: String,
    },
    /// The registry does not have (or not yet) a blob or a manifest that was just pushed.
    #[error("the registry reports a missing blob or manifest{}", said(message))]
    PartUnknown {
        /// What the registry said.
        message: String,
    },
    /// The upload session is gone or at another offset: a new one is needed.
    #[error("the upload session was lost{}", said(message))]
    UploadLost {
        /// What the registry said.
        message: String,
    },
    /// Too many requests: 429, or one of AWS's codes for it.
    #[error("too many requests{}{}", wait_text(*retry_after), said(message))]
    TooManyRequests {
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
        /// What the registry said.
        message: String,
    },
    /// The run needs more pulls than are left.
    #[error("{needed} pulls are needed and {remaining} of {limit} are left{}", window_text(*window))]
    PullsExhausted {
        /// Pulls that the run needs from this registry.
        needed: u64,
        /// Pulls that are left.
        remaining: u64,
        /// Pulls in a window.
        limit: u64,
        /// The time after which all of them are back.
        window: Option<Duration>,
    },
    /// The registry answers and does not work: 5xx.
    #[error("the registry is unavailable (HTTP {status}){}", said(message))]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
        /// What the registry said.
        message: String,
    },
    /// The registry refuses the request: any other 4xx.
    #[error("refused (HTTP {status}{}){}", code_text(code), said(message))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The registry's error code.
        code: String,
        /// What the registry said.
        message: String,
    },
    /// The content has another digest than was asked for.
    #[error("the content has digest {actual}, not {expected}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes than announced.
    #[error("the content has {actual} bytes, not {expected}")]
    SizeMismatch {
        /// What was announced.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// The connection ended early.
    #[error("the connection ended after {actual} of {expected} bytes")]
    Truncated {
        /// What was announced.
        expected: u64,
        /// What came.
        actual: u64,
    },
    /// Larger than the limit for its kind ([`size_limits`](crate::size_limits)).
    #[error("{what} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A reply that the protocol does not define.
    #[error("unexpected reply: {0}")]
    Protocol(String),
    /// A manifest that cannot be used.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The registry points to an unsafe address.
    #[error("the registry points to {url}, which is refused: {reason}")]
    UnsafeLocation {
        /// The address, without a query.
        url: String,
        /// Why it is unsafe.
        reason: &'static str,
    },
    /// The index names an attestation that the source does not have, and cannot be copied without it.
    #[error("attestation {digest}, which the index names, is not at the source")]
    AttestationGone {
        /// The attestation.
        digest: Digest,
    },
    /// The registry redirects blobs to a host by plain http that the user did not allow.
    #[error("the registry sends its blobs from http://{host}, which is not encrypted")]
    PlainBlobs {
        /// The host, with its port if it has one.
        host: String,
    },
    /// It does not have the required signature.
    #[error("{digest} is rejected: {source}")]
    Untrusted {
        /// What has no such signature.
        digest: Digest,
        /// The required signers, and the rule that names them.
        wanted: String,
        /// What is wrong with its signature.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// It has been known for less time than the caller requires.
    #[error("{digest} is too new: {why}")]
    TooFresh {
        /// What is too new.
        digest: Digest,
        /// Since when it has been known, and until when it waits.
        why: String,
    },
    /// A signature is required, and it is not known of which digest.
    #[error("its digest is not known, so that its signature cannot be checked")]
    Unidentified,
    /// The target does not return what was just written to it.
    #[error("read back after it was written: {difference}")]
    ReadBack {
        /// The first difference.
        difference: String,
    },
    /// The target does not accept blobs of zero bytes, like Amazon ECR.
    #[error("blob {digest} is empty, and the registry takes no empty blob")]
    EmptyBlob {
        /// The blob.
        digest: Digest,
    },
    /// The server cannot be reached. Reported at once, or after a moment of retries in case it is about to start.
    #[error("no connection{}", why.text())]
    NoConnection {
        /// Why.
        why: NoConnection,
        /// The cause, if more is known than `why`.
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// A web page instead of a registry's answer, from a proxy or from a server that is not a registry.
    #[error("a web page answers (HTTP {status}), not a registry")]
    Page {
        /// The HTTP status.
        status: u16,
    },
    /// The connection to the server, or the proxy, broke or could not be made.
    #[error("the connection failed")]
    Network {
        /// What failed.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// No data, or too little, came or went for too long.
    #[error("{what} timed out: no data for {} s", after.as_secs_f64())]
    Stalled {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        after: Duration,
    },
    /// The credentials cannot be read.
    #[error("no credentials")]
    Credentials {
        /// What failed.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The mirror's helper ([`BlobIndex`](crate::mirror::BlobIndex) or [`Mapping`](crate::mirror::Mapping)) failed.
    #[error("{what} failed")]
    Helper {
        /// Which one.
        what: &'static str,
        /// What failed.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The client could not be set up.
    #[error("the HTTP client cannot be set up")]
    Setup {
        /// What failed.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

impl ErrorKind {
    /// Whether the content was wrong. That is transient as long as it may have been damaged on its way.
    pub(crate) fn is_mismatch(&self) -> bool {
        matches!(self, ErrorKind::DigestMismatch { .. } | ErrorKind::SizeMismatch { .. })
    }
}

/// Why a server cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoConnection {
    /// The CA of the server's certificate is not trusted.
    UnknownCa,
    /// The certificate is for other names.
    WrongName,
    /// The certificate has expired, or is not valid yet.
    NotValidNow,
    /// The server requires a client certificate, or another one.
    ClientCertificate,
    /// The server does not speak TLS but plain http, or something else.
    PlainHttp,
    /// The server's reply is not HTTP.
    NotHttp,
    /// Both sides speak TLS and have no version or cipher in common.
    Tls,
    /// The name cannot be resolved.
    UnknownName,
    /// Nothing listens there.
    Refused,
    /// The proxy requires a login, or another one.
    ProxyLogin,
    /// The proxy does not let us through.
    ProxyRefuses,
}

impl NoConnection {
    fn text(self) -> &'static str {
        match self {
            Self::ProxyLogin => ": the proxy wants a login (HTTP 407)",
            Self::ProxyRefuses => ": the proxy does not let us through",
            Self::NotHttp => ": the server's reply is not HTTP",
            Self::PlainHttp => ": the server speaks no TLS",
            _ => "",
        }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn code_text(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(", {code}") }
}

fn wait_text(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| format!(", retry in {} s", wait.as_secs()))
}

fn window_text(window: Option<Duration>) -> String {
    window
        .map_or_else(String::new, |window| format!("; they come back over {} minutes", window.as_secs() / 60))
}
