//! Policies (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html>), with the elements that HTC-Grid's
//! template and this project use. A policy with anything else is rejected by name when it is put, so that every accepted policy is enforced
//! completely.

use serde_json::Value;

use super::condition::Condition;
use super::wildcard::matches;
use super::{Principal, Question};

/// The kind of a policy's owner, which determines its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A caller's: without `Principal`.
    Identity,
    /// A bucket's or a key's.
    Resource,
    /// A repository's: without `Resource`, which is the repository.
    Repository,
}

/// Why a policy is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    /// AWS rejects it too.
    #[error("{0}")]
    Malformed(String),
    /// AWS may accept it, but it would not be enforced here.
    #[error("a policy with {0}")]
    Unknown(String),
}

/// A policy's result for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// No statement applies.
    Silent,
    /// An Allow for the caller's account: the caller's own policy decides.
    Delegated,
    /// An Allow for the caller.
    Allowed,
    /// A Deny, which has precedence over everything.
    Denied,
}

/// A parsed policy that can be enforced completely.
#[derive(Clone, Debug)]
pub(crate) struct Policy(Vec<Statement>);

#[derive(Clone, Debug)]
struct Statement {
    denies: bool,
    /// `None` for an identity's policy.
    principals: Option<Vec<String>>,
    actions: Patterns,
    /// `None` for a repository's policy.
    resources: Option<Patterns>,
    conditions: Vec<Condition>,
}

/// The patterns of an element or its negation, such as `Action` and `NotAction`.
#[derive(Clone, Debug)]
struct Patterns {
    patterns: Vec<String>,
    negated: bool,
}

impl Patterns {
    fn hold(&self, text: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern, text)) != self.negated
    }
}

impl Policy {
    /// # Errors
    /// `text` is not a policy of this kind, or contains something that is not supported here.
    pub(crate) fn parse(text: &str, kind: Kind) -> Result<Self, PolicyError> {
        let policy: Value = serde_json::from_str(text)
            .map_err(|_| malformed("Policies must be valid JSON and the first byte must be '{'"))?;
        let members = policy.as_object().ok_or_else(|| malformed("Policies must be valid JSON objects"))?;
        known(members, &["Version", "Id", "Statement"])?;
        let statements = match &policy["Statement"] {
            Value::Null => return Err(malformed("Missing required field Statement")),
            Value::Array(many) => many.as_slice(),
            one => std::slice::from_ref(one),
        };
        statements
            .iter()
            .map(|statement| Statement::parse(statement, kind))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The result: a Deny before all, else the widest Allow.
    pub(crate) fn judge(&self, question: &Question<'_>) -> Verdict {
        self.0.iter().map(|statement| statement.judge(question)).max().unwrap_or(Verdict::Silent)
    }

    /// Whether it allows something for everybody without a condition.
    pub(crate) fn is_public(&self) -> bool {
        self.0.iter().any(|statement| {
            let everybody = |names: &Vec<String>| names.iter().any(|name| name == "*");
            !statement.denies
                && statement.conditions.is_empty()
                && statement.principals.as_ref().is_some_and(everybody)
        })
    }
}

impl Statement {
    fn parse(statement: &Value, kind: Kind) -> Result<Self, PolicyError> {
        let members = statement.as_object().ok_or_else(|| malformed("Statement must be an object"))?;
        let mut elements = vec!["Sid", "Effect", "Action", "NotAction", "Condition"];
        if kind != Kind::Identity {
            elements.push("Principal");
        }
        if kind != Kind::Repository {
            elements.extend(["Resource", "NotResource"]);
        }
        known(members, &elements)?;
        let denies = match statement["Effect"].as_str() {
            Some("Allow") => false,
            Some("Deny") => true,
            _ => return Err(malformed("Invalid effect")),
        };
        let principals =
            if kind == Kind::Identity { None } else { Some(principals(&statement["Principal"])?) };
        let mut actions = patterns(statement, "Action")?;
        actions.patterns.iter_mut().for_each(|action| action.make_ascii_lowercase());
        let resources = if kind == Kind::Repository { None } else { Some(patterns(statement, "Resource")?) };
        let mut conditions = Vec::new();
        for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
            for (key, wanted) in keys.as_object().into_iter().flatten() {
                conditions.push(Condition::parse(operator, key, texts(wanted))?);
            }
        }
        Ok(Self { denies, principals, actions, resources, conditions })
    }

    fn judge(&self, question: &Question<'_>) -> Verdict {
        let applies = self.actions.hold(&question.need.action.to_ascii_lowercase())
            && self.resources.as_ref().is_none_or(|resources| resources.hold(&question.need.resource))
            && self.conditions.iter().all(|condition| condition.holds(question));
        if !applies {
            return Verdict::Silent;
        }
        let meant = match &self.principals {
            None => Verdict::Allowed,
            Some(names) => {
                names.iter().map(|name| includes(name, question.principal)).max().unwrap_or(Verdict::Silent)
            }
        };
        if self.denies && meant != Verdict::Silent { Verdict::Denied } else { meant }
    }
}

/// Whether a principal's name includes the caller: everybody, the user, the role or the session, or the whole account.
fn includes(name: &str, caller: &Principal) -> Verdict {
    if name == "*" || name == caller.arn || Some(name) == caller.role().as_deref() {
        Verdict::Allowed
    } else if name == caller.account || name.ends_with(&format!(":iam::{}:root", caller.account)) {
        Verdict::Delegated
    } else {
        Verdict::Silent
    }
}

fn malformed(message: &str) -> PolicyError {
    PolicyError::Malformed(message.to_owned())
}

fn known(members: &serde_json::Map<String, Value>, elements: &[&str]) -> Result<(), PolicyError> {
    match members.keys().find(|member| !elements.contains(&member.as_str())) {
        Some(member) => Err(PolicyError::Unknown(format!("the element {member}"))),
        None => Ok(()),
    }
}

fn principals(principal: &Value) -> Result<Vec<String>, PolicyError> {
    match principal {
        Value::String(everybody) if everybody == "*" => Ok(vec![everybody.clone()]),
        Value::Object(kinds) => {
            match kinds.keys().find(|kind| !["AWS", "Service"].contains(&kind.as_str())) {
                Some(kind) => Err(PolicyError::Unknown(format!("Principal.{kind}"))),
                // AWS's own services never call this server.
                None => Ok(texts(&principal["AWS"])),
            }
        }
        _ => Err(malformed("Invalid principal in policy")),
    }
}

fn patterns(statement: &Value, element: &str) -> Result<Patterns, PolicyError> {
    let (wanted, unwanted) = (texts(&statement[element]), texts(&statement[format!("Not{element}")]));
    let negated = wanted.is_empty();
    let patterns = if negated { unwanted } else { wanted };
    if patterns.is_empty() || (!negated && !statement[format!("Not{element}")].is_null()) {
        return Err(malformed(&format!("Missing required field {element}")));
    }
    match patterns.iter().find(|pattern| pattern.contains("${")) {
        Some(pattern) => Err(PolicyError::Unknown(format!("the variable of {pattern}"))),
        None => Ok(Patterns { patterns, negated }),
    }
}

/// One text or a list of them; JSON's true and false count as texts, as in IAM.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Bool(one) => vec![one.to_string()],
        Value::Array(many) => many.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}
