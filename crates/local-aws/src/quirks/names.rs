//! The quirks' names and values.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One quirk, with its value if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quirk {
    /// `blob-unknown-lag[=MS]`: a manifest that refers to a layer completed less than this ago is rejected with `BLOB_UNKNOWN`.
    BlobUnknownLag(Duration),
    /// `throttle-put-image[=N]`: more than N image puts per second are rejected (AWS's quota is 10).
    ThrottlePutImage(u32),
    /// `throttle-random=SEED[:PERMILLE]`: PERMILLE of a thousand requests are rejected, by a generator with this seed.
    ThrottleRandom {
        /// Seed of the generator.
        seed: u64,
        /// How many of a thousand requests are rejected.
        permille: u32,
    },
    /// `expire-tokens-after-n-requests=N`: a registry token is valid for N requests.
    ExpireTokensAfter(u64),
    /// `no-location-on-manifest-put`: the answer to a manifest's PUT has no `Location`.
    NoLocationOnManifestPut,
    /// `drop-connection-on-unknown-repo`: the connection of a push to a missing repository is closed.
    DropConnectionOnUnknownRepo,
    /// `eventual-consistency=N`: the registry reports a new repository as missing N times.
    EventualConsistency(u32),
    /// `late-listing=N`: a new repository or rule is missing in the next N listings, but found by its name.
    LateListing(u32),
    /// `slow-signing=N`: the first N requests for the signatures of a new image report that signing is in progress.
    SlowSigning(u32),
    /// `session-expired`: every request is signed with an expired session.
    SessionExpired,
    /// `clock-skew`: every signature is too old.
    ClockSkew,
    /// `plain-http`: requests to S3 count as requests without TLS, which they are.
    PlainHttp,
    /// `young-bucket=N`: the first N requests about a new bucket's settings fail, alternately with OperationAborted and NoSuchBucket; so do
    /// the first N requests for its objects after versioning was enabled, with NoSuchKey.
    YoungBucket(u32),
    /// `conflict=N`: the next N conditional deletions in S3 conflict with another request.
    Conflict(u32),
    /// `clock=SECONDS`: AWS's clock is ahead of this machine's by SECONDS, or behind if negative.
    Clock(i64),
    /// `drop-answer=N:WORDS`: the Nth request whose `SERVICE ACTION PATH` contains this text is executed, and the connection is closed
    /// without an answer.
    DropAnswer {
        /// The number of the request.
        nth: u64,
        /// The text in the request.
        words: String,
    },
    /// `deny:ACTION`: this IAM action is denied.
    Deny(String),
    /// `hold-answer=N:WORDS`: the Nth request whose `SERVICE ACTION PATH` contains this text is executed, but its answer is delayed until
    /// the quirks are set again.
    HoldAnswer {
        /// The number of the request.
        nth: u64,
        /// The text in the request.
        words: String,
    },
}

/// Why a quirk's name is invalid.
#[derive(Debug, thiserror::Error)]
pub enum QuirkError {
    /// No quirk has this name.
    #[error("unknown quirk '{0}'; known: {known}", known = KNOWN.join(", "))]
    Unknown(String),
    /// The quirk's value is missing or not a number.
    #[error("quirk '{0}' needs a number after '='")]
    Measure(String),
}

const KNOWN: &[&str] = &[
    "blob-unknown-lag[=MS]",
    "throttle-put-image[=N]",
    "throttle-random=SEED[:PERMILLE]",
    "expire-tokens-after-n-requests=N",
    "no-location-on-manifest-put",
    "drop-connection-on-unknown-repo",
    "eventual-consistency=N",
    "late-listing=N",
    "slow-signing=N",
    "session-expired",
    "clock-skew",
    "plain-http",
    "young-bucket=N",
    "conflict=N",
    "clock=SECONDS",
    "drop-answer=N:WORDS",
    "deny:SERVICE:ACTION",
    "hold-answer=N:WORDS",
];

impl FromStr for Quirk {
    type Err = QuirkError;

    fn from_str(text: &str) -> Result<Self, QuirkError> {
        if let Some(action) = text.strip_prefix("deny:").filter(|action| action.contains(':')) {
            return Ok(Self::Deny(action.to_owned()));
        }
        let (name, measure) =
            text.split_once('=').map_or((text, None), |(name, measure)| (name, Some(measure)));
        let bad = || QuirkError::Measure(text.to_owned());
        let number = |default: Option<u64>| match measure {
            Some(measure) => measure.parse::<u64>().map_err(|_| bad()),
            None => default.ok_or_else(bad),
        };
        let small = |default| number(default).and_then(|n| u32::try_from(n).map_err(|_| bad()));
        Ok(match name {
            "blob-unknown-lag" => Self::BlobUnknownLag(Duration::from_millis(number(Some(500))?)),
            "throttle-put-image" => Self::ThrottlePutImage(small(Some(10))?),
            "throttle-random" => {
                let (seed, permille) = measure
                    .unwrap_or_default()
                    .split_once(':')
                    .unwrap_or((measure.unwrap_or_default(), "300"));
                Self::ThrottleRandom {
                    seed: seed.parse().map_err(|_| bad())?,
                    permille: permille.parse().map_err(|_| bad())?,
                }
            }
            "expire-tokens-after-n-requests" => Self::ExpireTokensAfter(number(None)?),
            "no-location-on-manifest-put" => Self::NoLocationOnManifestPut,
            "drop-connection-on-unknown-repo" => Self::DropConnectionOnUnknownRepo,
            "session-expired" => Self::SessionExpired,
            "clock-skew" => Self::ClockSkew,
            "eventual-consistency" => Self::EventualConsistency(small(None)?),
            "late-listing" => Self::LateListing(small(None)?),
            "slow-signing" => Self::SlowSigning(small(None)?),
            "plain-http" => Self::PlainHttp,
            "young-bucket" => Self::YoungBucket(small(None)?),
            "conflict" => Self::Conflict(small(None)?),
            "clock" => Self::Clock(measure.and_then(|measure| measure.parse().ok()).ok_or_else(bad)?),
            "drop-answer" => {
                let (nth, words) = measure.and_then(|measure| measure.split_once(':')).ok_or_else(bad)?;
                Self::DropAnswer { nth: nth.parse().map_err(|_| bad())?, words: words.to_owned() }
            }
            "hold-answer" => {
                let (nth, words) = measure.and_then(|measure| measure.split_once(':')).ok_or_else(bad)?;
                Self::HoldAnswer { nth: nth.parse().map_err(|_| bad())?, words: words.to_owned() }
            }
            _ => return Err(QuirkError::Unknown(text.to_owned())),
        })
    }
}

impl fmt::Display for Quirk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlobUnknownLag(lag) => write!(f, "blob-unknown-lag={}", lag.as_millis()),
            Self::ThrottlePutImage(rate) => write!(f, "throttle-put-image={rate}"),
            Self::ThrottleRandom { seed, permille } => write!(f, "throttle-random={seed}:{permille}"),
            Self::ExpireTokensAfter(requests) => write!(f, "expire-tokens-after-n-requests={requests}"),
            Self::NoLocationOnManifestPut => f.write_str("no-location-on-manifest-put"),
            Self::DropConnectionOnUnknownRepo => f.write_str("drop-connection-on-unknown-repo"),
            Self::EventualConsistency(requests) => write!(f, "eventual-consistency={requests}"),
            Self::LateListing(listings) => write!(f, "late-listing={listings}"),
            Self::SlowSigning(requests) => write!(f, "slow-signing={requests}"),
            Self::SessionExpired => f.write_str("session-expired"),
            Self::ClockSkew => f.write_str("clock-skew"),
            Self::PlainHttp => f.write_str("plain-http"),
            Self::YoungBucket(requests) => write!(f, "young-bucket={requests}"),
            Self::Conflict(requests) => write!(f, "conflict={requests}"),
            Self::Clock(seconds) => write!(f, "clock={seconds}"),
            Self::DropAnswer { nth, words } => write!(f, "drop-answer={nth}:{words}"),
            Self::Deny(action) => write!(f, "deny:{action}"),
            Self::HoldAnswer { nth, words } => write!(f, "hold-answer={nth}:{words}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quirk_is_read_back_as_written() {
        for text in [
            "blob-unknown-lag=500",
            "throttle-put-image=10",
            "throttle-random=7:300",
            "expire-tokens-after-n-requests=3",
            "no-location-on-manifest-put",
            "drop-connection-on-unknown-repo",
            "eventual-consistency=2",
            "late-listing=2",
            "slow-signing=2",
            "session-expired",
            "clock-skew",
            "plain-http",
            "young-bucket=3",
            "conflict=2",
            "clock=-600",
            "drop-answer=1:s3 PutObject",
            "deny:ecr:PutImage",
            "hold-answer=2:ecr CreateRepository",
        ] {
            assert_eq!(text.parse::<Quirk>().unwrap().to_string(), text);
        }
        assert!(
            "throttle-everything"
                .parse::<Quirk>()
                .unwrap_err()
                .to_string()
                .contains("known: blob-unknown-lag")
        );
        assert!("eventual-consistency".parse::<Quirk>().is_err());
        assert!("throttle-random".parse::<Quirk>().is_err());
    }
}
