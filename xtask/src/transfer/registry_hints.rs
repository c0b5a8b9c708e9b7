//! Explains a registry's errors to the user.

use docker_credentials::CredentialError;
use registry::{ErrorKind, ManifestError, NoConnection};

use aws::errors::{key_refusal, permission, refused_action};
use aws::http::{UNKNOWN_CA, behind_a_proxy, proxy};
use failure::{Kind, ending};

use crate::target::Target;

/// Adds a hint and this kind to a registry's error, or the kind for credentials if IAM refuses.
pub fn registry_failure(error: registry::Error, kind: Kind) -> anyhow::Error {
    let (kind, hint) = registry_verdict(&error, kind);
    ending(kind, hint, error)
}

/// The kind and the hint of an image's error, from the target or a source.
pub fn image_verdict(error: &registry::Error, target: Option<&Target>) -> (Kind, Option<String>) {
    let Some(target) = target.filter(|target| error.registry() == target.host()) else {
        return registry_verdict(error, Kind::Upstream);
    };
    let is_denied = matches!(error.kind(), ErrorKind::Denied { .. } | ErrorKind::Unauthorized { .. });
    match registry_verdict(error, Kind::Registry) {
        (Kind::Registry, _) if is_denied && target.account.is_some() => {
            let words =
                "ECR refuses the caller and does not say why; docs/iam-policy.json lists every permission";
            (Kind::Credentials, Some(words.to_owned()))
        }
        verdict => verdict,
    }
}

/// The kind and the hint of a registry's error.
pub fn registry_verdict(error: &registry::Error, kind: Kind) -> (Kind, Option<String>) {
    if let Some(hint) = refused_by_kms(error) {
        return (Kind::Credentials, Some(hint));
    }
    if let ErrorKind::Untrusted { wanted, .. } = error.kind() {
        return (
            Kind::Refused,
            Some(format!("it has to be signed by {wanted}; docs/trust.md says how that is verified")),
        );
    }
    if let ErrorKind::TooFresh { .. } = error.kind() {
        return (Kind::Refused, Some("--allow-fresh NAME takes it at once; docs/min-age.md".to_owned()));
    }
    match refused_by_iam(error) {
        Some((action, words)) => (Kind::Credentials, Some(permission(action, words))),
        None => (kind, registry_hint(error)),
    }
}

/// The hint if KMS refuses, which ECR's registry forwards.
fn refused_by_kms(error: &registry::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::Refused { code, message, .. } => key_refusal(code, message),
        ErrorKind::Denied { message } | ErrorKind::Unauthorized { message } => key_refusal("", message),
        _ => None,
    }
}

/// The action that IAM refuses, and its message: ECR's registry answers with the messages of its API
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/security_iam_troubleshoot.html>).
fn refused_by_iam(error: &registry::Error) -> Option<(&str, &str)> {
    let (ErrorKind::Denied { message } | ErrorKind::Unauthorized { message }) = error.kind() else {
        return None;
    };
    Some((refused_action(message)?, message))
}

/// The hint for a credential helper that does not end.
fn helper(error: &CredentialError) -> Option<String> {
    let CredentialError::HelperEndless { helper, registry, .. } = error else { return None };
    Some(format!(
        "it may be waiting for input: run `echo {registry} | docker-credential-{helper} get`; a login in DOCKER_AUTH_CONFIG is \
         used without a helper"
    ))
}

/// What a user can do if a registry refuses.
pub fn registry_hint(error: &registry::Error) -> Option<String> {
    let (registry, host) = (error.registry(), error.server());
    let route = |url: String| format!("[upstream.\"{registry}\"] url = \"{url}\" in images.toml");
    let hint = match error.kind() {
        ErrorKind::Unauthorized { .. } if error.is_redirected() => format!(
            "{registry} redirects to {host}, which needs its own login: {} and `docker login {host}`",
            route(format!("https://{host}"))
        ),
        ErrorKind::Denied { message } | ErrorKind::Refused { message, .. } if is_quota(message) => {
            "the registry's storage quota is exhausted: its owner can raise it, or delete images that are no longer needed".to_owned()
        }
        ErrorKind::Refused { status: 413, .. } => format!(
            "{host}, or a proxy in front of it, takes only smaller requests: its owner can raise the limit \
             (nginx: client_max_body_size 0)"
        ),
        ErrorKind::Unauthorized { .. } | ErrorKind::Denied { .. } => {
            format!("does the image exist, and are you logged in there ({})?", login(host))
        }
        ErrorKind::UnknownLogin { .. } => format!(
            "only Basic and Bearer are supported: ask the owner of {host} to allow one of them, or check HTTPS_PROXY and NO_PROXY, as \
             it may be a proxy that answers"
        ),
        ErrorKind::TokenService { service, .. } => format!(
            "{host} names {service} as its token service: ask its owner, or check HTTPS_PROXY and NO_PROXY, as it may be a proxy \
             that answers"
        ),
        ErrorKind::TooManyRequests { .. } => {
            format!("wait, or log in there ({}) for a higher limit", login(host))
        }
        ErrorKind::ReadBack { .. } => {
            "does another tool push there? `cargo xtask verify` shows what differs".to_owned()
        }
        ErrorKind::NameUnknown { .. } => {
            "does the repository exist? transfer-images without --registry creates it".to_owned()
        }
        ErrorKind::Manifest(ManifestError::Platform { .. }) => {
            "`platforms` in images.toml says which ones are wanted; \"all\" takes what there is".to_owned()
        }
        ErrorKind::Manifest(ManifestError::MediaType(kind)) if kind.contains(".manifest.v1+") => {
            "docker's schema 1 is no longer read: name a newer tag, or convert the image (`skopeo copy --format v2s2`)".to_owned()
        }
        ErrorKind::TagImmutable { .. } => "the target forbids to move this tag: give the image another one in \
             images.toml (\"repository:tag\" = \"source\"), or allow it there"
            .to_owned(),
        ErrorKind::AttestationGone { .. } => {
            "attestations are left out where `platforms` in images.toml lists the platforms and images.lock does not name them"
                .to_owned()
        }
        ErrorKind::PlainBlobs { host } => format!(
            "blob_hosts = [\"{host}\"] beside the url of [upstream.\"{registry}\"] in images.toml allows it"
        ),
        ErrorKind::Page { .. } => format!(
            "check that {host} is the registry's address, and HTTPS_PROXY and NO_PROXY, as it may be a proxy that answers"
        ),
        ErrorKind::Refused { message, .. } if message.contains("HTTP request to an HTTPS server") => {
            format!("the server speaks https: {}", route(format!("https://{host}")))
        }
        ErrorKind::Credentials { source } => helper(source.downcast_ref()?)?,
        ErrorKind::NoConnection { why, .. } => no_connection(*why, registry, host)?,
        ErrorKind::Network { .. } | ErrorKind::Stalled { .. } => {
            let proxy = proxy().map(|proxy| format!(" {proxy}")).unwrap_or_default();
            format!("is the network up, and {host} reachable from here?{proxy}")
        }
        _ => return None,
    };
    Some(hint)
}

/// Whether a refusal is about a storage quota, by the messages of Harbor and ECR
/// ([harbor-cli#96](https://github.com/goharbor/harbor-cli/issues/96): "wasted half a day troubleshooting auth problems").
fn is_quota(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["quota", "upper limit", "the limit of", "storage limit"].iter().any(|words| message.contains(words))
}

fn login(host: &str) -> String {
    format!("`docker login {host}`, or podman's")
}

fn no_connection(why: NoConnection, registry: &str, host: &str) -> Option<String> {
    let hint = match why {
        NoConnection::UnknownCa => {
            format!("{UNKNOWN_CA}; docker's own /etc/docker/certs.d/{host}/ca.crt counts too")
        }
        NoConnection::WrongName => format!(
            "the certificate of {host} is for other names: is this its address? [upstream.\"{registry}\"] in \
             images.toml names another one"
        ),
        NoConnection::NotValidNow => format!(
            "the certificate of {host} is not valid now: is this machine's clock right? If it is, its owner must renew the certificate"
        ),
        NoConnection::ClientCertificate => format!(
            "{host} needs a client certificate: client.cert and client.key in /etc/docker/certs.d/{host}/"
        ),
        NoConnection::PlainHttp => {
            format!(
                "if plain http is meant: [upstream.\"{registry}\"] url = \"http://{host}\" in images.toml"
            )
        }
        NoConnection::NotHttp => format!(
            "something else than a registry seems to listen at {host}: is this its address and its port? \
             [upstream.\"{registry}\"] in images.toml names another one"
        ),
        // A server with TLS 1.2 reports a missing client certificate only like this.
        NoConnection::Tls => format!(
            "{host} does not support TLS 1.2 or 1.3, or needs a client certificate: client.cert and client.key in \
             /etc/docker/certs.d/{host}/"
        ),
        NoConnection::UnknownName => {
            format!("is the network up, and is `{host}` spelled right? {}", behind_a_proxy())
        }
        NoConnection::Refused => {
            format!("is the network up, and does the registry listen at {host}? {}", behind_a_proxy())
        }
        NoConnection::ProxyLogin => {
            "HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT (and HTTP_PROXY) say who you are to the proxy"
                .to_owned()
        }
        NoConnection::ProxyRefuses => format!(
            "the proxy (HTTPS_PROXY) may forbid {host}: ask its owner, or name the host in NO_PROXY where it is reached \
             without"
        ),
        _ => return None,
    };
    Some(hint)
}

/// Adds kind and hint to an error of the target.
pub(super) fn of_target(error: registry::Error) -> anyhow::Error {
    registry_failure(error, Kind::Registry)
}
