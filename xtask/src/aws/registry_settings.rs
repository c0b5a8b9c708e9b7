//! Settings of the whole registry, which everybody in the account shares: read, merged, shown as lines of the plan, and
//! never terraform's, which would take them for its own.

use anyhow::Context as _;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{
    ReplicationConfiguration, ReplicationDestination, ReplicationRule, RepositoryFilter, RepositoryFilterType,
};

use super::{Aws, errors::explain};
use crate::config::RegistrySettings;

/// The account's switch for layers that are shared between repositories:
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>
const BLOB_MOUNTING: &str = "BLOB_MOUNTING";

/// What would change in the registry's settings.
#[derive(Clone, Debug, Default)]
pub struct SettingsPlan {
    mounting: Option<bool>,
    replication: Option<Vec<ReplicationRule>>,
    /// One line for each change.
    pub lines: Vec<String>,
}

impl SettingsPlan {
    /// Compares what is wanted with what is set; asks nothing where nothing is wanted.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn new(aws: &Aws, wanted: &RegistrySettings, repositories: &[String]) -> anyhow::Result<Self> {
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
            let answer =
                client.describe_registry().send().await.map_err(|e| explain(e, "ecr:DescribeRegistry"))?;
            let present = answer.replication_configuration.map(|c| c.rules).unwrap_or_default();
            let own = rule(&aws.identity().account, &wanted.replicate_to, repositories)?;
            if !present.contains(&own) {
                let mut rules = present;
                // A rule for just these repositories is an earlier one of ours; all others are somebody else's.
                rules.retain(|rule| rule.repository_filters != own.repository_filters);
                plan.lines.push(format!(
                    "replicate {} repositories to {}; {} other rules stay",
                    repositories.len(),
                    wanted.replicate_to.join(", "),
                    rules.len()
                ));
                rules.push(own);
                plan.replication = Some(rules);
            }
        }
        Ok(plan)
    }

    /// Makes the changes.
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
        if let Some(rules) = &self.replication {
            let configuration = ReplicationConfiguration::builder().set_rules(Some(rules.clone())).build()?;
            let request = client.put_replication_configuration().replication_configuration(configuration);
            request.send().await.map_err(|e| explain(e, "ecr:PutReplicationConfiguration"))?;
        }
        Ok(())
    }
}

/// The one rule that is this tool's: the grid's repositories to the wanted regions of the same account.
fn rule(account: &str, regions: &[String], repositories: &[String]) -> anyhow::Result<ReplicationRule> {
    let destinations = regions
        .iter()
        .map(|region| ReplicationDestination::builder().region(region).registry_id(account).build())
        .collect::<Result<_, _>>();
    let filters = repositories
        .iter()
        .map(|name| {
            RepositoryFilter::builder().filter(name).filter_type(RepositoryFilterType::PrefixMatch).build()
        })
        .collect::<Result<_, _>>();
    ReplicationRule::builder()
        .set_destinations(Some(destinations?))
        .set_repository_filters(Some(filters?))
        .build()
        .context("could not put the replication rule together")
}
