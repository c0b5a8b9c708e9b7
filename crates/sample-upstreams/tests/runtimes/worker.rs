//! Runtimes that run in a container.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use duct::cmd;
use serde_json::Value;

use crate::image::Image;

/// A running runtime, removed with the test.
pub(crate) struct Worker {
    pub(crate) container: String,
    pub(crate) port: u16,
    log: BufReader<duct::ReaderHandle>,
    /// The part of its log that was read.
    pub(crate) seen: String,
}

impl Worker {
    pub(crate) fn start(image: &Image, options: &[&str]) -> Self {
        let all =
            ["run", "--detach", "--publish", "127.0.0.1::8080"].into_iter().chain(options.iter().copied());
        let container = cmd("docker", all.chain([&*image.name, "app.handler"])).read().unwrap();
        let port = cmd!("docker", "port", &container, "8080/tcp").read().unwrap();
        let port = port.rsplit_once(':').unwrap().1.parse().unwrap();
        let follow = cmd!("docker", "logs", "--follow", &container).stderr_to_stdout().unchecked();
        let log = BufReader::new(follow.reader().unwrap());
        let mut worker = Self { container, port, log, seen: String::new() };
        worker.wait_for("listening on :8080");
        worker
    }

    /// Reads the container's log until a line contains `text`; the log's end is a failure.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut line = String::new();
        while self.log.read_line(&mut line).unwrap() > 0 {
            self.seen.push_str(&line);
            if line.contains(text) {
                return;
            }
            line.clear();
        }
        panic!("the log ended without {text:?}:\n{}", self.seen);
    }

    /// Starts an invocation that lasts until [`Worker::let_finish`]; returns the response, or the error.
    pub(crate) fn invoke_until_told(&mut self) -> std::thread::JoinHandle<std::io::Result<Value>> {
        let port = self.port;
        let answer = std::thread::spawn(move || invoke(port, r#"{"until": "/tmp/go"}"#));
        self.wait_for("task started");
        answer
    }

    pub(crate) fn let_finish(&self) {
        self.exec("touch /tmp/go");
    }

    pub(crate) fn exec(&self, command: &str) -> String {
        cmd!("docker", "exec", &self.container, "/bin/sh", "-c", command).read().unwrap()
    }

    /// Signals the container's first process, as Kubernetes does.
    pub(crate) fn signal(&self, signal: &str) {
        cmd!("docker", "kill", "--signal", signal, &self.container).stdout_null().run().unwrap();
    }

    pub(crate) fn is_running(&self) -> bool {
        cmd!("docker", "inspect", "--format", "{{.State.Running}}", &self.container).read().unwrap() == "true"
    }

    /// Waits for the container's end and returns its exit code.
    pub(crate) fn exit_code(&self) -> i32 {
        cmd!("docker", "wait", &self.container).read().unwrap().parse().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ =
            cmd!("docker", "rm", "--force", &self.container).stdout_null().stderr_null().unchecked().run();
    }
}

/// One invocation by the runtime interface emulator.
pub(crate) fn invoke(port: u16, event: &str) -> std::io::Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nHost: worker\r\nContent-Length: {}\r\n\r\n{event}",
        event.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_str(body)?)
}
