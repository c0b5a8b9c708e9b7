//! Which tags of a repository may move.

use aws_sdk_ecr::types::{ImageTagMutability, ImageTagMutabilityExclusionFilter};

/// The rule for tags that may move to another image
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mutability {
    /// All tags may move.
    #[default]
    Mutable,
    /// All except those that match one of these patterns.
    MutableExcept(Vec<String>),
    /// Only those that match one of these patterns.
    ImmutableExcept(Vec<String>),
}

impl Mutability {
    pub(super) fn of(
        mode: Option<&ImageTagMutability>,
        filters: Option<Vec<ImageTagMutabilityExclusionFilter>>,
    ) -> Self {
        let filters = filters.unwrap_or_default().into_iter().map(|filter| filter.filter).collect();
        match mode {
            Some(ImageTagMutability::Immutable) => Self::ImmutableExcept(Vec::new()),
            Some(ImageTagMutability::ImmutableWithExclusion) => Self::ImmutableExcept(filters),
            Some(ImageTagMutability::MutableWithExclusion) => Self::MutableExcept(filters),
            _ => Self::Mutable,
        }
    }

    /// Whether a tag may move.
    pub fn may_move(&self, tag: &str) -> bool {
        let matches = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, tag));
        match self {
            Self::Mutable => true,
            Self::MutableExcept(patterns) => !matches(patterns),
            Self::ImmutableExcept(patterns) => matches(patterns),
        }
    }
}

/// ECR's wildcard: `*` matches any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(after) = text.strip_prefix(head) else { return false };
    (0..=after.len()).any(|at| after.is_char_boundary(at) && matches(rest, &after[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_tags_may_move() {
        let builds = || vec!["*-sha256-*".to_owned(), "v1".to_owned()];
        assert!(Mutability::Mutable.may_move("v1"));
        assert!(
            !Mutability::MutableExcept(builds()).may_move("python-sha256-0123")
                && !Mutability::MutableExcept(builds()).may_move("v1")
        );
        assert!(
            Mutability::MutableExcept(builds()).may_move("python")
                && Mutability::MutableExcept(builds()).may_move("v10")
        );
        assert!(!Mutability::ImmutableExcept(Vec::new()).may_move("v1"));
        assert!(
            Mutability::ImmutableExcept(builds()).may_move("v1")
                && !Mutability::ImmutableExcept(builds()).may_move("latest")
        );
    }
}
