//! ECR: the registry's address and token, what exists, and which blobs it holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::ImageTagMutability;
use base64::Engine as _;

use super::{Aws, errors::explain};
use crate::process::Secret;

/// The tag that says which grids use a repository: `htc-grid/<TAG>`.
/// (Repositories are one per account and region, and grids share them.)
pub const MARK_PREFIX: &str = "htc-grid/";

/// A token for a registry, as `docker login` takes it.
#[derive(Clone, Debug)]
pub struct Token {
    /// The registry's host, with its port where it has one.
    pub host: String,
    /// Always `AWS`.
    pub username: String,
    /// Good for twelve hours.
    pub password: Secret,
}

/// A repository as it stands.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// Its address, as `docker pull` takes it.
    pub uri: String,
    /// Its ARN.
    pub arn: String,
    /// The KMS key that encrypts it, where that is not ECR's own.
    pub kms_key: Option<String>,
    /// Which of its tags may move.
    pub moving: Moving,
}

/// Which tags of a repository may move to another image
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Moving {
    /// All of them.
    #[default]
    All,
    /// All but those that fit one of these patterns.
    AllBut(Vec<String>),
    /// Those alone that fit one of these patterns.
    Only(Vec<String>),
}

impl Moving {
    /// Whether a tag may move.
    pub fn may(&self, tag: &str) -> bool {
        let fits = |patterns: &[String]| patterns.iter().any(|pattern| fits(pattern, tag));
        match self {
            Self::All => true,
            Self::AllBut(patterns) => !fits(patterns),
            Self::Only(patterns) => fits(patterns),
        }
    }
}

/// ECR's wildcard: `*` is any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(after) = text.strip_prefix(head) else { return false };
    (0..=after.len()).any(|at| after.is_char_boundary(at) && fits(rest, &after[at..]))
}

/// An image in a repository.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its digest.
    pub digest: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// What is stored, in bytes.
    pub size: u64,
    /// When it was pushed, in seconds since 1970.
    pub pushed: i64,
}

/// The account's ECR in one region.
#[derive(Clone, Debug)]
pub struct Ecr {
    client: Client,
}

impl Ecr {
    /// ECR as `aws` sees it.
    pub fn new(aws: &Aws) -> Self {
        Self { client: Client::new(aws.config()) }
    }

    /// A fresh token. Its proxy endpoint is the account's registry, in every partition.
    ///
    /// # Errors
    /// AWS refuses or does not answer, or answers something else than a token.
    pub async fn token(&self) -> anyhow::Result<Token> {
        let action = "ecr:GetAuthorizationToken";
        let answer = self.client.get_authorization_token().send().await.map_err(|e| explain(e, action))?;
        let data =
            answer.authorization_data.unwrap_or_default().into_iter().next().context("ECR gave no token")?;
        let endpoint = data.proxy_endpoint.context("ECR named no registry")?;
        let (username, password) = decode_token(&data.authorization_token.context("ECR gave no token")?)?;
        let host = endpoint
            .trim_start_matches("https://")
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        Ok(Token { host, username, password })
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
                let filters = repository.image_tag_mutability_exclusion_filters.unwrap_or_default();
                let filters = filters.into_iter().map(|filter| filter.filter).collect();
                let moving = match repository.image_tag_mutability {
                    Some(ImageTagMutability::Immutable) => Moving::Only(Vec::new()),
                    Some(ImageTagMutability::ImmutableWithExclusion) => Moving::Only(filters),
                    Some(ImageTagMutability::MutableWithExclusion) => Moving::AllBut(filters),
                    _ => Moving::All,
                };
                found.insert(
                    name.clone(),
                    Repository {
                        name,
                        uri: repository.repository_uri.unwrap_or_default(),
                        arn: repository.repository_arn.unwrap_or_default(),
                        kms_key: repository.encryption_configuration.and_then(|e| e.kms_key),
                        moving,
                    },
                );
            }
        }
        Ok(found)
    }

    /// The prefixes of the pull-through cache rules and their upstream registries.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn pull_through_rules(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut pages =
            self.client.describe_pull_through_cache_rules().into_paginator().page_size(1000).send();
        let mut found = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| explain(e, "ecr:DescribePullThroughCacheRules"))?;
            for rule in page.pull_through_cache_rules.unwrap_or_default() {
                let prefix = rule.ecr_repository_prefix.unwrap_or_default();
                found.insert(prefix, rule.upstream_registry_url.unwrap_or_default());
            }
        }
        Ok(found)
    }

    /// The images of a repository; none where the repository does not exist.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn images(&self, repository: &str) -> anyhow::Result<Vec<Image>> {
        let mut pages =
            self.client.describe_images().repository_name(repository).into_paginator().page_size(1000).send();
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
            }));
        }
        Ok(found)
    }

    /// The grids that mark a repository as used.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn marks(&self, repository: &Repository) -> anyhow::Result<BTreeSet<String>> {
        let request = self.client.list_tags_for_resource().resource_arn(&repository.arn);
        let answer = request.send().await.map_err(|e| explain(e, "ecr:ListTagsForResource"))?;
        let keys = answer.tags.unwrap_or_default().into_iter().map(|tag| tag.key);
        Ok(keys.filter_map(|key| key.strip_prefix(MARK_PREFIX).map(str::to_owned)).collect())
    }

    /// Marks a repository as used by the grid `tag`.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn mark(&self, repository: &Repository, tag: &str) -> anyhow::Result<()> {
        let mark =
            aws_sdk_ecr::types::Tag::builder().key(format!("{MARK_PREFIX}{tag}")).value("used").build()?;
        let request = self.client.tag_resource().resource_arn(&repository.arn).tags(mark);
        request.send().await.map_err(|e| explain(e, "ecr:TagResource"))?;
        Ok(())
    }

    /// Takes the mark of the grid `tag` away.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn unmark(&self, repository: &Repository, tag: &str) -> anyhow::Result<()> {
        let key = format!("{MARK_PREFIX}{tag}");
        let request = self.client.untag_resource().resource_arn(&repository.arn).tag_keys(key);
        request.send().await.map_err(|e| explain(e, "ecr:UntagResource"))?;
        Ok(())
    }

    /// A setting of the account, `ENABLED` or `DISABLED` as a rule.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn account_setting(&self, name: &str) -> anyhow::Result<String> {
        let request = self.client.get_account_setting().name(name);
        let answer = request.send().await.map_err(|e| explain(e, "ecr:GetAccountSetting"))?;
        Ok(answer.value.unwrap_or_default())
    }

    /// Which of `digests` (at most 100, the API's bound) the repository holds.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn available_layers(
        &self,
        repository: &str,
        digests: &[String],
    ) -> anyhow::Result<BTreeSet<String>> {
        let request = self.client.batch_check_layer_availability().repository_name(repository);
        let request = request.set_layer_digests(Some(digests.to_vec()));
        let answer = match request.send().await {
            Err(error) if error.as_service_error().is_some_and(|e| e.is_repository_not_found_exception()) => {
                return Ok(BTreeSet::new());
            }
            other => other.map_err(|e| explain(e, "ecr:BatchCheckLayerAvailability"))?,
        };
        let available = aws_sdk_ecr::types::LayerAvailability::Available;
        let layers = answer.layers.unwrap_or_default().into_iter();
        Ok(layers
            .filter(|l| l.layer_availability.as_ref() == Some(&available))
            .filter_map(|l| l.layer_digest)
            .collect())
    }
}

/// The one part of AWS whose credentials ECR Public knows.
pub const PUBLIC_PARTITION: &str = "aws";

/// A token for ECR Public, whose API lives in us-east-1 alone:
/// <https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html>
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn public_token(aws: &Aws) -> anyhow::Result<Token> {
    let config = aws.config().to_builder().region(aws_config::Region::from_static("us-east-1")).build();
    let request = aws_sdk_ecrpublic::Client::new(&config).get_authorization_token();
    let answer = request.send().await.map_err(|e| explain(e, "ecr-public:GetAuthorizationToken"))?;
    let token =
        answer.authorization_data.and_then(|d| d.authorization_token).context("ECR Public gave no token")?;
    let (username, password) = decode_token(&token)?;
    Ok(Token { host: "public.ecr.aws".into(), username, password })
}

fn decode_token(token: &str) -> anyhow::Result<(String, Secret)> {
    let decoded =
        base64::engine::general_purpose::STANDARD.decode(token).context("the token is not base64")?;
    let text = String::from_utf8(decoded).ok().context("the token is not text")?;
    let (username, password) = text.split_once(':').context("the token is not user:password")?;
    Ok((username.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_tags_may_move() {
        let builds = || vec!["*-sha256-*".to_owned(), "v1".to_owned()];
        assert!(Moving::All.may("v1"));
        assert!(!Moving::AllBut(builds()).may("python-sha256-0123") && !Moving::AllBut(builds()).may("v1"));
        assert!(Moving::AllBut(builds()).may("python") && Moving::AllBut(builds()).may("v10"));
        assert!(!Moving::Only(Vec::new()).may("v1"));
        assert!(Moving::Only(builds()).may("v1") && !Moving::Only(builds()).may("latest"));
    }

    #[test]
    fn a_token_is_user_and_password() {
        let (user, password) = decode_token("QVdTOnNlY3JldA==").unwrap();
        assert_eq!((user.as_str(), password.reveal()), ("AWS", "secret"));
        assert!(decode_token("!").is_err());
        assert!(!format!("{password:?}").contains("secret"));
    }
}
