//! Maps AWS's errors to messages, kinds and hints.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use failure::{Kind, ending};

use super::aws_login::{LoginError, quoted};
use super::profile::Source;
use crate::http::{NoAnswer, UNKNOWN_CA, behind_a_proxy};

/// The error of an AWS call as one line, with its kind and hint. `action` is the IAM action.
pub fn explain<E>(error: SdkError<E, HttpResponse>, action: &str) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let status = error.raw_response().map(|response| response.status().as_u16());
    let words = words(&error);
    let (kind, hint) = match provider_error(&error) {
        Some(given) => {
            let hint = caused_by::<LoginError>(given).map_or_else(|| OVER.to_owned(), LoginError::hint);
            (Kind::Credentials, Some(hint))
        }
        None => advice(&code, status, &DisplayErrorContext(&error).to_string(), action),
    };
    ending(kind, hint, anyhow::anyhow!("{action}: {words}"))
}

/// The hint if credentials were valid and have expired.
const OVER: &str =
    "the credentials of this run have expired: log in again and run the command again; nothing is lost";

/// The credential provider's error, if the request was not sent because there were no credentials.
fn provider_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CredentialsError> {
    caused_by(error)
}

/// The first error of type `E` among an error and its causes.
fn caused_by<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|cause| cause.downcast_ref())
}

/// An error with its causes, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}

/// Explains missing credentials, with a hint that depends on the profile and the kind of error.
pub(super) fn no_credentials(
    error: CredentialsError,
    profile: Option<&str>,
    source: &Source,
) -> anyhow::Error {
    let name = profile.unwrap_or("default");
    let login = caused_by::<LoginError>(&error);
    let words = match (login, &error) {
        (Some(login), _) => chain(login),
        (_, CredentialsError::CredentialsNotLoaded(_)) => "none are configured".to_owned(),
        (_, other) => innermost(other),
    };
    let found = DisplayErrorContext(&error).to_string();
    let hint = match (source, &error) {
        _ if login.is_some() => login.map(LoginError::hint).unwrap_or_default(),
        _ if found.contains("certificate") => UNKNOWN_CA.to_owned(),
        (Source::Sso, _) => sign_in(profile),
        (Source::Process, _) => format!(
            "the credential_process of the AWS profile {name} failed: run it by hand, or use another profile with --profile"
        ),
        (Source::Role { .. }, _) => format!(
            "the role of the AWS profile {name} could not be assumed: check its source_profile and the trust policy of the role"
        ),
        (Source::Other, CredentialsError::InvalidConfiguration(_)) => {
            format!("correct the AWS profile {name} in ~/.aws/config or ~/.aws/credentials")
        }
        (Source::Other, CredentialsError::CredentialsNotLoaded(_)) => {
            "no AWS credentials were found: set AWS_PROFILE, run `aws sso login` or `aws configure`, or use --local".to_owned()
        }
        (Source::Other | Source::Login { .. }, _) => format!("check the AWS profile {name} and the AWS_* variables, or use another profile with --profile"),
    };
    let error = anyhow::anyhow!("no AWS credentials: {words}");
    ending(Kind::Credentials, Some(hint), error)
}

/// AWS's message if there is a response, otherwise the reason why there is none.
fn words<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        // An S3 HEAD has no body and so no code. Only the status is known.
        _ => match error.raw_response() {
            Some(response) => format!("HTTP {}", response.status().as_u16()),
            None => match caused_by::<NoAnswer>(error) {
                Some(asked) => format!("{}: {}", asked.host, innermost(error)),
                None => innermost(error),
            },
        },
    }
}

/// The SDK wraps the cause in several layers. The innermost ones say what happened.
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

fn sign_in(profile: Option<&str>) -> String {
    let profile = match profile.filter(|name| !name.is_empty()) {
        Some(name) => format!(" --profile {}", quoted(name)),
        None => String::new(),
    };
    format!(
        "the sign-in has expired or is missing: run `aws sso login{profile}`, then run this command again"
    )
}

/// The action named in a refusal by AWS. It may be of another service, for example of the KMS key that S3 uses.
pub fn refused_action(words: &str) -> Option<&str> {
    words.split_once("is not authorized to perform: ")?.1.split_whitespace().next()
}

/// The hint for a refused action. AWS's message names the type of policy that refused it
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
    format!("{whose}: {action} must be allowed there; allowing it to the caller does not help")
}

/// The hint if KMS refuses the key that ECR or S3 encrypts with. `None` for other refusals. ECR forwards the refusal as
/// `KmsException` (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutImage.html#API_PutImage_Errors>), S3 with
/// codes that begin with `KMS.`, and when layers are read, only KMS's own message shows it.
pub fn key_refusal(code: &str, words: &str) -> Option<String> {
    let of_key = words.contains(":kms:") && words.contains(":key/");
    let state = ["is disabled", "is pending deletion", "does not exist"]
        .iter()
        .any(|words_of| words.contains(words_of));
    let action = refused_action(words).filter(|action| action.starts_with("kms:"));
    if !(code.starts_with("Kms")
        || code.starts_with("KMS")
        || words.contains("KmsException")
        || (of_key && state))
    {
        return None;
    }
    Some(match action {
        Some(action) => permission(action, words),
        None => "the key that this is encrypted with cannot be used: `aws kms describe-key` says whether it is enabled, and its \
                 policy (`aws kms get-key-policy`) must let the caller use it through the service (kms:ViaService)"
            .to_owned(),
    })
}

/// Whether a service's error code is a denied permission.
pub(super) fn is_denied(code: &str) -> bool {
    matches!(code, "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation")
}

/// The kind and the hint for a service's error code, HTTP status and message.
pub(super) fn advice(code: &str, status: Option<u16>, words: &str, action: &str) -> (Kind, Option<String>) {
    let credentials = |hint: &str| (Kind::Credentials, Some(hint.to_owned()));
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => credentials(
            "the session has expired: log in again (for SSO: `aws sso login`) and run the command again; nothing is lost",
        ),
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" | "InvalidToken" => {
            credentials(
                "AWS does not know this access key here: check AWS_PROFILE and the AWS_* variables; a region that is not enabled \
                 in the account answers the same (REGION=)",
            )
        }
        "SignatureDoesNotMatch" | "RequestTimeTooSkewed" | "InvalidSignatureException" => credentials(
            "AWS refuses the signature: is this machine's clock right, and does the secret key belong to the access key?",
        ),
        code if is_denied(code) => credentials(&permission(refused_action(words).unwrap_or(action), words)),
        "NoSuchBucket" => (
            Kind::Config,
            Some(
                "is the bucket's name right? `cargo xtask init-images --create-state-bucket` makes it"
                    .to_owned(),
            ),
        ),
        _ if key_refusal(code, words).is_some() => (Kind::Credentials, key_refusal(code, words)),
        "OptInRequired" => {
            credentials("the region is not enabled in this account: choose another with REGION=")
        }
        _ if status == Some(403) => credentials(&format!("the caller needs the permission {action}")),
        _ if code.is_empty() && words.contains("certificate") => {
            (Kind::Registry, Some(UNKNOWN_CA.to_owned()))
        }
        _ if code.is_empty() && status.is_none() => {
            let hint = format!("is the network up, and is the region right (REGION=)? {}", behind_a_proxy());
            (Kind::Registry, Some(hint))
        }
        _ => (Kind::Registry, None),
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
        assert!(hint("InvalidClientTokenId", Some(403), "").contains("not enabled"));
        assert!(hint("", None, "dns error").contains("network"));
        assert!(hint("", None, "invalid peer certificate: UnknownIssuer").contains("AWS_CA_BUNDLE"));
        let of_the_key = "User: x is not authorized to perform: kms:Decrypt on resource: y because no identity-based policy";
        assert!(hint("AccessDenied", Some(403), of_the_key).contains("kms:Decrypt"));
        assert_eq!(advice("ServerException", Some(500), "", "x").0, Kind::Registry);
        assert!(hint("KmsException", Some(400), "").contains("aws kms describe-key"));
        assert!(hint("KMS.DisabledException", Some(400), "").contains("aws kms get-key-policy"));
        let refused = "KmsException: User: x is not authorized to perform: kms:CreateGrant on resource: y";
        assert!(hint("KmsException", Some(400), refused).contains("the permission kms:CreateGrant"));
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
    fn missing_credentials_have_a_hint_by_profile_and_kind_of_error() {
        let not_loaded = || CredentialsError::not_loaded("nothing");
        let failed = || CredentialsError::provider_error("exit status: 3");
        let role = Source::Role { mfa: None };
        let login = Source::Login { profile: "my bank".into() };
        for (error, profile, source, hint) in [
            (not_loaded(), None, &Source::Other, "no AWS credentials were found"),
            (failed(), Some("bank"), &Source::Other, "check the AWS profile bank"),
            (
                CredentialsError::invalid_configuration("loop"),
                Some("bank"),
                &Source::Other,
                "correct the AWS profile bank",
            ),
            (failed(), Some("bank"), &Source::Process, "credential_process of the AWS profile bank"),
            (failed(), Some("bank"), &role, "role of the AWS profile bank"),
            (failed(), Some("bank"), &Source::Sso, "`aws sso login --profile bank`"),
            (failed(), Some("my bank"), &Source::Sso, "`aws sso login --profile \"my bank\"`"),
            (
                CredentialsError::provider_error(LoginError::Refused {
                    profile: "my bank".into(),
                    words: "over".into(),
                }),
                Some("role"),
                &login,
                "`aws login --profile \"my bank\"`",
            ),
            (
                CredentialsError::provider_error(LoginError::TooOld {
                    profile: "bank".into(),
                    version: "aws-cli/2.9.19".into(),
                }),
                Some("bank"),
                &login,
                "install the aws CLI 2.32 or newer",
            ),
            (
                CredentialsError::provider_error("invalid peer certificate"),
                None,
                &Source::Sso,
                "AWS_CA_BUNDLE",
            ),
        ] {
            let said = failure::render(&no_credentials(error, profile, source));
            assert!(said.contains("no AWS credentials: ") && said.contains(hint), "{said}");
        }
    }
}
