//! One suite of calls to local-aws and to moto (<https://docs.getmoto.org>), an independent emulator.
//!
//! `scenarios.md` next to this file is the table of both outcomes, with the reason for each difference. A new difference or one
//! that no longer occurs fails the test; `UPDATE=1` rewrites the table and keeps the reasons. Without moto, only local-aws is
//! compared with the table.
//!
//! boto3 and the aws CLI, with their own parsers, make the same calls to local-aws and must have the same outcomes.

mod call;
mod calls;
mod clients;
mod play;
mod table;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::common::programs::{installed, say};
use crate::common::{Caller, Local, REGION, client};
use call::Request;
use calls::scenarios;
use clients::Client;
use play::{By, play};
use table::{Row, Table};

/// `moto_server`, which `cargo xtask test` installs below cargo's target directory.
fn moto_server() -> Option<PathBuf> {
    installed("moto_server").or_else(|| crate::common::programs::find("moto_server"))
}

/// A separate moto for this test, which ends when this is dropped.
struct Moto {
    child: Child,
    url: String,
}

impl Moto {
    #[expect(clippy::disallowed_methods, reason = "xtask's way of starting programs is not the server's")]
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let url = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "moto_server ended before it listened");
            if let Some((_, url)) = line.split_once("Running on ") {
                break url.trim().to_owned();
            }
        };
        // It writes a line for each request: its output has to be read.
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        Self { child, url }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn caller(url: &str) -> Caller {
    Caller { client: client(), url: url.to_owned(), region: REGION.to_owned(), key: "local".to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scenarios_have_the_recorded_outcomes() {
    let local = Local::start();
    let moto = moto_server().map(|program| Moto::start(&program));
    let other = moto.as_ref().map(|moto| caller(&moto.url));
    let known = Table::read();
    let mut found = Table::default();
    for (scenario, calls) in &scenarios() {
        let ours = play(&mut By::Wire(&local.caller()), &local.url, calls).await;
        let theirs = match &other {
            Some(other) => play(&mut By::Wire(other), &other.url, calls).await,
            // The outcome when moto was last available.
            None => calls.iter().map(|call| known.moto(scenario, call.name)).collect(),
        };
        for ((call, local), moto) in calls.iter().zip(ours).zip(theirs) {
            let reason = known.reason(scenario, call.name);
            found.rows.push(Row {
                scenario: (*scenario).to_owned(),
                call: call.name.to_owned(),
                local,
                moto,
                reason,
            });
        }
    }
    say(&found.summary());
    if std::env::var_os("UPDATE").is_some() {
        found.write();
    }
    let changed = Table::read().changes(&found);
    assert!(changed.is_empty(), "not what scenarios.md says (UPDATE=1 writes it):\n{}", changed.join("\n"));
    let unexplained: Vec<&Row> =
        found.rows.iter().filter(|row| (row.local != row.moto) == row.reason.is_empty()).collect();
    assert!(unexplained.is_empty(), "a difference needs a reason, and only a difference: {unexplained:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_that_is_served_is_in_a_scenario() {
    let local = Local::start();
    for (_, calls) in &scenarios() {
        play(&mut By::Wire(&local.caller()), &local.url, calls).await;
    }
    let asked = local.local(reqwest::Method::GET, "requests", None).await;
    let asked: BTreeSet<String> = asked.as_object().unwrap().keys().cloned().collect();
    let served: BTreeSet<String> = local_aws::operations().into_iter().collect();
    assert!(served.len() > 100, "{served:?}");
    assert_eq!(asked, served);
}

#[tokio::test(flavor = "multi_thread")]
async fn awss_own_clients_have_the_same_outcomes() {
    let models = crate::common::models();
    let (Some(python), Some(models)) = (installed("python"), models) else {
        crate::common::programs::missing("boto3 and the aws CLI are not in target/python");
        return;
    };
    let models = Arc::new(models);
    let mut different = Vec::new();
    let by_hand = Local::start();
    let (scenarios, mut ours) = (scenarios(), Vec::new());
    for (_, calls) in &scenarios {
        ours.push(play(&mut By::Wire(&by_hand.caller()), &by_hand.url, calls).await);
    }
    for name in ["boto3", "aws"] {
        let local = Local::start();
        let mut client = Client::start(&python, name, &local.url, Arc::clone(&models));
        for ((scenario, calls), ours) in scenarios.iter().zip(&ours) {
            let theirs = play(&mut By::Client(&mut client, ours), &local.url, calls).await;
            let pairs =
                calls.iter().zip(ours.iter().zip(theirs)).filter(|(_, (ours, theirs))| *ours != theirs);
            // The aws CLI has its own service models, which may be older.
            let pairs = pairs.filter(|(call, (_, theirs))| {
                let is_new = matches!(call.request, Request::Json(_, _, "StartReplicationBackfill", _));
                !(is_new && name == "aws" && theirs.ends_with("unknown to this client"))
            });
            different.extend(pairs.map(|(call, (ours, theirs))| {
                format!("{scenario}, {}: by hand {ours}, by {name} {theirs}", call.name)
            }));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
