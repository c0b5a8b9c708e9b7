//! AWS's own clients make the calls: `callers.py` in one process for each client, controlled by lines of JSON.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use service_models::{Exchange, Models};

use super::call::{Answer, pointed, words};
use super::play::region;
use crate::common::programs::{aws_environment, command};

/// A client and its process, which ends when this is dropped.
pub(crate) struct Client {
    child: Child,
    asked: ChildStdin,
    answered: BufReader<ChildStdout>,
    models: Arc<Models>,
}

impl Client {
    /// `boto3` or `aws`, in the Python that `cargo xtask test` installs.
    pub(crate) fn start(python: &Path, name: &str, url: &str, models: Arc<Models>) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios/callers.py");
        let mut child = command(python, &aws_environment(url))
            .arg("-B")
            .arg(script)
            .args([url, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asked = child.stdin.take().unwrap();
        let answered = BufReader::new(child.stdout.take().unwrap());
        Self { child, asked, answered, models }
    }

    /// Makes the same call as a hand-written request.
    pub(crate) fn ask(&mut self, exchange: &Exchange) -> Answer {
        let call = self.models.call(exchange).unwrap().unwrap();
        let (service, operation) = (call.service, call.operation);
        let region = region(&service);
        let line =
            json!({ "service": service, "operation": operation, "input": call.input, "region": region });
        writeln!(self.asked, "{line}").unwrap();
        let mut line = String::new();
        assert_ne!(self.answered.read_line(&mut line).unwrap(), 0, "{service} {operation}: no answer");
        let answer: Value = serde_json::from_str(&line).unwrap();
        let status = answer["status"].as_u64().map(|status| u16::try_from(status).unwrap());
        // If there is no error code, botocore returns the status instead.
        let code = answer["code"].as_str().filter(|code| code.parse::<u16>().is_err()).map(str::to_owned);
        let (models, output) = (Arc::clone(&self.models), answer["output"].clone());
        let value = move |place: &str| {
            if let Some(header) = place.strip_prefix("header:") {
                let member = models.member_of_header(&service, &operation, header).unwrap()?;
                return output.get(&member).map(words);
            }
            if place.starts_with('/') {
                // A policy is a document in a string.
                let policy: Option<Value> =
                    output["Policy"].as_str().and_then(|text| serde_json::from_str(text).ok());
                return pointed(&output, place).or_else(|| pointed(policy.as_ref()?, place));
            }
            member(&output, place).map(words)
        };
        Answer { status, code, value: Box::new(value) }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The first member with this name, at any depth.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => {
            members.get(name).or_else(|| members.values().find_map(|below| member(below, name)))
        }
        Value::Array(items) => items.iter().find_map(|item| member(item, name)),
        _ => None,
    }
}
