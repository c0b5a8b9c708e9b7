//! The emulator's own interface: its log, its quirks, and the setup of the account.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{ACCOUNT, REGION, get, request};

/// The emulator's own interface.
#[derive(Clone, Debug)]
pub struct Emulator {
    pub(crate) host: String,
}

impl Emulator {
    /// The requests since the last [`Emulator::forget`].
    pub fn log(&self) -> Vec<Value> {
        serde_json::from_value(get(&format!("http://{}/_local/log", self.host)).json()).unwrap()
    }

    /// Clears the log.
    pub fn forget(&self) {
        self.own("reset-requests", &json!({}));
    }

    /// The IDs of the resources in the world's region, by terraform's types, without keys that are pending deletion and without AWS's own.
    pub fn resources(&self) -> BTreeMap<String, Vec<String>> {
        let url = format!("http://{}/_local/resources?region={REGION}", self.host);
        serde_json::from_value(get(&url).json()).unwrap()
    }

    /// Sets the emulator's quirks.
    pub fn quirks(&self, names: &[&str]) {
        self.own("quirks", &json!({ "quirks": names }));
    }

    /// Waits until the emulator delays an answer (`hold-answer`), and returns its request; `None` if `over` returns true, as then no more
    /// requests come.
    pub fn held(&self, mut over: impl FnMut() -> bool) -> Option<String> {
        let started = std::time::Instant::now();
        loop {
            // Called before the request, so that an answer held before the end is seen.
            let last = over();
            let held: Vec<String> =
                serde_json::from_value(get(&format!("http://{}/_local/held", self.host)).json()).unwrap();
            if let Some(request) = held.into_iter().next() {
                return Some(request);
            }
            if last {
                return None;
            }
            assert!(started.elapsed() < crate::gate::BOUND, "no such request came");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// From now on, commands run as this user, with this as the only policy.
    pub fn caller(&self, user: &str, policy: &Value) {
        self.own("users", &json!({ "access_key": "local", "user": user }));
        let principal = format!("arn:aws:iam::{ACCOUNT}:user/{user}");
        self.own("policies", &json!({ "principal": principal, "policy": policy }));
    }

    /// Creates a CloudFormation stack in the account: `name`, `region`, `outputs`.
    pub fn stack(&self, stack: &Value) {
        self.own("stacks", stack);
    }

    /// Sets the findings, by severity, of the scan of an image in the world's region; `tag` may be its digest.
    pub fn findings(&self, repository: &str, tag: &str, findings: &Value) {
        let body = json!({ "region": REGION, "repository": repository, "tag": tag, "findings": findings });
        self.own("findings", &body);
    }

    /// The changes since the last [`Emulator::forget`], without terraform's own lock, which a plan acquires and releases.
    pub fn changes(&self) -> Vec<String> {
        let reads =
            ["Get", "Head", "List", "Describe", "BatchGet", "BatchCheck", "GET", "HEAD", "Decrypt", "Assume"];
        self.log()
            .into_iter()
            .filter(|entry| entry["status"].as_u64().unwrap() < 400)
            .filter(|entry| !reads.iter().any(|read| entry["action"].as_str().unwrap().starts_with(read)))
            .filter(|entry| !entry["path"].as_str().unwrap().ends_with(".tflock"))
            .map(|entry| format!("{} {} {}", entry["service"], entry["action"], entry["path"]))
            .collect()
    }

    fn own(&self, path: &str, body: &Value) {
        let answer =
            request("POST", &format!("http://{}/_local/{path}", self.host), &[], body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    }
}
