//! ECR's managed signing (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/managed-signing.html>): this grid's rule among
//! those of the registry, and the status of an image's signature.
//!
//! Everyone in the account shares the rules. A rule has no name or tags, so a record next to the terraform state shows which one
//! this grid added. An equal rule of another owner is enough and stays that owner's.

use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{
    ImageIdentifier, SigningConfiguration, SigningRepositoryFilter, SigningRepositoryFilterType, SigningRule,
    SigningStatus,
};
use failure::{FailWith as _, Kind, failure};
use images_config::{RUNTIMES_REPOSITORY, SigningProfile};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::sidecar::Sidecar;
use super::store::StateStore;
use super::{Aws, Waiting, errors::explain};

/// ECR's limit of rules per registry: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_SigningConfiguration.html>.
const MOST_RULES: usize = 10;

/// This grid's rule: images pushed to the repository are signed with the profile.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Own {
    profile: String,
    repository: String,
}

impl Own {
    fn rule(&self) -> anyhow::Result<SigningRule> {
        let filter = SigningRepositoryFilter::builder()
            .filter(&self.repository)
            .filter_type(SigningRepositoryFilterType::WildcardMatch)
            .build();
        let rule = SigningRule::builder().signing_profile_arn(&self.profile);
        filter
            .and_then(|filter| rule.repository_filters(filter).build())
            .context("could not put the signing rule together")
    }
}

/// A change or removal of this grid's rule.
pub(super) struct Change {
    before: Vec<Own>,
    wanted: Option<Own>,
    /// The line in images.toml that requests it.
    line: usize,
    /// One rule, or two while one replaces the other.
    record: Sidecar<Vec<Own>>,
}

/// The new rules.
struct Merged {
    rules: Vec<SigningRule>,
    /// Whether the wanted rule is this grid's, not another owner's.
    is_own: bool,
}

impl Change {
    /// Compares the wanted rule with the present ones. Returns the change and its line in the plan, or `None` without a change.
    ///
    /// # Errors
    /// AWS refuses or does not answer, or the registry accepts no further rule.
    pub(super) async fn plan(
        aws: &Aws,
        store: &StateStore,
        profile: Option<&SigningProfile>,
    ) -> anyhow::Result<Option<(Self, String)>> {
        let record: Sidecar<Vec<Own>> = Sidecar::new(store, "signing.json", "a record of signing rules");
        let before = record.read().await?.map(|found| found.content).unwrap_or_default();
        let repository = RUNTIMES_REPOSITORY.to_owned();
        let wanted = profile.map(|profile| Own { profile: profile.arn.clone(), repository });
        if before.is_empty() && wanted.is_none() {
            return Ok(None);
        }
        let present = rules(&Client::new(aws.config())).await?;
        let change = Self { before, wanted, line: profile.map_or(0, |profile| profile.line), record };
        let merged = change.merged(&present)?.rules;
        if merged == present {
            return Ok(None);
        }
        let shown = merged.iter().map(|rule| {
            let stays = if present.contains(rule) { " (stays)" } else { "" };
            format!("{}{stays}", described(rule))
        });
        let shown: Vec<String> = shown.collect();
        let shown = if shown.is_empty() { "none".to_owned() } else { shown.join("; ") };
        Ok(Some((change, format!("signing rules of the whole registry: {shown}"))))
    }

    /// The new rules.
    fn merged(&self, present: &[SigningRule]) -> anyhow::Result<Merged> {
        let merged = merged(&self.before, self.wanted.as_ref(), present)?;
        if !merged.is_own || merged.rules.len() <= MOST_RULES {
            return Ok(merged);
        }
        let message = format!(
            "images.toml:{}: registry.sign_runtimes: the registry has {} signing rules of others, and ECR takes {MOST_RULES}",
            self.line,
            merged.rules.len() - 1
        );
        Err(failure(Kind::Config, message))
            .hint(Kind::Config, "`aws ecr get-signing-configuration` shows them")
    }

    /// Applies the change to the rules as they are now: others may have changed theirs since the plan.
    ///
    /// # Errors
    /// AWS refuses or does not answer, or the registry accepts no further rule.
    pub(super) async fn apply(&self, client: &Client) -> anyhow::Result<()> {
        let present = rules(client).await?;
        let Merged { rules, is_own } = self.merged(&present)?;
        let after: Vec<Own> = self.wanted.iter().filter(|_| is_own).cloned().collect();
        // If a run stops between the two writes, the next run knows both rules.
        self.record.write(&[self.before.as_slice(), after.as_slice()].concat()).await?;
        if rules != present {
            let configuration = SigningConfiguration::builder().set_rules(Some(rules)).build()?;
            let request = client.put_signing_configuration().signing_configuration(configuration);
            request.send().await.map_err(|e| explain(e, "ecr:PutSigningConfiguration"))?;
        }
        self.record.write(&after).await
    }
}

/// Replaces this grid's earlier rules with the wanted one. All others stay unchanged and in order.
fn merged(before: &[Own], wanted: Option<&Own>, present: &[SigningRule]) -> anyhow::Result<Merged> {
    let earlier = before.iter().map(Own::rule).collect::<anyhow::Result<Vec<_>>>()?;
    let place = present.iter().position(|rule| earlier.contains(rule)).unwrap_or(present.len());
    let mut rules = present.to_vec();
    rules.retain(|rule| !earlier.contains(rule));
    let wanted = wanted.map(Own::rule).transpose()?;
    let wanted = wanted.filter(|wanted| !rules.contains(wanted));
    let is_own = wanted.is_some();
    if let Some(wanted) = wanted {
        rules.insert(place, wanted);
    }
    Ok(Merged { rules, is_own })
}

/// The registry's rules. Empty if it has no signing configuration.
async fn rules(client: &Client) -> anyhow::Result<Vec<SigningRule>> {
    let answer = match client.get_signing_configuration().send().await {
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_signing_configuration_not_found_exception()) =>
        {
            return Ok(Vec::new());
        }
        other => other.map_err(|e| explain(e, "ecr:GetSigningConfiguration"))?,
    };
    Ok(answer.signing_configuration.map(|found| found.rules).unwrap_or_default())
}

/// A rule, as a plan shows it.
fn described(rule: &SigningRule) -> String {
    let filters: Vec<&str> = rule.repository_filters().iter().map(|filter| filter.filter.as_str()).collect();
    let of = if filters.is_empty() { "everything".to_owned() } else { filters.join(", ") };
    format!("{of} by {}", rule.signing_profile_arn)
}

/// The status of an image's signature with one profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Signing {
    /// The image has a signature.
    Signed,
    /// ECR is signing it.
    #[serde(rename = "in progress")]
    InProgress,
    /// ECR could not sign it.
    Failed {
        /// ECR's error code.
        code: String,
        /// ECR's reason.
        reason: String,
    },
    /// No rule named the profile when the image was pushed.
    #[serde(rename = "not signed")]
    NotSigned,
}

/// How long to wait for an image's signature.
pub const BOUND: Duration = Duration::from_secs(30);

/// Polls an image's signature by `profile` until it exists or has failed, within [`BOUND`].
///
/// # Errors
/// AWS refuses or does not answer, or the image does not exist.
pub async fn wait_for_signature(
    aws: &Aws,
    repository: &str,
    digest: &str,
    profile: &str,
) -> anyhow::Result<Signing> {
    let _wait = Waiting::new("ECR", "its signature", BOUND);
    let (since, mut pause) = (Instant::now(), Duration::from_millis(100));
    loop {
        let found = signing(aws, repository, digest, profile).await?;
        if found != Signing::InProgress || since.elapsed() + pause > BOUND {
            return Ok(found);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// Reads the status of an image's signature by `profile`.
///
/// # Errors
/// AWS refuses or does not answer, or the image does not exist.
pub async fn signing(aws: &Aws, repository: &str, digest: &str, profile: &str) -> anyhow::Result<Signing> {
    let request = Client::new(aws.config()).describe_image_signing_status();
    let image = ImageIdentifier::builder().image_digest(digest).build();
    let request = request.repository_name(repository).image_id(image);
    let answer = request.send().await.map_err(|e| explain(e, "ecr:DescribeImageSigningStatus"))?;
    let mut statuses = answer.signing_statuses.unwrap_or_default().into_iter();
    let found = statuses.find(|found| found.signing_profile_arn.as_deref() == Some(profile));
    let Some(found) = found else { return Ok(Signing::NotSigned) };
    Ok(match found.status {
        Some(SigningStatus::Complete) => Signing::Signed,
        Some(SigningStatus::Failed) => Signing::Failed {
            code: found.failure_code.unwrap_or_default(),
            reason: found.failure_reason.unwrap_or_default(),
        },
        // An unknown status counts as not finished.
        _ => Signing::InProgress,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(profile: &str) -> Own {
        Own { profile: profile.to_owned(), repository: "lambda".to_owned() }
    }

    #[test]
    fn the_required_rule_replaces_earlier_ones_and_others_stay() {
        for (before, wanted, present, rules, is_own) in [
            ("", "a", "", "a", true),
            ("", "a", "xy", "xya", true),
            ("a", "a", "xay", "xay", true),
            ("a", "b", "xay", "xby", true),
            ("a", "", "xay", "xy", false),
            ("a", "", "a", "", false),
            // A run was stopped before the change, and after it.
            ("ab", "b", "xay", "xby", true),
            ("ab", "b", "xby", "xby", true),
            // Another user has removed the grid's own rule.
            ("a", "a", "xy", "xya", true),
            // Rules of other owners stay theirs.
            ("", "x", "xy", "xy", false),
            ("a", "x", "xay", "xy", false),
        ] {
            let all = |names: &str| names.chars().map(|name| own(&name.to_string())).collect::<Vec<_>>();
            let as_rules = |names: &str| all(names).iter().map(|own| own.rule().unwrap()).collect::<Vec<_>>();
            let found = merged(&all(before), all(wanted).first(), &as_rules(present)).unwrap();
            let case = format!("{before:?}, {wanted:?}, {present:?}");
            assert_eq!((found.rules, found.is_own), (as_rules(rules), is_own), "{case}");
        }
    }
}
