//! Terraform's plans: made, held against what none of them may do unasked, and carried out.

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
use super::{Infrastructure, Inventory, News, ResourceKind, recovery};

/// How long an apply waits for terraform's own lock at least: the lease keeps other applies away, and a plan of somebody
/// else's holds the lock for moments only.
pub const MIN_LOCK_WAIT: Duration = Duration::from_secs(60);

/// A plan, and the file that holds it as long as this lives.
pub struct Planned {
    /// What it says.
    pub plan: terraform::Plan,
    /// What stands, and is marked in the state because its creation was cut off: the plan would replace it, and is not
    /// applied before [`put_right`](super::recovery::put_right) has taken the marks away.
    pub cut_off: Vec<String>,
    terraform: Terraform,
    out: PathBuf,
    _room: tempfile::TempDir,
}

/// Whether no plan may end a resource of this type unasked.
fn is_protected(name: &str) -> bool {
    ResourceKind::of(name).is_some_and(ResourceKind::is_protected)
}

/// What a plan is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To bring about what the module says; without terraform's lock where nobody applies it.
    Apply { lock: bool },
    /// To end everything.
    Destroy,
}

/// What terraform would do about what `inventory` found. `lock`: under its own lock, which is written beside the state.
///
/// # Errors
/// It fails, or would delete or replace what holds images, or somebody else's policy.
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
    // A resource whose creation was cut off is marked for replacement; it stands, and needs nothing but the mark's end.
    if !refusals.iter().all(|refusal| refusal.tainted) {
        return Err(explain(TerraformError::Refused { refusals }));
    }
    planned.cut_off = refusals.into_iter().map(|refusal| refusal.address).collect();
    Ok(planned)
}

/// Deletes what the state owns and `variables` do not name.
///
/// # Errors
/// Terraform fails, or its plan would delete something else than `repositories` and rules.
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
    carry_out(grid, &planned).await
}

/// Ends everything that the state owns.
///
/// # Errors
/// Terraform fails.
pub async fn destroy(
    grid: &Infrastructure<'_>,
    terraform: Terraform,
    variables: &Value,
) -> anyhow::Result<()> {
    let planned = make_plan(grid, terraform, variables, Purpose::Destroy).await?;
    carry_out(grid, &planned).await
}

async fn make_plan(
    grid: &Infrastructure<'_>,
    terraform: Terraform,
    variables: &Value,
    purpose: Purpose,
) -> anyhow::Result<Planned> {
    // Of its own, so that two runs in one checkout do not take each other's plan.
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
        // An init that was stopped in the middle looks as if it were done.
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

/// Does what the plan says, and waits until AWS shows it.
///
/// # Errors
/// Terraform fails, or AWS does not show in time what it said it created.
pub async fn apply(
    grid: &Infrastructure<'_>,
    planned: &Planned,
    config: &Config,
    registry: &[Reference],
    client: &Client,
) -> anyhow::Result<()> {
    carry_out(grid, planned).await?;
    wait_until_visible(grid, config).await?;
    // What ECR's API shows, its registry may not take pushes for yet.
    try_join_all(registry.iter().map(|repository| wait_until_known(repository, client))).await?;
    Ok(())
}

async fn carry_out(grid: &Infrastructure<'_>, planned: &Planned) -> anyhow::Result<()> {
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
    // Terraform got the Ctrl-C itself and ended in good order; its own words for that help nobody. Another one that
    // stopped it in the middle is another matter.
    if !is_killed {
        grid.options.interrupt.check()?;
    }
    applied
}

/// Terraform's work, which a signal does not end at once: the user is told what goes on, and what another one does.
async fn announcing<T>(grid: &Infrastructure<'_>, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = grid.options.interrupt.comes() => {}
    }
    grid.options.watch.hear(&News::Finishing);
    work.await
}
