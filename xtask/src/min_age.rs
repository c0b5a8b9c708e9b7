//! Checks the `min_age` rules of images.toml wherever something is copied or built upon.

use std::collections::{BTreeMap, BTreeSet};

use failure::{FailWith as _, Kind, failure};
use images_config::lock::waiting::{Waiting, waits};
use images_config::lock::{Lock, Locked};
use images_config::{Config, MinAge};
use jiff::Timestamp;
use oci_layout::HOST;
use registry::mirror::{Action, Job, Plan, too_fresh};
use registry::{Client, Digest, Error, Reference};

use crate::context::Context;
use crate::ui::units;

/// The accepted difference between a registry's clock and this machine's, in seconds.
const CLOCKS_APART: u64 = 3_600;

/// The present time in whole seconds.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The sources that `names` of `--allow-fresh` refer to.
///
/// # Errors
/// A name is not in images.toml.
pub fn fresh(config: &Config, names: &[String]) -> anyhow::Result<BTreeSet<Reference>> {
    config.sources_called(names).kind(Kind::Usage)
}

/// The digests of `config` that wait according to images.lock, by source. Empty without images.lock.
pub fn waiting(config: &Config, lock: Option<&Lock>) -> BTreeMap<Reference, Waiting> {
    let waits = lock.map(|lock| waits(lock, config, now())).unwrap_or_default();
    waits.into_iter().map(|waiting| (waiting.source.clone(), waiting)).collect()
}

/// The `min_age` rules, and the times in images.lock when digests were first seen.
pub struct Ages {
    config: Config,
    lock: Lock,
    /// Sources that are used at any age.
    fresh: BTreeSet<Reference>,
    now: Timestamp,
    /// All sources of images.
    sources: BTreeSet<Reference>,
    /// Sources by their destinations.
    places: BTreeMap<String, Reference>,
}

impl Ages {
    /// The `min_age` rules of `config`, except for the sources in `fresh`. `None` without such rules.
    ///
    /// # Errors
    /// images.lock cannot be read, or does not exist, so that no first times are known.
    pub fn new(
        context: &Context,
        config: &Config,
        fresh: BTreeSet<Reference>,
    ) -> anyhow::Result<Option<Self>> {
        let rules = config.wants().into_iter().filter(|want| !fresh.contains(&want.source));
        let Some(rule) = rules.filter_map(|want| want.min_age).next() else { return Ok(None) };
        let Some(lock) = context.lock()? else {
            let message =
                format!("{rule}: there is no images.lock, which records when each digest was first seen");
            return Err(failure(Kind::Config, message)).hint(
                Kind::Config,
                "`cargo xtask lock` begins it; --allow-fresh NAME takes an image without",
            );
        };
        Ok(Some(Self::at(config.clone(), lock, fresh, now())))
    }

    /// The rules at this time.
    fn at(config: Config, lock: Lock, fresh: BTreeSet<Reference>, now: Timestamp) -> Self {
        let sources = config.images.iter().map(|image| image.source.clone()).collect();
        let places = config.images.iter();
        let places =
            places.map(|image| (place(&image.repository, &image.tag), image.source.clone())).collect();
        Self { config, lock, fresh, now, sources, places }
    }

    /// The waiting digests.
    pub fn waiting(&self) -> Vec<Waiting> {
        let waits = waits(&self.lock, &self.config, self.now);
        waits.into_iter().filter(|waiting| !self.fresh.contains(&waiting.source)).collect()
    }

    /// Whether `digest` waits for `source`, so that images.lock is not out of date.
    pub fn is_waiting(&self, source: &Reference, digest: Digest) -> bool {
        let seen = self.lock.waiting.get(source).filter(|seen| seen.digest == digest);
        let rule = self.config.min_age(source);
        seen.zip(rule).is_some_and(|(seen, rule)| rule.waits_until(seen.first_seen, self.now).is_some())
    }

    /// The rule for a source, unless it is used at any age.
    fn rule(&self, source: &Reference) -> Option<&MinAge> {
        self.config.min_age(source).filter(|_| !self.fresh.contains(source))
    }

    /// Whether a digest of `source` may be used.
    ///
    /// # Errors
    /// It has not been known for long enough, or it is not known since when.
    pub fn check(&self, source: &Reference, digest: Digest) -> Result<(), Error> {
        let Some(rule) = self.rule(source) else { return Ok(()) };
        let is_it = |locked: &&Locked| {
            locked.digest == digest || locked.targets.values().any(|target| *target == digest)
        };
        let locked = self.lock.sources.get(source).filter(is_it);
        if locked.is_some_and(|locked| locked.allow_fresh) {
            return Ok(());
        }
        let waiting = self.lock.waiting.get(source).filter(|seen| seen.digest == digest);
        let first_seen = locked.map(Locked::seen_since).or(waiting.map(|seen| seen.first_seen));
        let until = first_seen.and_then(|first_seen| rule.waits_until(first_seen, self.now));
        let why = match (first_seen, until) {
            (Some(first_seen), Some(until)) => {
                format!("first seen {first_seen}, it waits until {until} ({rule})")
            }
            (Some(_), None) if locked.is_some() => return Ok(()),
            (Some(first_seen), None) => {
                format!("it has waited since {first_seen}, and `cargo xtask lock --update` takes it")
            }
            (None, _) => {
                format!("images.lock does not say since when it is known ({rule}); `cargo xtask lock` does")
            }
        };
        Err(too_fresh(source, digest, why))
    }

    /// Marks copies of a plan as failed if they are too new. Images already at the target stay.
    ///
    /// # Errors
    /// Errors of [`check_clock`], for images that would be copied.
    pub fn hold(&self, client: &Client, plan: &mut Plan) -> anyhow::Result<()> {
        for planned in &mut plan.images {
            if !matches!(planned.action, Action::Copy(_) | Action::Replace { .. }) {
                continue;
            }
            let job = &planned.job;
            let digest = job.source_digest.or(planned.source);
            let digest = digest.or(planned.content().map(|content| content.digest));
            let (Some(source), Some(digest)) = (self.source(job), digest) else { continue };
            match self.check(source, digest) {
                Ok(()) if self.rule(source).is_some() => {
                    check_clock(client, std::iter::once(source))?;
                }
                Ok(()) => {}
                Err(error) => planned.action = Action::Failed(error),
            }
        }
        Ok(())
    }

    /// The source in images.toml of a copied image, directly or through a layout. `None` for an image read from the target, which
    /// was checked when it was copied there.
    fn source<'a>(&'a self, job: &'a Job) -> Option<&'a Reference> {
        if job.source.registry() == HOST {
            return self.places.get(&place(job.source.repository(), job.target.tag()?));
        }
        self.sources.get(&job.source)
    }
}

fn place(repository: &str, tag: &str) -> String {
    format!("{repository}:{tag}")
}

/// Fails if this machine's clock differs from those of the registries, because ages would be wrong.
///
/// # Errors
/// It differs by more than an hour from that of one of `sources`.
pub fn check_clock<'a>(client: &Client, sources: impl Iterator<Item = &'a Reference>) -> anyhow::Result<()> {
    for source in sources {
        let registry = source.registry();
        let Some(ahead) = client.clock_ahead(registry).filter(|ahead| ahead.unsigned_abs() > CLOCKS_APART)
        else {
            continue;
        };
        let apart = units::duration(std::time::Duration::from_secs(ahead.unsigned_abs()));
        let (word, other) = if ahead > 0 { ("behind", "ahead") } else { ("ahead of", "behind") };
        let message =
            format!("this machine's clock is {apart} {word} that of {registry}: min_age cannot be checked");
        return Err(failure(Kind::Config, message)).hint(
            Kind::Config,
            format!("set the clock; where it is right, {registry}'s is {other}: --allow-fresh, or a min_age of \"0d\" for it"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIG: &str = "schema_version = 1\nmin_age = \"3d\"\n[images]\ncurl = \"x/curl:1\"\n";

    fn day(day: u8) -> Timestamp {
        format!("2026-11-{day:02}T12:00:00Z").parse().unwrap()
    }

    /// The result for `digest` on the ninth, with this entry in images.lock.
    fn said(entry: &str, digest: Digest, fresh: &[&str]) -> Result<(), String> {
        let config = Config::parse(CONFIG, Path::new("images.toml"), None).unwrap();
        let text = format!("schema_version = 1\n{entry}");
        let lock = Lock::parse(&text, Path::new("images.lock")).unwrap_or_else(|wrong| panic!("{wrong}"));
        let names: Vec<String> = fresh.iter().map(|name| (*name).to_owned()).collect();
        let fresh = super::fresh(&config, &names).unwrap();
        let ages = Ages::at(config, lock, fresh, day(9));
        ages.check(&"x/curl:1".parse().unwrap(), digest).map_err(|error| error.kind().to_string())
    }

    #[test]
    fn a_digest_is_used_if_the_lock_has_it_for_long_enough() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let locked = |more: &str| {
            format!(
                "[sources.\"docker.io/x/curl:1\"]\ndigest = \"{one}\"\nmedia_type = \"m\"\nresolved_at = 2026-11-08T12:00:00Z\n{more}\n"
            )
        };
        let waiting = |seen: &str| {
            format!("[waiting.\"docker.io/x/curl:1\"]\ndigest = \"{two}\"\nfirst_seen = {seen}\n")
        };
        assert_eq!(said(&locked("first_seen = 2026-11-06T12:00:00Z"), one, &[]), Ok(()));
        assert_eq!(said(&locked("allow_fresh = true"), one, &[]), Ok(()));
        assert_eq!(said(&locked(""), one, &["curl"]), Ok(()));
        let rule = "min_age 3d of images.toml, line 2";
        assert_eq!(
            said(&locked(""), one, &[]),
            Err(format!(
                "{one} is too new: first seen 2026-11-08T12:00:00Z, it waits until 2026-11-11T12:00:00Z ({rule})"
            ))
        );
        // A clock was ahead when it was locked.
        let future = said(&locked("first_seen = 2027-01-01T00:00:00Z"), one, &[]).unwrap_err();
        assert!(future.contains("it waits until 2026-11-12T12:00:00Z"), "{future}");
        let seen = said(&waiting("2026-11-08T12:00:00Z"), two, &[]).unwrap_err();
        assert!(seen.contains("it waits until 2026-11-11T12:00:00Z"), "{seen}");
        // It is old enough, but the lock decides what is copied.
        let over = said(&waiting("2026-11-01T12:00:00Z"), two, &[]).unwrap_err();
        assert!(over.contains("`cargo xtask lock --update` takes it"), "{over}");
        let unknown = said(&locked(""), two, &[]).unwrap_err();
        assert!(
            unknown.contains(&format!("images.lock does not say since when it is known ({rule})")),
            "{unknown}"
        );
        assert_eq!(said("", two, &["curl"]), Ok(()));
    }
}
