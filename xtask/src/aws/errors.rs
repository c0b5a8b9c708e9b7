//! What AWS's errors mean for the user.

use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::error::{Exit, ending};
use crate::http::UNKNOWN_CA;

/// The error of an AWS call as one line, with the exit code and the hint that fit. `action` is the IAM action.
pub fn explain<E>(error: SdkError<E, HttpResponse>, action: &str) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    explain_with(error, action, std::env::var("AWS_PROFILE").ok().as_deref())
}

/// [`explain`], for the credentials of `profile`.
pub fn explain_with<E>(error: SdkError<E, HttpResponse>, action: &str, profile: Option<&str>) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let status = error.raw_response().map(|response| response.status().as_u16());
    let words = words(&error);
    // The chain of credential providers hides its reason in the innermost causes.
    let told = DisplayErrorContext(&error).to_string();
    let (exit, hint) = if code.is_empty() && is_about_sso(&told) {
        (Exit::Credentials, Some(sso_login(profile)))
    } else {
        advice(&code, status, &told, action)
    };
    ending(exit, hint, anyhow::anyhow!("{action}: {words}"))
}

/// AWS's own message where it answered, else why it did not.
fn words<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        // An S3 HEAD has no body, so no code: the status is all that is known.
        _ => match error.raw_response() {
            Some(response) => format!("HTTP {}", response.status().as_u16()),
            None => innermost(error),
        },
    }
}

/// The SDK wraps the cause in several layers of its own; the innermost ones say what happened.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut cause = Some(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes.dedup();
    match causes.len() {
        0 | 1 => DisplayErrorContext(error).to_string(),
        length => causes[length.saturating_sub(2)..].join(": "),
    }
}

/// Whether the provider of credentials failed for want of a single sign-on: its token is missing, has ended or is refused
/// (<https://github.com/smithy-lang/smithy-rs/tree/main/aws/rust-runtime/aws-config/src/sso>).
fn is_about_sso(words: &str) -> bool {
    ["SSO token", "/sso/cache/", "UnauthorizedException"].iter().any(|sign| words.contains(sign))
}

fn sso_login(profile: Option<&str>) -> String {
    let profile = match profile.filter(|name| !name.is_empty()) {
        Some(name) if name.contains(char::is_whitespace) => format!(" --profile {name:?}"),
        Some(name) => format!(" --profile {name}"),
        None => String::new(),
    };
    format!("nobody is signed in, or no longer: `aws sso login{profile}`, then re-run")
}

/// What to do about the refusal of an action: AWS says in its message whose policy it was that refused
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>).
pub fn permission(action: &str, words: &str) -> String {
    // Terraform breaks the message into lines.
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((_, policy)) = words.split_once("with an explicit deny in a") else {
        return format!("the caller needs the permission {action}; docs/iam-policy.json lists them all");
    };
    let whose = match policy.trim_start_matches('n').trim_start() {
        resource if resource.starts_with("resource-based policy") => match action.split(':').next() {
            Some("s3") => "the bucket's own policy denies this (`aws s3api get-bucket-policy`)",
            Some("kms") => "the key's own policy denies this (`aws kms get-key-policy`)",
            Some("ecr") => "the repository's or the registry's own policy denies this",
            _ => "the resource's own policy denies this",
        },
        scp if scp.starts_with("service control policy") => "a policy of the organization (SCP) denies this",
        rcp if rcp.starts_with("resource control policy") => "a policy of the organization (RCP) denies this",
        boundary if boundary.starts_with("permissions boundary") => {
            "the caller's permissions boundary denies this"
        }
        session if session.starts_with("session policy") => "the policy of the caller's session denies this",
        endpoint if endpoint.starts_with("VPC endpoint policy") => {
            "the policy of the VPC endpoint denies this"
        }
        _ => "a policy of the caller's own denies this",
    };
    format!("{whose}: {action} has to be let through there, and allowing it to the caller does not help")
}

fn advice(code: &str, status: Option<u16>, words: &str, action: &str) -> (Exit, Option<String>) {
    let credentials = |hint: &str| (Exit::Credentials, Some(hint.to_owned()));
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => credentials(
            "the session has expired: log in again (for SSO: `aws sso login`) and re-run; nothing is lost",
        ),
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" | "InvalidToken" => {
            credentials("AWS does not know this access key: check AWS_PROFILE and the AWS_* variables")
        }
        "SignatureDoesNotMatch" | "RequestTimeTooSkewed" | "InvalidSignatureException" => credentials(
            "AWS refuses the signature: is this machine's clock right, and the secret key the access key's own?",
        ),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            credentials(&permission(action, words))
        }
        "NoSuchBucket" => (
            Exit::Config,
            Some(
                "is the bucket's name right? `cargo xtask init-images --create-state-bucket` makes it"
                    .to_owned(),
            ),
        ),
        "OptInRequired" => {
            credentials("the region is not enabled in this account: choose another with REGION=")
        }
        _ if status == Some(403) => credentials(&format!("the caller needs the permission {action}")),
        _ if code.is_empty() && words.contains("certificate") => {
            (Exit::Registry, Some(UNKNOWN_CA.to_owned()))
        }
        _ if code.is_empty() && words.contains("credential") => credentials(
            "no AWS credentials were found: set AWS_PROFILE, run `aws sso login` or `aws configure`, or use --local",
        ),
        _ if code.is_empty() && status.is_none() => {
            (Exit::Registry, Some("is the network up, and is REGION a region of AWS?".to_owned()))
        }
        _ => (Exit::Registry, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_refusal_has_its_own_hint() {
        let hint = |code, status, words| advice(code, status, words, "ecr:PutImage").1.unwrap_or_default();
        assert!(hint("ExpiredTokenException", Some(400), "").contains("aws sso login"));
        assert!(hint("AccessDeniedException", Some(400), "").contains("ecr:PutImage"));
        assert!(hint("RequestTimeTooSkewed", Some(403), "").contains("clock"));
        assert!(hint("", None, "no providers in chain provided credentials").contains("--local"));
        assert!(hint("", None, "dns error").contains("network"));
        assert!(hint("", None, "invalid peer certificate: UnknownIssuer").contains("AWS_CA_BUNDLE"));
        assert_eq!(advice("ServerException", Some(500), "", "x").0, Exit::Registry);
    }

    #[test]
    fn a_denial_names_whose_policy_it_is() {
        let words = |policy: &str| {
            format!(
                "User: x is not authorized to perform: s3:PutObject on resource: y with an explicit\n  deny in a{policy}"
            )
        };
        for (policy, hint) in [
            (" resource-based policy", "the bucket's own policy denies this"),
            (" service control policy", "organization (SCP)"),
            ("n identity-based policy", "a policy of the caller's own"),
            (" VPC endpoint policy", "VPC endpoint"),
        ] {
            let said = permission("s3:PutObject", &words(policy));
            assert!(said.contains(hint) && said.contains("s3:PutObject"), "{said}");
        }
        let allowed =
            permission("s3:PutObject", "because no identity-based policy allows the s3:PutObject action");
        assert!(allowed.contains("the caller needs the permission s3:PutObject"), "{allowed}");
    }

    #[test]
    fn a_single_sign_on_that_is_over_names_the_login_of_its_profile() {
        for words in [
            "failed to load the cached SSO token",
            "the SSO token has expired and cannot be refreshed",
            "failed to read `/home/anna/.aws/sso/cache/bdd240c8.json`",
        ] {
            assert!(is_about_sso(words), "{words}");
        }
        assert!(!is_about_sso("no providers in chain provided credentials"));
        assert!(sso_login(Some("bank")).contains("`aws sso login --profile bank`"));
        assert!(sso_login(Some("my bank")).contains("`aws sso login --profile \"my bank\"`"));
        assert!(sso_login(None).contains("`aws sso login`"));
    }
}
