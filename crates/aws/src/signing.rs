//! ECR's managed signing (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/managed-signing.html>): this grid's rule among those
//! of the registry, and what came of an image's signature.
//!
//! The rules are everybody's in the account. One has neither name nor tags, so a record beside the terraform state says which is
//! this grid's: the one that it added. A rule of somebody else's that says the same is as good, and stays theirs.

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

/// How many rules a registry takes: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_SigningConfiguration.html>.
const MOST_RULES: usize = 10;

/// A rule of this grid's: what is pushed to the repository is signed by the profile.
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

/// Another rule of this grid's, or its end.
pub(super) struct Change {
    before: Vec<Own>,
    wanted: Option<Own>,
    /// The line of images.toml that wants it.
    line: usize,
    /// One, or two while one takes the other's place.
    record: Sidecar<Vec<Own>>,
}

/// The rules as they will be.
struct Merged {
    rules: Vec<SigningRule>,
    /// Whether the wanted one is this grid's, and not somebody else's.
    is_own: bool,
}

impl Change {
    /// Compares what is wanted with what is set: the change and its line for people, or none where nothing would change.
    ///
    /// # Errors
    /// AWS refuses or does not answer, or the registry takes no further rule.
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

    /// The rules as they will be.
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

    /// Makes it, on the rules as they are now: somebody may have changed theirs since the plan.
    ///
    /// # Errors
    /// AWS refuses or does not answer, or the registry takes no further rule.
    pub(super) async fn apply(&self, client: &Client) -> anyhow::Result<()> {
        let present = rules(client).await?;
        let Merged { rules, is_own } = self.merged(&present)?;
        let after: Vec<Own> = self.wanted.iter().filter(|_| is_own).cloned().collect();
        // Stopped between the two, the next run knows both.
        self.record.write(&[self.before.as_slice(), after.as_slice()].concat()).await?;
        if rules != present {
            let configuration = SigningConfiguration::builder().set_rules(Some(rules)).build()?;
            let request = client.put_signing_configuration().signing_configuration(configuration);
            request.send().await.map_err(|e| explain(e, "ecr:PutSigningConfiguration"))?;
        }
        self.record.write(&after).await
    }
}

/// The wanted rule in the place of this grid's earlier ones, all others as they are and in their order.
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

/// The registry's rules; none where it has no signing configuration.
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

/// A rule as a plan shows it.
fn described(rule: &SigningRule) -> String {
    let filters: Vec<&str> = rule.repository_filters().iter().map(|filter| filter.filter.as_str()).collect();
    let of = if filters.is_empty() { "everything".to_owned() } else { filters.join(", ") };
    format!("{of} by {}", rule.signing_profile_arn)
}

/// What came of an image's signature by one profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Signing {
    /// It is beside the image.
    Signed,
    /// ECR is at work on it.
    #[serde(rename = "in progress")]
    InProgress,
    /// ECR could not make it.
    Failed {
        /// ECR's code for why.
        code: String,
        /// Why.
        reason: String,
    },
    /// The image was pushed when no rule named the profile.
    #[serde(rename = "not signed")]
    NotSigned,
}

/// How long an image's signature is waited for.
pub const BOUND: Duration = Duration::from_secs(30);

/// Asks for an image's signature by `profile` until it is there or has failed, within [`BOUND`].
///
/// # Errors
/// AWS refuses or does not answer, or has no such image.
pub async fn settled(aws: &Aws, repository: &str, digest: &str, profile: &str) -> anyhow::Result<Signing> {
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

/// Asks for an image's signature by `profile`.
///
/// # Errors
/// AWS refuses or does not answer, or has no such image.
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
        // What is not known here is not over.
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
    fn the_wanted_rule_takes_the_place_of_the_earlier_ones_and_all_others_stay() {
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
            // Somebody has removed the own one.
            ("a", "a", "xy", "xya", true),
            // What is somebody else's stays theirs.
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
