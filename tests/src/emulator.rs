//! What the emulated AWS has beyond AWS: its log, its quirks, and the ways to set the account up.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{ACCOUNT, REGION, get, request};

/// The emulated AWS's own interface.
#[derive(Clone, Debug)]
pub struct Emulator {
    pub(crate) host: String,
}

impl Emulator {
    /// The requests since the last [`Emulator::forget`].
    pub fn log(&self) -> Vec<Value> {
        serde_json::from_value(get(&format!("http://{}/_local/log", self.host)).json()).unwrap()
    }

    /// Starts the log anew.
    pub fn forget(&self) {
        self.own("reset-requests", &json!({}));
    }

    /// The ids of what stands in the world's region, by terraform's types. A key that is on its way out does not stand, and what is
    /// AWS's own is not counted.
    pub fn standing(&self) -> BTreeMap<String, Vec<String>> {
        let url = format!("http://{}/_local/standing?region={REGION}", self.host);
        serde_json::from_value(get(&url).json()).unwrap()
    }

    /// Sets the emulator's quirks.
    pub fn quirks(&self, names: &[&str]) {
        self.own("quirks", &json!({ "quirks": names }));
    }

    /// Waits until the emulator keeps an answer back (`hold-answer`), and gives its request; none where `over` says that no
    /// more requests come.
    pub fn held(&self, mut over: impl FnMut() -> bool) -> Option<String> {
        let started = std::time::Instant::now();
        loop {
            // Asked before the look: what was held before the end is seen.
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

    /// Whoever runs commands is from here on this user, with this as the only policy.
    pub fn caller(&self, user: &str, policy: &Value) {
        self.own("users", &json!({ "access_key": "local", "user": user }));
        let principal = format!("arn:aws:iam::{ACCOUNT}:user/{user}");
        self.own("policies", &json!({ "principal": principal, "policy": policy }));
    }

    /// Puts a CloudFormation stack into the account: `name`, `region`, `outputs`.
    pub fn stack(&self, stack: &Value) {
        self.own("stacks", stack);
    }

    /// What a scan of an image in the world's region has found, by severity; `tag`: or its digest.
    pub fn findings(&self, repository: &str, tag: &str, findings: &Value) {
        let body = json!({ "region": REGION, "repository": repository, "tag": tag, "findings": findings });
        self.own("findings", &body);
    }

    /// What was changed since the last [`Emulator::forget`]. Terraform's own lock, which a plan takes and gives back, does not
    /// count.
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
