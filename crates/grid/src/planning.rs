//! Makes terraform's plans, checks them for changes that need consent, and applies them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use aws::plan_cache::{LastApply, PendingApply};
use futures_util::future::try_join_all;
use images_config::Config;
use jiff::Timestamp;
use registry::{Client, Reference};
use serde_json::Value;
use terraform::{PlanRequest, Terraform, TerraformError};

use super::foreign_resources::refuse_policies;
use super::state_lock;
use super::visible::{wait_until_known, wait_until_visible};
use super::working_directory::{explain, init, unlocked};
use super::{GridEvent, Infrastructure, Inventory, ResourceKind, recovery};

/// The minimum wait of an apply for terraform's lock: the lease prevents other applies, and another run's plan holds the lock only
/// briefly.
pub const MIN_LOCK_WAIT: Duration = Duration::from_secs(60);

/// A plan, and its file, which is deleted when this is dropped.
pub struct Planned {
    /// The changes in it.
    pub plan: terraform::Plan,
    /// Existing resources that are tainted because their creation was interrupted: the plan would replace them, so it is not
    /// applied before [`repair`](super::recovery::repair) has removed the taint.
    pub cut_off: Vec<String>,
    terraform: Terraform,
    out: PathBuf,
    _room: tempfile::TempDir,
}

/// Whether a plan may delete a resource of this type only with consent.
fn is_protected(name: &str) -> bool {
    ResourceKind::of(name).is_some_and(ResourceKind::is_protected)
}

/// The purpose of a plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Apply the module. Without terraform's lock if the plan will not be applied.
    Apply { lock: bool },
    /// Delete everything.
    Destroy,
}

/// Plans the module against `inventory`. `lock`: take terraform's lock, which writes an object next to the state.
///
/// # Errors
/// Terraform fails, or the plan would delete or replace what holds images, or statements that others wrote into a policy.
pub async fn plan(
    grid: &Infrastructure<'_>,
    terraform: Terraform,
    inventory: &Inventory,
    variables: &Value,
    lock: bool,
) -> anyhow::Result<Planned> {
    let mut planned = make_plan(grid, terraform, variables, Purpose::Apply { lock }).await?;
    refuse_policies(grid, &planned.plan, inventory).await?;
    let Err(TerraformError::Refused { refusals }) = terraform::guard(&planned.plan, is_protected) else {
        return Ok(planned);
    };
    // A resource whose creation was interrupted is marked for replacement. It exists, so only the mark must be removed.
    if !refusals.iter().all(|refusal| refusal.tainted) {
        return Err(explain(TerraformError::Refused { refusals }));
    }
    planned.cut_off = refusals.into_iter().map(|refusal| refusal.address).collect();
    Ok(planned)
}

/// Deletes the resources in the state that are not in `variables`.
///
/// # Errors
/// Terraform fails, or its plan would delete anything else than `repositories` and rules.
pub async fn prune(
    grid: &Infrastructure<'_>,
    terraform: Terraform,
    variables: &Value,
    repositories: &[String],
) -> anyhow::Result<()> {
    let planned = make_plan(grid, terraform, variables, Purpose::Apply { lock: true }).await?;
    if let Err(TerraformError::Refused { refusals }) = terraform::guard(&planned.plan, is_protected) {
        let is_wanted = |address: &str| {
            ResourceKind::of(address) == Some(ResourceKind::Rule)
                || repositories.iter().any(|name| address.ends_with(&format!("[\"{name}\"]")))
        };
        let (_, other): (Vec<_>, Vec<_>) =
            refusals.into_iter().partition(|refusal| !refusal.replaced && is_wanted(&refusal.address));
        if !other.is_empty() {
            return Err(explain(TerraformError::Refused { refusals: other }));
        }
    }
    run_apply(grid, &planned).await
}

/// Deletes everything in the state.
///
/// # Errors
/// Terraform fails.
pub async fn destroy(
    grid: &Infrastructure<'_>,
    terraform: Terraform,
    variables: &Value,
) -> anyhow::Result<()> {
    let planned = make_plan(grid, terraform, variables, Purpose::Destroy).await?;
    run_apply(grid, &planned).await
}

async fn make_plan(
    grid: &Infrastructure<'_>,
    terraform: Terraform,
    variables: &Value,
    purpose: Purpose,
) -> anyhow::Result<Planned> {
    // A directory per plan, so that two runs in one checkout do not overwrite each other's plan.
    let room = tempfile::tempdir().context("could not create a directory for the plan")?;
    let (file, out) = (room.path().join("grid.tfvars.json"), room.path().join("plan"));
    std::fs::write(&file, variables.to_string()).context("could not write terraform's variables")?;
    let request = PlanRequest {
        variables: &file,
        out: &out,
        destroy: purpose == Purpose::Destroy,
        lock: purpose != Purpose::Apply { lock: false },
    };
    grid.options.interrupt.check()?;
    let lock_wait = if request.lock { grid.options.lock_timeout } else { Duration::ZERO };
    let first = terraform.plan(&request, grid.options.watch.plan());
    let (terraform, plan) = match state_lock::named(grid, lock_wait, first).await {
        // The files of an interrupted init look like those of a complete one.
        Err(TerraformError::NotInitialised { .. }) => {
            let terraform = init(grid, terraform).await?;
            let plan = terraform.plan(&request, grid.options.watch.plan()).await;
            (terraform, plan)
        }
        plan => (terraform, plan),
    };
    grid.options.interrupt.check()?;
    let plan = unlocked(grid, plan).await?;
    Ok(Planned { terraform, plan, cut_off: Vec::new(), out, _room: room })
}

/// Applies a plan, and waits until the new resources are visible in AWS.
///
/// # Errors
/// Terraform fails, or AWS does not show the created resources in time.
pub async fn apply(
    grid: &Infrastructure<'_>,
    planned: &Planned,
    config: &Config,
    registry: &[Reference],
    client: &Client,
) -> anyhow::Result<()> {
    run_apply(grid, planned).await?;
    wait_until_visible(grid, config).await?;
    // ECR's registry may refuse pushes for a moment after its API shows the repository.
    try_join_all(registry.iter().map(|repository| wait_until_known(repository, client))).await?;
    Ok(())
}

async fn run_apply(grid: &Infrastructure<'_>, planned: &Planned) -> anyhow::Result<()> {
    grid.options.interrupt.check()?;
    let creates = recovery::creates(&planned.plan);
    if !creates.is_empty() {
        let pending =
            LastApply::PendingApply(PendingApply { creates, begun: Timestamp::now(), written: None });
        pending.write(&grid.store).await?;
    }
    let lock_wait = grid.options.lock_timeout.max(MIN_LOCK_WAIT);
    let terraform = planned.terraform.clone().lock_timeout(lock_wait);
    let apply = terraform.apply(&planned.out, grid.options.watch.apply());
    let applied = state_lock::named(grid, lock_wait, announcing(grid, apply)).await;
    let is_killed = matches!(applied, Err(TerraformError::Killed { .. }));
    let applied = unlocked(grid, applied).await;
    // Terraform received the Ctrl-C too and ended in an orderly way, so its own message is not needed. It is needed if a second
    // signal killed terraform.
    if !is_killed {
        grid.options.interrupt.check()?;
    }
    applied
}

/// Runs terraform, which a signal does not end at once, and reports on a signal that it finishes, and what a second signal does.
async fn announcing<T>(grid: &Infrastructure<'_>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = grid.options.interrupt.comes() => {}
    }
    grid.options.watch.on_event(&GridEvent::Finishing);
    work.await
}
