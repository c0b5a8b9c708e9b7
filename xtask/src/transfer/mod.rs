//! transfer-images: makes a plan, shows it, asks once, applies and verifies it. A dry run is the same and stops after the plan.

mod apply;
mod completed;
mod copy;
mod images;
mod prime;
mod progress;
mod refusals;
mod registry_hints;
mod report_page;
mod request;
mod resources;
mod runtimes;
mod scans;
mod selection;
mod shards;
mod show;
mod signing;
mod spans;
mod times;
mod under_lease;

use std::sync::Arc;
use std::time::Instant;

use failure::{FailWith as _, Interrupt, Kind, failure, kind_of};
use grid::Infrastructure;
use registry::Reference;
use registry::mirror::{self, Mirror};

use crate::boxed::boxed;
use crate::context::Context;
use crate::exit_codes::Ending;
use crate::infrastructure;
use crate::min_age::{self, Ages};
use crate::target::Target;
use crate::trust::Trust;
use crate::ui::Printer;

pub use self::runtimes::{
    ConfiguredGrid, builder_context, explain as explain_runtime, hold, wanted as wanted_runtimes, who,
};
use completed::Completed;
pub use copy::mounts;
pub use images::{jobs, short};
use images_config::{Config, lock::Lock};
pub use progress::Board;
pub use refusals::exhausted as refuse_exhausted;
pub use registry_hints::{image_verdict, registry_failure, registry_verdict};
pub use request::Request;
pub use scans::scan;
pub use selection::only;
pub use shards::{CombinedReport, LOCK_TIMEOUT, last_run};
use show::Report;
pub use show::{held, not_compared};
pub use signing::why_unsigned;
use times::Times;
pub use under_lease::with_resources;

/// The target and the resources of a run.
#[derive(Clone, Copy)]
struct Grid<'a> {
    target: &'a Target,
    infrastructure: Option<&'a Infrastructure<'a>>,
    whole: &'a Config,
    completed: &'a Arc<Completed>,
}

/// The state of one run.
struct Run<'a> {
    printer: &'a Printer,
    interrupt: &'a Interrupt,
    request: &'a Request,
    /// The grid's name.
    tag: &'a str,
    /// Whether AWS is emulated.
    local: bool,
    /// The part of images.toml that this run transfers.
    config: Arc<Config>,
    /// The grid's resources. `None` with `--registry`.
    infrastructure: Option<&'a Infrastructure<'a>>,
    /// All of images.toml: the resources are always those of the whole file, even with `--only`.
    whole: &'a Config,
    target: &'a Target,
    jobs: Vec<Arc<mirror::Job>>,
    mirror: Mirror,
    builder: ::runtimes::Context,
    lock: Option<Lock>,
    /// The trusted signers. `None` without rules.
    trust: Option<Arc<Trust>>,
    /// The minimum ages. `None` without rules.
    ages: Option<Arc<Ages>>,
    /// The finished part of the plan.
    completed: &'a Arc<Completed>,
    /// The durations of earlier runs and of this one.
    times: Times,
    /// Changes that this process has already made to the resources, as a first shard; one line each.
    made: Vec<String>,
}

/// The plan of a run.
struct Plan<'a> {
    resources: Option<resources::Resources<'a>>,
    images: mirror::Plan,
    runtimes: Vec<Result<::runtimes::Planned, ::runtimes::Failure>>,
    /// Images that are missing because the registry has archived them, one line each.
    archived: Vec<String>,
    /// Images that are not pulled through the cache, and why.
    primed: Vec<(Reference, registry::Error)>,
}

/// The results of a run.
#[derive(Default)]
struct Done {
    images: Vec<mirror::Outcome>,
    runtimes: Vec<::runtimes::Outcome>,
    /// Commands to pull primed images that are missing in the local engine.
    fetch: Vec<String>,
}

/// Updates the target to match images.toml. Returns how the command ends.
///
/// # Errors
/// An image could not be put in place. Finished work stays, and the next run continues from there.
pub async fn run(context: &Context, request: &Request) -> anyhow::Result<Ending> {
    let place = request.report.as_deref().map(report_page::Place::check).transpose()?;
    let completed = Arc::new(Completed::default());
    let result = boxed(|| transfer(context, request, &completed)).await;
    let result =
        result.map_err(|error| if context.interrupt.seen() { completed.ending(error) } else { error });
    let ended = |changed| if changed && request.report_changes { Ending::Changes } else { Ending::Done };
    let result = result.map(ended);
    match place {
        Some(place) => place.write(context, request, &completed, result),
        None => result,
    }
}

async fn transfer(context: &Context, request: &Request, completed: &Arc<Completed>) -> anyhow::Result<bool> {
    let started = Instant::now();
    let whole = Arc::new(context.config()?);
    let config = match request.only.is_empty() {
        true => Arc::clone(&whole),
        false => Arc::new(only(Config::clone(&whole), &request.only)?),
    };
    let lock = context.lock()?;
    if request.locked {
        let lock =
            lock.as_ref().ok_or_else(|| failure(Kind::Config, "--locked, and there is no images.lock"));
        lock.hint(Kind::Config, "`cargo xtask lock` writes it")?
            .check_complete(&config)
            .kind(Kind::Config)?;
    }
    let target = boxed(|| context.interrupt.guard(context.target(&config))).await?;
    let infrastructure = match &target.account {
        Some(account) => {
            let opened = || context.interrupt.guard(infrastructure::open(context, &account.aws));
            Some(boxed(opened).await?)
        }
        None => None,
    };
    let grid = Grid { target: &target, infrastructure: infrastructure.as_ref(), whole: &whole, completed };
    let list = shards::list(&config, lock.as_ref());
    let mut made = Vec::new();
    let config = match request.shard {
        Some(shard) => {
            if let Some(infrastructure) = infrastructure.as_ref().filter(|_| !request.dry_run) {
                let resources =
                    Run::new(context, request, selection::none(Config::clone(&config)).into(), None, grid)?;
                made = boxed(|| shards::resources_first(&resources, infrastructure)).await?;
            }
            Arc::new(selection::shard_of(Config::clone(&config), shard))
        }
        None => config,
    };
    let run = Run { made, ..Run::new(context, request, config, lock, grid)? };
    let mut plan = boxed(|| run.plan()).await?;
    run.keep(&plan, Report::new(&run, &plan, None))?;
    run.show(&plan)?;
    if request.dry_run {
        context.printer.line("dry run: nothing was changed");
        boxed(|| run.report(&plan, None, None)).await?;
        show::refuse_failed(&run, &plan)?;
        return Ok(!plan.is_empty());
    }
    if plan.is_empty() {
        if request.prime {
            let prime = async { prime::fetch(&run, &prime::pull_through(&run, &plan).await?).await };
            boxed(|| context.interrupt.guard(prime)).await?;
        }
        boxed(|| run.write_plan_cache(&plan)).await?;
        return boxed(|| show::finish(&run, &plan, None, started, &list)).await;
    }
    run.confirm()?;
    let done = match &plan.resources {
        Some(resources) => {
            let infrastructure = resources.infrastructure.clone();
            let lease = boxed(|| shards::lease(&run, &infrastructure)).await?;
            let done = boxed(|| run.apply_leased(&mut plan, &lease)).await;
            if let Err(error) = &done
                && kind_of(error) != Kind::Interrupted
            {
                boxed(|| shards::leave_failure(&run, &plan, &list, error)).await;
            }
            boxed(|| infrastructure.release(lease)).await;
            done?
        }
        None => Some(boxed(|| run.apply(&plan, None)).await?),
    };
    boxed(|| show::finish(&run, &plan, done.as_ref(), started, &list)).await
}

impl Plan<'_> {
    /// Whether nothing is left to do: all work is done, or has failed already.
    fn is_empty(&self) -> bool {
        let resources = self.resources.as_ref().is_none_or(resources::Resources::is_empty);
        let images = self.images.images.iter().all(|planned| !planned.has_work());
        resources && images && self.planned_runtimes().all(runtimes::is_up_to_date)
    }

    /// The runtimes that could be planned.
    fn planned_runtimes(&self) -> impl Iterator<Item = &::runtimes::Planned> {
        self.runtimes.iter().filter_map(|planned| planned.as_ref().ok())
    }
}

impl<'a> Run<'a> {
    fn new(
        context: &'a Context,
        request: &'a Request,
        config: Arc<Config>,
        lock: Option<Lock>,
        Grid { target, infrastructure, whole, completed }: Grid<'a>,
    ) -> anyhow::Result<Self> {
        let (client, credentials) = target.client(context.sources(), &config)?;
        let jobs = jobs(&config, lock.as_ref(), target)?;
        let mapping = context.mapping();
        let trust = Trust::new(context, &config, &client, &mapping)?;
        let mirror = copy::mirror(client.clone(), target, mapping, trust.clone());
        let ages = Ages::new(context, &config, min_age::fresh(whole, &request.allow_fresh)?)?.map(Arc::new);
        let configured = ConfiguredGrid::new(
            context.sources(),
            &config,
            lock.clone(),
            Some(target),
            trust.clone(),
            ages.clone(),
        )?;
        let builder = builder_context(
            context,
            client,
            credentials,
            configured,
            Some(target),
            Some(Arc::clone(completed)),
        )?;
        let times = Times::new(context.paths.timings(), target.host(), builder.parallel);
        Ok(Self {
            printer: &context.printer,
            interrupt: &context.interrupt,
            request,
            tag: &context.settings.tag,
            local: context.settings.local,
            config,
            infrastructure,
            whole,
            target,
            jobs,
            mirror,
            builder,
            lock,
            trust,
            ages,
            completed,
            times,
            made: Vec::new(),
        })
    }

    /// Reads resources, images and runtimes in parallel and makes the plan.
    async fn plan(&self) -> anyhow::Result<Plan<'a>> {
        let _lane = self.printer.progress().lane("looking at what there is");
        let images = async {
            let mut images = self.mirror.plan(self.jobs.clone()).await;
            if let Some(ages) = &self.ages {
                ages.hold(self.mirror.client(), &mut images)?;
            }
            Ok(images)
        };
        let runtimes = async { Ok(runtimes::plan(self).await) };
        // Terraform is never dropped while it runs: it received the Ctrl-C too, and is awaited.
        let (resources, images, runtimes) = tokio::try_join!(
            resources::plan(self),
            self.interrupt.guard(images),
            self.interrupt.guard(runtimes),
        )?;
        let archived = images::archived(self, &images, &runtimes);
        let archived = self.interrupt.guard(archived).await?;
        let mut plan = Plan { resources, images, runtimes, archived, primed: Vec::new() };
        // If there is nothing to do, nothing is pulled through the cache.
        if self.request.prime || !plan.is_empty() {
            plan.primed = self.interrupt.guard(async { Ok(prime::refused(self).await) }).await?;
        }
        Ok(plan)
    }

    /// Shows the plan, and fails if it cannot succeed.
    fn show(&self, plan: &Plan<'_>) -> anyhow::Result<()> {
        show::plan(self, plan);
        if self.request.locked {
            refusals::moved(plan, self.ages.as_deref())?;
        }
        if let Some(resources) = &plan.resources {
            refusals::fixed(plan, resources)?;
        }
        refusals::exhausted(&plan.images, self.request.keep_going)?;
        if self.request.keep_going { Ok(()) } else { show::refuse_failed(self, plan) }
    }

    /// Reports the run. Returns whether it changed anything.
    async fn report(
        &self,
        plan: &Plan<'_>,
        done: Option<&Done>,
        joined: Option<CombinedReport>,
    ) -> anyhow::Result<bool> {
        let report = Report::new(self, plan, done).with(joined);
        if !self.request.quiet {
            report.print(self.printer, done.is_some())?;
        }
        let changed = report.has_changed();
        if self.request.report.is_some() {
            let looked = report_page::read_registry_data(self, plan, done, &report).await;
            self.completed.draft.end(report, looked);
        }
        Ok(changed)
    }

    /// Stores the present state for the document and the page, in case the run fails later.
    fn keep(&self, plan: &Plan<'_>, report: Report) -> anyhow::Result<()> {
        if !self.request.quiet {
            self.printer.results().report(&report)?;
        }
        if self.request.report.is_some() {
            self.completed.draft.plan(report, plan);
        }
        Ok(())
    }
}
