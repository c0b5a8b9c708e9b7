//! A runtime in a real container, started as Kubernetes does.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::{Engine, command, request, text};

/// A running container; removed when dropped.
#[derive(Debug)]
pub struct Container {
    engine: Engine,
    id: String,
    port: String,
    follow: Child,
    log: BufReader<ChildStdout>,
    seen: String,
}

/// The docker client, with the user's own configuration.
pub fn engine() -> Command {
    command("docker")
}

impl Container {
    /// Starts the runtime `image` with a handler and waits until it listens.
    pub fn start(engine: &Engine, image: &str) -> Self {
        let id = text(engine.client().args([
            "run",
            "--detach",
            "--publish",
            "127.0.0.1::8080",
            image,
            "app.handler",
        ]));
        let port = text(engine.client().args(["port", &id, "8080/tcp"]));
        let port = port.rsplit_once(':').unwrap().1.to_owned();
        // Both streams in one, in their order.
        let mut logs = command("sh");
        logs.args(["-c", "exec \"$1\" logs --follow \"$0\" 2>&1", &id])
            .arg(engine.program())
            .envs(engine.environment())
            .stdout(Stdio::piped());
        let mut follow = logs.spawn().unwrap();
        let log = BufReader::new(follow.stdout.take().unwrap());
        let mut container = Self { engine: engine.clone(), id, port, follow, log, seen: String::new() };
        container.wait_for("listening on :8080");
        container
    }

    /// Reads the log until a line contains `words`.
    pub fn wait_for(&mut self, words: &str) {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            self.seen.push_str(&line);
            if line.contains(words) {
                return;
            }
            line.clear();
        }
        panic!("the log ended without {words:?}:\n{}", self.seen);
    }

    /// Invokes the handler in the background.
    pub fn invoke(&self, event: &'static str) -> JoinHandle<Value> {
        let url = format!("http://127.0.0.1:{}/2015-03-31/functions/function/invocations", self.port);
        std::thread::spawn(move || request("POST", &url, &[], event.as_bytes()).json())
    }

    /// Runs a shell command in the container.
    pub fn shell(&self, line: &str) -> String {
        text(self.engine.client().args(["exec", &self.id, "/bin/sh", "-c", line]))
    }

    /// Signals the first process.
    pub fn signal(&self, name: &str) {
        text(self.engine.client().args(["kill", "--signal", name, &self.id]));
    }

    /// Whether it is still running.
    pub fn runs(&self) -> bool {
        text(self.engine.client().args(["inspect", "--format", "{{.State.Running}}", &self.id])) == "true"
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.engine.client().args(["rm", "--force", &self.id]).output();
        let _ = self.follow.kill();
        let _ = self.follow.wait();
    }
}

/// The local builds of a test's own runtime in an engine; removed when dropped.
#[derive(Debug)]
pub struct LocalBuilds {
    /// The engine.
    pub engine: Engine,
    /// The runtime, or the common prefix of its builds' names.
    pub name: String,
}

impl Drop for LocalBuilds {
    fn drop(&mut self) {
        let listed = self
            .engine
            .client()
            .args(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "lambda"])
            .output();
        let listed = listed.map(|output| output.stdout).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let builds: Vec<&str> = listed.lines().filter(|image| image.contains(&self.name)).collect();
        if !builds.is_empty() {
            let _ = self.engine.client().args(["image", "rm", "--force"]).args(builds).output();
        }
    }
}
