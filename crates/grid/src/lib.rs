//! The AWS resources of a grid, managed by terraform: which exist (`inventory`), terraform's working directory
//! (`working_directory`), which grid uses what (`usage`), recovery after a killed apply (`recovery`).

mod events;
pub mod foreign_resources;
mod inventory;
pub mod last_apply;
mod leases;
pub mod makefile_state;
pub mod planning;
pub mod recovery;
mod resource_kind;
mod state_lock;
pub mod templates;
pub mod usage;
mod visible;
mod working_directory;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws::Aws;
use aws::ecr::{Ecr, grids};
use aws::plan_cache::LastApply;
use aws::state::{State, own_key};
use aws::store::StateStore;
use failure::{FailWith as _, Interrupt, Kind, failure};
use images_config::{Config, cached_registries};
use registry::BoxFuture;
use serde_json::Value;

pub use events::{GridEvent, Watch};
pub use inventory::{Inventory, UnlistedResources};
pub use planning::Planned;
pub use recovery::Unrecorded;
pub use resource_kind::{ResourceKind, Statement, StaysWith};
pub use usage::{RepositoryUsage, Usage};
pub use visible::VISIBLE_BOUND;
pub use working_directory::{release_lock, terraform_data};

/// Returns the path of the stand-in for AWS's provider. Builds it if it is missing.
pub type StandIn = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<PathBuf>> + Send + Sync>;

/// The location of a grid's state.
#[derive(Clone, Debug)]
pub struct StateObject {
    /// The bucket.
    pub bucket: String,
    /// The object's key.
    pub key: String,
    /// The KMS key that encrypts it. `None` for the bucket's default.
    pub kms_key: Option<String>,
}

/// What the work on a grid's resources needs besides AWS.
pub struct Options {
    /// The grid's name.
    pub tag: String,
    /// How long to wait for a lock or lease that another run holds.
    pub lock_timeout: Duration,
    /// The terraform module.
    pub module: PathBuf,
    /// Terraform's working directory: the module is copied there.
    pub directory: PathBuf,
    /// Whether the grid creates repository creation templates. The account's templates are read only if it does.
    pub templates: bool,
    /// The provider for the emulated AWS. `None` for AWS's own provider.
    pub stand_in: Option<StandIn>,
    /// For AWS requests without the SDK.
    pub http: reqwest::Client,
    /// Whether the run was interrupted.
    pub interrupt: Interrupt,
    /// Receives the news.
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
    /// The grid's resources, with the state at `state`.
    pub fn new(options: Options, aws: &'a Aws, state: StateObject) -> Self {
        let StateObject { bucket, key, kms_key } = state;
        let store = StateStore::new(aws, &bucket, &key, kms_key);
        Self { options: Arc::new(options), aws, ecr: Ecr::new(aws), store }
    }

    /// The state, and the files next to it.
    pub fn store(&self) -> &StateStore {
        &self.store
    }

    /// Reads the existing resources, in as few calls as possible.
    ///
    /// # Errors
    /// AWS refuses or does not answer, or the state belongs to another grid.
    pub async fn inventory(&self) -> anyhow::Result<Inventory> {
        let in_bucket =
            |what: &str| format!("could not read the {what} in the bucket {}", self.store.bucket());
        let state = State::read(&self.store);
        let last_apply = LastApply::read(&self.store);
        let templates =
            async { if self.options.templates { self.ecr.templates().await } else { Ok(Vec::new()) } };
        // All run to their end, so that the user always sees the same error if several fail.
        let (state, repositories, rules, templates, last_apply) = tokio::join!(
            state,
            self.ecr.repositories(),
            self.ecr.pull_through_rules(),
            templates,
            last_apply
        );
        let inventory = Inventory {
            state: state.with_context(|| in_bucket("terraform state"))?,
            repositories: repositories?,
            rules: rules?,
            templates: templates?.into_iter().map(|template| (template.prefix.clone(), template)).collect(),
            last_apply: last_apply.with_context(|| in_bucket("plan cache next to the terraform state"))?,
            unrecorded: Vec::new(),
        };
        check_owner(self, &inventory.state)?;
        Ok(inventory)
    }

    /// The values of the module's variables: the resources in images.toml, and those in `kept`, which are no longer in it.
    /// Resources that others created are used and not changed.
    pub fn variables(&self, config: &Config, inventory: &Inventory, kept: &UnlistedResources) -> Value {
        let (tag, account) = (&self.options.tag, &self.aws.identity().account);
        let mut variables = config.tfvars(tag, self.aws.region(), account, &inventory.existing());
        if let Some(repositories) = variables["repositories"].as_array_mut() {
            repositories.extend(kept.repositories.iter().map(|name| Value::from(name.as_str())));
        }
        if let Some(rules) = variables["pull_through_cache_rules"].as_object_mut() {
            for (prefix, rule) in &kept.rules {
                rules.insert(prefix.clone(), serde_json::json!(rule));
            }
        }
        if let Some(Value::Array(prefixes)) = variables.pointer_mut("/creation_template/prefixes") {
            prefixes.extend(kept.templates.keys().map(|prefix| Value::from(prefix.as_str())));
        }
        if let Some(used) = variables["existing_pull_through_cache_rules"].as_object_mut() {
            let others = kept.templates.iter().filter(|(prefix, _)| !kept.rules.contains_key(*prefix));
            used.extend(others.map(|(prefix, rule)| (prefix.clone(), Value::from(rule.upstream.as_str()))));
        }
        variables
    }

    /// The variables with which nothing is deleted: resources of this grid that images.toml no longer names stay until `prune`.
    pub fn variables_without_deletions(&self, config: &Config, inventory: &Inventory) -> Value {
        self.variables(config, inventory, &inventory.unlisted_resources(config))
    }

    /// Refuses settings that ECR would refuse in this account and region in the middle of an apply.
    ///
    /// # Errors
    /// A secret of another account or region, a replication to the region itself, or a signing profile of another region.
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
                "images.toml:{}: registry.replicate_to: {} is the region of the images themselves",
                config.registry.replicate_line, here.1
            );
            return Err(failure(Kind::Config, message));
        }
        // Another account is allowed: https://docs.aws.amazon.com/AmazonECR/latest/userguide/managed-signing.html
        let place = (self.aws.identity().partition(), here.1);
        if let Some(profile) = config.registry.sign_runtimes.as_ref().filter(|found| found.place() != place) {
            let (partition, region) = profile.place();
            let message = format!(
                "images.toml:{}: registry.sign_runtimes: the profile is in {region} ({partition}); ECR in {} ({}) signs by profiles of \
                 its own region alone",
                profile.line, place.1, place.0
            );
            return Err(failure(Kind::Config, message));
        }
        Ok(())
    }

    /// Marks every repository that the grid uses but does not manage. Terraform marks the others.
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
            grids::add_user(&self.ecr, repository, &self.options.tag).await?;
        }
        Ok(())
    }
}

/// One state belongs to one grid. Terraform would turn another grid's resources into this grid's, including the key.
fn check_owner(grid: &Infrastructure<'_>, state: &State) -> anyhow::Result<()> {
    let Some(owner) = state.tag.as_deref().filter(|owner| *owner != grid.options.tag) else {
        return Ok(());
    };
    let message = format!(
        "the state {} in bucket {} belongs to the grid {owner}, not to {}",
        grid.store.key(),
        grid.store.bucket(),
        grid.options.tag
    );
    Err(failure(Kind::Config, message)).hint(
        Kind::Config,
        format!(
            "use TAG={owner}, name another bucket, or keep both grids in this one with --state-key {}",
            own_key(&grid.options.tag)
        ),
    )
}
