//! `lock`.

use std::collections::BTreeSet;

use anyhow::Context as _;
use clap::Args;
use failure::{FailWith as _, Kind, ending, failure};
use futures_util::stream::{self, StreamExt as _};
use images_config::{
    Config,
    lock::diff::Change,
    lock::resolve::{Answers, ResolveError, resolve_all},
    lock::update::{Select, Want},
    lock::waiting::waits,
    lock::{Locked, Seen},
};
use registry::{Client, Digest, Reference};

use super::Context;
use crate::min_age;
use crate::transfer::{registry_failure, registry_verdict};
use crate::trust::Trust;

/// Images whose signatures are checked in parallel.
const AT_ONCE: usize = 16;

/// Write images.lock: the digest of each name in images.toml
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask lock\n  cargo xtask lock --update\n  cargo xtask lock --update grafana python3.12\n  cargo xtask lock --allow-fresh grafana"
)]
pub struct Lock {
    /// Ask upstream again: for everything, or for the images and runtimes that are named
    #[arg(long)]
    update: bool,
    /// Ask upstream, show what would change and stop; exits with 3 if something would change, with 7 if upstream does not answer
    #[arg(long)]
    check: bool,
    /// Ask upstream again for this image or base, and lock it ignoring min_age in images.toml; can be given several times
    #[arg(long, value_name = "NAME")]
    allow_fresh: Vec<String>,
    /// Images and runtimes
    #[arg(value_name = "NAME", requires = "update")]
    names: Vec<String>,
}

impl Lock {
    /// Runs the command.
    ///
    /// # Errors
    /// A name is unknown, an upstream does not answer or lacks an image, or the file cannot be written.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let config = context.config()?;
        let file = if self.check { context.paths.lock() } else { context.lock_to_write()? };
        let lock = context.lock()?;
        let is_there = lock.is_some();
        let before = lock.unwrap_or_default();
        let select = match (self.update || self.check, self.names.is_empty()) {
            (false, _) => Select::Missing,
            (true, true) => Select::All,
            (true, false) => Select::Named(self.names),
        };
        let wants = wants(&config, &before, &select, &self.allow_fresh)?;
        let client = context.sources().client(&config)?;
        let now = min_age::now();
        let asked = async { Ok(resolve_all(&client, &wants, &before, now).await) };
        let Answers { locked, waiting, vanished, failed } = context.interrupt.guard(asked).await?;
        let ruled = wants.iter().filter(|want| want.min_age.is_some() && !want.allow_fresh);
        min_age::check_clock(&client, ruled.map(|want| &want.source))
            .hint(Kind::Config, "images.lock was not touched")?;
        let signed = async { signatures(context, &config, &client, &locked).await };
        context.interrupt.guard(signed).await?;
        let gone: Vec<serde_json::Value> = vanished.iter().map(gone_as_json).collect();
        // All or nothing: a lock with only some of the images is not usable.
        let mut failed = failed.into_iter();
        if let Some(first) = failed.next() {
            failed.for_each(|error| context.printer.error(&error.into()));
            context.printer.results().report(&serde_json::json!({ "vanished": gone }))?;
            let (exit, hint) = match &first {
                ResolveError::Registry { source, .. } => registry_verdict(source, Kind::Upstream),
                _ => (Kind::Upstream, None),
            };
            return Err(ending(exit, hint, first)).hint(exit, "images.lock was not touched");
        }
        for (source, Seen { digest, first_seen }) in &vanished {
            let told =
                format!("{source}: {digest} has vanished upstream, where it was first seen {first_seen}");
            context.printer.warn(told);
        }
        let mut after = before.merged(&config, &select, locked);
        after.waiting.extend(waiting);
        let waits = waits(&after, &config, now);
        let diff = before.diff(&after);
        let shown = context.paths.show(&file);
        let report = |changed: bool| {
            let changes: Vec<serde_json::Value> = diff.changes.iter().map(as_json).collect();
            let report = serde_json::json!({
                "file": shown.to_string(), "up_to_date": diff.is_empty(), "changes": changes, "changed": changed,
                "waiting": waits, "vanished": gone,
            });
            context.printer.results().report(&report)
        };
        let lines: String = diff.lines().iter().map(|line| format!("{line}\n")).collect();
        context.printer.results().text(&lines)?;
        waits.iter().for_each(|waiting| context.printer.line(waiting.to_string()));
        report(false)?;
        if diff.is_empty() {
            context.printer.line(format!("{shown} is up to date"));
            return Ok(());
        }
        if self.check {
            let (message, writes) = match is_there {
                true => {
                    (format!("{shown} is not what upstream has"), "`cargo xtask lock --update` writes it")
                }
                false => (format!("there is no {shown}"), "`cargo xtask lock` writes it"),
            };
            // Another exit code than for an upstream that does not answer.
            return Err(failure(Kind::Config, message)).hint(Kind::Config, writes);
        }
        after.save(&file).with_context(|| format!("could not write {shown}"))?;
        context.printer.line(format!("wrote {shown}; commit it, so that every run copies the same digests"));
        report(true)
    }
}

/// The sources to resolve: those of `select`, and those in `allow_fresh`.
fn wants(
    config: &Config,
    before: &images_config::lock::Lock,
    select: &Select,
    allow_fresh: &[String],
) -> anyhow::Result<Vec<Want>> {
    let fresh = min_age::fresh(config, allow_fresh)?;
    let mut wants = before.to_resolve(config, select).kind(Kind::Usage)?;
    let named = before.to_resolve(config, &Select::Named(allow_fresh.to_vec())).kind(Kind::Usage)?;
    let asked: BTreeSet<Reference> = wants.iter().map(|want| want.source.clone()).collect();
    wants.extend(named.into_iter().filter(|want| !asked.contains(&want.source)));
    for want in &mut wants {
        want.allow_fresh = fresh.contains(&want.source);
    }
    Ok(wants)
}

/// A vanished digest in `--format json`.
fn gone_as_json((source, seen): (&Reference, &Seen)) -> serde_json::Value {
    serde_json::json!({ "name": source.to_string(), "digest": seen.digest, "first_seen": seen.first_seen })
}

/// Fails if a required signature is missing. Checks all images and reports all refusals.
async fn signatures(
    context: &Context,
    config: &Config,
    client: &Client,
    resolved: &[(Reference, Locked)],
) -> anyhow::Result<()> {
    let Some(trust) = Trust::new(context, config, client, &context.mapping())? else { return Ok(()) };
    let looks = resolved.iter().map(|(source, locked)| trust.check(source, locked.digest));
    let looks: Vec<_> = looks.collect();
    let looks: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let mut refused = looks.into_iter().filter_map(Result::err);
    let Some(first) = refused.next() else { return Ok(()) };
    for error in refused {
        context.printer.error(&registry_failure(error, Kind::Upstream));
    }
    let first: anyhow::Result<()> = Err(registry_failure(first, Kind::Upstream));
    first.hint(Kind::Upstream, "images.lock was not touched")
}

/// A difference in `--format json`.
fn as_json(change: &Change) -> serde_json::Value {
    let one = |what: &str, name: String, old: Option<Digest>, new: Option<Digest>| serde_json::json!({ "name": name, "what": what, "from": old, "to": new });
    match change {
        Change::Added { source, new } => one("added", source.to_string(), None, Some(new.digest)),
        Change::Removed { source, old } => one("removed", source.to_string(), Some(old.digest), None),
        Change::Moved { source, old, new } => {
            one("moved", source.to_string(), Some(old.digest), Some(new.digest))
        }
        Change::Version { from, to, old, new } => serde_json::json!({
            "name": to.to_string(), "was": from.to_string(), "what": "version", "from": old.digest, "to": new.digest,
        }),
        Change::Platforms { source, old, new } => {
            one("platforms", source.to_string(), Some(old.digest), Some(new.digest))
        }
        Change::Waits { source, old, seen } => one("waiting", source.to_string(), *old, Some(seen.digest)),
        Change::Vanished { source, seen } => one("vanished", source.to_string(), Some(seen.digest), None),
        Change::Dropped { source, seen } => one("removed", source.to_string(), Some(seen.digest), None),
        Change::Age { source, new } => one("age", source.to_string(), Some(new.digest), Some(new.digest)),
        Change::Held { runtime, hold } => one("held", runtime.clone(), None, Some(hold.build)),
        Change::Released { runtime, hold } => one("released", runtime.clone(), Some(hold.build), None),
    }
}
