//! Settings of the whole registry, shared by everyone in the account. They are read, merged and shown in the plan, but not managed
//! by terraform, which would replace the settings of others.
//!
//! A replication rule has no name or tags, so a record next to the terraform state shows which one is this grid's.

use anyhow::Context as _;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{
    ReplicationConfiguration, ReplicationDestination, ReplicationRule, RepositoryFilter, RepositoryFilterType,
};
use images_config::{RegistrySettings, SigningProfile};
use serde::{Deserialize, Serialize};

use super::sidecar::Sidecar;
use super::signing;
use super::store::StateStore;
use super::{Aws, errors::explain};

/// The account's setting to share layers between repositories:
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>
const BLOB_MOUNTING: &str = "BLOB_MOUNTING";

/// This grid's replication rule: from its repositories to other regions of the same account.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Own {
    regions: Vec<String>,
    repositories: Vec<String>,
    /// The regions to which ECR has not been asked yet to copy the existing images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    backfill: Vec<String>,
}

/// The record of this grid's rules: one, or two while one replaces the other.
type Record = Sidecar<Vec<Own>>;

/// The changes to the registry's settings.
#[derive(Default)]
pub struct SettingsPlan {
    mounting: Option<bool>,
    replication: Option<Replication>,
    signing: Option<signing::Change>,
    /// One line per change.
    pub lines: Vec<String>,
}

/// The new rules, if they change, and this grid's own rules before and after.
struct Replication {
    rules: Option<Vec<ReplicationRule>>,
    before: Vec<Own>,
    after: Option<Own>,
    record: Record,
}

impl SettingsPlan {
    /// Compares the wanted settings with the present ones. Sends no request if none are wanted. The record is next to the state.
    ///
    /// # Errors
    /// AWS refuses or does not answer, or accepts no further signing rule.
    pub async fn new(
        aws: &Aws,
        wanted: &RegistrySettings,
        repositories: &[String],
        store: &StateStore,
    ) -> anyhow::Result<Self> {
        let client = Client::new(aws.config());
        let mut plan = Self::default();
        if let Some(on) = wanted.blob_mounting {
            let request = client.get_account_setting().name(BLOB_MOUNTING);
            let answer = request.send().await.map_err(|e| explain(e, "ecr:GetAccountSetting"))?;
            if (answer.value.as_deref() == Some("ENABLED")) != on {
                plan.mounting = Some(on);
                let state = if on { "on" } else { "off" };
                plan.lines.push(format!("switch blob mounting {state} for the whole registry"));
            }
        }
        if !wanted.replicate_to.is_empty() {
            let (regions, repositories) = (wanted.replicate_to.clone(), repositories.to_vec());
            let own = Own { regions, repositories, backfill: Vec::new() };
            plan.replace(aws, record(store), Some(own)).await?;
        }
        if let Some(profile) = &wanted.sign_runtimes {
            plan.sign(aws, store, Some(profile)).await?;
        }
        Ok(plan)
    }

    /// Adds the removal of this grid's own replication rule. Layer sharing stays unchanged: other grids may depend on it.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn end_replication(&mut self, aws: &Aws, store: &StateStore) -> anyhow::Result<()> {
        self.replace(aws, record(store), None).await
    }

    /// Adds the removal of this grid's own signing rule.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn end_signing(&mut self, aws: &Aws, store: &StateStore) -> anyhow::Result<()> {
        self.sign(aws, store, None).await
    }

    async fn sign(
        &mut self,
        aws: &Aws,
        store: &StateStore,
        profile: Option<&SigningProfile>,
    ) -> anyhow::Result<()> {
        if let Some((change, line)) = signing::Change::plan(aws, store, profile).await? {
            self.lines.push(line);
            self.signing = Some(change);
        }
        Ok(())
    }

    /// Replaces this grid's own rules with `wanted`.
    async fn replace(&mut self, aws: &Aws, record: Record, mut wanted: Option<Own>) -> anyhow::Result<()> {
        let before = record.read().await?.map(|found| found.content).unwrap_or_default();
        if before.is_empty() && wanted.is_none() {
            return Ok(());
        }
        let client = Client::new(aws.config());
        let answer =
            client.describe_registry().send().await.map_err(|e| explain(e, "ecr:DescribeRegistry"))?;
        let present = answer.replication_configuration.map(|c| c.rules).unwrap_or_default();
        let account = &aws.identity().account;
        let earlier = before.iter().map(|own| own.rule(account)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut rules = present.clone();
        rules.retain(|rule| !earlier.contains(rule));
        let stay = rules.iter().map(|rule| format!("{} (stays)", described(rule)));
        let mut merged: Vec<String> = stay.collect();
        if let Some(own) = &wanted {
            let rule = own.rule(account)?;
            // An equal rule of another owner is enough.
            if !rules.contains(&rule) {
                rules.push(rule);
            }
            merged.push(format!("{} repositories to {}", own.repositories.len(), own.regions.join(", ")));
        }
        let changed = rules != present;
        // A region that is new to this grid, or one where ECR refused the last run.
        let known: Vec<&String> = before.iter().flat_map(|own| &own.regions).collect();
        let owed: Vec<&String> = before.iter().flat_map(|own| &own.backfill).collect();
        let is_untold = |region: &&String| owed.contains(region) || (changed && !known.contains(region));
        if let Some(own) = &mut wanted {
            own.backfill = own.regions.iter().filter(is_untold).cloned().collect();
        }
        if changed {
            let merged = if merged.is_empty() { "none".to_owned() } else { merged.join("; ") };
            self.lines.push(format!("replication rules of the whole registry: {merged}"));
        }
        let untold = wanted.as_ref().map(|own| own.backfill.as_slice()).unwrap_or_default();
        if !untold.is_empty() {
            let regions = untold.join(", ");
            self.lines.push(format!(
                "copy what the rules name and is there already to {regions} (replication backfill)"
            ));
        }
        if changed || !untold.is_empty() {
            self.replication =
                Some(Replication { rules: changed.then_some(rules), before, after: wanted, record });
        }
        Ok(())
    }

    /// Applies the changes.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn apply(&self, aws: &Aws) -> anyhow::Result<()> {
        let client = Client::new(aws.config());
        if let Some(on) = self.mounting {
            let value = if on { "ENABLED" } else { "DISABLED" };
            let request = client.put_account_setting().name(BLOB_MOUNTING).value(value);
            request.send().await.map_err(|e| explain(e, "ecr:PutAccountSetting"))?;
        }
        if let Some(replication) = &self.replication {
            replication.apply(&client, &aws.identity().account).await?;
        }
        if let Some(signing) = &self.signing {
            signing.apply(&client).await?;
        }
        Ok(())
    }
}

impl Replication {
    async fn apply(&self, client: &Client, account: &str) -> anyhow::Result<()> {
        let after = self.after.as_slice();
        if let Some(rules) = &self.rules {
            // If a run stops between the two writes, the next run knows both rules.
            self.record.write(&[self.before.as_slice(), after].concat()).await?;
            let configuration = ReplicationConfiguration::builder().set_rules(Some(rules.clone())).build()?;
            let request = client.put_replication_configuration().replication_configuration(configuration);
            request.send().await.map_err(|e| explain(e, "ecr:PutReplicationConfiguration"))?;
            self.record.write(&after.to_vec()).await?;
        }
        let Some(own) = self.after.as_ref().filter(|own| !own.backfill.is_empty()) else { return Ok(()) };
        for region in &own.backfill {
            let to = ReplicationDestination::builder().region(region).registry_id(account).build()?;
            match client.start_replication_backfill().destination(to).send().await {
                // A backfill that is already running does the same.
                Err(error) if error.code() == Some("ReplicationBackfillInProgressException") => {}
                other => drop(other.map_err(|e| explain(e, "ecr:StartReplicationBackfill"))?),
            }
        }
        self.record.write(&vec![Own { backfill: Vec::new(), ..own.clone() }]).await
    }
}

impl Own {
    fn rule(&self, account: &str) -> anyhow::Result<ReplicationRule> {
        let to = |region| ReplicationDestination::builder().region(region).registry_id(account).build();
        let of = |name| {
            RepositoryFilter::builder().filter(name).filter_type(RepositoryFilterType::PrefixMatch).build()
        };
        let destinations = self.regions.iter().map(to).collect::<Result<_, _>>()?;
        let filters = self.repositories.iter().map(of).collect::<Result<_, _>>()?;
        ReplicationRule::builder()
            .set_destinations(Some(destinations))
            .set_repository_filters(Some(filters))
            .build()
            .context("could not put the replication rule together")
    }
}

fn record(store: &StateStore) -> Record {
    Record::new(store, "replication.json", "a record of replication rules")
}

/// Another owner's rule, as a plan shows it.
fn described(rule: &ReplicationRule) -> String {
    let filters = rule.repository_filters.iter().flatten().map(|filter| format!("{}*", filter.filter));
    let filters: Vec<String> = filters.collect();
    let from = if filters.is_empty() { "everything".to_owned() } else { filters.join(", ") };
    let to: Vec<&str> = rule.destinations.iter().map(|destination| destination.region.as_str()).collect();
    format!("{from} to {}", to.join(", "))
}
