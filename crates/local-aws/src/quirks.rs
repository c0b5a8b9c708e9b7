//! Ways in which the real services surprise their callers, switched on by name.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

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

/// The quirks that are on, and what they have counted so far.
pub(crate) struct Quirks(Mutex<Inner>, watch::Sender<u64>);

struct Inner {
    on: Vec<Quirk>,
    generator: fastrand::Rng,
    puts: Vec<Instant>,
    token_uses: HashMap<u64, u64>,
    hidden: HashMap<String, u32>,
    conflicts: u32,
    dropped: u64,
    held: Held,
}

/// The answers that are kept back.
#[derive(Default)]
struct Held {
    seen: u64,
    requests: Vec<String>,
}

impl Quirks {
    pub(crate) fn new(on: Vec<Quirk>) -> Self {
        let quirks = Self(
            Mutex::new(Inner {
                on: Vec::new(),
                generator: fastrand::Rng::with_seed(0),
                puts: Vec::new(),
                token_uses: HashMap::new(),
                hidden: HashMap::new(),
                conflicts: 0,
                dropped: 0,
                held: Held::default(),
            }),
            watch::Sender::new(0),
        );
        quirks.set(on);
        quirks
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the quirks; all counting starts anew.
    pub(crate) fn set(&self, on: Vec<Quirk>) {
        let mut inner = self.inner();
        let seed = on.iter().find_map(|quirk| match quirk {
            Quirk::ThrottleRandom { seed, .. } => Some(*seed),
            _ => None,
        });
        let conflicts = on.iter().find_map(|quirk| match quirk {
            Quirk::Conflict(requests) => Some(*requests),
            _ => None,
        });
        let ahead = on.iter().find_map(|quirk| match quirk {
            Quirk::Clock(seconds) => Some(*seconds),
            _ => None,
        });
        crate::time::set_ahead(ahead.unwrap_or(0));
        *inner = Inner {
            on,
            conflicts: conflicts.unwrap_or(0),
            dropped: 0,
            generator: fastrand::Rng::with_seed(seed.unwrap_or(0)),
            puts: Vec::new(),
            token_uses: HashMap::new(),
            hidden: HashMap::new(),
            held: Held::default(),
        };
        drop(inner);
        self.1.send_modify(|sets| *sets += 1);
    }

    /// Keeps an answer back for as long as the quirks say so.
    pub(crate) async fn hold(&self, request: &str) {
        let mut set = self.1.subscribe();
        {
            let mut inner = self.inner();
            let Some(nth) = inner.on.iter().find_map(|quirk| match quirk {
                Quirk::HoldAnswer { nth, words } => request.contains(words.as_str()).then_some(*nth),
                _ => None,
            }) else {
                return;
            };
            inner.held.seen += 1;
            if inner.held.seen != nth {
                return;
            }
            inner.held.requests.push(request.to_owned());
        }
        // An error would be the end of the server.
        let _ = set.changed().await;
    }

    /// The requests whose answers are kept back.
    pub(crate) fn held(&self) -> Vec<String> {
        self.inner().held.requests.clone()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.inner().on.iter().map(ToString::to_string).collect()
    }

    fn find<T>(&self, pick: impl Fn(&Quirk) -> Option<T>) -> Option<T> {
        self.inner().on.iter().find_map(pick)
    }

    pub(crate) fn blob_lag(&self) -> Option<Duration> {
        self.find(|quirk| match quirk {
            Quirk::BlobUnknownLag(lag) => Some(*lag),
            _ => None,
        })
    }

    pub(crate) fn no_location(&self) -> bool {
        self.find(|quirk| (*quirk == Quirk::NoLocationOnManifestPut).then_some(())).is_some()
    }

    pub(crate) fn session_expired(&self) -> bool {
        self.find(|quirk| (*quirk == Quirk::SessionExpired).then_some(())).is_some()
    }

    pub(crate) fn clock_skew(&self) -> bool {
        self.find(|quirk| (*quirk == Quirk::ClockSkew).then_some(())).is_some()
    }

    pub(crate) fn drops_connection(&self) -> bool {
        self.find(|quirk| (*quirk == Quirk::DropConnectionOnUnknownRepo).then_some(())).is_some()
    }

    pub(crate) fn plain_http(&self) -> bool {
        self.find(|quirk| (*quirk == Quirk::PlainHttp).then_some(())).is_some()
    }

    /// Counts one request; true: it is carried out and not answered.
    pub(crate) fn drops_answer(&self, request: &str) -> bool {
        let mut inner = self.inner();
        let Some(nth) = inner.on.iter().find_map(|quirk| match quirk {
            Quirk::DropAnswer { nth, words } => request.contains(words.as_str()).then_some(*nth),
            _ => None,
        }) else {
            return false;
        };
        inner.dropped += 1;
        inner.dropped == nth
    }

    fn young(&self) -> Option<u32> {
        self.find(|quirk| match quirk {
            Quirk::YoungBucket(requests) => Some(*requests),
            _ => None,
        })
    }

    /// A bucket was created: its settings will be refused for a while.
    pub(crate) fn bucket_created(&self, name: &str) {
        if let Some(requests) = self.young() {
            self.inner().hidden.insert(format!("bucket {name}"), requests);
        }
    }

    /// Versioning was switched on for the first time: objects will not be found for a while.
    pub(crate) fn versions_begin(&self, name: &str) {
        if let Some(requests) = self.young() {
            self.inner().hidden.insert(format!("versions {name}"), requests);
        }
    }

    /// Whether a request about a bucket's settings comes too early, and how many more do.
    pub(crate) fn young_bucket(&self, name: &str) -> Option<u32> {
        let mut inner = self.inner();
        let left = inner.hidden.get_mut(&format!("bucket {name}")).filter(|left| **left > 0)?;
        *left -= 1;
        Some(*left)
    }

    /// Whether a request for an object comes too early.
    pub(crate) fn young_versions(&self, name: &str) -> bool {
        self.repository_hidden(&format!("versions {name}"))
    }

    /// Counts one conditional deletion; true: it meets another request.
    pub(crate) fn conflicts(&self) -> bool {
        let mut inner = self.inner();
        let met = inner.conflicts > 0;
        inner.conflicts = inner.conflicts.saturating_sub(1);
        met
    }

    pub(crate) fn denies(&self, action: &str) -> bool {
        self.find(|quirk| match quirk {
            Quirk::Deny(denied) => denied.eq_ignore_ascii_case(action).then_some(()),
            _ => None,
        })
        .is_some()
    }

    /// Counts one image put; true: refuse it. A refused one does not count, as with a bucket of tokens.
    pub(crate) fn throttles_put_image(&self) -> bool {
        let mut inner = self.inner();
        let Some(rate) = inner.on.iter().find_map(|quirk| match quirk {
            Quirk::ThrottlePutImage(rate) => Some(*rate),
            _ => None,
        }) else {
            return false;
        };
        let now = Instant::now();
        inner.puts.retain(|put| now.duration_since(*put) < Duration::from_secs(1));
        if inner.puts.len() >= rate as usize {
            return true;
        }
        inner.puts.push(now);
        false
    }

    /// Draws for one request; true: refuse it.
    pub(crate) fn throttles_at_random(&self) -> bool {
        let mut inner = self.inner();
        let Some(permille) = inner.on.iter().find_map(|quirk| match quirk {
            Quirk::ThrottleRandom { permille, .. } => Some(*permille),
            _ => None,
        }) else {
            return false;
        };
        inner.generator.u32(0..1000) < permille
    }

    /// Counts one use of a token; true: it has been used up.
    pub(crate) fn token_used_up(&self, nonce: u64) -> bool {
        let mut inner = self.inner();
        let Some(most) = inner.on.iter().find_map(|quirk| match quirk {
            Quirk::ExpireTokensAfter(most) => Some(*most),
            _ => None,
        }) else {
            return false;
        };
        let uses = inner.token_uses.entry(nonce).or_default();
        *uses += 1;
        *uses > most
    }

    /// A repository was created: the registry will not see it at once.
    pub(crate) fn repository_created(&self, key: &str) {
        let mut inner = self.inner();
        let requests = inner.on.iter().find_map(|quirk| match quirk {
            Quirk::EventualConsistency(requests) => Some(*requests),
            _ => None,
        });
        if let Some(requests) = requests {
            inner.hidden.insert(key.to_owned(), requests);
        }
    }

    /// A repository or a rule was created: listings will not show it at once.
    pub(crate) fn listed_late(&self, key: &str) {
        let mut inner = self.inner();
        let listings = inner.on.iter().find_map(|quirk| match quirk {
            Quirk::LateListing(listings) => Some(*listings),
            _ => None,
        });
        if let Some(listings) = listings {
            inner.hidden.insert(format!("listing {key}"), listings);
        }
    }

    /// Whether a listing still leaves it out; each one brings it nearer.
    pub(crate) fn is_unlisted(&self, key: &str) -> bool {
        self.repository_hidden(&format!("listing {key}"))
    }

    /// Whether the registry still denies this repository; each asking brings it nearer.
    pub(crate) fn repository_hidden(&self, key: &str) -> bool {
        let mut inner = self.inner();
        match inner.hidden.get_mut(key) {
            Some(0) | None => false,
            Some(left) => {
                *left -= 1;
                true
            }
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

    #[test]
    fn the_seed_decides_what_is_throttled() {
        let draw = || {
            let quirks = Quirks::new(vec![Quirk::ThrottleRandom { seed: 42, permille: 300 }]);
            (0..200).map(|_| quirks.throttles_at_random()).collect::<Vec<_>>()
        };
        let refused = draw().iter().filter(|refused| **refused).count();
        assert!((30..=90).contains(&refused), "{refused} of 200 refused at 300 permille");
        assert_eq!(draw(), draw());
    }

    #[test]
    fn the_eleventh_put_of_a_second_is_throttled() {
        let quirks = Quirks::new(vec![Quirk::ThrottlePutImage(10)]);
        let refused = (0..11).filter(|_| quirks.throttles_put_image()).count();
        assert_eq!(refused, 1);
    }

    #[test]
    fn a_new_repository_hides_as_often_as_told() {
        let quirks = Quirks::new(vec![Quirk::EventualConsistency(2)]);
        quirks.repository_created("a");
        let seen: Vec<_> = (0..4).map(|_| quirks.repository_hidden("a")).collect();
        assert_eq!(seen, [true, true, false, false]);
        assert!(!quirks.repository_hidden("b"));
    }
}
