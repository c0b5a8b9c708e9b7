//! Reasons to stop between plan and apply: tags that have moved, tags that must not move, too few pulls.

use std::collections::BTreeSet;

use failure::{FailWith as _, Kind, failure};
use images_config::RUNTIMES_REPOSITORY;
use registry::RateLimit;
use registry::mirror::{Action, Plan, Planned, Pulls};

use super::images::short;
use super::resources::Resources;
use crate::min_age::Ages;
use crate::ui::units;

/// Fails if an upstream tag, of an image or a base, no longer has the digest in images.lock, unless the new digest must wait.
pub(super) fn moved(plan: &super::Plan<'_>, ages: Option<&Ages>) -> anyhow::Result<()> {
    let images =
        plan.images.images.iter().filter_map(|planned| Some((&planned.job.source, planned.moved()?)));
    let bases = plan.planned_runtimes().filter_map(|planned| {
        let base = planned.base.as_ref()?;
        Some((&base.name, planned.base_moved?))
    });
    // Several runtimes may have the same base.
    let waits = |name, to| ages.is_some_and(|ages| ages.is_waiting(name, to));
    let moved = images.chain(bases).filter(|(name, (_, to))| !waits(name, *to));
    let moved: BTreeSet<String> =
        moved.map(|(name, (from, to))| format!("\n  {name} from {from} to {to}")).collect();
    if moved.is_empty() {
        return Ok(());
    }
    let moved: String = moved.into_iter().collect();
    Err(failure(Kind::Upstream, format!("--locked, and upstream has moved:{moved}"))).hint(
        Kind::Upstream,
        "`cargo xtask lock --update` updates the lock; without --locked, the locked digests are used",
    )
}

/// Fails if a tag must move that its repository does not allow to move.
pub(super) fn fixed(plan: &super::Plan<'_>, resources: &Resources<'_>) -> anyhow::Result<()> {
    let is_fixed = |planned: &&Planned| {
        let target = &planned.job.target;
        matches!(planned.action, Action::Replace { .. })
            && resources.is_fixed(target.repository(), target.tag().unwrap_or_default())
    };
    let images = plan.images.images.iter().filter(is_fixed).map(|planned| short(&planned.job));
    // A runtime's tag moves with each build, and the tag of its history moves too.
    let work = plan.planned_runtimes().filter(|planned| !super::runtimes::is_up_to_date(planned));
    let runtimes = work
        .flat_map(|planned| [planned.name.clone(), runtimes::history_tag(&planned.name)])
        .filter(|tag| resources.is_fixed(RUNTIMES_REPOSITORY, tag))
        .map(|tag| format!("{RUNTIMES_REPOSITORY}:{tag}"));
    let list: String = images.chain(runtimes).map(|name| format!("\n  {name}")).collect();
    if list.is_empty() {
        return Ok(());
    }
    Err(failure(
        Kind::Refused,
        format!("these tags would name another image, and their repositories are immutable:{list}"),
    ))
    .hint(
        Kind::Refused,
        "give the image another tag in images.toml, or make the repository mutable (`aws ecr put-image-tag-mutability`)",
    )
}

/// The pulls needed from a registry that counts them, and its limit.
pub fn pulls_left(pulls: &Pulls, limit: RateLimit) -> String {
    let needed = units::count(usize::try_from(pulls.needed).unwrap_or(usize::MAX), "pull");
    format!("{}: {needed} needed, {} of {} left", pulls.registry, limit.remaining, limit.limit)
}

/// Fails before any transfer if a registry allows fewer pulls than the run needs.
pub fn exhausted(plan: &Plan, keep_going: bool) -> anyhow::Result<()> {
    for pulls in &plan.pulls {
        let Some(limit) = pulls.limit.filter(|limit| limit.remaining < pulls.needed) else { continue };
        if keep_going {
            continue;
        }
        let wait = limit.window.map_or_else(String::new, |window| {
            format!(", or wait up to {} until they are back", units::duration(window))
        });
        return Err(failure(Kind::Upstream, pulls_left(pulls, limit))).hint(
            Kind::Upstream,
            format!("log in (`docker login {}`) for more pulls{wait}; --keep-going does everything that needs no pull", pulls.registry),
        );
    }
    Ok(())
}
