//! The AWS resources of a grid, which terraform owns: what stands (`inventory`), terraform's working directory
//! (`working_directory`), which grid uses what (`usage`), what a killed apply left (`recovery`).

mod inventory;
mod news;
mod recovery;
mod resource_kind;
mod usage;
mod used;
mod visible;
mod working_directory;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws::Aws;
use aws::ecr::Ecr;
use aws::lease::{self, Lease, LockWait, Part};
use aws::plan_cache::{self, LastApply, PendingApply, PlanCache};
use aws::state::{State, own_key};
use aws::store::StateStore;
use failure::{FailWith as _, Interrupt, Kind, failure};
use futures_util::future::try_join_all;
use images_config::{Config, cached_registries};
use jiff::Timestamp;
use registry::{BoxFuture, Client, Reference};
use serde_json::Value;
use terraform::{PlanRequest, Terraform, TerraformError};

use inventory::NULL_RESOURCE;
use working_directory::explain;

pub use inventory::{Inventory, NoLongerWanted};
pub use news::{News, Watch};
pub use recovery::Unrecorded;
pub use resource_kind::{ResourceKind, StaysWith};
pub use usage::{RepositoryUsage, Usage};
pub use working_directory::terraform_data;

/// How long an apply waits for terraform's own lock at least: the lease keeps other applies away, and a plan of somebody
/// else's holds the lock for moments only.
const BRIEF: Duration = Duration::from_secs(60);

/// A plan, and the file that holds it as long as this lives.
pub struct Planned {
    /// What it says.
    pub plan: terraform::Plan,
    /// What stands, and is marked in the state because its creation was cut off: the plan would replace it, and is not
    /// applied before [`Infrastructure::put_right`] has taken the marks away.
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

/// Where the provider is that stands in for AWS's; it is made where it is missing.
pub type StandIn = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<PathBuf>> + Send + Sync>;

/// Where a grid's state is kept.
#[derive(Clone, Debug)]
pub struct StateObject {
    /// The bucket.
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// The KMS key that encrypts it, where that is not the bucket's default.
    pub kms_key: Option<String>,
}

/// What the work on a grid's resources needs beside AWS.
pub struct Options {
    /// The grid's name.
    pub tag: String,
    /// How long to wait for somebody else's lock or lease.
    pub lock_timeout: Duration,
    /// The terraform module.
    pub module: PathBuf,
    /// Where terraform works: the module is copied there.
    pub directory: PathBuf,
    /// The provider where AWS is emulated; none: AWS's own.
    pub stand_in: Option<StandIn>,
    /// For what is asked of AWS without the SDK.
    pub http: reqwest::Client,
    /// Whether the run was interrupted.
    pub interrupt: Interrupt,
    /// Is told what happens.
    pub watch: Box<dyn Watch>,
}

/// The grid's AWS resources.
#[derive(Clone)]
pub struct Infrastructure<'a> {
    options: Arc<Options>,
    aws: &'a Aws,
    ecr: Ecr,
    store: StateStore,
}

impl<'a> Infrastructure<'a> {
    /// The grid's resources, with the state where `state` says.
    pub fn new(options: Options, aws: &'a Aws, state: StateObject) -> Self {
        let StateObject { bucket, key, kms_key } = state;
        let store = StateStore::new(aws, &bucket, &key, kms_key);
        Self { options: Arc::new(options), aws, ecr: Ecr::new(aws), store }
    }

    /// Where the state is, and what is beside it.
    pub fn store(&self) -> &StateStore {
        &self.store
    }

    /// Reads what stands, in as few calls as there can be.
    ///
    /// # Errors
    /// AWS refuses or does not answer, or the state belongs to another grid.
    pub async fn inventory(&self) -> anyhow::Result<Inventory> {
        let in_bucket =
            |what: &str| format!("could not read the {what} in the bucket {}", self.store.bucket());
        let state = State::read(&self.store);
        let last_apply = LastApply::read(&self.store);
        // All to their end: where several fail, the user reads the same one each time.
        let (state, repositories, rules, last_apply) =
            tokio::join!(state, self.ecr.repositories(), self.ecr.pull_through_rules(), last_apply);
        let inventory = Inventory {
            state: state.with_context(|| in_bucket("terraform state"))?,
            repositories: repositories?,
            rules: rules?,
            last_apply: last_apply.with_context(|| in_bucket("plan cache beside the terraform state"))?,
            unrecorded: Vec::new(),
        };
        self.check_owner(&inventory.state)?;
        Ok(inventory)
    }

    /// One state belongs to one grid: another's would be turned into this one's, key and all.
    fn check_owner(&self, state: &State) -> anyhow::Result<()> {
        let Some(owner) = state.tag.as_deref().filter(|owner| *owner != self.options.tag) else {
            return Ok(());
        };
        let message = format!(
            "the state {} in bucket {} belongs to the grid {owner}, not to {}",
            self.store.key(),
            self.store.bucket(),
            self.options.tag
        );
        Err(failure(Kind::Config, message)).hint(
            Kind::Config,
            format!(
                "say TAG={owner}, name another bucket, or keep both grids in this one with --state-key {}",
                own_key(&self.options.tag)
            ),
        )
    }

    /// The values of the module's variables: what images.toml wants, and `kept` of what it no longer does. What others created
    /// is used and left alone.
    pub fn variables(&self, config: &Config, inventory: &Inventory, kept: &NoLongerWanted) -> Value {
        let (tag, account) = (&self.options.tag, &self.aws.identity().account);
        let mut variables = config.tfvars(tag, self.aws.region(), account, &inventory.foreign());
        if let Some(repositories) = variables["repositories"].as_array_mut() {
            repositories.extend(kept.repositories.iter().map(|name| Value::from(name.as_str())));
        }
        if let Some(rules) = variables["pull_through_cache_rules"].as_object_mut() {
            for (prefix, rule) in &kept.rules {
                rules.insert(prefix.clone(), serde_json::json!(rule));
            }
        }
        variables
    }

    /// The variables under which nothing is deleted: what this grid created and no longer wants stays until `prune`.
    pub fn sparing_variables(&self, config: &Config, inventory: &Inventory) -> Value {
        self.variables(config, inventory, &inventory.no_longer_wanted(config))
    }

    /// Whether what stands is known to be what is wanted, so that a plan would be empty.
    ///
    /// # Errors
    /// The module cannot be read.
    pub fn is_up_to_date(&self, variables: &Value, inventory: &Inventory) -> anyhow::Result<bool> {
        if !inventory.unrecorded.is_empty() {
            return Ok(false);
        }
        let now = self.plan_cache(variables, inventory)?;
        Ok(matches!(&inventory.last_apply, Some(LastApply::PlanCache(before)) if now.holds(before)))
    }

    /// Writes the plan cache that terraform, with these variables, has nothing to do.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn write_plan_cache(&self, config: &Config) -> anyhow::Result<()> {
        let inventory = self.inventory().await?;
        let plan_cache = self.plan_cache(&self.sparing_variables(config, &inventory), &inventory)?;
        LastApply::PlanCache(plan_cache).write(&self.store).await
    }

    /// Takes the lease on the grid's images.
    ///
    /// # Errors
    /// Somebody else holds it for longer than `--lock-timeout`, or S3 refuses.
    pub async fn lease(&self) -> anyhow::Result<Lease> {
        self.lease_on(Part::Whole, Duration::ZERO).await
    }

    /// Takes the lease on a part of them, and waits at least so long for whoever holds what does not go with it.
    ///
    /// # Errors
    /// Somebody else holds it for longer, or S3 refuses.
    pub async fn lease_on(&self, part: Part, at_least: Duration) -> anyhow::Result<Lease> {
        let tell = |news: lease::News| self.options.watch.hear(&News::Lease(news));
        let lock_wait = LockWait {
            timeout: self.options.lock_timeout.max(at_least),
            interrupt: &self.options.interrupt,
            tell: &tell,
        };
        Lease::take(self.aws, &self.store, &self.options.tag, part, &lock_wait).await
    }

    /// Gives the lease back. What is done is done: where that fails, it expires by itself.
    pub async fn release(&self, lease: Lease) {
        if let Err(error) = lease.release().await {
            self.options.watch.hear(&News::LeaseKept(error));
        }
    }

    /// Whether a run has ended its work after `inventory`.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn is_outdated(&self, inventory: &Inventory) -> anyhow::Result<bool> {
        let state = State::read(&self.store);
        let (state, last_apply) = tokio::try_join!(state, LastApply::read(&self.store))?;
        Ok(state.etag != inventory.state.etag || last_apply != inventory.last_apply)
    }

    /// Leaves word of a run that changed images and nothing that the plan cache of `inventory` speaks of.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn worked(&self, inventory: &Inventory) -> anyhow::Result<()> {
        let Some(LastApply::PlanCache(plan_cache)) = inventory.last_apply.clone() else { return Ok(()) };
        LastApply::PlanCache(plan_cache.worked()).write(&self.store).await
    }

    /// The same of a run that did not look at the resources.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn worked_on_images(&self) -> anyhow::Result<()> {
        match LastApply::read(&self.store).await? {
            Some(LastApply::PlanCache(plan_cache)) => {
                LastApply::PlanCache(plan_cache.worked()).write(&self.store).await
            }
            _ => Ok(()),
        }
    }

    fn plan_cache(&self, variables: &Value, inventory: &Inventory) -> anyhow::Result<PlanCache> {
        let inputs = plan_cache::inputs(&self.options.module, &variables.to_string())?;
        Ok(PlanCache::now(inputs, inventory.state.etag.clone(), &inventory.repositories, &inventory.rules))
    }

    /// Refuses what ECR would refuse in this account and region, in the middle of an apply.
    ///
    /// # Errors
    /// A secret of another account or region, or a replication to the region itself.
    pub fn refuse_misplaced(&self, config: &Config) -> anyhow::Result<()> {
        let here = (self.aws.identity().account.as_str(), self.aws.region());
        for rule in &config.pull_through {
            let place = rule.credential_arn.as_deref().and_then(cached_registries::owner);
            if let Some((account, region)) = place.filter(|place| *place != here) {
                return Err(failure(
                    Kind::Config,
                    format!(
                        "images.toml:{}: pull_through.{}: the secret is in account {account}, {region}; ECR in {}, {} reads its own \
                         alone",
                        rule.line, rule.prefix, here.0, here.1
                    ),
                ));
            }
        }
        if config.registry.replicate_to.iter().any(|region| region == here.1) {
            let message = format!(
                "images.toml: registry.replicate_to: {} is the region of the images themselves",
                here.1
            );
            return Err(failure(Kind::Config, message));
        }
        Ok(())
    }

    /// What terraform would do about what `inventory` found. `lock`: under its own lock, which is written beside the state.
    ///
    /// # Errors
    /// It fails, or would delete or replace what holds images, or somebody else's policy.
    pub async fn plan(
        &self,
        terraform: Terraform,
        inventory: &Inventory,
        variables: &Value,
        lock: bool,
    ) -> anyhow::Result<Planned> {
        let mut planned = self.make_plan(terraform, variables, Purpose::Apply { lock }).await?;
        self.refuse_policies(&planned.plan, inventory).await?;
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

    /// Takes what only the Makefile's module needs out of the state: its `null_resource`s, which stand for nothing and
    /// keep terraform from starting without their provider. A copy of the state is put beside it first.
    ///
    /// # Errors
    /// S3 refuses, or somebody else works on the state.
    pub async fn leave_makefile(&self, inventory: &Inventory) -> anyhow::Result<()> {
        if !inventory.is_makefiles() {
            return Ok(());
        }
        let lease = self.lease().await?;
        let left = aws::state::forget(self.aws, &self.store, NULL_RESOURCE).await;
        self.release(lease).await;
        let (left, copy) = left?;
        let copy = format!("s3://{}/{copy}", self.store.bucket());
        self.options.watch.hear(&News::MakefileImported { removed: left, copy });
        Ok(())
    }

    /// Releases a lock on the state that nobody holds any more.
    ///
    /// # Errors
    /// There is no such lock.
    pub async fn release_lock(&self, id: &str) -> anyhow::Result<()> {
        self.terraform().await?.force_unlock(id).await.map_err(explain)
    }

    /// Deletes what the state owns and `variables` do not name.
    ///
    /// # Errors
    /// Terraform fails, or its plan would delete something else than `repositories` and rules.
    pub async fn prune(
        &self,
        terraform: Terraform,
        variables: &Value,
        repositories: &[String],
    ) -> anyhow::Result<()> {
        let planned = self.make_plan(terraform, variables, Purpose::Apply { lock: true }).await?;
        if let Err(TerraformError::Refused { refusals }) = terraform::guard(&planned.plan, is_protected) {
            let meant = |address: &str| {
                ResourceKind::of(address) == Some(ResourceKind::Rule)
                    || repositories.iter().any(|name| address.ends_with(&format!("[\"{name}\"]")))
            };
            let (_, other): (Vec<_>, Vec<_>) =
                refusals.into_iter().partition(|refusal| !refusal.replaced && meant(&refusal.address));
            if !other.is_empty() {
                return Err(explain(TerraformError::Refused { refusals: other }));
            }
        }
        self.carry_out(&planned).await
    }

    /// Ends everything that the state owns.
    ///
    /// # Errors
    /// Terraform fails.
    pub async fn destroy(&self, terraform: Terraform, variables: &Value) -> anyhow::Result<()> {
        let planned = self.make_plan(terraform, variables, Purpose::Destroy).await?;
        self.carry_out(&planned).await
    }

    async fn make_plan(
        &self,
        terraform: Terraform,
        variables: &Value,
        purpose: Purpose,
    ) -> anyhow::Result<Planned> {
        // Of its own, so that two runs in one checkout do not take each other's plan.
        let room = tempfile::tempdir().context("could not make a directory for the plan")?;
        let (file, out) = (room.path().join("grid.tfvars.json"), room.path().join("plan"));
        std::fs::write(&file, variables.to_string()).context("could not write terraform's variables")?;
        let request = PlanRequest {
            variables: &file,
            out: &out,
            destroy: purpose == Purpose::Destroy,
            targets: &[],
            lock: purpose != Purpose::Apply { lock: false },
        };
        self.options.interrupt.check()?;
        let (terraform, plan) = match terraform.plan(&request, self.options.watch.plan()).await {
            // An init that was stopped in the middle looks as if it were done.
            Err(TerraformError::NotInitialised { .. }) => {
                let terraform = self.init(terraform).await?;
                let plan = terraform.plan(&request, self.options.watch.plan()).await;
                (terraform, plan)
            }
            plan => (terraform, plan),
        };
        self.options.interrupt.check()?;
        let plan = plan.map_err(explain)?;
        Ok(Planned { terraform, plan, cut_off: Vec::new(), out, _room: room })
    }

    /// Does what the plan says, and waits until AWS shows it.
    ///
    /// # Errors
    /// Terraform fails, or AWS does not show in time what it said it created.
    pub async fn apply(
        &self,
        planned: &Planned,
        config: &Config,
        registry: &[Reference],
        client: &Client,
    ) -> anyhow::Result<()> {
        self.carry_out(planned).await?;
        self.wait_until_visible(config).await?;
        // What ECR's API shows, its registry may not take pushes for yet.
        try_join_all(registry.iter().map(|repository| self.wait_until_known(repository, client))).await?;
        Ok(())
    }

    async fn carry_out(&self, planned: &Planned) -> anyhow::Result<()> {
        self.options.interrupt.check()?;
        let creates = recovery::creates(&planned.plan);
        if !creates.is_empty() {
            let begun =
                LastApply::PendingApply(PendingApply { creates, begun: Timestamp::now(), written: None });
            begun.write(&self.store).await?;
        }
        let lock_wait = self.options.lock_timeout.max(BRIEF);
        let terraform = planned.terraform.clone().lock_timeout(lock_wait);
        let applied = self.announcing(terraform.apply(&planned.out, self.options.watch.apply())).await;
        // Terraform got the Ctrl-C itself and ended in good order; its own words for that help nobody. Another one that
        // stopped it in the middle is another matter.
        if !matches!(applied, Err(TerraformError::Killed { .. })) {
            self.options.interrupt.check()?;
        }
        applied.map_err(explain)
    }

    /// Terraform's work, which a signal does not end at once: the user is told what goes on, and what another one does.
    async fn announcing<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = self.options.interrupt.comes() => {}
        }
        self.options.watch.hear(&News::Finishing);
        work.await
    }

    /// Marks every repository that the grid uses and does not manage; its own are marked by terraform.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn mark(&self, config: &Config, inventory: &Inventory) -> anyhow::Result<()> {
        let wanted: BTreeSet<&String> = config.repositories.iter().collect();
        let foreign = inventory
            .repositories
            .values()
            .filter(|r| wanted.contains(&r.name) && !inventory.owns(ResourceKind::Repository, &r.name));
        for repository in foreign {
            self.ecr.mark(repository, &self.options.tag).await?;
        }
        Ok(())
    }
}
