//! Bucket policies (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html>), as far as HTC-Grid's
//! template and this project's own buckets use them. What is not known here is refused by name when the policy is put:
//! nothing counts as enforced that is not.

use serde_json::Value;

use crate::fault::Fault;

/// What a policy is asked about.
pub(super) struct Question<'a> {
    /// The IAM action, as `s3:PutObject`.
    pub(super) action: &'a str,
    /// The ARN of the bucket or the object.
    pub(super) resource: &'a str,
    /// The caller's ARN, which is a session's for an assumed role.
    pub(super) principal: &'a str,
    /// The caller's account.
    pub(super) account: &'a str,
    /// Whether the request came over TLS.
    pub(super) secure: bool,
    /// The request's headers.
    pub(super) header: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// What a policy says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: whoever the bucket belongs to may.
    Silent,
    /// An Allow: other accounts may, too.
    Allowed,
    /// A Deny, which nothing overrules.
    Denied,
}

/// Headers that are condition keys, as `s3:x-amz-acl`
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html#amazons3-policy-keys>).
const HEADERS: [&str; 8] = [
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
];

/// How a condition compares: the operator's name without `Not` and `IfExists`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Exactly,
    AnyCase,
    Pattern,
    Presence,
}

/// An operator of a condition block
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>).
struct Operator {
    compare: Compare,
    negated: bool,
    /// A key that the request does not have is no obstacle.
    if_exists: bool,
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        let (name, if_exists) = name.strip_suffix("IfExists").map_or((name, false), |name| (name, true));
        let (compare, negated) = match name {
            "StringEquals" | "Bool" => (Compare::Exactly, false),
            "StringNotEquals" => (Compare::Exactly, true),
            "StringEqualsIgnoreCase" => (Compare::AnyCase, false),
            "StringNotEqualsIgnoreCase" => (Compare::AnyCase, true),
            "StringLike" | "ArnLike" | "ArnEquals" => (Compare::Pattern, false),
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (Compare::Pattern, true),
            "Null" if !if_exists => (Compare::Presence, false),
            _ => return None,
        };
        Some(Self { compare, negated, if_exists })
    }

    fn holds(&self, found: Option<&str>, wanted: &[String]) -> bool {
        if self.compare == Compare::Presence {
            return wanted.iter().any(|wanted| (wanted == "true") == found.is_none());
        }
        let Some(found) = found else { return self.negated || self.if_exists };
        let equal = |wanted: &String| match self.compare {
            Compare::AnyCase => wanted.eq_ignore_ascii_case(found),
            Compare::Pattern => matches(wanted, found),
            Compare::Exactly | Compare::Presence => wanted == found,
        };
        wanted.iter().any(equal) != self.negated
    }
}

/// The value of a condition key; `Err` for a key that is not known here.
fn key<'a>(name: &str, question: &Question<'a>) -> Result<Option<&'a str>, ()> {
    match name.to_ascii_lowercase().as_str() {
        "aws:securetransport" => Ok(Some(if question.secure { "true" } else { "false" })),
        "aws:principalarn" => Ok(Some(question.principal)),
        "aws:principalaccount" => Ok(Some(question.account)),
        other => match other.strip_prefix("s3:").filter(|header| HEADERS.contains(header)) {
            Some(header) => Ok((question.header)(header)),
            None => Err(()),
        },
    }
}

/// Refuses what is no policy, and by name what is not enforced here.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    let malformed = |message: &str| Fault::client("MalformedPolicy", message);
    let policy: Value = serde_json::from_str(text)
        .map_err(|_| malformed("Policies must be valid JSON and the first byte must be '{'"))?;
    if policy["Statement"].is_null() {
        return Err(malformed("Missing required field Statement"));
    }
    let unknown = |what: &str| Fault::not_implemented("s3", &format!("PutBucketPolicy with {what}"));
    let nobody =
        Question { action: "", resource: "", principal: "", account: "", secure: true, header: &|_| None };
    for statement in statements(&policy) {
        let members = statement.as_object().ok_or_else(|| malformed("Statement must be an object"))?;
        for member in members.keys() {
            let known = ["Sid", "Effect", "Principal", "Action", "Resource", "Condition"];
            if !known.contains(&member.as_str()) {
                return Err(unknown(member));
            }
        }
        if statement["Effect"] != "Allow" && statement["Effect"] != "Deny" {
            return Err(malformed("Invalid effect"));
        }
        for member in ["Action", "Resource"] {
            if texts(&statement[member]).is_empty() {
                return Err(malformed(&format!("Missing required field {member}")));
            }
        }
        match &statement["Principal"] {
            Value::String(everybody) if everybody == "*" => {}
            Value::Object(kinds) => {
                if let Some(kind) = kinds.keys().find(|kind| !["AWS", "Service"].contains(&kind.as_str())) {
                    return Err(unknown(&format!("Principal.{kind}")));
                }
            }
            _ => return Err(malformed("Invalid principal in policy")),
        }
        for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
            if Operator::parse(operator).is_none() {
                return Err(unknown(&format!("the condition operator {operator}")));
            }
            for name in keys.as_object().into_iter().flatten().map(|(name, _)| name) {
                key(name, &nobody).map_err(|()| unknown(&format!("the condition key {name}")))?;
            }
        }
    }
    Ok(())
}

/// What the policy `text`, which [`check`] let through, says.
pub(super) fn judge(text: &str, question: &Question<'_>) -> Verdict {
    let policy: Value = serde_json::from_str(text).unwrap_or_default();
    let mut verdict = Verdict::Silent;
    for statement in statements(&policy).iter().filter(|statement| applies(statement, question)) {
        if statement["Effect"] == "Deny" {
            return Verdict::Denied;
        }
        verdict = Verdict::Allowed;
    }
    verdict
}

fn applies(statement: &Value, question: &Question<'_>) -> bool {
    let conditions = statement["Condition"].as_object().into_iter().flatten();
    let met = |(operator, keys): (&String, &Value)| {
        Operator::parse(operator).is_some_and(|operator| {
            keys.as_object().into_iter().flatten().all(|(name, wanted)| {
                key(name, question).is_ok_and(|found| operator.holds(found, &texts(wanted)))
            })
        })
    };
    is_meant(&statement["Principal"], question)
        && texts(&statement["Action"])
            .iter()
            .any(|action| matches(&action.to_ascii_lowercase(), &question.action.to_ascii_lowercase()))
        && texts(&statement["Resource"]).iter().any(|resource| matches(resource, question.resource))
        && conditions.into_iter().all(met)
}

/// Whether a statement's principal is the caller: everybody, the account, the user or role, or the session.
fn is_meant(principal: &Value, question: &Question<'_>) -> bool {
    let everybody = |text: &str| text == "*";
    // arn:aws:sts::123456789012:assumed-role/ops/anna is the role arn:aws:iam::123456789012:role/ops.
    let role = question.principal.replacen(":sts:", ":iam:", 1);
    let role = role.rsplit_once('/').map(|(role, _)| role.replacen(":assumed-role/", ":role/", 1));
    let is = |name: &String| {
        everybody(name)
            || *name == question.account
            || name.ends_with(&format!("::{}:root", question.account))
            || name == question.principal
            || (question.principal.contains(":assumed-role/") && Some(name) == role.as_ref())
    };
    match principal {
        Value::String(text) => everybody(text),
        by_kind => texts(&by_kind["AWS"]).iter().any(is),
    }
}

fn statements(policy: &Value) -> Vec<Value> {
    match &policy["Statement"] {
        Value::Array(many) => many.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    }
}

/// One text or a list of them; JSON's own true and false are texts here, as in IAM.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Bool(one) => vec![one.to_string()],
        Value::Array(many) => many.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// IAM's patterns: `*` is any text, `?` one character.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pattern = pattern.chars();
    match pattern.next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = pattern.as_str();
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| matches(rest, &text[at..]))
        }
        Some(wanted) => {
            let mut text = text.chars();
            text.next().is_some_and(|found| wanted == '?' || wanted == found)
                && matches(pattern.as_str(), text.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OBJECT: &str = "arn:aws:s3:::state/.terraform/terraform.tfstate";

    fn asked(policy: &Value, headers: &[(&'static str, &'static str)], secure: bool) -> Verdict {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let question = Question {
            action: "s3:PutObject",
            resource: OBJECT,
            principal: "arn:aws:sts::123456789012:assumed-role/ops/anna",
            account: "123456789012",
            secure,
            header: &header,
        };
        check(&policy.to_string()).unwrap();
        judge(&policy.to_string(), &question)
    }

    fn statement(more: &Value) -> Value {
        let mut statement = json!({
            "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::state/*",
        });
        let members = statement.as_object_mut().unwrap();
        members.extend(more.as_object().unwrap().clone());
        json!({ "Statement": [statement] })
    }

    #[test]
    fn headers_that_are_missing_and_headers_that_are_wrong() {
        const SSE: &str = "x-amz-server-side-encryption";
        let missing =
            statement(&json!({ "Condition": { "Null": { "s3:x-amz-server-side-encryption": true } } }));
        let wrong = statement(
            &json!({ "Condition": { "StringNotEquals": { "s3:x-amz-server-side-encryption": "aws:kms" } } }),
        );
        for (headers, by_missing, by_wrong) in [
            (&[][..], Verdict::Denied, Verdict::Denied),
            (&[(SSE, "AES256")][..], Verdict::Silent, Verdict::Denied),
            (&[(SSE, "aws:kms")][..], Verdict::Silent, Verdict::Silent),
        ] {
            assert_eq!(asked(&missing, headers, true), by_missing, "{headers:?}");
            assert_eq!(asked(&wrong, headers, true), by_wrong, "{headers:?}");
        }
        let lenient = statement(
            &json!({ "Condition": { "StringEqualsIfExists": { "s3:x-amz-server-side-encryption": "AES256" } } }),
        );
        assert_eq!(asked(&lenient, &[], true), Verdict::Denied);
        assert_eq!(asked(&lenient, &[(SSE, "aws:kms")], true), Verdict::Silent);
    }

    #[test]
    fn tls_and_principals() {
        let plain = statement(&json!({ "Condition": { "Bool": { "aws:SecureTransport": "false" } } }));
        assert_eq!(asked(&plain, &[], true), Verdict::Silent);
        assert_eq!(asked(&plain, &[], false), Verdict::Denied);
        for (who, verdict) in [
            (json!("*"), Verdict::Denied),
            (json!({ "AWS": "*" }), Verdict::Denied),
            (json!({ "AWS": ["210987654321", "123456789012"] }), Verdict::Denied),
            (json!({ "AWS": "arn:aws:iam::123456789012:root" }), Verdict::Denied),
            (json!({ "AWS": "arn:aws:iam::123456789012:role/ops" }), Verdict::Denied),
            (json!({ "AWS": "arn:aws:sts::123456789012:assumed-role/ops/anna" }), Verdict::Denied),
            (json!({ "AWS": "arn:aws:iam::123456789012:role/op" }), Verdict::Silent),
            (json!({ "AWS": "arn:aws:iam::210987654321:root" }), Verdict::Silent),
            (json!({ "Service": "logging.s3.amazonaws.com" }), Verdict::Silent),
        ] {
            assert_eq!(asked(&statement(&json!({ "Principal": who })), &[], true), verdict, "{who}");
        }
        assert_eq!(asked(&statement(&json!({ "Effect": "Allow" })), &[], true), Verdict::Allowed);
        assert_eq!(asked(&statement(&json!({ "Action": ["s3:Get*"] })), &[], true), Verdict::Silent);
        assert_eq!(asked(&statement(&json!({ "Action": "S3:put?bject" })), &[], true), Verdict::Denied);
        assert_eq!(
            asked(&statement(&json!({ "Resource": "arn:aws:s3:::state" })), &[], true),
            Verdict::Silent
        );
    }

    #[test]
    fn what_is_not_enforced_is_refused_by_name() {
        for (more, name) in [
            (json!({ "Condition": { "IpAddress": { "aws:SourceIp": "10.0.0.0/8" } } }), "IpAddress"),
            (json!({ "Condition": { "StringEquals": { "aws:SourceVpc": "vpc-1" } } }), "aws:SourceVpc"),
            (json!({ "NotAction": "s3:GetObject" }), "NotAction"),
            (json!({ "Principal": { "Federated": "x" } }), "Principal.Federated"),
        ] {
            let fault = check(&statement(&more).to_string()).unwrap_err();
            assert_eq!(fault.code, "NotImplemented");
            assert!(fault.message.contains(name), "{}", fault.message);
        }
        for (policy, code) in [
            (json!({}), "Missing required field Statement"),
            (json!({ "Statement": { "Effect": "Maybe" } }), "Invalid effect"),
            (statement(&json!({ "Principal": null })), "Invalid principal"),
        ] {
            assert!(check(&policy.to_string()).unwrap_err().message.contains(code), "{policy}");
        }
    }
}
