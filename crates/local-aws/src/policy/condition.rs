//! Conditions of policies (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>).

use super::Question;
use super::document::PolicyError;
use super::wildcard::matches;

/// The supported condition keys, in lower case. Some never have a value here (`aws:SourceArn` is only set by AWS's own services).
const KEYS: [&str; 17] = [
    "aws:principalaccount",
    "aws:principalarn",
    "aws:securetransport",
    "aws:sourceaccount",
    "aws:sourcearn",
    "iam:awsservicename",
    "iam:passedtoservice",
    "kms:calleraccount",
    "kms:viaservice",
    "s3:x-amz-acl",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
];

/// The headers that are condition keys in S3
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html#amazons3-policy-keys>).
pub(crate) fn headers() -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(|key| key.strip_prefix("s3:"))
}

/// How a condition compares: the operator's name without `Not` and `IfExists`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Exactly,
    AnyCase,
    Pattern,
    Presence,
}

/// One key of a condition block.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    compare: Compare,
    negated: bool,
    /// The condition holds if the request does not have the key.
    if_exists: bool,
    /// In lower case, as keys are not case-sensitive.
    key: String,
    wanted: Vec<String>,
}

impl Condition {
    pub(super) fn parse(operator: &str, key: &str, wanted: Vec<String>) -> Result<Self, PolicyError> {
        let (name, if_exists) =
            operator.strip_suffix("IfExists").map_or((operator, false), |name| (name, true));
        let (compare, negated) = match name {
            "StringEquals" | "Bool" => (Compare::Exactly, false),
            "StringNotEquals" => (Compare::Exactly, true),
            "StringEqualsIgnoreCase" => (Compare::AnyCase, false),
            "StringNotEqualsIgnoreCase" => (Compare::AnyCase, true),
            "StringLike" | "ArnLike" | "ArnEquals" => (Compare::Pattern, false),
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (Compare::Pattern, true),
            "Null" if !if_exists => (Compare::Presence, false),
            _ => return Err(PolicyError::Unknown(format!("the condition operator {operator}"))),
        };
        let lower = key.to_ascii_lowercase();
        if !KEYS.contains(&lower.as_str()) {
            return Err(PolicyError::Unknown(format!("the condition key {key}")));
        }
        if let Some(variable) = wanted.iter().find(|wanted| wanted.contains("${")) {
            return Err(PolicyError::Unknown(format!("the variable of {variable}")));
        }
        Ok(Self { compare, negated, if_exists, key: lower, wanted })
    }

    pub(super) fn holds(&self, question: &Question<'_>) -> bool {
        let found = question.value(&self.key);
        if self.compare == Compare::Presence {
            return self.wanted.iter().any(|wanted| (wanted == "true") == found.is_none());
        }
        let Some(found) = found else { return self.negated || self.if_exists };
        let equal = |wanted: &String| match self.compare {
            Compare::AnyCase => wanted.eq_ignore_ascii_case(found),
            Compare::Pattern => matches(wanted, found),
            Compare::Exactly | Compare::Presence => wanted == found,
        };
        self.wanted.iter().any(equal) != self.negated
    }
}
