//! The kinds of failures, and their words.

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
        /// Its host, with its port where it has one.
        service: String,
        /// What it answers.
        answer: String,
    },
    /// The credentials ran out in the middle of a request that could not be repeated; they are new by now.
    #[error("the credentials expired in the middle of an upload{}", said(message))]
    Expired {
        /// What the registry said.
        message: String,
    },
    /// The credentials are good and do not allow it: 403.
    #[error("access denied{}", said(message))]
    Denied {
        /// What the registry said.
        message: String,
    },
    /// What was asked for by name is not there.
    #[error("not found{}", said(message))]
    NotFound {
        /// What the registry said.
        message: String,
    },
    /// The repository does not exist, and this registry does not make one by itself.
    #[error("the repository does not exist{}", said(message))]
    NameUnknown {
        /// What the registry said.
        message: String,
    },
    /// The tag exists and its repository forbids to move it.
    #[error("the tag cannot be overwritten{}", said(message))]
    TagImmutable {
        /// What the registry said.
        message: String,
    },
    /// The registry says that a blob or a manifest that was just pushed is not there (yet).
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
    /// Too many requests: 429, or one of the names that AWS gives it.
    #[error("too many requests{}{}", wait_text(*retry_after), said(message))]
    TooManyRequests {
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
        /// What the registry said.
        message: String,
    },
    /// The quota of pulls does not suffice for what the run needs.
    #[error("{needed} pulls are needed and {remaining} of {limit} are left{}", window_text(*window))]
    PullsExhausted {
        /// Pulls that the run needs from this registry.
        needed: u64,
        /// Pulls that are left.
        remaining: u64,
        /// Pulls in a window.
        limit: u64,
        /// The window after which all of them are back.
        window: Option<Duration>,
    },
    /// The registry is there and does not work: 5xx.
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
    /// Bytes that are not those that were asked for.
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
    /// A reply that the protocol does not know.
    #[error("unexpected reply: {0}")]
    Protocol(String),
    /// A manifest that cannot be used.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The registry sends us somewhere we do not go.
    #[error("the registry points to {url}, which is refused: {reason}")]
    UnsafeLocation {
        /// Where it points to, without a query.
        url: String,
        /// Why we do not go there.
        reason: &'static str,
    },
    /// The index that is wanted names an attestation that the source does not have, and cannot be had without it.
    #[error("attestation {digest}, which the index names, is not at the source")]
    AttestationGone {
        /// The attestation.
        digest: Digest,
    },
    /// The registry's blobs lie at a host by plain http that the user did not allow.
    #[error("the registry sends its blobs from http://{host}, which is not encrypted")]
    PlainBlobs {
        /// The host, with its port where it has one.
        host: String,
    },
    /// Nobody signed it whose signature counts.
    #[error("{digest} is rejected: {source}")]
    Untrusted {
        /// What has to be signed.
        digest: Digest,
        /// Who has to have signed it, and who says so.
        wanted: String,
        /// What is wrong with its signature.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// It has not been known for as long as the caller wants.
    #[error("{digest} is too new: {why}")]
    TooFresh {
        /// What is too fresh.
        digest: Digest,
        /// Since when it is known, and until when it waits.
        why: String,
    },
    /// Somebody has to have signed it, and it is not known what exactly is to be signed.
    #[error("its digest is not known, so that its signature cannot be checked")]
    Unidentified,
    /// What the target gives is not what was just written to it.
    #[error("read back after it was written: {difference}")]
    ReadBack {
        /// The first thing that is not as it should be.
        difference: String,
    },
    /// The target takes no blob of zero bytes, as Amazon ECR.
    #[error("blob {digest} is empty, and the registry takes no empty blob")]
    EmptyBlob {
        /// The blob.
        digest: Digest,
    },
    /// There is no connection to be had: it is told at once, or, where a server may be about to start, after a moment.
    #[error("no connection{}", why.text())]
    NoConnection {
        /// Why.
        why: NoConnection,
        /// What failed, where that is not all that is known.
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// A web page in the place of a registry's answer: a proxy's, or that of a server that is no registry.
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
    /// The credentials could not be had.
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
    /// Whether the content was not what it should be. It is transient only as long as the way may be to blame.
    pub(crate) fn is_mismatch(&self) -> bool {
        matches!(self, ErrorKind::DigestMismatch { .. } | ErrorKind::SizeMismatch { .. })
    }
}

/// Why a server cannot be spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoConnection {
    /// Nobody here vouches for the server's certificate.
    UnknownCa,
    /// The certificate is for other names.
    WrongName,
    /// The certificate has ended, or has not begun.
    NotValidNow,
    /// The server wants a certificate of ours, or another one.
    ClientCertificate,
    /// The server speaks no TLS: plain http, or something else.
    PlainHttp,
    /// What the server says is no reply of HTTP's.
    NotHttp,
    /// Both sides speak TLS and find no common way.
    Tls,
    /// No name server knows the name.
    UnknownName,
    /// Nothing listens there.
    Refused,
    /// The proxy wants a login, or another one.
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
