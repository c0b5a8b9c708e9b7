//! A bucket's policy, and whether it refuses requests without TLS.

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use serde_json::{Value, json};

use super::if_set;
use crate::errors::explain;

/// A bucket's policy.
pub(super) enum Policy {
    /// The caller may not read it.
    Hidden,
    /// `null` if there is no policy.
    Document(Value),
}

/// Reads the present policy.
pub(super) async fn read(client: &Client, name: &str) -> anyhow::Result<Policy> {
    let answer = client.get_bucket_policy().bucket(name).send().await;
    match answer {
        // The permission was not needed before, and a missing one must not fail a check that is only advice.
        Err(error) if error.code() == Some("AccessDenied") => Ok(Policy::Hidden),
        answer => {
            let answer = if_set(answer, "NoSuchBucketPolicy", "s3:GetBucketPolicy")?;
            let text = answer.and_then(|answer| answer.policy);
            let document = text.map(|text| serde_json::from_str(&text));
            Ok(Policy::Document(
                document.transpose().context("the bucket's policy is not JSON")?.unwrap_or_default(),
            ))
        }
    }
}

/// Adds the statement to the existing policy.
pub(super) async fn refuse_plain(client: &Client, name: &str, partition: &str) -> anyhow::Result<()> {
    let Policy::Document(mut document) = read(client, name).await? else { return Ok(()) };
    let statement = tls_only(partition, name);
    match &mut document["Statement"] {
        Value::Array(statements) => statements.push(statement),
        Value::Null => document = json!({ "Version": "2012-10-17", "Statement": [statement] }),
        one => *one = json!([one.take(), statement]),
    }
    let request = client.put_bucket_policy().bucket(name).policy(document.to_string());
    request.send().await.map_err(|e| explain(e, "s3:PutBucketPolicy"))?;
    Ok(())
}

/// The statement that AWS documents: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html#transit>.
fn tls_only(partition: &str, bucket: &str) -> Value {
    let arn = format!("arn:{partition}:s3:::{bucket}");
    json!({
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, format!("{arn}/*")],
        "Condition": { "Bool": { "aws:SecureTransport": "false" } },
    })
}

/// Whether a policy refuses all requests without TLS, from every caller.
pub(super) fn refuses_plain(policy: &Value) -> bool {
    let one_of = |value: &Value, wanted: &dyn Fn(&str) -> bool| match value {
        Value::String(one) => wanted(one),
        Value::Array(all) => all.iter().filter_map(Value::as_str).any(wanted),
        _ => false,
    };
    let statements = match &policy["Statement"] {
        Value::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    statements.iter().any(|statement| {
        let principal = &statement["Principal"];
        let conditions = statement["Condition"].as_object();
        statement["Effect"] == "Deny"
            && (principal == "*" || one_of(&principal["AWS"], &|who| who == "*"))
            && one_of(&statement["Action"], &|action| matches!(action, "*" | "s3:*"))
            && one_of(&statement["Resource"], &|resource| resource == "*" || resource.ends_with("/*"))
            // A second condition would narrow the refusal.
            && conditions.is_some_and(|conditions| conditions.len() == 1)
            && statement["Condition"]["Bool"].as_object().is_some_and(|keys| {
                let insecure = keys.get("aws:SecureTransport");
                keys.len() == 1
                    && insecure.is_some_and(|value| *value == false || one_of(value, &|text| text == "false"))
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_bucket_policy_refuses_plain_http_and_a_weaker_one_does_not() {
        let policy = |statement: Value| json!({ "Version": "2012-10-17", "Statement": statement });
        let ours = tls_only("aws-cn", "state");
        assert_eq!(ours["Resource"][1], "arn:aws-cn:s3:::state/*");
        assert!(refuses_plain(&policy(ours.clone())));
        assert!(refuses_plain(&policy(json!([{ "Effect": "Allow" }, ours]))));
        let mut other = ours.clone();
        other["Principal"] = json!({ "AWS": ["*"] });
        other["Action"] = json!(["s3:*"]);
        other["Condition"]["Bool"]["aws:SecureTransport"] = json!(false);
        assert!(refuses_plain(&policy(other)));

        assert!(!refuses_plain(&Value::Null));
        for (member, less) in [
            ("Effect", json!("Allow")),
            ("Principal", json!({ "AWS": "arn:aws:iam::123456789012:root" })),
            ("Action", json!("s3:GetObject")),
            ("Resource", json!("arn:aws:s3:::state")),
            ("Condition", json!({ "Bool": { "aws:SecureTransport": "true" } })),
            (
                "Condition",
                json!({ "Bool": { "aws:SecureTransport": "false" }, "StringEquals": { "aws:SourceVpc": "vpc-1" } }),
            ),
            ("Condition", Value::Null),
        ] {
            let mut weaker = ours.clone();
            weaker[member] = less;
            assert!(!refuses_plain(&policy(weaker.clone())), "{weaker}");
        }
    }
}
