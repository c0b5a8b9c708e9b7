//! Runs other work that writes images to the account: first creates its resources, and holds the lease of a transfer meanwhile.

use std::sync::Arc;

use images_config::Config;

use super::{Grid, Request, Run, selection};
use crate::context::Context;
use crate::infrastructure;
use crate::target::Target;

/// Runs `work` under the lease of a transfer, after creating the resources in `config`; asks before any change. For a registry that
/// is not the account's, only asks.
///
/// # Errors
/// The answer is no, the resources cannot be created, another run holds the lease, or errors of `work`.
pub async fn with_resources<T>(
    context: &Context,
    auto_approve: bool,
    config: &Config,
    target: &Target,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let request = Request { auto_approve, ..Request::default() };
    let infrastructure = match &target.account {
        Some(account) => Some(context.interrupt.guard(infrastructure::open(context, &account.aws)).await?),
        None => None,
    };
    let completed = Arc::default();
    let grid = Grid { target, infrastructure: infrastructure.as_ref(), whole: config, completed: &completed };
    let run = Run::new(context, &request, selection::none(config.clone()).into(), None, grid)?;
    let plan = run.plan().await?;
    if !plan.is_empty() {
        run.show(&plan)?;
    }
    run.confirm()?;
    let Some(resources) = &plan.resources else { return context.interrupt.guard(work).await };
    let infrastructure = resources.infrastructure.clone();
    let lease = infrastructure.lease().await?;
    let done = async {
        run.apply(&plan, Some(&lease)).await?;
        context.interrupt.guard(lease.hold(work)).await
    };
    let done = done.await;
    infrastructure.release(lease).await;
    done
}
