//! Moves tags that the grid uses: asks first, holds the grid's lease, and reports errors.

use failure::{Kind, ending};
use images_config::{
    RUNTIMES_REPOSITORY,
    lock::{Hold, Lock},
};
use runtimes::Rollback;

use crate::context::Context;
use crate::infrastructure;
use crate::target::Target;
use crate::transfer::{explain_runtime, who};
use crate::ui::question;

/// Runs `work` under the grid's lease, which is released in any case. The argument of `work` is whether another run held it first:
/// a plan made before does not include that run's changes. Without AWS there is no lease.
pub(super) async fn leased<T>(
    context: &Context,
    target: &Target,
    work: impl AsyncFnOnce(bool) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let Some(account) = &target.account else { return context.interrupt.guard(work(false)).await };
    let infrastructure = context.interrupt.guard(infrastructure::open(context, &account.aws)).await?;
    let lease = infrastructure.lease().await?;
    let done = context.interrupt.guard(lease.hold(work(lease.waited()))).await;
    if let Err(error) = grid::last_apply::worked_on_images(&infrastructure).await {
        context
            .printer
            .warn(format!("a run that was planned earlier will not notice this change: {error:#}"));
    }
    infrastructure.release(lease).await;
    done
}

/// Whether tags that the grid uses may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// `--yes`.
    Given,
    /// The user is asked.
    Asked,
    /// `--dry-run`: nothing moves.
    DryRun,
}

/// Asks before moving tags that the grid uses.
pub(super) fn confirm(context: &Context, consent: Consent) -> anyhow::Result<()> {
    if consent == Consent::Given {
        return Ok(());
    }
    question::confirm(&context.printer, "--yes does not ask", &context.interrupt)
}

/// Moves a runtime's tag back, then writes the hold. Without the hold, the next run would move the tag forward again.
pub(super) async fn roll_back(
    context: &Context,
    builder: &runtimes::Context,
    target: &Target,
    name: &str,
    build: Option<&str>,
    consent: Consent,
) -> anyhow::Result<()> {
    context.lock_to_write()?;
    let plan = async || -> anyhow::Result<Rollback> {
        let rollback = runtimes::plan_rollback(builder, name, build).await;
        let rollback = rollback.map_err(|error| explain_runtime(name, &error))?;
        let from = rollback.from.map_or_else(|| "absent".to_owned(), |from| from.to_string());
        context.printer.line(format!(
            "{RUNTIMES_REPOSITORY}:{name} is {from}; it would go back to {} ({}) and be held there",
            rollback.build_tag, rollback.to
        ));
        Ok(rollback)
    };
    let mut rollback = context.interrupt.guard(plan()).await?;
    report(context, &rollback, Some(false))?;
    if consent == Consent::DryRun {
        context.printer.line("dry run: nothing was changed");
        return Ok(());
    }
    confirm(context, consent)?;
    leased(context, target, async |waited| {
        if waited {
            let now = plan().await?;
            if now != rollback {
                confirm(context, consent)?;
                rollback = now;
            }
        }
        report(context, &rollback, None)?;
        runtimes::roll_back(builder, &rollback).await.map_err(|error| explain_runtime(name, &error))?;
        hold(context, target, &rollback)?;
        report(context, &rollback, Some(true))
    })
    .await
}

/// `changed`: whether the tag was moved. `None` if the move was started and has not ended.
fn report(context: &Context, rollback: &Rollback, changed: Option<bool>) -> anyhow::Result<()> {
    context.printer.results().report(&serde_json::json!({
        "runtime": rollback.name, "from": rollback.from, "to": rollback.to, "build": rollback.build_tag, "changed": changed,
    }))
}

/// Writes the hold into the present images.lock.
fn hold(context: &Context, target: &Target, rollback: &Rollback) -> anyhow::Result<()> {
    let (name, path) = (&rollback.name, context.paths.lock());
    let shown = context.paths.show(&path).to_string();
    let is_now = format!("{RUNTIMES_REPOSITORY}:{name} is {} now ({})", rollback.build_tag, rollback.to);
    let hold = Hold { build: rollback.to, since: jiff::Timestamp::now(), by: who(Some(target)) };
    let written = context.lock().and_then(|lock| {
        let mut lock = lock.unwrap_or_default();
        lock.set_hold(name, hold.clone());
        Ok(lock.save(&path)?)
    });
    if let Err(error) = written {
        let message =
            format!("{is_now}, but {shown} could not be written: the next run will move it forward again");
        let hint = format!("put these lines into {shown}:\n{}", Lock::hold_text(name, &hold).trim());
        return Err(ending(Kind::Config, Some(hint), error).context(message));
    }
    context.printer.line(format!(
        "{is_now} and is held there: commit {shown}; `cargo xtask lock --update {name}` ends the hold"
    ));
    Ok(())
}
