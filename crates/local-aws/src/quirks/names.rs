//! The names of quirks, as they are switched on by.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One surprise, with its measure where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quirk {
    /// `blob-unknown-lag[=MS]`: a manifest that names a layer finished less than this ago is refused with `BLOB_UNKNOWN`.
    BlobUnknownLag(Duration),
    /// `throttle-put-image[=N]`: more than N image puts in one second are refused (AWS's quota is 10).
    ThrottlePutImage(u32),
    /// `throttle-random=SEED[:PERMILLE]`: so many of a thousand requests are refused, by a generator with that seed.
    ThrottleRandom {
        /// Seed of the generator.
        seed: u64,
        /// How many of a thousand requests are refused.
        permille: u32,
    },
    /// `expire-tokens-after-n-requests=N`: a registry token is good for N requests.
    ExpireTokensAfter(u64),
    /// `no-location-on-manifest-put`: the answer to a manifest's PUT has no `Location`.
    NoLocationOnManifestPut,
    /// `drop-connection-on-unknown-repo`: a push to a repository that does not exist is hung up on.
    DropConnectionOnUnknownRepo,
    /// `eventual-consistency=N`: the registry denies a new repository N times.
    EventualConsistency(u32),
    /// `late-listing=N`: a new repository or rule is left out of the next N listings; asked for by its name it is there.
    LateListing(u32),
    /// `slow-signing=N`: the first N questions for the signatures of a new image find them in progress.
    SlowSigning(u32),
    /// `session-expired`: whoever signs a request does it with a session that is over.
    SessionExpired,
    /// `clock-skew`: every signature is too old.
    ClockSkew,
    /// `plain-http`: requests to S3 count as what they are, without TLS.
    PlainHttp,
    /// `young-bucket=N`: the first N requests about a new bucket's settings are refused, by OperationAborted and NoSuchBucket in
    /// turns, and so are the first N requests for its objects after versioning was switched on, by NoSuchKey.
    YoungBucket(u32),
    /// `conflict=N`: the next N conditional deletions in S3 meet another request.
    Conflict(u32),
    /// `clock=SECONDS`: AWS's clock is ahead of this machine's by so much, or behind (a number below 0).
    Clock(i64),
    /// `drop-answer=N:WORDS`: the Nth request whose `SERVICE ACTION PATH` holds these words is carried out, and the connection
    /// closed without an answer.
    DropAnswer {
        /// Which of them.
        nth: u64,
        /// What the request is known by.
        words: String,
    },
    /// `deny:ACTION`: that IAM action is refused.
    Deny(String),
    /// `hold-answer=N:WORDS`: the answer to the Nth request whose `SERVICE ACTION PATH` holds these words is kept back, after
    /// the request was carried out, until the quirks are set anew.
    HoldAnswer {
        /// Which of them.
        nth: u64,
        /// What the request is known by.
        words: String,
    },
}

/// A quirk's name that means nothing.
#[derive(Debug, thiserror::Error)]
pub enum QuirkError {
    /// No quirk has this name.
    #[error("unknown quirk '{0}'; known: {known}", known = KNOWN.join(", "))]
    Unknown(String),
    /// The quirk's measure is missing or is no number.
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
    fn every_quirk_is_read_and_written_alike() {
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
