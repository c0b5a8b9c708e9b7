//! The record of the last apply, next to the state: the plan cache (terraform has nothing to do), or an unfinished apply.
//!
//! Starting terraform takes seconds, and most runs change nothing. After an apply (or a plan without changes) the plan cache is
//! written: the inputs (module, variables), the state's version, and what was seen in the account. As long as these are the same, a
//! plan would be empty, except for what the plan cache does not see: [`UNSEEN`].

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ecr::{Repository, Rule, Template};
use super::sidecar::Sidecar;
use super::store::StateStore;

/// How long a plan cache is valid.
const VALID: Duration = Duration::from_secs(24 * 3600);
/// The suffix that its key adds to the state's.
const SUFFIX: &str = "proof.json";
/// Settings that may have changed without the plan cache noticing.
pub const UNSEEN: &str = "key policy, tags and scan settings";

/// The resources that a started apply will create. It replaces the plan cache until the apply has ended well. Terraform writes its
/// state every 20 s and at its end, so a killed apply may leave resources that are in this record and not in the state.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PendingApply {
    /// Addresses in the state, with each resource's ID in AWS. The key has no ID before it is created.
    pub creates: BTreeMap<String, Option<String>>,
    /// When it started, by the machine's clock.
    pub begun: Timestamp,
    /// When it started, in seconds since 1970 by S3's clock. Set when it is read.
    #[serde(skip)]
    pub written: Option<i64>,
}

/// The record of the last apply.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LastApply {
    /// The last run ended well.
    PlanCache(PlanCache),
    /// The last apply failed or is still running.
    PendingApply(PendingApply),
}

/// The facts that terraform's plan depends on.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PlanCache {
    /// Hash of the module's files, its variables and this tool's version.
    inputs: String,
    /// The version of the state object.
    state: Option<String>,
    /// Hash of the account's repositories (name, key), rules and creation templates.
    seen: String,
    /// When it was written.
    at: Timestamp,
    /// When a run last changed images but none of these facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worked: Option<Timestamp>,
}

impl PlanCache {
    /// The plan cache for the present facts.
    pub fn now(
        inputs: String,
        state: Option<String>,
        repositories: &BTreeMap<String, Repository>,
        rules: &BTreeMap<String, Rule>,
        templates: &BTreeMap<String, Template>,
    ) -> Self {
        let mut seen = Sha256::new();
        for repository in repositories.values() {
            absorb(&mut seen, &repository.name);
            absorb(&mut seen, repository.kms_key.as_deref().unwrap_or_default());
        }
        for (prefix, Rule { upstream, credential_arn, custom_role_arn, upstream_repository_prefix }) in rules
        {
            absorb(&mut seen, prefix);
            absorb(&mut seen, upstream);
            for detail in [credential_arn, custom_role_arn, upstream_repository_prefix] {
                absorb(&mut seen, detail.as_deref().unwrap_or_default());
            }
        }
        for template in templates.values() {
            absorb(&mut seen, &format!("{template:?}"));
        }
        Self { inputs, state, seen: hex::encode(seen.finalize()), at: Timestamp::now(), worked: None }
    }

    /// The same cache after a run that changed images, so that other runs see that an earlier plan is out of date.
    pub fn worked(self) -> Self {
        Self { worked: Some(Timestamp::now()), ..self }
    }

    /// Whether `self`, the present facts, equals the recorded `before`.
    pub fn holds(&self, before: &Self) -> bool {
        let age = self.at.duration_since(before.at);
        self.state.is_some()
            && (&self.inputs, &self.state, &self.seen) == (&before.inputs, &before.state, &before.seen)
            && !age.is_negative()
            && age.unsigned_abs() < VALID
    }
}

impl LastApply {
    fn object(store: &StateStore) -> Sidecar<Self> {
        Sidecar::new(store, SUFFIX, "a plan cache")
    }

    /// The record next to the state. `None` if there is none, or if this version does not understand it.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn read(store: &StateStore) -> anyhow::Result<Option<Self>> {
        let found = Self::object(store).read_if_understood().await?;
        Ok(found.map(|found| match found.content {
            // The key's creation time is by AWS's clock, and so is this. The machine's clock may differ.
            Self::PendingApply(begun) => {
                Self::PendingApply(PendingApply { written: found.modified, ..begun })
            }
            plan_cache @ Self::PlanCache(_) => plan_cache,
        }))
    }

    /// Writes it next to the state.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn write(&self, store: &StateStore) -> anyhow::Result<()> {
        Self::object(store).write(self).await
    }
}

/// Hash of the module's files and variables.
///
/// # Errors
/// A file of the module cannot be read.
pub fn inputs(module: &std::path::Path, variables: &str) -> anyhow::Result<String> {
    let mut files: Vec<_> = std::fs::read_dir(module)?.collect::<Result<_, _>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    let mut hash = Sha256::new();
    absorb(&mut hash, env!("CARGO_PKG_VERSION"));
    absorb(&mut hash, variables);
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        // The lock file contains the provider's version and hashes.
        if name.ends_with(".tf") || name == ".terraform.lock.hcl" {
            absorb(&mut hash, &name);
            absorb(&mut hash, &std::fs::read_to_string(file.path())?);
        }
    }
    Ok(hex::encode(hash.finalize()))
}

/// Length first, so that two lists of texts with the same concatenation differ.
fn absorb(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_be_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use super::super::ecr::Mutability;
    use super::*;

    fn repository(name: &str) -> (String, Repository) {
        let repository = Repository {
            name: name.into(),
            uri: String::new(),
            arn: String::new(),
            kms_key: None,
            mutability: Mutability::Mutable,
            scan_on_push: true,
        };
        (name.to_owned(), repository)
    }

    #[test]
    fn a_cached_plan_is_valid_until_one_of_its_inputs_changes() {
        let none = BTreeMap::new();
        let rule = Rule { upstream: "quay.io".to_owned(), ..Rule::default() };
        let secret = Rule { credential_arn: Some("arn".to_owned()), ..rule.clone() };
        let rules = BTreeMap::from([("quay".to_owned(), rule)]);
        let both = BTreeMap::from([repository("curl"), repository("lambda")]);
        let one = BTreeMap::from([repository("curl")]);
        let no_templates = BTreeMap::new();
        let before = PlanCache::now("in".into(), Some("etag".into()), &both, &rules, &no_templates);
        let now = |inputs: &str, state: &str, repositories, rules| {
            PlanCache::now(inputs.into(), Some(state.into()), repositories, rules, &no_templates)
        };
        assert!(now("in", "etag", &both, &rules).holds(&before));
        assert!(!now("other", "etag", &both, &rules).holds(&before));
        assert!(!now("in", "other", &both, &rules).holds(&before));
        assert!(!now("in", "etag", &one, &rules).holds(&before));
        assert!(!now("in", "etag", &both, &none).holds(&before));
        let with_secret = BTreeMap::from([("quay".to_owned(), secret)]);
        assert!(!now("in", "etag", &both, &with_secret).holds(&before));
        let template = Template {
            prefix: "quay".to_owned(),
            description: None,
            is_for_cache: true,
            kms_key: None,
            mutability: Mutability::Mutable,
            expires: false,
        };
        let templates = BTreeMap::from([("quay".to_owned(), template)]);
        let templated = PlanCache::now("in".into(), Some("etag".into()), &both, &rules, &templates);
        assert!(!templated.holds(&before));
        let old = PlanCache { at: before.at - VALID, ..before };
        assert!(!now("in", "etag", &both, &rules).holds(&old));
        let stateless = PlanCache::now("in".into(), None, &both, &rules, &no_templates);
        assert!(!stateless.holds(&stateless));
    }
}
