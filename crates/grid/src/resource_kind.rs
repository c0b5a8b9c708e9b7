//! The kinds of resources that the terraform module makes, and everything that is to be known of each.
//!
//! Each question is one exhaustive `match`: a new kind does not compile before all of them are answered. That the module has no
//! other kind is tested.

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceKind {
    /// A repository.
    Repository,
    /// What removes old builds from the runtimes' repository.
    LifecyclePolicy,
    /// Who else may pull from a repository.
    RepositoryPolicy,
    /// A pull-through cache rule.
    Rule,
    /// What ECR gives to the repositories that it makes under a rule.
    CreationTemplate,
    /// The key that the repositories are encrypted with.
    Key,
    /// The key's name.
    Alias,
}

/// How a resource is recognised that an apply created and could not write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Its id in AWS is this attribute of the plan.
    Attribute(&'static str),
    /// AWS gives it its id: it is looked for by its marks and its time.
    Marks,
    /// It is not looked for: the next apply writes it again, whether or not it stands.
    Rewritten,
}

/// What a resource stays in the account with, when a grid is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaysWith {
    /// With its repository.
    Repository,
    /// With all rules: other grids may pull through them.
    Rules,
    /// With the key.
    Key,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Repository,
        Self::LifecyclePolicy,
        Self::RepositoryPolicy,
        Self::Rule,
        Self::CreationTemplate,
        Self::Key,
        Self::Alias,
    ];

    /// Terraform's name of its type.
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

    /// What one is called in a sentence.
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

    /// The kind of this type, or of this address of a module that has no modules of its own; none for a type that is not this
    /// module's.
    pub fn of(address: &str) -> Option<Self> {
        let name = address.split_once('.').map_or(address, |(name, _)| name);
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether its end would take images, the key to them or a way to pull from a grid: only `destroy-images` and `prune` end it.
    pub fn is_protected(self) -> bool {
        match self {
            Self::Repository | Self::Rule | Self::Key | Self::Alias => true,
            Self::LifecyclePolicy | Self::RepositoryPolicy | Self::CreationTemplate => false,
        }
    }

    /// How one is recognised that an apply created and could not write down.
    pub(crate) fn trace(self) -> Trace {
        match self {
            Self::Repository | Self::Alias => Trace::Attribute("name"),
            Self::Rule => Trace::Attribute("ecr_repository_prefix"),
            Self::CreationTemplate => Trace::Attribute("prefix"),
            Self::Key => Trace::Marks,
            Self::LifecyclePolicy | Self::RepositoryPolicy => Trace::Rewritten,
        }
    }

    /// What it stays with, when a grid is destroyed.
    pub fn stays_with(self) -> StaysWith {
        match self {
            Self::Repository | Self::LifecyclePolicy | Self::RepositoryPolicy => StaysWith::Repository,
            // The key that it gives stays with it.
            Self::Rule | Self::CreationTemplate => StaysWith::Rules,
            Self::Key | Self::Alias => StaysWith::Key,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_module_makes_these_kinds_and_no_other() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let mut made = BTreeSet::new();
        for file in std::fs::read_dir(top.join("deployment/image_repository/terraform")).unwrap() {
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
    fn a_kind_is_known_by_its_type_and_by_an_address() {
        for kind in ResourceKind::ALL {
            assert_eq!(ResourceKind::of(kind.name()), Some(kind));
            assert_eq!(ResourceKind::of(&format!("{}.managed[\"a.b\"]", kind.name())), Some(kind));
        }
        assert_eq!(ResourceKind::of("null_resource.images"), None);
    }
}
