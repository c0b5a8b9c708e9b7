//! IAM's policies: what a caller may do according to its own policy and the resource's
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>). Organization policies, permissions
//! boundaries and session policies are not supported.
//!
//! A caller without a policy may do everything, like an administrator.

mod condition;
mod document;
#[cfg(test)]
mod tests;
mod wildcard;

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

pub(crate) use condition::headers;
pub(crate) use document::{Kind, Policy, PolicyError, Verdict};

use crate::fault::Fault;
use crate::scope::Scope;

/// The caller.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    /// For an assumed role, that of the session.
    pub(crate) arn: String,
    pub(crate) account: String,
}

impl Principal {
    /// The role of a session: `arn:aws:sts::123456789012:assumed-role/ops/anna` is `arn:aws:iam::123456789012:role/ops`.
    fn role(&self) -> Option<String> {
        let (session, _) = self.arn.rsplit_once('/')?;
        let (head, role) = session.split_once(":assumed-role/")?;
        Some(format!("{}:role/{role}", head.replacen(":sts:", ":iam:", 1)))
    }
}

/// A permission that a request needs: an action on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// For example `s3:PutObject`.
    pub(crate) action: String,
    /// An ARN, or `*` for actions that have no resource.
    pub(crate) resource: String,
    /// Condition keys, in lower case, with their values.
    context: Vec<(String, String)>,
}

impl Need {
    pub(crate) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), context: Vec::new() }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.context.push((key.to_owned(), value.into()));
        self
    }

    fn is_of_s3(&self) -> bool {
        self.action.starts_with("s3:")
    }

    /// The need for a service `via` that uses a key for the caller.
    pub(crate) fn via(self, via: &str, scope: &Scope) -> Self {
        let suffix = if scope.partition() == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        self.with("kms:viaservice", format!("{via}.{}.{suffix}", scope.region))
    }

    /// The need to create a service-linked role for the caller
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/create-service-linked-role.html>).
    pub(crate) fn service_role(scope: &Scope, service: &str, role: &str) -> Self {
        let (partition, account) = (scope.partition(), &scope.account);
        let arn = format!("arn:{partition}:iam::{account}:role/aws-service-role/{service}/{role}");
        Self::new("iam:CreateServiceLinkedRole", arn).with("iam:awsservicename", service)
    }
}

/// The input for evaluating a policy.
pub(crate) struct Question<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) need: &'a Need,
    /// Whether the request came over TLS.
    pub(crate) secure: bool,
}

impl Question<'_> {
    /// The value of a condition key, whose name is in lower case.
    fn value(&self, key: &str) -> Option<&str> {
        match key {
            "aws:securetransport" => Some(if self.secure { "true" } else { "false" }),
            "aws:principalarn" => Some(&self.principal.arn),
            "aws:principalaccount" | "kms:calleraccount" => Some(&self.principal.account),
            _ => self.need.context.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str()),
        }
    }
}

/// The users of access keys that do not contain a name, and the policies of users and roles by ARN.
#[derive(Default)]
pub(crate) struct Identities {
    users: RwLock<BTreeMap<String, String>>,
    policies: RwLock<BTreeMap<String, Policy>>,
}

impl Identities {
    /// Assigns an access key to a user.
    pub(crate) fn set_user(&self, access_key: &str, user: &str) {
        let mut all = self.users.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(access_key.to_owned(), user.to_owned());
    }

    /// The user of an access key, if one was assigned.
    pub(crate) fn user(&self, access_key: &str) -> Option<String> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).get(access_key).cloned()
    }

    /// Sets the only policy of a user or role; `None` makes it an administrator again.
    pub(crate) fn set(&self, arn: &str, policy: Option<Policy>) {
        let mut all = self.policies.write().unwrap_or_else(PoisonError::into_inner);
        match policy {
            Some(policy) => all.insert(arn.to_owned(), policy),
            None => all.remove(arn),
        };
    }

    pub(crate) fn judge(&self, question: &Question<'_>) -> Verdict {
        let all = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        let name = question.principal.role().unwrap_or_else(|| question.principal.arn.clone());
        all.get(&name).map_or(Verdict::Allowed, |policy| policy.judge(question))
    }
}

/// The account and the policy of a resource.
pub(crate) struct Owner {
    pub(crate) account: String,
    pub(crate) policy: Option<Policy>,
    /// Without an Allow in the key's policy, even an administrator is denied
    /// (<https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html>).
    pub(crate) is_key: bool,
}

/// AWS's reason if no policy allows an action.
pub(crate) fn no(kind: &str, need: &Need) -> String {
    format!("because no {kind}-based policy allows the {} action", need.action)
}

/// AWS's error message.
pub(crate) fn refusal(principal: &Principal, need: &Need, why: &str) -> Fault {
    // S3 quotes the resource.
    let quote = if need.is_of_s3() { "\"" } else { "" };
    let message = format!(
        "User: {} is not authorized to perform: {} on resource: {quote}{}{quote} {why}",
        principal.arn, need.action, need.resource
    );
    Fault::client("AccessDeniedException", message)
}

/// Decides by the caller's own policy and the resource's.
pub(crate) fn decide(identity: Verdict, owner: Option<&Owner>, question: &Question<'_>) -> Result<(), Fault> {
    let elsewhere = owner.is_some_and(|owner| owner.account != question.principal.account);
    let refused = |why: &str| match why.starts_with("because") && elsewhere && question.need.is_of_s3() {
        // S3 does not explain policies of other accounts.
        true => Err(Fault::client("AccessDeniedException", "Access Denied")),
        false => Err(refusal(question.principal, question.need, why)),
    };
    let policy = owner.and_then(|owner| owner.policy.as_ref());
    let resource = policy.map_or(Verdict::Silent, |policy| policy.judge(question));
    if identity == Verdict::Denied {
        return refused("with an explicit deny in an identity-based policy");
    }
    if resource == Verdict::Denied {
        return refused("with an explicit deny in a resource-based policy");
    }
    let by_identity = identity == Verdict::Allowed;
    match owner {
        Some(owner) if elsewhere || owner.is_key => {
            let by_itself = !elsewhere && resource == Verdict::Allowed;
            match (resource, by_identity || by_itself) {
                (Verdict::Silent, _) => refused(&no("resource", question.need)),
                (_, true) => Ok(()),
                (_, false) => refused(&no("identity", question.need)),
            }
        }
        _ if by_identity || resource == Verdict::Allowed => Ok(()),
        _ => refused(&no("identity", question.need)),
    }
}
