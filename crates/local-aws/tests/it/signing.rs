//! Managed signing: what is signed at its push, for which caller, and what is not signed.

use crate::common::{Caller, Local};
use reqwest::Method;
use serde_json::{Value, json};

const PROFILE: &str = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid";
const OTHER: &str = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/team";
const ANNA: &str = "arn:aws:iam::123456789012:user/anna";

fn rule(profile: &str, filters: &[&str]) -> Value {
    let filters: Vec<Value> =
        filters.iter().map(|filter| json!({ "filter": filter, "filterType": "WILDCARD_MATCH" })).collect();
    match filters.is_empty() {
        true => json!({ "signingProfileArn": profile }),
        false => json!({ "signingProfileArn": profile, "repositoryFilters": filters }),
    }
}

async fn sign(caller: &Caller, rules: Value) {
    caller.ecr("PutSigningConfiguration", json!({ "signingConfiguration": { "rules": rules } })).await;
}

/// The profiles and the statuses of an image.
async fn statuses(caller: &Caller, repository: &str, digest: &str) -> Vec<(String, String)> {
    let image = json!({ "repositoryName": repository, "imageId": { "imageDigest": digest } });
    let found = caller.ecr("DescribeImageSigningStatus", image).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let statuses = found["signingStatuses"].as_array().unwrap().iter();
    statuses.map(|found| (text(&found["signingProfileArn"]), text(&found["status"]))).collect()
}

async fn referrers(caller: &Caller, repository: &str, digest: &str) -> Vec<Value> {
    let subject = json!({ "repositoryName": repository, "subjectId": { "imageDigest": digest } });
    caller.ecr("ListImageReferrers", subject).await["referrers"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_pushed_image_that_a_rule_matches_is_signed_once_by_each_profile() {
    let local = Local::start();
    let caller = local.caller();
    for name in ["lambda", "team/a", "other"] {
        caller.repository(name).await;
    }
    let registry = caller.registry().await;
    let before = registry.image("lambda", "before", b"before").await;
    let rules = json!([rule(PROFILE, &["lambda", "*/a"]), rule(OTHER, &["lamb*"]), rule(OTHER, &["lambda"])]);
    sign(&caller, rules).await;
    assert_eq!(statuses(&caller, "lambda", &before).await, [], "only what comes after the rule");

    let image = registry.image("lambda", "1", b"layer").await;
    let complete = |profile: &str| (profile.to_owned(), "COMPLETE".to_owned());
    assert_eq!(statuses(&caller, "lambda", &image).await, [complete(PROFILE), complete(OTHER)]);
    let beside = referrers(&caller, "lambda", &image).await;
    let kinds: Vec<&Value> = beside.iter().map(|one| &one["artifactType"]).collect();
    assert_eq!(kinds, ["application/vnd.cncf.notary.signature"; 2]);
    let signature = beside[0]["digest"].as_str().unwrap();
    assert_eq!(statuses(&caller, "lambda", signature).await, [], "signatures are not signed");
    assert_eq!(registry.get(&format!("lambda/manifests/{signature}")).await.status(), 200);

    let image = registry.image("team/a", "1", b"layer").await;
    assert_eq!(statuses(&caller, "team/a", &image).await, [complete(PROFILE)]);
    let image = registry.image("other", "1", b"layer").await;
    assert_eq!(statuses(&caller, "other", &image).await, []);
    // Without filters, everything is signed.
    sign(&caller, json!([rule(OTHER, &[])])).await;
    let image = registry.image("other", "2", b"other layer").await;
    assert_eq!(statuses(&caller, "other", &image).await, [complete(OTHER)]);
}

#[tokio::test]
async fn a_caller_without_signing_permission_pushes_unsigned() {
    let local = Local::start();
    let (admin, anna) = (local.caller(), local.caller().key("anna"));
    admin.repository("lambda").await;
    sign(&admin, json!([rule(PROFILE, &["lambda"]), rule(OTHER, &["lambda"])])).await;
    let allow =
        |action: &str, resource: &str| json!({ "Effect": "Allow", "Action": action, "Resource": resource });
    let statements = [allow("ecr:*", "*"), allow("signer:SignPayload", OTHER)];
    let policy = json!({ "Version": "2012-10-17", "Statement": statements });
    local.local(Method::POST, "policies", Some(json!({ "principal": ANNA, "policy": policy }))).await;

    let image = anna.registry().await.image("lambda", "1", b"layer").await;
    let image = json!({ "repositoryName": "lambda", "imageId": { "imageDigest": image } });
    let found = anna.ecr("DescribeImageSigningStatus", image).await;
    let words = format!(
        "User: {ANNA} is not authorized to perform: signer:SignPayload on resource: {PROFILE} because no identity-based policy \
         allows the signer:SignPayload action"
    );
    let failed = json!({
        "signingProfileArn": PROFILE, "status": "FAILED", "failureCode": "AccessDeniedException", "failureReason": words,
    });
    assert_eq!(
        found["signingStatuses"],
        json!([failed, { "signingProfileArn": OTHER, "status": "COMPLETE" }]),
        "{found}"
    );
    // The permissions that the caller needed are in the journal, whether they were allowed or not.
    let log = local.local(Method::GET, "log", None).await;
    let put = log.as_array().unwrap().iter().find(|entry| entry["action"] == "PUT manifest").unwrap();
    assert_eq!(put["iam"], json!(["ecr:PutImage", "signer:SignPayload"]));
}

#[tokio::test]
async fn a_signature_is_in_progress_for_the_configured_time() {
    let local = Local::start();
    let caller = local.caller();
    caller.repository("lambda").await;
    sign(&caller, json!([rule(PROFILE, &["lambda"])])).await;
    local.local(Method::POST, "quirks", Some(json!({ "quirks": ["slow-signing=1"] }))).await;
    let image = caller.registry().await.image("lambda", "1", b"layer").await;
    for status in ["IN_PROGRESS", "COMPLETE"] {
        assert_eq!(statuses(&caller, "lambda", &image).await, [(PROFILE.to_owned(), status.to_owned())]);
    }
}
