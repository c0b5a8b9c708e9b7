//! Refuses a plan that would delete or replace protected resources.

use super::{Action, Change, Plan, TerraformError};

/// The prefix of a KMS alias's name. No other resource's name begins like this.
const ALIAS: &str = "alias/";

/// A change that needs explicit consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The resource's address.
    pub address: String,
    /// Whether it would be created again.
    pub replaced: bool,
    /// Terraform's reason.
    pub reason: String,
    /// Whether its creation failed halfway: then `untaint` is enough.
    pub tainted: bool,
    /// The name that would disappear, if it is an alias of a key (`alias/ecr/mainline-htc`).
    pub alias: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.replaced { "replaced" } else { "deleted" };
        write!(f, "{} would be {what}: {}", self.address, self.reason)
    }
}

/// Refuses a plan that would delete or replace a resource whose type `is_protected`.
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

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = include_str!("recorded/plan-refused.json");

    fn guarded(plan: &Plan) -> Result<(), TerraformError> {
        guard(plan, |kind| kind.starts_with("aws_"))
    }

    #[test]
    fn a_type_that_is_not_protected_may_be_deleted() {
        let plan = Plan::parse(REFUSED).unwrap();
        guard(&plan, |kind| kind == "aws_iam_role").unwrap();
        let TerraformError::Refused { refusals } = guard(&plan, |kind| kind == "aws_kms_key").unwrap_err()
        else {
            panic!("not refused")
        };
        assert_eq!(refusals.len(), 1);
    }

    #[test]
    fn every_deletion_is_refused_with_terraforms_reason() {
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
    fn the_refusal_names_the_grid_of_the_deleted_alias() {
        let hint = |name: &str| {
            let text = REFUSED.replace("ecr/mainline-htc", name);
            guarded(&Plan::parse(&text).unwrap()).unwrap_err().hint().unwrap()
        };
        assert!(hint("ecr/prod-htc").contains("the grid prod's: use TAG=prod"), "{}", hint("ecr/prod-htc"));
        let foreign = hint("team/key");
        assert!(
            foreign.starts_with("only cargo xtask destroy-images and prune delete")
                && !foreign.contains('\n')
        );
    }

    #[test]
    fn forgetting_or_reading_a_resource_is_not_a_deletion() {
        for action in ["forget", "read", "no-op", "create"] {
            let text = format!(
                r#"{{"resource_changes":[{{"address":"aws_kms_key.ecr","mode":"managed","type":"aws_kms_key","change":{{"actions":["{action}"]}}}}]}}"#
            );
            guarded(&Plan::parse(&text).unwrap()).unwrap();
        }
    }
}
