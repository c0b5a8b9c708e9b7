//! A plan, and what none of them may do unasked.
//!
//! Source: <https://developer.hashicorp.com/terraform/internals/json-format>.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Action, TerraformError};

/// How the name of an alias of a KMS key begins, and no other resource's.
const ALIAS: &str = "alias/";

/// What terraform will do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Every resource that the plan names, unchanged ones included, data sources not.
    pub changes: Vec<Change>,
    /// The outputs whose values change, with the new value where it is known.
    pub outputs: BTreeMap<String, Option<Value>>,
    /// What the state holds, refreshed.
    pub prior: Vec<Resource>,
}

/// What will become of one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its address.
    pub address: String,
    /// The address it had until now, where it moves.
    pub previous_address: Option<String>,
    /// Its type.
    pub kind: String,
    /// Its key in `for_each`, where it has one.
    pub index: Option<String>,
    /// What is done with it.
    pub action: Action,
    /// Why, in terraform's short name.
    pub reason: Option<String>,
    /// The attributes that cannot be changed in place.
    pub replace_paths: Vec<String>,
    /// Its attributes now; null where it does not exist.
    pub before: Value,
    /// Its attributes afterwards as far as they are known; null where it ends.
    pub after: Value,
}

/// A resource in the state.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Its address.
    pub address: String,
    /// Its type.
    pub kind: String,
    /// Its key in `for_each`, where it has one.
    pub index: Option<String>,
    /// Its attributes.
    pub values: Value,
}

/// A change that is not made unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The resource's address.
    pub address: String,
    /// Whether it would be made again.
    pub replaced: bool,
    /// Why terraform would do it.
    pub reason: String,
    /// Whether its creation failed half-way: then `untaint` is all it needs.
    pub tainted: bool,
    /// The name that would be no more, where it is an alias of a key (`alias/ecr/mainline-htc`).
    pub alias: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.replaced { "replaced" } else { "deleted" };
        write!(f, "{} would be {what}: {}", self.address, self.reason)
    }
}

#[derive(Deserialize)]
struct RawPlan {
    #[serde(default)]
    resource_changes: Vec<RawChange>,
    #[serde(default)]
    output_changes: BTreeMap<String, RawDiff>,
    prior_state: Option<RawState>,
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

#[derive(Deserialize)]
struct RawState {
    values: Option<RawValues>,
}

#[derive(Deserialize)]
struct RawValues {
    root_module: RawModule,
}

#[derive(Deserialize)]
struct RawModule {
    #[serde(default)]
    resources: Vec<RawResource>,
    #[serde(default)]
    child_modules: Vec<RawModule>,
}

#[derive(Deserialize)]
struct RawResource {
    address: String,
    mode: String,
    r#type: String,
    index: Option<Value>,
    #[serde(default)]
    values: Value,
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

impl RawModule {
    fn flatten(self, into: &mut Vec<Resource>) {
        let own = self.resources.into_iter().filter(|resource| resource.mode == "managed");
        into.extend(own.map(|resource| Resource {
            address: resource.address,
            kind: resource.r#type,
            index: key(resource.index),
            values: resource.values,
        }));
        for child in self.child_modules {
            child.flatten(into);
        }
    }
}

impl Plan {
    /// Reads what `show -json` prints.
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
        let mut prior = Vec::new();
        if let Some(values) = raw.prior_state.and_then(|state| state.values) {
            values.root_module.flatten(&mut prior);
        }
        Ok(Self { changes: changes.collect(), outputs: outputs.collect(), prior })
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

/// Refuses a plan that would end, or end and make again, a resource whose type `is_protected`.
///
/// # Errors
/// [`TerraformError::Refused`] with every such resource and terraform's reason.
pub fn guard(plan: &Plan, is_protected: impl Fn(&str) -> bool) -> Result<(), TerraformError> {
    let protected = plan.changes.iter().filter(|change| is_protected(&change.kind));
    let refusals: Vec<Refusal> = protected.filter_map(refusal).collect();
    if refusals.is_empty() { Ok(()) } else { Err(TerraformError::Refused { refusals }) }
}

fn refusal(change: &Change) -> Option<Refusal> {
    let ends = matches!(change.action, Action::Delete | Action::Replace);
    if !ends {
        return None;
    }
    Some(Refusal {
        address: change.address.clone(),
        replaced: change.action == Action::Replace,
        reason: reason(change),
        tainted: change.reason.as_deref() == Some("replace_because_tainted"),
        alias: change.before["name"]
            .as_str()
            .filter(|name| name.starts_with(ALIAS) && change.after["name"] != **name)
            .map(str::to_owned),
    })
}

fn reason(change: &Change) -> String {
    let paths = change.replace_paths.join(", ");
    match change.reason.as_deref() {
        Some("replace_because_cannot_update") if !paths.is_empty() => {
            format!("{paths} cannot be changed on a resource that exists")
        }
        Some("replace_because_cannot_update") => "the change cannot be made in place".to_owned(),
        Some("replace_because_tainted") => "its creation failed in an earlier run".to_owned(),
        Some("replace_by_request" | "replace_by_triggers") => "the configuration asks for it".to_owned(),
        Some("delete_because_no_resource_config" | "delete_because_no_module") => {
            "the module no longer has it".to_owned()
        }
        Some("delete_because_each_key" | "delete_because_count_index") => {
            let key = change.index.as_deref().unwrap_or_default();
            format!("the configuration no longer lists {key:?}")
        }
        Some("delete_because_wrong_repetition") => "the module has it in another form".to_owned(),
        Some("delete_because_no_move_target") => {
            "it moved to an address that the module does not have".to_owned()
        }
        Some(other) => other.replace('_', " "),
        None => "the plan is to destroy it".to_owned(),
    }
}

fn dotted(path: &[Value]) -> String {
    let steps = path.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned));
    steps.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    // Terraform 1.11.4 on the module, recorded: nothing to do; then another tag, a repository and a rule's upstream
    // changed in the variables, and the key marked as tainted.
    const NOTHING: &str = include_str!("recorded/plan-nothing.json");
    const REFUSED: &str = include_str!("recorded/plan-refused.json");

    fn guarded(plan: &Plan) -> Result<(), TerraformError> {
        guard(plan, |kind| kind.starts_with("aws_"))
    }

    #[test]
    fn a_type_that_is_not_protected_may_end() {
        let plan = Plan::parse(REFUSED).unwrap();
        guard(&plan, |kind| kind == "aws_iam_role").unwrap();
        let TerraformError::Refused { refusals } = guard(&plan, |kind| kind == "aws_kms_key").unwrap_err()
        else {
            panic!("not refused")
        };
        assert_eq!(refusals.len(), 1);
    }

    #[test]
    fn a_plan_without_changes_is_empty_and_knows_the_state() {
        let plan = Plan::parse(NOTHING).unwrap();
        assert!(plan.is_empty());
        guarded(&plan).unwrap();
        let addresses: Vec<&str> = plan.prior.iter().map(|resource| resource.address.as_str()).collect();
        assert_eq!(addresses.len(), 6);
        let curl =
            plan.prior.iter().find(|resource| resource.address == r#"aws_ecr_repository.managed["curl"]"#);
        let curl = curl.unwrap();
        assert_eq!((curl.kind.as_str(), curl.index.as_deref()), ("aws_ecr_repository", Some("curl")));
        assert_eq!(curl.values["arn"], "arn:aws:ecr:eu-west-1:123456789012:repository/curl");
    }

    #[test]
    fn whatever_ends_is_refused_with_terraform_s_reason() {
        let plan = Plan::parse(REFUSED).unwrap();
        assert!(!plan.is_empty());
        assert_eq!(plan.effective().filter(|change| change.action == Action::Create).count(), 2);
        assert_eq!(
            guarded(&plan).unwrap_err().to_string(),
            [
                "the plan is refused:",
                r#"aws_ecr_pull_through_cache_rule.managed["ecr-public"] would be replaced: upstream_registry_url cannot be changed on a resource that exists"#,
                r#"aws_ecr_repository.managed["curl"] would be deleted: the configuration no longer lists "curl""#,
                r#"aws_kms_alias.ecr["ecr/mainline-htc"] would be deleted: the configuration no longer lists "ecr/mainline-htc""#,
                "aws_kms_key.ecr would be replaced: its creation failed in an earlier run",
            ]
            .join("\n  ")
        );
        let TerraformError::Refused { refusals } = guarded(&plan).unwrap_err() else { panic!("not refused") };
        let tainted: Vec<bool> = refusals.iter().map(|refusal| refusal.tainted).collect();
        assert_eq!(tainted, [false, false, false, true]);
        let aliases: Vec<_> = refusals.iter().filter_map(|refusal| refusal.alias.as_deref()).collect();
        assert_eq!(aliases, ["alias/ecr/mainline-htc"]);
    }

    #[test]
    fn the_alias_that_would_end_tells_whose_state_it_is() {
        let hint = |name: &str| {
            let text = REFUSED.replace("ecr/mainline-htc", name);
            guarded(&Plan::parse(&text).unwrap()).unwrap_err().hint().unwrap()
        };
        assert!(hint("ecr/prod-htc").contains("the grid prod's: say TAG=prod"), "{}", hint("ecr/prod-htc"));
        let foreign = hint("team/key");
        assert!(foreign.starts_with("only cargo xtask destroy-images deletes") && !foreign.contains('\n'));
    }

    #[test]
    fn an_action_that_is_not_known_is_refused_by_name_whatever_it_is_about() {
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

    // What newer terraforms add to a plan, put into the one of 1.11.4 after their documentation and source: identities and imports
    // (1.12), action invocations (1.14), and names that nobody has used yet.
    #[test]
    fn fields_that_are_not_known_change_nothing() {
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

    #[test]
    fn what_is_only_forgotten_or_read_is_no_end() {
        for action in ["forget", "read", "no-op", "create"] {
            let text = format!(
                r#"{{"resource_changes":[{{"address":"aws_kms_key.ecr","mode":"managed","type":"aws_kms_key","change":{{"actions":["{action}"]}}}}]}}"#
            );
            guarded(&Plan::parse(&text).unwrap()).unwrap();
        }
    }
}
