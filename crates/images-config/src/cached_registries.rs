//! The registries that ECR's pull-through cache supports, and the login that it needs for each
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html>). A rule that ECR would refuse in the middle
//! of an apply is refused here, with its line.

/// The login that ECR needs to read from a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// No login.
    None,
    /// A secret with a login.
    Secret,
}

/// The registries, by host.
const KNOWN: [(&str, Login); 7] = [
    ("public.ecr.aws", Login::None),
    ("quay.io", Login::None),
    ("registry.k8s.io", Login::None),
    ("registry-1.docker.io", Login::Secret),
    ("ghcr.io", Login::Secret),
    ("registry.gitlab.com", Login::Secret),
    ("cgr.dev", Login::Secret),
];

/// The login that ECR needs for a registry. `None` if ECR does not support it.
pub(super) fn login(host: &str) -> Option<Login> {
    let known = KNOWN.iter().find(|(known, _)| *known == host).map(|(_, login)| *login);
    known.or_else(|| {
        let azure =
            host.ends_with(".azurecr.io") || host.ends_with(".azurecr.cn") || host.ends_with(".azurecr.us");
        if azure { Some(Login::Secret) } else { is_ecr(host).then_some(Login::None) }
    })
}

/// Whether it is an ECR: of the same account in another region, or of another account, read with a role
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-private.html>).
pub(super) fn is_ecr(host: &str) -> bool {
    host.contains(".dkr.ecr.") && host.contains(".amazonaws.com")
}

/// Checks the ARN of the role with which ECR reads another ECR: it must be in the account of the rule.
pub(super) fn check_role(arn: &str, account: Option<&str>) -> Result<(), String> {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", _, "iam", "", owner, name] = fields.as_slice() else {
        return Err(format!("`{arn}` is not the ARN of an IAM role"));
    };
    if !name.starts_with("role/") || owner.len() != 12 {
        return Err(format!("`{arn}` is not the ARN of an IAM role"));
    }
    match account {
        Some(account) if account != *owner => {
            Err(format!("the role is of account {owner}, and ECR takes one of its own, {account}, alone"))
        }
        _ => Ok(()),
    }
}

/// The supported hosts, for messages.
pub(super) fn hosts() -> String {
    let hosts: Vec<&str> = KNOWN.iter().map(|(host, _)| *host).collect();
    format!("{}, NAME.azurecr.io, and ACCOUNT.dkr.ecr.REGION.amazonaws.com", hosts.join(", "))
}

/// Checks a secret's ARN: ECR can only read secrets with a certain prefix in their name
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html>), in the account named in
/// images.toml, if any.
pub(super) fn check_secret(arn: &str, account: Option<&str>) -> Result<(), String> {
    let fields: Vec<&str> = arn.splitn(7, ':').collect();
    let [_, _, "secretsmanager", _, owner, "secret", name] = fields.as_slice() else {
        return Err(format!("`{arn}` is not the ARN of a Secrets Manager secret"));
    };
    if !name.starts_with("ecr-pullthroughcache/") {
        return Err(format!(
            "the secret `{name}` must be named `ecr-pullthroughcache/...`: ECR reads no other secret"
        ));
    }
    match account {
        Some(account) if account != *owner => Err(format!(
            "the secret belongs to account {owner}, but ECR only reads secrets of its own account, {account}"
        )),
        _ => Ok(()),
    }
}

/// The account and the region of a secret.
pub fn owner(arn: &str) -> Option<(&str, &str)> {
    let fields: Vec<&str> = arn.splitn(7, ':').collect();
    Some((*fields.get(4)?, *fields.get(3)?))
}
