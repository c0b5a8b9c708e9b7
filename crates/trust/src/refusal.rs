//! Why a signature does not hold.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use registry::Digest;

/// Why an image counts as nobody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error("it has no signature")]
    Missing,
    /// It cannot be read.
    #[error("its signature cannot be read: {what}")]
    Malformed {
        /// What of it.
        what: String,
    },
    /// It was made for something else, and put here.
    #[error("its signature is for {signed}")]
    OtherDigest {
        /// What it is for.
        signed: Digest,
    },
    /// It is not of the wanted key.
    #[error("it is signed by another key than {key}")]
    OtherKey {
        /// The wanted one.
        key: String,
    },
    /// It says by which key it is, and that key is not asked for.
    #[error("its signature has no certificate, which {identity} would have")]
    NoCertificate {
        /// The wanted one.
        identity: String,
    },
    /// The certificate's key did not make the signature.
    #[error("its signature is not by the key of its certificate")]
    NotByCertificate,
    /// The certificate comes from nobody that is trusted.
    #[error("the certificate of its signature is not by an authority of {root}: {why}")]
    OtherAuthority {
        /// The trust root.
        root: String,
        /// Why.
        why: String,
    },
    /// The certificate was not valid when the signature was made, or is not valid now where nobody says when that was.
    #[error("the certificate of its signature {} {valid}, and {}", if *began { "ended" } else { "begins" }, proof(at, *clock))]
    NotValidThen {
        /// Whether it had begun: then it ended.
        began: bool,
        /// When it began or ended.
        valid: String,
        /// The moment that counts.
        at: String,
        /// Who says so.
        clock: Clock,
    },
    /// It is somebody else's.
    #[error("its signer is {}, not {wanted}", known(found))]
    OtherIdentity {
        /// Who the certificate names.
        found: Vec<String>,
        /// Who is wanted.
        wanted: String,
    },
    /// Another provider vouched for the signer.
    #[error("the OIDC issuer of its certificate is {}, not {wanted}", known(found.as_slice()))]
    OtherIssuer {
        /// Who vouched.
        found: Vec<String>,
        /// Who is wanted.
        wanted: String,
    },
    /// No log took it.
    #[error("its signature has no entry of a transparency log of {root} that says when it was made")]
    NotLogged {
        /// The trust root.
        root: String,
    },
    /// A log took it that does not say when, and nobody else does.
    #[error(
        "its signature is in a transparency log that keeps no time, and has no timestamp of an authority of {root}"
    )]
    NoTime {
        /// The trust root.
        root: String,
    },
    /// The timestamp is not an authority's, or for something else.
    #[error("the timestamp of its signature is invalid: {why}")]
    Timestamp {
        /// Why.
        why: &'static str,
    },
    /// The log's entry is not the log's, or about something else.
    #[error("the transparency log's entry of its signature is invalid: {why}")]
    LogEntry {
        /// Why.
        why: &'static str,
    },
}

impl Refusal {
    /// How near it came to be taken: of several signatures the nearest one tells most.
    pub(crate) fn distance(&self) -> u8 {
        match self {
            Self::Missing => 0,
            Self::Malformed { .. } => 1,
            Self::OtherDigest { .. } => 2,
            Self::OtherKey { .. } | Self::NoCertificate { .. } => 3,
            Self::NotByCertificate => 4,
            Self::NotLogged { .. } | Self::NoTime { .. } => 5,
            Self::LogEntry { .. } | Self::Timestamp { .. } => 6,
            Self::OtherAuthority { .. } => 7,
            Self::NotValidThen { .. } => 8,
            Self::OtherIssuer { .. } => 9,
            Self::OtherIdentity { .. } => 10,
        }
    }

    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }
}

fn known(names: &[String]) -> String {
    if names.is_empty() { "unknown".to_owned() } else { names.join(", ") }
}

/// Who says when a signature was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// A transparency log that signed it.
    Log,
    /// A timestamp authority.
    Authority,
    /// Nobody: it counts what is now.
    Now,
}

fn proof(at: &str, clock: Clock) -> String {
    match clock {
        Clock::Log => format!("the transparency log took it {at}"),
        Clock::Authority => format!("its timestamp is of {at}"),
        Clock::Now => "no transparency log says that it was made before".to_owned(),
    }
}

/// The bytes of a base64 text.
pub(crate) fn decoded(text: &str, what: &str) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(text.trim()).map_err(|_| Refusal::malformed(format!("{what} is not base64")))
}
