//! IAM's policies: what a caller is allowed by its own policy and by the one of the resource
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>). There are no organization
//! policies, permissions boundaries or session policies.
//!
//! A caller without a policy may do everything, as an administrator.

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

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Principal {
    /// A session's for an assumed role.
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

/// An action on a resource that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// As `s3:PutObject`.
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

    /// What the service `via` does with a key in the caller's name.
    pub(crate) fn via(self, via: &str, scope: &Scope) -> Self {
        let suffix = if scope.partition() == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        self.with("kms:viaservice", format!("{via}.{}.{suffix}", scope.region))
    }

    /// The role that a service of AWS's makes for itself in the caller's name
    /// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/create-service-linked-role.html>).
    pub(crate) fn service_role(scope: &Scope, service: &str, role: &str) -> Self {
        let (partition, account) = (scope.partition(), &scope.account);
        let arn = format!("arn:{partition}:iam::{account}:role/aws-service-role/{service}/{role}");
        Self::new("iam:CreateServiceLinkedRole", arn).with("iam:awsservicename", service)
    }
}

/// What a policy is asked.
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

/// The users behind access keys that are not called as their keys are, and the policies of users and roles by their ARN.
#[derive(Default)]
pub(crate) struct Identities {
    users: RwLock<BTreeMap<String, String>>,
    policies: RwLock<BTreeMap<String, Policy>>,
}

impl Identities {
    /// Makes an access key this user's.
    pub(crate) fn set_user(&self, access_key: &str, user: &str) {
        let mut all = self.users.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(access_key.to_owned(), user.to_owned());
    }

    /// Whose access key it is, if that was said.
    pub(crate) fn user(&self, access_key: &str) -> Option<String> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).get(access_key).cloned()
    }

    /// Gives a user or role its only policy; none makes it an administrator again.
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

/// The policy that stands on a resource, and the account that has the resource.
pub(crate) struct Owner {
    pub(crate) account: String,
    pub(crate) policy: Option<Policy>,
    /// What a key's policy does not allow, nobody may: not even an administrator
    /// (<https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html>).
    pub(crate) is_key: bool,
}

/// The reason that AWS gives where no policy allows an action.
pub(crate) fn no(kind: &str, need: &Need) -> String {
    format!("because no {kind}-based policy allows the {} action", need.action)
}

/// The refusal in AWS's words.
pub(crate) fn refusal(principal: &Principal, need: &Need, why: &str) -> Fault {
    // S3 puts the resource into quotation marks.
    let quote = if need.is_of_s3() { "\"" } else { "" };
    let message = format!(
        "User: {} is not authorized to perform: {} on resource: {quote}{}{quote} {why}",
        principal.arn, need.action, need.resource
    );
    Fault::client("AccessDeniedException", message)
}

/// Whether the caller may do it, by what its own policy says and by the policy of the resource.
pub(crate) fn decide(identity: Verdict, owner: Option<&Owner>, question: &Question<'_>) -> Result<(), Fault> {
    let elsewhere = owner.is_some_and(|owner| owner.account != question.principal.account);
    let refused = |why: &str| match why.starts_with("because") && elsewhere && question.need.is_of_s3() {
        // S3 does not explain other accounts' policies.
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
