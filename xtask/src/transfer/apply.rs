//! Applies a plan: asks, runs terraform, then copies and builds in parallel.

use aws::lease::Lease;
use grid::last_apply;

use super::show::Report;
use super::spans::Work;
use super::{Done, Plan, Run, copy, prime, runtimes};
use crate::boxed::boxed;
use crate::ui::question;

impl<'a> Run<'a> {
    /// Asks for confirmation, unless the request says not to.
    pub(super) fn confirm(&self) -> anyhow::Result<()> {
        if self.request.auto_approve {
            return Ok(());
        }
        let without = "auto-transfer-images, or --auto-approve, does not ask";
        question::confirm(self.printer, without, self.interrupt)
    }

    /// Applies the plan. If another run has changed something since it was made, makes, shows and confirms a new plan first; `None`
    /// if the new plan is empty.
    pub(super) async fn apply_leased(
        &self,
        plan: &mut Plan<'a>,
        lease: &Lease,
    ) -> anyhow::Result<Option<Done>> {
        let outdated = match &plan.resources {
            // Other shards work on other repositories.
            Some(_) if self.request.shard.is_some() => lease.waited(),
            Some(resources) => {
                lease.waited()
                    || last_apply::is_outdated(&resources.infrastructure, &resources.inventory).await?
            }
            None => false,
        };
        if outdated {
            self.printer.line("another run has changed something since this plan was made: planning again");
            *plan = boxed(|| self.plan()).await?;
            self.show(plan)?;
            if plan.is_empty() {
                boxed(|| self.write_plan_cache(plan)).await?;
                return Ok(None);
            }
            self.confirm()?;
        }
        boxed(|| self.apply(plan, Some(lease))).await.map(Some)
    }

    /// Resources first, because nothing can be pushed or pulled through the cache before they exist. Then copies and builds in
    /// parallel, because they wait for different things.
    pub(super) async fn apply(&self, plan: &Plan<'_>, lease: Option<&Lease>) -> anyhow::Result<Done> {
        self.completed.begin(plan);
        self.keep(plan, Report::new(self, plan, None).begun())?;
        if let Some(resources) = &plan.resources {
            let _group = self.printer.group("terraform apply");
            if !resources.is_empty() {
                self.completed.spans.begin(Work::Resources);
            }
            let applied = boxed(|| resources.apply(self)).await;
            self.completed.spans.end(Work::Resources);
            applied?;
        }
        let _group = self.printer.group("copies and builds");
        let work = async {
            let copies = boxed(|| copy::copy(self, &plan.images));
            let builds = boxed(|| runtimes::build(self, &plan.runtimes));
            let (images, runtimes, primed) =
                tokio::join!(copies, builds, boxed(|| prime::pull_through(self, plan)));
            let primed = primed?;
            let fetch = boxed(|| prime::fetch(self, &primed)).await?;
            anyhow::Ok(Done { images: images?, runtimes, fetch })
        };
        let leased = async {
            match lease {
                Some(lease) => lease.hold(work).await,
                None => work.await,
            }
        };
        let done = self.interrupt.guard(leased).await?;
        match &plan.resources {
            Some(resources) if resources.up_to_date => {
                boxed(|| last_apply::worked(&resources.infrastructure, &resources.inventory)).await?;
            }
            _ => boxed(|| self.write_plan_cache(plan)).await?,
        }
        Ok(done)
    }

    /// Writes the plan cache for the next run, if this run has found that terraform has nothing to do.
    pub(super) async fn write_plan_cache(&self, plan: &Plan<'_>) -> anyhow::Result<()> {
        match &plan.resources {
            Some(resources) if !resources.up_to_date => {
                last_apply::write_plan_cache(&resources.infrastructure, &self.config).await
            }
            _ => Ok(()),
        }
    }
}
