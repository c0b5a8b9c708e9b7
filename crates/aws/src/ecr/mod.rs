//! ECR: its repositories, rules and images, and the blobs in them.

pub mod grids;
mod mutability;
pub mod registry_profile;
pub mod token;

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageFailureCode, ImageIdentifier, ImageStatus, ImageStatusFilter,
    ListImagesFilter, RctAppliedFor, TagStatus,
};
use registry::Digest;

use super::{Aws, errors::explain};

pub use mutability::Mutability;

/// A repository in ECR.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// Its address for `docker pull`.
    pub uri: String,
    /// Its ARN.
    pub arn: String,
    /// The KMS key that encrypts it. `None` for ECR's own.
    pub kms_key: Option<String>,
    /// Which of its tags may move.
    pub mutability: Mutability,
    /// Whether ECR scans pushed images.
    pub scan_on_push: bool,
}

/// A pull-through cache rule in ECR. It serialises in the format of the module's variable.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rule {
    /// The upstream registry.
    pub upstream: String,
    /// The secret with the login to it.
    pub credential_arn: Option<String>,
    /// The role used to read from another ECR.
    pub custom_role_arn: Option<String>,
    /// The prefix of the repository names there. `None` for the whole registry.
    pub upstream_repository_prefix: Option<String>,
}

/// ECR's name for a whole registry.
const ROOT: &str = "ROOT";

/// The settings of repositories that ECR creates itself
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The prefix of the repository names; `ROOT` for all without another template.
    pub prefix: String,
    /// A description by its creator.
    pub description: Option<String>,
    /// Whether it applies to repositories of the pull-through cache.
    pub is_for_cache: bool,
    /// The KMS key that encrypts them. `None` for ECR's own.
    pub kms_key: Option<String>,
    /// Which of their tags may move.
    pub mutability: Mutability,
    /// Whether images expire there.
    pub expires: bool,
}

impl Template {
    /// The template for repositories that the cache creates below `prefix`.
    pub fn of_cache<'a>(all: &'a [Self], prefix: &str) -> Option<&'a Self> {
        let below = |template: &&Self| {
            prefix
                .strip_prefix(template.prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let all = || all.iter().filter(|template| template.is_for_cache);
        let found = all().filter(below).max_by_key(|template| template.prefix.len());
        found.or_else(|| all().find(|template| template.prefix == ROOT))
    }
}

/// An image in a repository.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its digest.
    pub digest: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its stored size in bytes.
    pub size: u64,
    /// When it was pushed, in seconds since 1970.
    pub pushed: i64,
    /// Whether it is in the storage class ARCHIVE or being restored: it is listed, but cannot be pulled
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/archive_restore_image.html>).
    pub archived: bool,
    /// The digest of the image it refers to, if it is a signature, an SBOM or similar.
    pub subject: Option<String>,
}

/// The account's ECR in one region.
#[derive(Clone, Debug)]
pub struct Ecr {
    client: Client,
}

impl Ecr {
    /// ECR, with the credentials and region of `aws`.
    pub fn new(aws: &Aws) -> Self {
        Self { client: Client::new(aws.config()) }
    }

    /// Every repository of the account in this region, by name.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn repositories(&self) -> anyhow::Result<BTreeMap<String, Repository>> {
        let mut pages = self.client.describe_repositories().into_paginator().page_size(1000).send();
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| explain(e, "ecr:DescribeRepositories"))?;
            for repository in page.repositories.unwrap_or_default() {
                let name = repository.repository_name.context("ECR listed a repository without a name")?;
                let filters = repository.image_tag_mutability_exclusion_filters;
                let mutability = Mutability::of(repository.image_tag_mutability.as_ref(), filters);
                found.insert(
                    name.clone(),
                    Repository {
                        name,
                        uri: repository.repository_uri.unwrap_or_default(),
                        arn: repository.repository_arn.unwrap_or_default(),
                        kms_key: repository.encryption_configuration.and_then(|e| e.kms_key),
                        mutability,
                        scan_on_push: repository.image_scanning_configuration.is_some_and(|c| c.scan_on_push),
                    },
                );
            }
        }
        Ok(found)
    }

    /// The pull-through cache rules by their prefixes.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn pull_through_rules(&self) -> anyhow::Result<BTreeMap<String, Rule>> {
        let mut pages =
            self.client.describe_pull_through_cache_rules().into_paginator().page_size(1000).send();
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| explain(e, "ecr:DescribePullThroughCacheRules"))?;
            for rule in page.pull_through_cache_rules.unwrap_or_default() {
                let prefix = rule.ecr_repository_prefix.unwrap_or_default();
                let rule = Rule {
                    upstream: rule.upstream_registry_url.unwrap_or_default(),
                    credential_arn: rule.credential_arn,
                    custom_role_arn: rule.custom_role_arn,
                    upstream_repository_prefix: rule
                        .upstream_repository_prefix
                        .filter(|prefix| prefix != ROOT),
                };
                found.insert(prefix, rule);
            }
        }
        Ok(found)
    }

    /// The account's repository creation templates.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn templates(&self) -> anyhow::Result<Vec<Template>> {
        let pages = self.client.describe_repository_creation_templates().into_paginator();
        let mut pages = pages.page_size(1000).send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| explain(e, "ecr:DescribeRepositoryCreationTemplates"))?;
            let templates = page.repository_creation_templates.unwrap_or_default().into_iter();
            found.extend(templates.map(|template| {
                Template {
                    is_for_cache: template
                        .applied_for
                        .iter()
                        .flatten()
                        .any(|reason| *reason == RctAppliedFor::PullThroughCache),
                    mutability: Mutability::of(
                        template.image_tag_mutability.as_ref(),
                        template.image_tag_mutability_exclusion_filters,
                    ),
                    prefix: template.prefix.unwrap_or_default(),
                    description: template.description,
                    kms_key: template.encryption_configuration.and_then(|e| e.kms_key),
                    expires: template.lifecycle_policy.is_some(),
                }
            }));
        }
        Ok(found)
    }

    /// The images of a repository, including archived ones. Empty if the repository does not exist.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn images(&self, repository: &str) -> anyhow::Result<Vec<Image>> {
        // Without this filter ECR omits archived images.
        let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
        let mut pages = self
            .client
            .describe_images()
            .repository_name(repository)
            .filter(any)
            .into_paginator()
            .page_size(1000)
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page {
                Err(error)
                    if error.as_service_error().is_some_and(|e| e.is_repository_not_found_exception()) =>
                {
                    break;
                }
                other => other.map_err(|e| explain(e, "ecr:DescribeImages"))?,
            };
            found.extend(page.image_details.unwrap_or_default().into_iter().map(|image| Image {
                digest: image.image_digest.unwrap_or_default(),
                tags: image.image_tags.unwrap_or_default(),
                size: image.image_size_in_bytes.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                pushed: image.image_pushed_at.map_or(0, |time| time.secs()),
                archived: matches!(image.image_status, Some(ImageStatus::Archived | ImageStatus::Activating)),
                subject: image.subject_manifest_digest,
            }));
        }
        Ok(found)
    }

    /// The policy of a repository, if it has one.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn policy(&self, repository: &str) -> anyhow::Result<Option<String>> {
        match self.client.get_repository_policy().repository_name(repository).send().await {
            Err(error)
                if error.as_service_error().is_some_and(|e| e.is_repository_policy_not_found_exception()) =>
            {
                Ok(None)
            }
            other => Ok(other.map_err(|e| explain(e, "ecr:GetRepositoryPolicy"))?.policy_text),
        }
    }

    /// The digests of the `wanted` tags: `None` for a tag that does not exist. Tags for which ECR returned no result are left out.
    ///
    /// The first page of ListImages has up to 1,000 tags, and often that is all of them. Tags missing from a longer list are
    /// requested by name, 100 per call, so the length of the list does not matter.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn tags(
        &self,
        repository: &str,
        wanted: &[String],
    ) -> anyhow::Result<HashMap<String, Option<Digest>>> {
        let tagged = ListImagesFilter::builder().tag_status(TagStatus::Tagged).build();
        let first = self.client.list_images().repository_name(repository).filter(tagged).max_results(1000);
        let first = match first.send().await {
            Err(error) if error.as_service_error().is_some_and(|e| e.is_repository_not_found_exception()) => {
                return Ok(wanted.iter().map(|tag| (tag.clone(), None)).collect());
            }
            other => other.map_err(|e| explain(e, "ecr:ListImages"))?,
        };
        let mut found = HashMap::new();
        found.extend(first.image_ids.unwrap_or_default().into_iter().filter_map(meaning));
        let mut known: HashMap<String, Option<Digest>> = HashMap::new();
        let (listed, missing): (Vec<&String>, Vec<&String>) =
            wanted.iter().partition(|tag| found.contains_key(*tag));
        known.extend(listed.into_iter().map(|tag| (tag.clone(), found.get(tag).copied())));
        if first.next_token.is_none() {
            known.extend(missing.into_iter().map(|tag| (tag.clone(), None)));
            return Ok(known);
        }
        for batch in missing.chunks(100) {
            let ids = batch.iter().map(|tag| ImageIdentifier::builder().image_tag(*tag).build()).collect();
            let request = self.client.batch_get_image().repository_name(repository).set_image_ids(Some(ids));
            let answer = request.send().await.map_err(|e| explain(e, "ecr:BatchGetImage"))?;
            let images = answer.images.unwrap_or_default().into_iter();
            let there = images.filter_map(|image| meaning(image.image_id?));
            known.extend(there.map(|(tag, digest)| (tag, Some(digest))));
            let absent = answer.failures.unwrap_or_default().into_iter();
            let absent =
                absent.filter(|failure| failure.failure_code == Some(ImageFailureCode::ImageNotFound));
            known.extend(absent.filter_map(|failure| Some((failure.image_id?.image_tag?, None))));
        }
        Ok(known)
    }

    /// A setting of the account, usually `ENABLED` or `DISABLED`.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn account_setting(&self, name: &str) -> anyhow::Result<String> {
        let request = self.client.get_account_setting().name(name);
        let answer = request.send().await.map_err(|e| explain(e, "ecr:GetAccountSetting"))?;
        Ok(answer.value.unwrap_or_default())
    }

    /// The blobs in `digests` (at most 100, the API's limit) that the repository has.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn available_layers(
        &self,
        repository: &str,
        digests: &[String],
    ) -> anyhow::Result<BTreeMap<String, Option<u64>>> {
        let request = self.client.batch_check_layer_availability().repository_name(repository);
        let request = request.set_layer_digests(Some(digests.to_vec()));
        let answer = match request.send().await {
            Err(error) if error.as_service_error().is_some_and(|e| e.is_repository_not_found_exception()) => {
                return Ok(BTreeMap::new());
            }
            other => other.map_err(|e| explain(e, "ecr:BatchCheckLayerAvailability"))?,
        };
        let available = aws_sdk_ecr::types::LayerAvailability::Available;
        let layers = answer.layers.unwrap_or_default().into_iter();
        Ok(layers
            .filter(|l| l.layer_availability.as_ref() == Some(&available))
            .filter_map(|l| Some((l.layer_digest?, l.layer_size.and_then(|size| u64::try_from(size).ok()))))
            .collect())
    }
}

/// A tag and its digest.
fn meaning(id: ImageIdentifier) -> Option<(String, Digest)> {
    Some((id.image_tag?, id.image_digest?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_has_the_template() {
        let template = |prefix: &str| Template {
            prefix: prefix.to_owned(),
            description: None,
            is_for_cache: prefix != "quay/replicated",
            kms_key: None,
            mutability: Mutability::Mutable,
            expires: false,
        };
        let all = ["ROOT", "quay", "quay/team", "quay/replicated"].map(template);
        let of = |all: &[Template], prefix: &str| {
            Template::of_cache(all, prefix).map(|found| found.prefix.clone())
        };
        assert_eq!(of(&all, "quay").as_deref(), Some("quay"));
        assert_eq!(of(&all, "quay/team").as_deref(), Some("quay/team"));
        assert_eq!(of(&all, "quay/replicated").as_deref(), Some("quay"));
        assert_eq!(of(&all, "quayx").as_deref(), Some("ROOT"));
        assert_eq!(of(&all[1..], "ecr-public"), None);
    }
}
