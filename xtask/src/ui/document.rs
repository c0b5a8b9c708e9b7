//! The JSON document that `--format json` prints to stdout: the command's report, and the errors.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Map, Value};

/// The version of the documents. It is raised when a field is removed or changed, not when one is added.
pub const VERSION: u32 = 1;

/// The report of a run so far. It is printed once, at the end of the run, because the errors are known only then.
#[derive(Clone, Debug, Default)]
pub struct Document {
    parts: Arc<Mutex<Parts>>,
}

#[derive(Debug, Default)]
struct Parts {
    fields: Map<String, Value>,
    errors: Vec<Value>,
}

impl Document {
    /// Replaces the report with the fields of `report`, an object.
    ///
    /// # Errors
    /// It is not a JSON object.
    pub fn report(&self, report: &impl Serialize) -> anyhow::Result<()> {
        let Value::Object(fields) = serde_json::to_value(report)? else {
            anyhow::bail!("a report is not a JSON object");
        };
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).fields = fields;
        Ok(())
    }

    /// Adds an error that does not end the run, or not alone.
    pub fn error(&self, error: Value) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).errors.push(error);
    }

    /// Prints the document. `last`: the error that ended the run, which comes first.
    pub fn print(&self, command: Option<&str>, exit_code: u8, last: Option<Value>) {
        let mut stdout = std::io::stdout().lock();
        // A closed stdout is not an error.
        let text = super::shown(&self.text(command, exit_code, last));
        let _ = writeln!(stdout, "{}", super::paint::json_without_commands(text));
    }

    fn text(&self, command: Option<&str>, exit_code: u8, last: Option<Value>) -> String {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let errors = last.iter().chain(&parts.errors).collect();
        let whole = TotalCount { version: VERSION, command, exit_code, errors, fields: &parts.fields };
        // A map with text keys can always be serialised.
        serde_json::to_string_pretty(&whole).unwrap_or_default()
    }
}

/// The complete document.
#[derive(Serialize)]
struct TotalCount<'a> {
    version: u32,
    /// The command with its subcommand, such as `local up`. `None` if the command line names none.
    command: Option<&'a str>,
    exit_code: u8,
    errors: Vec<&'a Value>,
    #[serde(flatten)]
    fields: &'a Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_error_that_ended_the_run_is_first_and_the_last_report_counts() {
        let document = Document::default();
        document.report(&json!({ "images": [1] })).unwrap();
        document.report(&json!({ "images": [1, 2] })).unwrap();
        document.error(json!("second"));
        let text = document.text(Some("verify"), 8, Some(json!("first")));
        let wanted = json!({
            "version": 1, "command": "verify", "exit_code": 8, "errors": ["first", "second"], "images": [1, 2],
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), wanted);
        assert!(document.report(&json!([1])).is_err());
    }
}
