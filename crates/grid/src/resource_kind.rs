//! The kinds of resources in the terraform module, with all facts about each. docs/iam-policy.json is written from the permissions
//! here.
//!
//! Each fact is one exhaustive `match`, so a new kind compiles only with all of them. A test checks that the module has no other
//! kinds.

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A repository.
    Repository,
    /// The policy that removes old builds from the runtimes' repository.
    LifecyclePolicy,
    /// The policy that lets other accounts pull from a repository.
    RepositoryPolicy,
    /// A pull-through cache rule.
    Rule,
    /// The settings of repositories that ECR creates under a rule.
    CreationTemplate,
    /// The key that encrypts the repositories.
    Key,
    /// The key's alias.
    Alias,
}

/// The resource type in an address of the module. The module itself has no child modules.
pub(crate) fn resource_type(address: &str) -> &str {
    address.split_once('.').map_or(address, |(name, _)| name)
}

/// How to find a resource that an apply created but did not record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Its ID in AWS is this attribute of the plan, and this check shows the owner.
    Attribute(&'static str, OwnershipCheck),
    /// AWS assigns the ID: it is found by its tags and creation time.
    Marks,
    /// It is not looked for: the next apply writes it again, whether or not it exists.
    Rewritten,
}

/// How to check that an existing resource is the grid's, and that no other grid created it in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnershipCheck {
    /// The grid's mark, which a repository has from its creation.
    Mark,
    /// The rule leads to the registry in images.toml.
    Upstream,
    /// The alias points to the grid's own key.
    AliasTargetsOwnKey,
    /// The creation template encrypts with the grid's own key.
    TemplateUsesOwnKey,
}

/// A statement of docs/iam-policy.json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its `Sid` there.
    pub sid: &'static str,
    /// The ARNs that it applies to.
    pub on: &'static [&'static str],
}

const REPOSITORIES: Statement =
    Statement { sid: "Repositories", on: &["arn:aws:ecr:REGION:ACCOUNT:repository/*"] };
const REGISTRY: Statement = Statement { sid: "Registry", on: &["*"] };
const TEMPLATES: Statement = Statement { sid: "OnlyForCreationTemplate", on: &["*"] };
const NEW_KEY: Statement = Statement { sid: "KeyIsCreatedAndFound", on: &["*"] };
const KEY: Statement = Statement {
    sid: "Key",
    on: &["arn:aws:kms:REGION:ACCOUNT:alias/ecr/TAG-htc", "arn:aws:kms:REGION:ACCOUNT:key/*"],
};
const REPOSITORIES_END: Statement = Statement { sid: "OnlyForPruneAndDestroyImages", ..REPOSITORIES };
const RULES_END: Statement = Statement { sid: "RulesOnlyForPruneAndDestroyImages", ..REGISTRY };
const KEY_END: Statement = Statement { sid: "KeyOnlyForDestroyImages", ..KEY };

/// The resource that decides whether this one stays in the account when a grid is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaysWith {
    /// With its repository.
    Repository,
    /// All rules: other grids may pull through them.
    Rules,
    /// With the key.
    Key,
}

impl ResourceKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Repository,
        Self::LifecyclePolicy,
        Self::RepositoryPolicy,
        Self::Rule,
        Self::CreationTemplate,
        Self::Key,
        Self::Alias,
    ];

    /// Terraform's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Repository => "aws_ecr_repository",
            Self::LifecyclePolicy => "aws_ecr_lifecycle_policy",
            Self::RepositoryPolicy => "aws_ecr_repository_policy",
            Self::Rule => "aws_ecr_pull_through_cache_rule",
            Self::CreationTemplate => "aws_ecr_repository_creation_template",
            Self::Key => "aws_kms_key",
            Self::Alias => "aws_kms_alias",
        }
    }

    /// Its name in messages.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::LifecyclePolicy => "lifecycle policy",
            Self::RepositoryPolicy => "repository policy",
            Self::Rule => "pull-through cache rule",
            Self::CreationTemplate => "creation template",
            Self::Key => "KMS key",
            Self::Alias => "KMS alias",
        }
    }

    /// The kind for a type, or for an address in the module, which has no child modules. `None` if the module has no such type.
    pub fn of(address: &str) -> Option<Self> {
        let name = resource_type(address);
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether its deletion would remove images, their key or a way to pull: only `destroy-images` and `prune` delete it.
    pub fn is_protected(self) -> bool {
        match self {
            Self::Repository | Self::Rule | Self::Key | Self::Alias => true,
            Self::LifecyclePolicy | Self::RepositoryPolicy | Self::CreationTemplate => false,
        }
    }

    /// How to find a resource of this kind that an apply created but did not record.
    pub(crate) fn trace(self) -> Trace {
        match self {
            Self::Repository => Trace::Attribute("name", OwnershipCheck::Mark),
            Self::Alias => Trace::Attribute("name", OwnershipCheck::AliasTargetsOwnKey),
            Self::Rule => Trace::Attribute("ecr_repository_prefix", OwnershipCheck::Upstream),
            Self::CreationTemplate => Trace::Attribute("prefix", OwnershipCheck::TemplateUsesOwnKey),
            Self::Key => Trace::Marks,
            Self::LifecyclePolicy | Self::RepositoryPolicy => Trace::Rewritten,
        }
    }

    /// The resource that it stays with when a grid is destroyed.
    pub fn stays_with(self) -> StaysWith {
        match self {
            Self::Repository | Self::LifecyclePolicy | Self::RepositoryPolicy => StaysWith::Repository,
            // The rule's template names the key, so the key stays with the rule.
            Self::Rule | Self::CreationTemplate => StaysWith::Rules,
            Self::Key | Self::Alias => StaysWith::Key,
        }
    }

    /// The permission that creates it.
    pub fn creation(self) -> &'static str {
        self.permissions()[0].1[0]
    }

    /// The permissions to create, read, change and delete it, by the statements of docs/iam-policy.json. The first one creates it.
    pub fn permissions(self) -> &'static [(Statement, &'static [&'static str])] {
        match self {
            Self::Repository => &[
                (
                    REPOSITORIES,
                    &[
                        "ecr:CreateRepository",
                        "ecr:ListTagsForResource",
                        "ecr:PutImageScanningConfiguration",
                        "ecr:PutImageTagMutability",
                        "ecr:TagResource",
                        "ecr:UntagResource",
                    ],
                ),
                (REGISTRY, &["ecr:DescribeRepositories"]),
                (REPOSITORIES_END, &["ecr:DeleteRepository"]),
            ],
            Self::LifecyclePolicy => &[(
                REPOSITORIES,
                &["ecr:PutLifecyclePolicy", "ecr:GetLifecyclePolicy", "ecr:DeleteLifecyclePolicy"],
            )],
            Self::RepositoryPolicy => &[(
                REPOSITORIES,
                &["ecr:SetRepositoryPolicy", "ecr:GetRepositoryPolicy", "ecr:DeleteRepositoryPolicy"],
            )],
            Self::Rule => &[
                (
                    REGISTRY,
                    &[
                        "ecr:CreatePullThroughCacheRule",
                        "ecr:DescribePullThroughCacheRules",
                        "ecr:UpdatePullThroughCacheRule",
                    ],
                ),
                (RULES_END, &["ecr:DeletePullThroughCacheRule"]),
            ],
            Self::CreationTemplate => &[
                (
                    TEMPLATES,
                    &[
                        "ecr:CreateRepositoryCreationTemplate",
                        "ecr:DeleteRepositoryCreationTemplate",
                        "ecr:UpdateRepositoryCreationTemplate",
                    ],
                ),
                (REGISTRY, &["ecr:DescribeRepositoryCreationTemplates"]),
            ],
            Self::Key => &[
                (NEW_KEY, &["kms:CreateKey", "kms:ListKeys"]),
                (
                    KEY,
                    &[
                        "kms:DescribeKey",
                        "kms:EnableKeyRotation",
                        "kms:GetKeyPolicy",
                        "kms:GetKeyRotationStatus",
                        "kms:ListResourceTags",
                        "kms:PutKeyPolicy",
                        "kms:TagResource",
                        "kms:UntagResource",
                        "kms:UpdateKeyDescription",
                    ],
                ),
                (KEY_END, &["kms:ScheduleKeyDeletion"]),
            ],
            Self::Alias => &[
                (KEY, &["kms:CreateAlias", "kms:UpdateAlias"]),
                (NEW_KEY, &["kms:ListAliases"]),
                (KEY_END, &["kms:DeleteAlias"]),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;

    fn top() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
    }

    #[test]
    fn the_module_creates_exactly_these_kinds() {
        let mut made = BTreeSet::new();
        for file in std::fs::read_dir(top().join("deployment/image_repository/terraform")).unwrap() {
            let file = file.unwrap().path();
            if file.extension().is_some_and(|ending| ending == "tf") {
                let text = std::fs::read_to_string(file).unwrap();
                let kinds =
                    text.lines().filter_map(|line| line.strip_prefix("resource \"")?.split('"').next());
                made.extend(kinds.map(str::to_owned));
            }
        }
        assert_eq!(made, ResourceKind::ALL.map(|kind| kind.name().to_owned()).into());
    }

    #[test]
    fn a_kind_is_found_by_its_type_and_by_an_address() {
        for kind in ResourceKind::ALL {
            assert_eq!(ResourceKind::of(kind.name()), Some(kind));
            assert_eq!(ResourceKind::of(&format!("{}.managed[\"a.b\"]", kind.name())), Some(kind));
        }
        assert_eq!(ResourceKind::of("null_resource.images"), None);
    }

    /// A statement in the format of the policy file.
    fn written(Statement { sid, on }: Statement, actions: &BTreeSet<&str>) -> String {
        let list = |all: Vec<String>| match &all[..] {
            [one] => one.clone(),
            all => format!("[\n        {}\n      ]", all.join(",\n        ")),
        };
        let actions = list(actions.iter().map(|action| format!("{action:?}")).collect());
        let on = list(on.iter().map(|arn| format!("{arn:?}")).collect());
        format!(
            "\"Sid\": {sid:?},\n      \"Effect\": \"Allow\",\n      \"Action\": {actions},\n      \"Resource\": {on}"
        )
    }

    #[test]
    fn the_policy_in_the_documentation_allows_what_each_kind_needs() {
        let mut needed: BTreeMap<&str, (Statement, BTreeSet<&str>)> = BTreeMap::new();
        for (statement, actions) in ResourceKind::ALL.iter().flat_map(|kind| kind.permissions()) {
            let (known, all) = needed.entry(statement.sid).or_insert((*statement, BTreeSet::new()));
            assert_eq!(known, statement);
            for action in *actions {
                assert!(all.insert(action), "{action} of two kinds");
            }
        }
        let file = top().join("docs/iam-policy.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let (start, end) = ("\n    {\n      ", "\n    }");
        let (before, rest) = text.split_once(start).unwrap();
        let (statements, after) = rest.rsplit_once(end).unwrap();
        let between = format!("{end},{start}");
        let sid = |statement: &str| statement.split('"').nth(3).unwrap().to_owned();
        // Statements that no kind needs are written by hand.
        let own = statements.split(&between).filter(|statement| !needed.contains_key(&*sid(statement)));
        let kinds = needed.values().map(|(statement, actions)| written(*statement, actions));
        let all: Vec<String> = own.map(str::to_owned).chain(kinds).collect();
        let wanted = format!("{before}{start}{}{end}{after}", all.join(&between));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &wanted).unwrap();
        } else {
            assert_eq!(text, wanted, "`UPDATE=1 cargo test -p grid` writes it");
        }
    }
}
