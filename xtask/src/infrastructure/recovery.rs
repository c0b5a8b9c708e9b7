//! What an apply created that was killed before it could write it down, and how it gets into the state.
//!
//! Terraform writes its state every 20 s and at its end. Before an apply, what it will create is written beside the state
//! ([`Begun`]); while that stands there, the last apply has not ended well, and this looks for what it left.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::workplace::explain;
use super::{Infrastructure, REPOSITORY, RULE, Survey};
use crate::aws::kms;
use crate::aws::proof::{Begun, Beside};
use crate::config::Config;
use crate::error::{Exit, FailWith as _, failure};
use crate::terraform::{self, Action};

/// The resource types of the key and its alias in the state.
const KEY: &str = "aws_kms_key";
const ALIAS: &str = "aws_kms_alias";

impl Infrastructure<'_> {
    /// Takes into the state what an apply created that was killed before it could write it down, and gives what stands
    /// after that. Without this it would be taken for somebody else's, and never be deleted. `leased`: the caller holds the
    /// lease.
    ///
    /// # Errors
    /// That apply is still at work, AWS refuses, or terraform fails.
    pub async fn adopt(&self, config: &Config, survey: Survey, leased: bool) -> anyhow::Result<Survey> {
        if !matches!(survey.beside, Some(Beside::Begun(_))) {
            return Ok(survey);
        }
        if leased {
            return self.adopt_leased(config).await;
        }
        let lease = self.lease().await?;
        let adopted = self.adopt_leased(config).await;
        self.release(lease).await;
        adopted
    }

    /// Takes the grid's key back into the state that `destroy-images` left in the account, because other grids' images need it:
    /// its alias is taken, and a second key could not have it. `leased`: the caller holds the lease.
    ///
    /// # Errors
    /// The alias points at a key that is not this grid's, AWS refuses, or terraform fails.
    pub async fn take_key_back(
        &self,
        config: &Config,
        survey: Survey,
        leased: bool,
    ) -> anyhow::Result<Survey> {
        if survey.state.owned.contains_key(KEY) || survey.state.owned.contains_key(ALIAS) {
            return Ok(survey);
        }
        let tag = &self.context.settings.tag;
        let alias = format!("alias/ecr/{tag}-htc");
        let Some(key) = kms::target(self.aws, &self.context.http, &alias).await? else { return Ok(survey) };
        if !kms::is_marked(self.aws, &self.context.http, &key, tag).await? {
            let message = format!(
                "{alias} points at the key {key}, which is not a key of this grid's that can be used"
            );
            return Err(failure(Exit::Refused, message)).hint(
                Exit::Refused,
                format!("take another TAG; `aws kms delete-alias --alias-name {alias}` deletes an alias that nobody needs"),
            );
        }
        let found = vec![
            ("aws_kms_key.ecr".to_owned(), key),
            (format!("aws_kms_alias.ecr[\"ecr/{tag}-htc\"]"), alias),
        ];
        let why = "was left by destroy-images for other grids";
        if leased {
            return self.record(config, survey, &found, why).await;
        }
        let lease = self.lease().await?;
        let recorded = self.record(config, survey, &found, why).await;
        self.release(lease).await;
        recorded
    }

    async fn adopt_leased(&self, config: &Config) -> anyhow::Result<Survey> {
        let survey = self.survey().await?;
        let Some(Beside::Begun(begun)) = survey.beside.clone() else { return Ok(survey) };
        let lost = self.lost(&begun, config, &survey).await?;
        if lost.is_empty() {
            return Ok(survey);
        }
        self.record(config, survey, &lost, "was created by a run that was stopped before it could record it")
            .await
    }

    /// Imports resources (address and id) into the state, and gives what stands after that.
    async fn record(
        &self,
        config: &Config,
        mut survey: Survey,
        lost: &[(String, String)],
        why: &str,
    ) -> anyhow::Result<Survey> {
        for (address, id) in lost {
            survey.state.owned.entry(resource_type(address).to_owned()).or_default().push(id.clone());
        }
        let terraform = self.terraform().await?;
        let room = tempfile::tempdir().context("could not make a directory for the variables")?;
        let file = room.path().join("grid.tfvars.json");
        std::fs::write(&file, self.sparing_variables(config, &survey).to_string())
            .context("could not write terraform's variables")?;
        for (address, id) in lost {
            self.context.interrupt.check()?;
            terraform.import(&file, address, id).await.map_err(explain)?;
            self.context.printer.line(format!("{address} {why}: recorded now"));
        }
        self.survey().await
    }

    /// What `begun` would create, stands, and is not in the state: address and id, the key first.
    async fn lost(
        &self,
        begun: &Begun,
        config: &Config,
        survey: &Survey,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let tag = &self.context.settings.tag;
        let mut lost = Vec::new();
        let known = survey.state.owned.get(KEY).and_then(|keys| keys.first()).cloned();
        let of = |wanted: &'static str| {
            begun.creates.iter().filter(move |(address, _)| resource_type(address) == wanted)
        };
        let since = begun.written.unwrap_or(begun.begun.as_second());
        let mut key = known.clone();
        for (address, _) in of(KEY).filter(|_| known.is_none()) {
            key = kms::created_since(self.aws, &self.context.http, tag, since).await?;
            lost.extend(key.clone().map(|key| (address.clone(), key)));
        }
        for (address, id) in begun.creates.iter().filter_map(|(address, id)| Some((address, id.as_ref()?))) {
            let kind = resource_type(address);
            let stands = !survey.state.owns(kind, id)
                && match kind {
                    REPOSITORY => match survey.repositories.get(id) {
                        // Somebody else may have been faster: ours has our mark from its creation on.
                        Some(repository) => self.ecr.marks(repository).await?.contains(tag),
                        None => false,
                    },
                    RULE => config
                        .pull_through
                        .iter()
                        .any(|rule| rule.prefix == *id && survey.rules.get(id) == Some(&rule.upstream)),
                    ALIAS => match &key {
                        Some(key) => kms::has_alias(self.aws, &self.context.http, key, id).await?,
                        None => false,
                    },
                    _ => false,
                };
            if stands {
                lost.push((address.clone(), id.clone()));
            }
        }
        Ok(lost)
    }
}

/// The type of the resource at an address of the module, which has no modules of its own.
fn resource_type(address: &str) -> &str {
    address.split_once('.').map_or(address, |(kind, _)| kind)
}

/// What a plan creates that stands for something in AWS: address, and id where that is known.
pub(super) fn creates(plan: &terraform::Plan) -> BTreeMap<String, Option<String>> {
    let created = plan.changes.iter().filter(|change| change.action == Action::Create);
    let named = created.filter_map(|change| {
        let attribute = |name: &str| change.after[name].as_str().map(str::to_owned);
        let id = match change.kind.as_str() {
            KEY => None,
            ALIAS | REPOSITORY => Some(attribute("name")?),
            RULE => Some(attribute("ecr_repository_prefix")?),
            _ => return None,
        };
        Some((change.address.clone(), id))
    });
    named.collect()
}
