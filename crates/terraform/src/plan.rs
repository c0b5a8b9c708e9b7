//! Reads terraform's plans.
//!
//! Source: <https://developer.hashicorp.com/terraform/internals/json-format>.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Action, TerraformError};

/// The changes in a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Every resource in the plan, including unchanged ones, but no data sources.
    pub changes: Vec<Change>,
    /// The outputs whose values change, with the new value. `None` if it is not known yet.
    pub outputs: BTreeMap<String, Option<Value>>,
}

/// The change of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The resource's address.
    pub address: String,
    /// The previous address, if the resource moves.
    pub previous_address: Option<String>,
    /// Its type.
    pub kind: String,
    /// Its key in `for_each`, if any.
    pub index: Option<String>,
    /// The action on it.
    pub action: Action,
    /// The reason, by terraform's name for it.
    pub reason: Option<String>,
    /// The attributes that cannot be changed in place.
    pub replace_paths: Vec<String>,
    /// Its attributes now; null if it does not exist.
    pub before: Value,
    /// Its attributes after the change, as far as known; null if it is deleted.
    pub after: Value,
}

#[derive(Deserialize)]
struct RawPlan {
    #[serde(default)]
    resource_changes: Vec<RawChange>,
    #[serde(default)]
    output_changes: BTreeMap<String, RawDiff>,
}

#[derive(Deserialize)]
struct RawChange {
    address: String,
    previous_address: Option<String>,
    mode: String,
    r#type: String,
    index: Option<Value>,
    change: RawDiff,
    action_reason: Option<String>,
}

#[derive(Deserialize)]
struct RawDiff {
    actions: Vec<String>,
    #[serde(default)]
    before: Value,
    #[serde(default)]
    after: Value,
    #[serde(default)]
    after_unknown: Value,
    #[serde(default)]
    replace_paths: Vec<Vec<Value>>,
}

fn key(index: Option<Value>) -> Option<String> {
    index.map(|index| index.as_str().map_or_else(|| index.to_string(), str::to_owned))
}

impl RawDiff {
    fn action(&self) -> Action {
        let actions: Vec<&str> = self.actions.iter().map(String::as_str).collect();
        match actions.as_slice() {
            ["no-op"] => Action::Noop,
            ["create"] => Action::Create,
            ["read"] => Action::Read,
            ["update"] => Action::Update,
            ["delete"] => Action::Delete,
            ["forget"] => Action::Remove,
            ["delete", "create"] | ["create", "delete"] | ["forget", "create"] | ["create", "forget"] => {
                Action::Replace
            }
            _ => Action::Unknown,
        }
    }
}

impl Plan {
    /// Reads the output of `show -json`.
    pub(super) fn parse(text: &str) -> Result<Self, TerraformError> {
        let raw: RawPlan = super::event::parse(text, "the plan")?;
        let changes = raw.resource_changes.iter().map(|change| (&change.address, &change.change));
        let all = changes.chain(raw.output_changes.iter());
        if let Some((address, change)) =
            all.into_iter().find(|(_, change)| change.action() == Action::Unknown)
        {
            let actions = change.actions.join(", ");
            return Err(TerraformError::UnknownAction { address: address.clone(), actions });
        }
        let changes = raw.resource_changes.into_iter().filter(|change| change.mode == "managed");
        let changes = changes.map(|change| Change {
            action: change.change.action(),
            address: change.address,
            previous_address: change.previous_address,
            kind: change.r#type,
            index: key(change.index),
            reason: change.action_reason,
            replace_paths: change.change.replace_paths.iter().map(|path| dotted(path)).collect(),
            before: change.change.before,
            after: change.change.after,
        });
        let outputs = raw.output_changes.into_iter().filter(|(_, change)| change.action() != Action::Noop);
        let outputs = outputs.map(|(name, change)| {
            let known = change.after_unknown != Value::Bool(true);
            (name, known.then_some(change.after))
        });
        Ok(Self { changes: changes.collect(), outputs: outputs.collect() })
    }

    /// Whether applying it changes neither a resource nor the state.
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
            && self
                .changes
                .iter()
                .all(|change| change.action == Action::Noop && change.previous_address.is_none())
    }

    /// The changes that do something.
    pub fn effective(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.action != Action::Noop)
    }
}

fn dotted(path: &[Value]) -> String {
    let steps = path.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned));
    steps.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded from Terraform 1.11.4 on the module: a plan without changes; then a plan after changing a tag, a repository and the
    // upstream of a rule in the variables, with the key tainted.
    const NOTHING: &str = include_str!("recorded/plan-nothing.json");
    const REFUSED: &str = include_str!("recorded/plan-refused.json");

    #[test]
    fn a_plan_without_changes_is_empty() {
        let plan = Plan::parse(NOTHING).unwrap();
        assert!(plan.is_empty());
        crate::guard(&plan, |_| true).unwrap();
    }

    #[test]
    fn an_unknown_action_is_refused_by_name() {
        for (kind, actions) in
            [("aws_ecr_repository", r#""transmute""#), ("aws_iam_role", r#""create", "forget", "delete""#)]
        {
            let strange = format!(
                r#"{{"resource_changes":[{{"address":"{kind}.a","mode":"managed","type":"{kind}","change":{{"actions":[{actions}]}}}}]}}"#
            );
            let error = Plan::parse(&strange).unwrap_err();
            let named = format!("{kind}.a: {}", actions.replace('"', ""));
            assert!(
                matches!(error, TerraformError::UnknownAction { .. }) && error.to_string().contains(&named),
                "{error}"
            );
        }
        let output = r#"{"output_changes":{"tag":{"actions":["transmute"]}}}"#;
        assert!(Plan::parse(output).is_err());
    }

    // Fields that newer terraform versions add to a plan, by their documentation and source, put into the plan of 1.11.4:
    // identities and imports (1.12), action invocations (1.14), and unknown names.
    #[test]
    fn unknown_fields_are_ignored() {
        for recorded in [NOTHING, REFUSED] {
            let mut newer: Value = serde_json::from_str(recorded).unwrap();
            for (name, value) in [
                ("format_version", serde_json::json!("1.9")),
                ("terraform_version", serde_json::json!("1.16.0")),
                ("applyable", serde_json::json!(true)),
                ("complete", serde_json::json!(true)),
                ("deferred_changes", serde_json::json!([])),
                ("action_invocations", serde_json::json!([])),
                ("from_1_16", serde_json::json!({ "any": [1, null] })),
            ] {
                newer[name] = value;
            }
            for change in newer["resource_changes"].as_array_mut().unwrap() {
                change["deposed"] = Value::Null;
                change["change"]["before_identity"] = serde_json::json!({ "account_id": "1", "region": "r" });
                change["change"]["after_identity"] = serde_json::json!({ "account_id": "1", "region": "r" });
                change["change"]["from_1_16"] = serde_json::json!(["any"]);
            }
            for resource in newer["prior_state"]["values"]["root_module"]["resources"].as_array_mut().unwrap()
            {
                resource["identity_schema_version"] = 0.into();
                resource["identity"] = serde_json::json!({ "name": "x" });
            }
            assert_eq!(Plan::parse(&newer.to_string()).unwrap(), Plan::parse(recorded).unwrap());
        }
    }
}
