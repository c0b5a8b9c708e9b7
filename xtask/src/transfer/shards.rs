//! One transfer by several processes: resources once, a lease per shard, and a report that the last shard combines.
//! Which shard an image or a runtime belongs to: `crates/aws/src/shard.rs`.

use std::time::Duration;

use aws::lease::{Lease, Part};
use aws::shard::Shard;
use aws::sidecar::Sidecar;
use aws::store::StateStore;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use grid::Infrastructure;
use images_config::{Config, lock::Lock};
use jiff::Timestamp;
use registry::Digest;
use serde::{Deserialize, Serialize};

use super::runtimes::who;
use super::{Done, Plan, Run, show};
use crate::ui::{Printer, Table, units};

/// How long a shard waits at least for another run on the resources or all images, and `watch` for any run: they are meant to run
/// unattended.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Age after which a shard's report no longer belongs to this run.
const NEWS: Duration = Duration::from_secs(24 * 3600);
/// The name of a record in errors.
const WHAT: &str = "the report of a run";
/// Reports read in parallel.
const AT_ONCE: usize = 16;

/// The suffix of the record of a run without shards, and the prefix of those of shards.
const RECORDS: &str = "transfer.report";

/// The report of one shard, or of a run without shards.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Share {
    /// `2/4`; `1/1` for a run without shards.
    shard: String,
    /// The user who ran it.
    #[serde(default)]
    by: Option<String>,
    /// The hash of the whole list.
    list: Digest,
    at: Timestamp,
    /// Images and runtimes in the shard.
    images: usize,
    /// Those that this run transferred.
    brought: usize,
    bytes: u64,
    /// What failed, with causes.
    failed: Vec<String>,
}

/// The combined reports of all shards.
#[derive(Debug, Serialize)]
pub struct CombinedReport {
    /// Whether all shards have reported success.
    complete: bool,
    images: usize,
    brought: usize,
    bytes: u64,
    done: Vec<Share>,
    /// Shards without a recent report for this list.
    missing: Vec<String>,
}

/// A hash of the whole list, to recognise reports for another list.
pub(super) fn list(config: &Config, lock: Option<&Lock>) -> Digest {
    let image = |image: &images_config::Image| {
        let locked = lock.and_then(|lock| lock.source_digest(&image.source));
        format!("{} {}:{} {:?} {locked:?}\n", image.source, image.repository, image.tag, image.platforms)
    };
    let runtime = |runtime: &images_config::Runtime| format!("{} {}\n", runtime.name, runtime.base);
    let lines = config.images.iter().map(image).chain(config.enabled_runtimes().map(runtime));
    Digest::of(lines.collect::<String>().as_bytes())
}

/// The lease for the work of this run.
pub(super) async fn lease(run: &Run<'_>, infrastructure: &Infrastructure<'_>) -> anyhow::Result<Lease> {
    match run.request.shard {
        Some(shard) => infrastructure.lease_on(Part::Shard(shard), LOCK_TIMEOUT).await,
        None => infrastructure.lease().await,
    }
}

/// Applies the resources, unless the plan cache shows that they are up to date: the first shard to arrive does it, and the others
/// wait. A fixed first shard might never start. `run` is a run of only the resources. Returns the changes, one line each.
pub(super) async fn resources_first(
    run: &Run<'_>,
    infrastructure: &Infrastructure<'_>,
) -> anyhow::Result<Vec<String>> {
    let look = async {
        let inventory = infrastructure.inventory().await?;
        let variables = infrastructure.variables_without_deletions(run.whole, &inventory);
        grid::last_apply::is_up_to_date(infrastructure, &variables, &inventory)
    };
    let up_to_date = run.interrupt.guard(look).await?;
    if up_to_date && !run.request.refresh {
        return Ok(Vec::new());
    }
    let lease = infrastructure.lease_on(Part::Resources, LOCK_TIMEOUT).await?;
    let work = async {
        let plan = run.plan().await?;
        run.show(&plan)?;
        if plan.is_empty() {
            run.write_plan_cache(&plan).await?;
            return Ok(Vec::new());
        }
        run.confirm()?;
        run.apply(&plan, Some(&lease)).await?;
        Ok(plan.resources.map(|resources| resources.all_lines()).unwrap_or_default())
    };
    let done = work.await;
    infrastructure.release(lease).await;
    done
}

/// Writes this shard's report next to the state, and reads the others: the last shard to end sees all of them. A run without shards
/// writes its record if it had work to do. `None` without a state bucket.
pub(super) async fn join(
    run: &Run<'_>,
    plan: &Plan<'_>,
    done: Option<&Done>,
    list: &Digest,
) -> anyhow::Result<Option<CombinedReport>> {
    let Some(resources) = &plan.resources else { return Ok(None) };
    let store = resources.infrastructure.store();
    let part = part(run, plan, done, list);
    let Some(shard) = run.request.shard else {
        if done.is_some() || !part.failed.is_empty() {
            leave(run, store, &part).await;
        }
        return Ok(None);
    };
    report(store, shard).write(&part).await?;
    let others =
        stream::iter(shard.all()).map(|other| async move { anyhow::Ok((other, read(store, other).await?)) });
    let parts: Vec<(Shard, Option<Share>)> = others.buffered(AT_ONCE).try_collect().await?;
    let joined = CombinedReport::of(parts, list, Timestamp::now());
    joined.show(run.printer);
    Ok(Some(joined))
}

/// Writes a record of a run that failed while applying.
pub(super) async fn leave_failure(run: &Run<'_>, plan: &Plan<'_>, list: &Digest, error: &anyhow::Error) {
    let Some(resources) = &plan.resources else { return };
    let mut part = part(run, plan, None, list);
    part.failed.push(format!("{error:#}"));
    leave(run, resources.infrastructure.store(), &part).await;
}

/// The record is only for `status`, so a failure to write it is a warning.
async fn leave(run: &Run<'_>, store: &StateStore, part: &Share) {
    let written = match run.request.shard {
        Some(shard) => report(store, shard).write(part).await,
        None => Sidecar::new(store, RECORDS, WHAT).write(part).await,
    };
    if let Err(error) = written {
        run.printer.warn(format!("`status` will not know of this run: {error:#}"));
    }
}

/// The combined report of the last run that had work to do. `None` if there is no record.
///
/// # Errors
/// S3 refuses or does not answer.
pub async fn last_run(store: &StateStore) -> anyhow::Result<Option<CombinedReport>> {
    let keys = store.list(&store.sidecar(RECORDS)).await?;
    let suffixes = keys.iter().filter_map(|key| key.strip_prefix(&store.sidecar("")).map(str::to_owned));
    let read = suffixes
        .map(|suffix| async move { Sidecar::<Share>::new(store, &suffix, WHAT).read_if_understood().await });
    let parts: Vec<Option<_>> = stream::iter(read).buffered(AT_ONCE).try_collect().await?;
    let parts: Vec<Share> = parts.into_iter().flatten().map(|found| found.content).collect();
    let Some(last) = parts.iter().max_by_key(|part| part.at).cloned() else { return Ok(None) };
    let Ok(shard) = Shard::parse(&last.shard, |_| None) else { return Ok(None) };
    let of = |shard: Shard| (shard, parts.iter().find(|part| part.shard == shard.to_string()).cloned());
    Ok(Some(CombinedReport::of(shard.all().map(of).collect(), &last.list, last.at)))
}

fn report(store: &StateStore, shard: Shard) -> Sidecar<Share> {
    Sidecar::new(store, &format!("{RECORDS}.{}", shard.slug()), WHAT)
}

async fn read(store: &StateStore, shard: Shard) -> anyhow::Result<Option<Share>> {
    // A report of another version is ignored.
    Ok(report(store, shard).read_if_understood().await?.map(|found| found.content))
}

fn part(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>, list: &Digest) -> Share {
    let copied =
        done.into_iter().flat_map(|done| &done.images).filter_map(|outcome| outcome.result.as_ref().ok());
    let copied = copied.filter(|copied| !copied.was_up_to_date).map(|copied| copied.bytes);
    let built =
        done.into_iter().flat_map(|done| &done.runtimes).filter_map(|outcome| outcome.result.as_ref().ok());
    let brought: Vec<u64> = copied.chain(built.map(|built| built.sent)).collect();
    let errors = show::errors(run, plan, done);
    Share {
        shard: run.request.shard.map_or_else(|| "1/1".to_owned(), |shard| shard.to_string()),
        by: Some(who(Some(run.target))),
        list: *list,
        at: Timestamp::now(),
        images: plan.images.images.len() + plan.runtimes.len(),
        brought: brought.len(),
        bytes: brought.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        failed: errors.iter().map(|error| format!("{error:#}")).collect(),
    }
}

impl CombinedReport {
    fn of(parts: Vec<(Shard, Option<Share>)>, list: &Digest, now: Timestamp) -> Self {
        let is_news = |part: &Share| part.list == *list && now.duration_since(part.at).unsigned_abs() < NEWS;
        let (mut done, mut missing) = (Vec::new(), Vec::new());
        for (shard, part) in parts {
            match part.filter(is_news) {
                Some(part) => done.push(part),
                None => missing.push(shard.to_string()),
            }
        }
        Self {
            complete: missing.is_empty() && done.iter().all(|part| part.failed.is_empty()),
            images: done.iter().map(|part| part.images).sum(),
            brought: done.iter().map(|part| part.brought).sum(),
            bytes: done.iter().fold(0, |sum, part| sum.saturating_add(part.bytes)),
            done,
            missing,
        }
    }

    /// The results and failures, one line each.
    pub fn lines(&self) -> Vec<String> {
        let last = self.done.iter().max_by_key(|part| part.at);
        let ended = last.map_or_else(String::new, |last| {
            let by = last.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            format!("{}{by}: ", last.at.strftime("%FT%TZ"))
        });
        let shards = if self.done.len() + self.missing.len() > 1 {
            format!(", {} of {} shards", self.done.len(), self.done.len() + self.missing.len())
        } else {
            String::new()
        };
        let mut lines = vec![format!(
            "{ended}{}, {} brought, {} sent{shards}",
            units::count(self.images, "image"),
            self.brought,
            units::bytes(self.bytes)
        )];
        let failed = self.done.iter().flat_map(|part| part.failed.iter().map(move |error| (part, error)));
        lines.extend(failed.map(|(part, error)| match part.shard.as_str() {
            "1/1" => format!("failed: {error}"),
            shard => format!("shard {shard} failed: {error}"),
        }));
        lines
    }

    fn show(&self, printer: &Printer) {
        if !self.missing.is_empty() {
            printer.line(format!("not reported yet: shard {}", self.missing.join(", ")));
            return;
        }
        let mut table = Table::new(["SHARD", "IMAGES", "BROUGHT", "SENT", "FAILED", "ENDED"]);
        for part in &self.done {
            table.row([
                part.shard.clone(),
                part.images.to_string(),
                part.brought.to_string(),
                units::bytes(part.bytes),
                part.failed.len().to_string(),
                part.at.strftime("%FT%TZ").to_string(),
            ]);
        }
        printer.table(&table);
        for part in &self.done {
            for error in &part.failed {
                printer.line(format!("shard {}: {error}", part.shard));
            }
        }
        let failed: usize = self.done.iter().map(|part| part.failed.len()).sum();
        let verdict = if failed == 0 { "in place".to_owned() } else { format!("of which {failed} failed") };
        printer.line(format!(
            "all {} have reported: {} {verdict}, {} sent",
            units::count(self.done.len(), "shard"),
            units::count(self.images, "image"),
            units::bytes(self.bytes)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards() -> Vec<Shard> {
        Shard::parse("1/3", |_| None).unwrap().all().collect()
    }

    fn part(shard: Shard, list: &[u8], at: &str, failed: &[&str]) -> (Shard, Option<Share>) {
        let failed = failed.iter().map(|error| (*error).to_owned()).collect();
        let (list, at) = (Digest::of(list), at.parse().unwrap());
        let part = Share {
            shard: shard.to_string(),
            by: None,
            list,
            at,
            images: 10,
            brought: 4,
            bytes: 100,
            failed,
        };
        (shard, Some(part))
    }

    #[test]
    fn a_shards_report_of_another_list_or_day_is_missing() {
        let now = "2026-11-27T12:00:00Z".parse().unwrap();
        let (today, before) = ("2026-11-27T11:00:00Z", "2026-11-26T11:59:00Z");
        let all = shards();
        let joined = |parts| CombinedReport::of(parts, &Digest::of(b"list"), now);
        let whole = joined(all.iter().map(|shard| part(*shard, b"list", today, &[])).collect());
        assert!(whole.complete && whole.missing.is_empty());
        assert_eq!((whole.images, whole.brought, whole.bytes), (30, 12, 300));
        let open = joined(vec![
            part(all[0], b"list", before, &[]),
            part(all[1], b"another", today, &[]),
            (all[2], None),
        ]);
        assert!(!open.complete && open.done.is_empty());
        assert_eq!(open.missing, ["1/3", "2/3", "3/3"]);
        let failed = joined(all.iter().map(|shard| part(*shard, b"list", today, &["curl"])).collect());
        assert!(!failed.complete && failed.missing.is_empty());
    }
}
