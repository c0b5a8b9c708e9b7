//! Terraform's `-json` output, one object per line.
//!
//! Source: <https://developer.hashicorp.com/terraform/internals/machine-readable-ui>.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Diagnostic, TerraformError};

/// What terraform does with a resource.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// No change.
    #[serde(alias = "no-op")]
    Noop,
    /// Creates it.
    Create,
    /// Reads it.
    Read,
    /// Changes it in place.
    Update,
    /// Deletes it and creates it again.
    Replace,
    /// Deletes it.
    Delete,
    /// Gives it another address.
    Move,
    /// Imports it into the state.
    Import,
    /// Removes it from the state; the resource itself stays.
    #[serde(alias = "forget")]
    Remove,
    /// An action that this program does not know.
    #[serde(other)]
    Unknown,
}

/// One line of the output.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A resource will be changed.
    PlannedChange {
        /// Its address.
        address: String,
        /// How it will be changed.
        action: Action,
    },
    /// A resource was changed outside of terraform.
    Drift {
        /// Its address.
        address: String,
        /// How it was changed.
        action: Action,
    },
    /// Reading a resource has started.
    RefreshStart {
        /// Its address.
        address: String,
    },
    /// A resource has been read.
    RefreshComplete {
        /// Its address.
        address: String,
    },
    /// A change has started.
    ApplyStart {
        /// The resource's address.
        address: String,
        /// How it is changed.
        action: Action,
    },
    /// A change is still running.
    ApplyProgress {
        /// The resource's address.
        address: String,
        /// How it is changed.
        action: Action,
        /// Time since it started.
        elapsed: Duration,
    },
    /// A change is complete.
    ApplyComplete {
        /// The resource's address.
        address: String,
        /// How it was changed.
        action: Action,
        /// Its ID in AWS.
        id: Option<String>,
        /// Time since it started.
        elapsed: Duration,
    },
    /// A change failed. A diagnostic has the reason.
    ApplyErrored {
        /// The resource's address.
        address: String,
        /// How it should have been changed.
        action: Action,
        /// Time since it started.
        elapsed: Duration,
    },
    /// The number of resources that will be changed, or were changed.
    ChangeSummary {
        /// Resources to create, or created.
        add: u64,
        /// Resources to change, or changed.
        change: u64,
        /// Resources to delete, or deleted.
        remove: u64,
        /// `plan`, `apply` or `destroy`.
        operation: String,
    },
    /// The module's outputs.
    Outputs(BTreeMap<String, Value>),
    /// A warning or an error.
    Diagnostic(Diagnostic),
    /// Any other line of terraform's.
    Text(String),
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "@message", default)]
    message: String,
    r#type: Option<String>,
    hook: Option<Hook>,
    change: Option<PlannedAction>,
    changes: Option<Summary>,
    outputs: Option<BTreeMap<String, OutputLine>>,
    diagnostic: Option<Diagnostic>,
}

#[derive(Deserialize)]
struct Hook {
    resource: Address,
    action: Option<Action>,
    id_value: Option<String>,
    #[serde(default)]
    elapsed_seconds: f64,
}

#[derive(Deserialize)]
struct PlannedAction {
    resource: Address,
    action: Action,
}

#[derive(Deserialize)]
struct Address {
    addr: String,
}

#[derive(Deserialize)]
struct Summary {
    add: u64,
    change: u64,
    remove: u64,
    operation: String,
}

#[derive(Deserialize)]
struct OutputLine {
    // A plan also lists outputs whose values are not known yet.
    #[serde(default)]
    value: Value,
}

impl Event {
    /// Reads a line. A line that is not an event becomes text.
    pub fn parse(line: &str) -> Self {
        match serde_json::from_str::<Line>(line) {
            Ok(line) => line.into_event(),
            Err(_) => Self::Text(line.to_owned()),
        }
    }
}

impl Line {
    fn into_event(self) -> Event {
        let kind = self.r#type.as_deref().unwrap_or_default();
        match (kind, self.hook, self.change) {
            ("planned_change", _, Some(change)) => {
                return Event::PlannedChange { address: change.resource.addr, action: change.action };
            }
            ("resource_drift", _, Some(change)) => {
                return Event::Drift { address: change.resource.addr, action: change.action };
            }
            (_, Some(hook), _) => {
                let action = hook.action.unwrap_or(Action::Unknown);
                let address = hook.resource.addr;
                let elapsed = Duration::try_from_secs_f64(hook.elapsed_seconds).unwrap_or_default();
                match kind {
                    "refresh_start" => return Event::RefreshStart { address },
                    "refresh_complete" => return Event::RefreshComplete { address },
                    "apply_start" => return Event::ApplyStart { address, action },
                    "apply_progress" => return Event::ApplyProgress { address, action, elapsed },
                    "apply_complete" => {
                        return Event::ApplyComplete { address, action, id: hook.id_value, elapsed };
                    }
                    "apply_errored" => return Event::ApplyErrored { address, action, elapsed },
                    _ => {}
                }
            }
            _ => {}
        }
        match (kind, self.changes, self.outputs, self.diagnostic) {
            ("change_summary", Some(changes), ..) => Event::ChangeSummary {
                add: changes.add,
                change: changes.change,
                remove: changes.remove,
                operation: changes.operation,
            },
            ("outputs", _, Some(outputs), _) => {
                Event::Outputs(outputs.into_iter().map(|(name, output)| (name, output.value)).collect())
            }
            ("diagnostic", _, _, Some(diagnostic)) => Event::Diagnostic(diagnostic),
            _ => Event::Text(self.message),
        }
    }
}

/// Reads terraform's JSON.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a str, what: &'static str) -> Result<T, TerraformError> {
    serde_json::from_str(text).map_err(|source| TerraformError::Unreadable { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    // Lines of terraform 1.11.4, recorded.
    #[test]
    fn changes_are_reported_from_start_to_end() {
        let start = r#"{"@level":"info","@message":"aws_ecr_repository.r: Creating...","@module":"terraform.ui","@timestamp":"2026-11-22T10:20:34.283982Z","hook":{"resource":{"addr":"aws_ecr_repository.r","module":"","resource":"aws_ecr_repository.r","implied_provider":"aws","resource_type":"aws_ecr_repository","resource_name":"r","resource_key":null},"action":"create"},"type":"apply_start"}"#;
        let address = "aws_ecr_repository.r".to_owned();
        assert_eq!(
            Event::parse(start),
            Event::ApplyStart { address: address.clone(), action: Action::Create }
        );
        let progress = r#"{"@level":"info","@message":"aws_ecr_repository.r: Still creating... [10s elapsed]","@module":"terraform.ui","hook":{"resource":{"addr":"aws_ecr_repository.r"},"action":"create","elapsed_seconds":10},"type":"apply_progress"}"#;
        let elapsed = Duration::from_secs(10);
        assert_eq!(
            Event::parse(progress),
            Event::ApplyProgress { address: address.clone(), action: Action::Create, elapsed }
        );
        let complete = r#"{"@level":"info","@message":"aws_ecr_repository.r: Creation complete after 0s [id=ml/app]","hook":{"resource":{"addr":"aws_ecr_repository.r"},"action":"create","id_key":"id","id_value":"ml/app","elapsed_seconds":0},"type":"apply_complete"}"#;
        let id = Some("ml/app".to_owned());
        let elapsed = Duration::ZERO;
        assert_eq!(
            Event::parse(complete),
            Event::ApplyComplete { address: address.clone(), action: Action::Create, id, elapsed }
        );
        let errored = r#"{"@level":"info","@message":"aws_ecr_repository.r: Creation errored after 0s","hook":{"resource":{"addr":"aws_ecr_repository.r"},"action":"create","elapsed_seconds":0},"type":"apply_errored"}"#;
        assert_eq!(Event::parse(errored), Event::ApplyErrored { address, action: Action::Create, elapsed });
    }

    #[test]
    fn the_summary_the_outputs_and_diagnostics_are_read() {
        let summary = r#"{"@level":"info","@message":"Apply complete! Resources: 1 added, 0 changed, 0 destroyed.","changes":{"add":1,"change":0,"import":0,"remove":0,"operation":"apply"},"type":"change_summary"}"#;
        let operation = "apply".to_owned();
        assert_eq!(Event::parse(summary), Event::ChangeSummary { add: 1, change: 0, remove: 0, operation });
        let outputs = r#"{"@message":"Outputs: 1","outputs":{"url":{"sensitive":false,"type":"string","value":"h/ml/app"},"later":{"sensitive":false,"action":"create"}},"type":"outputs"}"#;
        let Event::Outputs(outputs) = Event::parse(outputs) else { panic!("no outputs") };
        assert_eq!((&outputs["url"], &outputs["later"]), (&Value::from("h/ml/app"), &Value::Null));
        let diagnostic = r#"{"@level":"error","@message":"Error: creating ECR Repository (taken): RepositoryAlreadyExistsException","diagnostic":{"severity":"error","summary":"creating ECR Repository (taken): RepositoryAlreadyExistsException","detail":"","address":"aws_ecr_repository.r","range":{"filename":"main.tf","start":{"line":16,"column":1,"byte":0},"end":{"line":16,"column":2,"byte":1}}},"type":"diagnostic"}"#;
        let Event::Diagnostic(diagnostic) = Event::parse(diagnostic) else { panic!("no diagnostic") };
        assert_eq!(diagnostic.severity, Severity::Error);
        assert_eq!(
            diagnostic.to_string(),
            "aws_ecr_repository.r: creating ECR Repository (taken): RepositoryAlreadyExistsException"
        );
    }

    #[test]
    fn unknown_events_and_other_lines_are_text() {
        let version = r#"{"@level":"info","@message":"Terraform 1.11.4","@module":"terraform.ui","terraform":"1.11.4","type":"version","ui":"1.2"}"#;
        assert_eq!(Event::parse(version), Event::Text("Terraform 1.11.4".to_owned()));
        assert_eq!(Event::parse("panic: oh"), Event::Text("panic: oh".to_owned()));
        let new =
            r#"{"@message":"x","hook":{"resource":{"addr":"a"},"action":"transmute"},"type":"apply_start"}"#;
        assert_eq!(Event::parse(new), Event::ApplyStart { address: "a".to_owned(), action: Action::Unknown });
    }

    #[test]
    fn all_events_of_a_recorded_apply_are_parsed() {
        let events: Vec<Event> = include_str!("recorded/apply.jsonl").lines().map(Event::parse).collect();
        let done = events.iter().filter(|event| matches!(event, Event::ApplyComplete { .. })).count();
        let begun = events.iter().filter(|event| matches!(event, Event::ApplyStart { .. })).count();
        assert_eq!((begun, done), (6, 6));
        let text = events.iter().filter(|event| matches!(event, Event::Text(_))).count();
        assert_eq!(text, 1, "only the version is not understood: {events:#?}");
        assert!(events.contains(&Event::ChangeSummary {
            add: 6,
            change: 0,
            remove: 0,
            operation: "apply".to_owned()
        }));
    }
}
