use serde_json::{Value, json};

use super::*;

const OBJECT: &str = "arn:aws:s3:::state/.terraform/terraform.tfstate";
const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1";
const SSE: &str = "s3:x-amz-server-side-encryption";

fn anna() -> Principal {
    Principal {
        arn: "arn:aws:sts::123456789012:assumed-role/ops/anna".to_owned(),
        account: "123456789012".to_owned(),
    }
}

fn put(headers: &[(&str, &str)]) -> Need {
    let need = Need::new("s3:PutObject", OBJECT);
    headers.iter().fold(need, |need, (key, value)| need.with(key, *value))
}

fn judge(policy: &Value, kind: Kind, need: &Need, secure: bool) -> Verdict {
    let policy = Policy::parse(&policy.to_string(), kind).unwrap();
    policy.judge(&Question { principal: &anna(), need, secure })
}

fn asked(policy: &Value, headers: &[(&str, &str)], secure: bool) -> Verdict {
    judge(policy, Kind::Resource, &put(headers), secure)
}

/// A bucket's Deny, with additional or other members.
fn statement(more: &Value) -> Value {
    let mut statement = json!({
        "Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::state/*",
    });
    let members = statement.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    json!({ "Statement": [statement] })
}

#[test]
fn headers_that_are_missing_and_headers_that_are_wrong() {
    let missing = statement(&json!({ "Condition": { "Null": { SSE: true } } }));
    let wrong = statement(&json!({ "Condition": { "StringNotEquals": { SSE: "aws:kms" } } }));
    for (headers, by_missing, by_wrong) in [
        (&[][..], Verdict::Denied, Verdict::Denied),
        (&[(SSE, "AES256")][..], Verdict::Silent, Verdict::Denied),
        (&[(SSE, "aws:kms")][..], Verdict::Silent, Verdict::Silent),
    ] {
        assert_eq!(asked(&missing, headers, true), by_missing, "{headers:?}");
        assert_eq!(asked(&wrong, headers, true), by_wrong, "{headers:?}");
    }
    let lenient = statement(&json!({ "Condition": { "StringEqualsIfExists": { SSE: "AES256" } } }));
    assert_eq!(asked(&lenient, &[], true), Verdict::Denied);
    assert_eq!(asked(&lenient, &[(SSE, "aws:kms")], true), Verdict::Silent);
    // All keys of all operators must match.
    let both = statement(&json!({ "Condition": {
        "StringEquals": { SSE: "aws:kms" }, "Bool": { "aws:SecureTransport": false },
    } }));
    assert_eq!(asked(&both, &[(SSE, "aws:kms")], true), Verdict::Silent);
    assert_eq!(asked(&both, &[(SSE, "aws:kms")], false), Verdict::Denied);
}

#[test]
fn tls_and_principals() {
    let plain = statement(&json!({ "Condition": { "Bool": { "aws:SecureTransport": "false" } } }));
    assert_eq!(asked(&plain, &[], true), Verdict::Silent);
    assert_eq!(asked(&plain, &[], false), Verdict::Denied);
    // A Deny for the account applies to all its principals; an Allow leaves the choice to their own policies.
    for (who, deny, allow) in [
        (json!("*"), Verdict::Denied, Verdict::Allowed),
        (json!({ "AWS": "*" }), Verdict::Denied, Verdict::Allowed),
        (json!({ "AWS": ["210987654321", "123456789012"] }), Verdict::Denied, Verdict::Delegated),
        (json!({ "AWS": "arn:aws:iam::123456789012:root" }), Verdict::Denied, Verdict::Delegated),
        (json!({ "AWS": "arn:aws:iam::123456789012:role/ops" }), Verdict::Denied, Verdict::Allowed),
        (json!({ "AWS": anna().arn }), Verdict::Denied, Verdict::Allowed),
        (json!({ "AWS": "arn:aws:iam::123456789012:role/op" }), Verdict::Silent, Verdict::Silent),
        (json!({ "AWS": "arn:aws:iam::210987654321:root" }), Verdict::Silent, Verdict::Silent),
        (json!({ "Service": "logging.s3.amazonaws.com" }), Verdict::Silent, Verdict::Silent),
    ] {
        let with = |effect: &str| statement(&json!({ "Effect": effect, "Principal": who }));
        assert_eq!(asked(&with("Deny"), &[], true), deny, "{who}");
        assert_eq!(asked(&with("Allow"), &[], true), allow, "{who}");
    }
}

#[test]
fn actions_resources_and_their_negations() {
    for (more, verdict) in [
        (json!({ "Action": ["s3:Get*"] }), Verdict::Silent),
        (json!({ "Action": "S3:put?bject" }), Verdict::Denied),
        (json!({ "Action": "*" }), Verdict::Denied),
        (json!({ "Action": null, "NotAction": "s3:Get*" }), Verdict::Denied),
        (json!({ "Action": null, "NotAction": ["s3:Get*", "s3:PutObject"] }), Verdict::Silent),
        (json!({ "Resource": "arn:aws:s3:::state" }), Verdict::Silent),
        (json!({ "Resource": ["arn:aws:s3:::other/*", "arn:aws:s3:::st?te/.*state"] }), Verdict::Denied),
        (json!({ "Resource": null, "NotResource": "arn:aws:s3:::state/other/*" }), Verdict::Denied),
        (json!({ "Resource": null, "NotResource": "arn:aws:s3:::state/*" }), Verdict::Silent),
    ] {
        assert_eq!(asked(&statement(&more), &[], true), verdict, "{more}");
    }
}

#[test]
fn a_policy_element_that_is_not_enforced_is_refused_by_name() {
    let refused = |policy: &Value, kind| Policy::parse(&policy.to_string(), kind).unwrap_err();
    for (more, name) in [
        (json!({ "Condition": { "IpAddress": { "aws:SourceIp": "10.0.0.0/8" } } }), "IpAddress"),
        (json!({ "Condition": { "StringEquals": { "aws:SourceVpc": "vpc-1" } } }), "aws:SourceVpc"),
        (json!({ "NotPrincipal": "*" }), "NotPrincipal"),
        (json!({ "Principal": { "Federated": "x" } }), "Principal.Federated"),
        (json!({ "Resource": "arn:aws:s3:::state/${aws:username}" }), "${aws:username}"),
        (
            json!({ "Condition": { "StringLike": { "aws:PrincipalArn": "${aws:username}" } } }),
            "${aws:username}",
        ),
    ] {
        let error = refused(&statement(&more), Kind::Resource);
        assert!(matches!(&error, PolicyError::Unknown(what) if what.contains(name)), "{error}");
    }
    for (policy, words) in [
        (json!({}), "Missing required field Statement"),
        (json!({ "Statement": { "Effect": "Maybe" } }), "Invalid effect"),
        (statement(&json!({ "Principal": null })), "Invalid principal"),
        (statement(&json!({ "Resource": null })), "Missing required field Resource"),
        (statement(&json!({ "NotAction": "s3:GetObject" })), "Missing required field Action"),
    ] {
        let error = refused(&policy, Kind::Resource);
        assert!(matches!(&error, PolicyError::Malformed(said) if said.contains(words)), "{error}");
    }
    // Each kind has its own elements.
    assert!(refused(&statement(&json!({})), Kind::Identity).to_string().contains("Principal"));
    assert!(refused(&statement(&json!({})), Kind::Repository).to_string().contains("Resource"));
}

/// A policy with one Allow or Deny.
fn policy(kind: Kind, effect: &str, action: &str, resource: &str, condition: &Value) -> Policy {
    let mut statement = json!({ "Effect": effect, "Action": action });
    if kind != Kind::Identity {
        statement["Principal"] = json!({ "AWS": "arn:aws:iam::123456789012:root" });
    }
    if kind != Kind::Repository {
        statement["Resource"] = json!(resource);
    }
    if !condition.is_null() {
        statement["Condition"] = condition.clone();
    }
    Policy::parse(&json!({ "Statement": statement }).to_string(), kind).unwrap()
}

#[test]
fn a_key_is_used_by_callers_that_its_own_policy_allows() {
    let scope = Scope { account: "123456789012".to_owned(), region: "eu-west-1".to_owned() };
    let via = json!({ "StringEquals": { "kms:ViaService": "s3.eu-west-1.amazonaws.com" } });
    let own =
        policy(Kind::Identity, "Allow", "kms:Decrypt", "arn:aws:kms:eu-west-1:123456789012:key/*", &via);
    let to_account = || policy(Kind::Resource, "Allow", "kms:*", "*", &Value::Null);
    let nothing = || policy(Kind::Resource, "Allow", "kms:Encrypt", "*", &Value::Null);
    let decided = |key: Policy, need: &Need| {
        let question = Question { principal: &anna(), need, secure: true };
        let owner = Owner { account: scope.account.clone(), policy: Some(key), is_key: true };
        decide(own.judge(&question), Some(&owner), &question).map_err(|fault| fault.message)
    };
    let direct = Need::new("kms:Decrypt", KEY);
    let by_s3 = direct.clone().via("s3", &scope);
    assert_eq!(decided(to_account(), &by_s3), Ok(()));
    let message = decided(to_account(), &direct).unwrap_err();
    assert_eq!(
        message,
        format!(
            "User: {} is not authorized to perform: kms:Decrypt on resource: {KEY} because no identity-based policy allows the \
             kms:Decrypt action",
            anna().arn
        )
    );
    let message = decided(nothing(), &by_s3).unwrap_err();
    assert!(message.ends_with("because no resource-based policy allows the kms:Decrypt action"), "{message}");
}

#[test]
fn a_deny_of_any_policy_overrules() {
    let need = put(&[]);
    let question = Question { principal: &anna(), need: &need, secure: true };
    let (allow, deny) = (Verdict::Allowed, Verdict::Denied);
    let bucket = |account: &str, effect: &str| Owner {
        account: account.to_owned(),
        policy: Some(policy(Kind::Resource, effect, "s3:*", "*", &Value::Null)),
        is_key: false,
    };
    let said = |identity, owner: Option<Owner>| {
        decide(identity, owner.as_ref(), &question)
            .map_err(|fault| fault.message.split("state\" ").last().unwrap().to_owned())
    };
    let (own, other) = ("123456789012", "210987654321");
    let no = "because no identity-based policy allows the s3:PutObject action".to_owned();
    assert_eq!(said(allow, None), Ok(()));
    assert_eq!(said(Verdict::Silent, None), Err(no.clone()));
    // An Allow for the account leaves the decision to the caller's policy.
    assert_eq!(said(Verdict::Silent, Some(bucket(own, "Allow"))), Err(no));
    assert_eq!(said(allow, Some(bucket(own, "Allow"))), Ok(()));
    assert!(said(deny, Some(bucket(own, "Allow"))).unwrap_err().contains("deny in an identity-based policy"));
    assert!(said(allow, Some(bucket(own, "Deny"))).unwrap_err().contains("deny in a resource-based policy"));
    // Between accounts, both policies have to allow it.
    assert_eq!(said(allow, Some(bucket(other, "Allow"))), Ok(()));
    assert_eq!(said(Verdict::Silent, Some(bucket(other, "Allow"))), Err("Access Denied".to_owned()));
    let closed = Owner { account: other.to_owned(), policy: None, is_key: false };
    assert_eq!(said(allow, Some(closed)), Err("Access Denied".to_owned()));
}
