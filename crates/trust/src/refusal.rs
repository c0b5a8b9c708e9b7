//! Why a signature is not accepted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use registry::Digest;

/// Why no signature of an image is accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The image has no signature.
    #[error("it has no signature")]
    Missing,
    /// The signature cannot be read.
    #[error("its signature cannot be read: {what}")]
    Malformed {
        /// The part that cannot be read.
        what: String,
    },
    /// The signature is for another digest.
    #[error("its signature is for {signed}")]
    OtherDigest {
        /// The digest that it is for.
        signed: Digest,
    },
    /// The signature was not made with the required key.
    #[error("it is signed by another key than {key}")]
    OtherKey {
        /// The required key.
        key: String,
    },
    /// The signature has no certificate, but an identity is required.
    #[error("its signature has no certificate, which {identity} would have")]
    NoCertificate {
        /// The required identity.
        identity: String,
    },
    /// The signature was not made with the certificate's key.
    #[error("its signature is not by the key of its certificate")]
    NotByCertificate,
    /// The certificate was not issued by a trusted authority.
    #[error("the certificate of its signature is not by an authority of {root}: {why}")]
    OtherAuthority {
        /// The trust root.
        root: String,
        /// Why.
        why: String,
    },
    /// The certificate was not valid when the signature was made, or is not valid now if that time is unknown.
    #[error("the certificate of its signature {} {valid}, and {}", if *began { "ended" } else { "begins" }, proof(at, *clock))]
    NotValidThen {
        /// Whether it had become valid, so that it had expired.
        began: bool,
        /// The start or end of its validity.
        valid: String,
        /// The time that is compared.
        at: String,
        /// The source of that time.
        clock: Clock,
    },
    /// The signature is of another identity.
    #[error("its signer is {}, not {wanted}", known(found))]
    OtherIdentity {
        /// The identities in the certificate.
        found: Vec<String>,
        /// The required identity.
        wanted: String,
    },
    /// The identity is from another OIDC issuer.
    #[error("the OIDC issuer of its certificate is {}, not {wanted}", known(found.as_slice()))]
    OtherIssuer {
        /// The issuers in the certificate.
        found: Vec<String>,
        /// The required issuer.
        wanted: String,
    },
    /// The signature is not in a transparency log.
    #[error("its signature has no entry of a transparency log of {root} that says when it was made")]
    NotLogged {
        /// The trust root.
        root: String,
    },
    /// The log has no time of its own, and there is no timestamp.
    #[error(
        "its signature is in a transparency log that keeps no time, and has no timestamp of an authority of {root}"
    )]
    NoTime {
        /// The trust root.
        root: String,
    },
    /// The timestamp is not by an authority, or is for something else.
    #[error("the timestamp of its signature is invalid: {why}")]
    Timestamp {
        /// Why.
        why: &'static str,
    },
    /// The log's entry is not by the log, or is about something else.
    #[error("the transparency log's entry of its signature is invalid: {why}")]
    LogEntry {
        /// Why.
        why: &'static str,
    },
}

impl Refusal {
    /// How close it was to being accepted: of several signatures, the closest one is reported.
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

/// The source of a signature's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// A transparency log that signed its entry.
    Log,
    /// A timestamp authority.
    Authority,
    /// None: the current time is used.
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
