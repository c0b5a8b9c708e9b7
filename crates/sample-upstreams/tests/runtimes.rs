//! The runtimes' Dockerfile and entry points, built on the sample bases and run in real containers.
//!
//! These tests need a docker engine, and root and debootstrap for the bases. Where one is missing they say so and do
//! nothing; `cargo xtask test` finds out beforehand.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use duct::cmd;
use sample_upstreams::{Config, Options, Server, Store, build};
use serde_json::Value;

/// Says what was not tested: past the harness, which keeps what a passing test prints to itself. Where `cargo xtask test`
/// has seen to it that nothing is missing, it fails instead.
fn skipped(missing: &str) {
    assert!(std::env::var_os("HTC_GRID_TEST_COMPLETE").is_none(), "missing: {missing}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
}

/// The directory of the Dockerfile.
fn runtimes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes")
}

/// The sample bases, built once and served until the tests end; or what is missing for them.
fn upstream() -> Option<&'static (Store, String)> {
    static UPSTREAM: OnceLock<Result<(Store, String), String>> = OnceLock::new();
    let upstream = UPSTREAM.get_or_init(|| {
        let engine =
            cmd!("docker", "version", "--format", "{{.Server.Version}}").stdout_null().stderr_capture();
        match engine.unchecked().run() {
            Err(error) => {
                return Err(format!(
                    "docker cannot be started ({error}); on Debian: apt-get install docker.io"
                ));
            }
            Ok(output) if !output.status.success() => {
                return Err("no docker engine answers (see DOCKER_HOST)".into());
            }
            Ok(_) => {}
        }
        // Beside the test's own directory: `cargo xtask demo` uses the same images.
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../local/sample-upstreams");
        let store = build(&data, &Options::default()).map_err(|error| error.to_string())?;
        // A thread of its own keeps the server running for as long as the tests do.
        let (sender, receiver) = std::sync::mpsc::channel();
        let served = store.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let server = Server::start(served, Config::default()).await.unwrap();
                sender.send(server.address().to_string()).unwrap();
                std::future::pending::<()>().await;
            });
        });
        Ok((store, receiver.recv().unwrap()))
    });
    match upstream {
        Ok(upstream) => Some(upstream),
        Err(missing) => {
            skipped(missing);
            None
        }
    }
}

/// Which builder a client is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Builder {
    Legacy,
    BuildKit,
}

impl Builder {
    /// A client in PATH that has this builder: it is asked by building nothing.
    fn client(self) -> Option<PathBuf> {
        let found = which::which_all("docker").unwrap().find(|client| {
            let probe =
                cmd!(client, "build", "-q", "-").stdin_bytes("FROM scratch\nLABEL sample-upstreams=probe\n");
            self.ask(probe)
                .stdout_null()
                .stderr_null()
                .unchecked()
                .run()
                .is_ok_and(|output| output.status.success())
        });
        if found.is_none() {
            skipped("no docker client in PATH has BuildKit; on Debian: apt-get install docker.io");
        }
        found
    }

    fn ask(self, command: duct::Expression) -> duct::Expression {
        command.env("DOCKER_BUILDKIT", if self == Self::BuildKit { "1" } else { "0" })
    }
}

/// An image that goes when the test does, and the base it was made of.
struct Image {
    name: String,
    base: String,
    output: String,
}

impl Image {
    /// Builds the Dockerfile, unmodified, on a sample base given as `REPOSITORY:TAG`.
    fn on_sample_base(builder: Builder, base: &str, entry_point: &str) -> Option<Self> {
        let (store, address) = upstream()?;
        let (repository, tag) = base.split_once(':').unwrap();
        let repository = format!("public.ecr.aws/{repository}");
        let digest = store.digest(&repository, tag).unwrap().unwrap();
        Self::on(builder, &format!("{address}/{repository}@{digest}"), entry_point)
    }

    fn on(builder: Builder, base: &str, entry_point: &str) -> Option<Self> {
        let client = builder.client()?;
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("sample-upstreams-test:{}-{count}", std::process::id());
        let build = cmd!(
            client,
            "build",
            "--no-cache",
            "--force-rm",
            "--tag",
            &name,
            "--build-arg",
            format!("BASE_IMAGE={base}"),
            "--build-arg",
            format!("ENTRY_POINT={entry_point}"),
            runtimes()
        );
        let build = builder.ask(build).env("BUILDKIT_PROGRESS", "plain").stderr_to_stdout().stdout_capture();
        let output = build.unchecked().run().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        Some(Self { name, base: base.to_owned(), output: text })
    }

    /// Runs a shell command in the image and gives what it prints.
    fn shell(&self, command: &str) -> String {
        cmd!("docker", "run", "--rm", "--entrypoint", "/bin/sh", &self.name, "-c", command).read().unwrap()
    }

    /// Runs the entry point in the foreground: exit code and stderr.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let all = ["run", "--rm", &self.name].into_iter().chain(arguments.iter().copied());
        let output = cmd("docker", all).stdout_capture().stderr_capture().unchecked().run().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for name in [&self.name, &self.base] {
            // BuildKit does not put the base into the engine's list.
            let _ =
                cmd!("docker", "image", "rm", "--force", name).stdout_null().stderr_null().unchecked().run();
        }
    }
}

/// A running runtime, removed with the test.
struct Worker {
    container: String,
    port: u16,
    log: BufReader<duct::ReaderHandle>,
    seen: String,
}

impl Worker {
    fn start(image: &Image, options: &[&str]) -> Self {
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

    /// Reads the container's log until a line holds `text`; the log's end is a failure.
    fn wait_for(&mut self, text: &str) {
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

    /// Starts an invocation that lasts until [`Worker::let_finish`]; gives what comes back, or the error.
    fn invoke_until_told(&mut self) -> std::thread::JoinHandle<std::io::Result<Value>> {
        let port = self.port;
        let answer = std::thread::spawn(move || invoke(port, r#"{"until": "/tmp/go"}"#));
        self.wait_for("task started");
        answer
    }

    fn let_finish(&self) {
        self.exec("touch /tmp/go");
    }

    fn exec(&self, command: &str) -> String {
        cmd!("docker", "exec", &self.container, "/bin/sh", "-c", command).read().unwrap()
    }

    /// Signals the container's first process, as Kubernetes does.
    fn signal(&self, signal: &str) {
        cmd!("docker", "kill", "--signal", signal, &self.container).stdout_null().run().unwrap();
    }

    fn is_running(&self) -> bool {
        cmd!("docker", "inspect", "--format", "{{.State.Running}}", &self.container).read().unwrap() == "true"
    }

    /// Waits for the container's end and gives its exit code.
    fn exit_code(&self) -> i32 {
        cmd!("docker", "wait", &self.container).read().unwrap().parse().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ =
            cmd!("docker", "rm", "--force", &self.container).stdout_null().stderr_null().unchecked().run();
    }
}

/// One invocation of the runtime interface emulator.
fn invoke(port: u16, event: &str) -> std::io::Result<Value> {
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

/// What the contract says of every runtime.
fn keeps_the_contract(image: &Image) {
    // One container for all of it: a start costs more than what is asked.
    let told = image.shell(
        r#"id -u; id -g; echo '{"a": [7]}' | jq '.a[0]'; echo $(ps -p 1 -o pid=)
        stat -c '%a %u:%g' /lambda_entrypoint_signal.sh
        find /var/lib/apt/lists /var/log/apt /var/log/dpkg.log /var/cache/apt/archives -type f -size +0 2>/dev/null | wc -l"#,
    );
    assert_eq!(told.lines().collect::<Vec<_>>(), ["99", "99", "7", "1", "755 0:0", "0"]);

    let (code, message) = image.run(&[]);
    assert_eq!(code, Some(142));
    assert!(message.contains("argument"), "{message}");

    let worker = Worker::start(image, &[]);
    let answer = invoke(worker.port, r#"{"n": 1}"#).unwrap();
    assert_eq!((&answer["handler"], &answer["event"]["n"]), (&Value::from("app.handler"), &Value::from(1)));
    assert_eq!((&answer["uid"], &answer["gid"]), (&Value::from(99), &Value::from(99)));

    // The status of the worker's end is the container's: here the runtime is killed.
    worker.exec("kill -KILL $(ps -C bootstrap,bootstrap.sh -o pid=)");
    assert_eq!(worker.exit_code(), 128 + 9);
}

/// A task in progress survives what Kubernetes sends; then the agent ends the emulator itself.
fn finishes_its_task(image: &Image, signals: &[&str], printed: bool) {
    let mut worker = Worker::start(image, &[]);
    let answer = worker.invoke_until_told();
    for signal in signals {
        worker.signal(signal);
        if printed {
            worker.wait_for(&format!("SIG{signal}"));
        }
    }
    assert!(worker.is_running() && !answer.is_finished(), "{}", worker.seen);
    worker.let_finish();
    assert_eq!(answer.join().unwrap().unwrap()["function"], "handler");
    worker.wait_for("task finished");
    assert!(worker.is_running());
    // A worker whose handler inherits ignored signals could not be interrupted by it.
    let ignored = worker.exec("ps -C aws-lambda-rie -o ignored=");
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_eq!(ignored & ((1 << (2 - 1)) | (1 << (3 - 1))), 0, "SIGINT and SIGQUIT: {ignored:x}");
    // The container may end before the command in it has, which is then killed.
    let kill = "kill -TERM $(ps -C aws-lambda-rie -o pid=)";
    cmd!("docker", "exec", &worker.container, "/bin/sh", "-c", kill).unchecked().run().unwrap();
    assert_eq!(worker.exit_code(), 0);
}

const FIVE: [&str; 5] = ["TERM", "INT", "HUP", "QUIT", "ALRM"];

fn managed(builder: Builder, base: &str) {
    let Some(image) = Image::on_sample_base(builder, base, "lambda_entry_point.sh") else { return };
    keeps_the_contract(&image);
    finishes_its_task(&image, &["TERM", "TERM"], false);
}

fn provided(builder: Builder, base: &str) {
    let Some(image) = Image::on_sample_base(builder, base, "lambda_entry_point_provided.sh") else { return };
    keeps_the_contract(&image);
    let (code, message) = image.run(&["a", "b"]);
    assert_eq!(code, Some(142));
    assert!(message.contains("exactly one argument is needed"), "{message}");
    // Twice as well, and together: none is lost, and none ends the worker.
    finishes_its_task(&image, &[FIVE, FIVE].concat(), true);
}

#[test]
fn a_managed_runtime_by_the_legacy_builder() {
    managed(Builder::Legacy, "lambda/python:3.12");
}

#[test]
fn a_managed_runtime_by_buildkit() {
    managed(Builder::BuildKit, "lambda/java:21");
}

#[test]
fn a_provided_runtime_by_the_legacy_builder() {
    provided(Builder::Legacy, "lambda/provided:al2");
}

#[test]
fn a_provided_runtime_by_buildkit() {
    provided(Builder::BuildKit, "lambda/provided:al2023");
}

/// What the entry point is for: without it the same signal ends the task. It also shows that the tests above can fail.
#[test]
fn without_the_entry_point_sigterm_ends_the_task_and_what_is_there_is_not_installed_again() {
    let Some(image) = Image::on_sample_base(Builder::Legacy, "lambda/nodejs:22", "lambda_entry_point.sh")
    else {
        return;
    };
    assert!(
        image.output.contains("Setting up jq") && image.output.contains("Setting up procps"),
        "{}",
        image.output
    );
    let mut worker = Worker::start(&image, &["--entrypoint", "/lambda-entrypoint.sh"]);
    let answer = worker.invoke_until_told();
    worker.signal("TERM");
    assert_eq!(worker.exit_code(), 0);
    assert!(answer.join().unwrap().is_err());
    assert!(!worker.seen.contains("task finished"));

    let again = Image::on(Builder::Legacy, &image.name, "lambda_entry_point.sh").unwrap();
    assert!(
        !again.output.contains("Setting up jq") && !again.output.contains("Setting up procps"),
        "{}",
        again.output
    );
}

/// Amazon Linux is not at hand: its package managers are played by a script that records how it is called.
#[test]
fn amazon_linux_gets_its_packages_from_whatever_manager_it_has() {
    for (managers, expected) in [
        (
            &["yum"][..],
            "yum --setopt=tsflags=nodocs update|yum --setopt=tsflags=nodocs install jq procps-ng|yum clean all",
        ),
        (
            &["dnf", "yum"],
            "dnf --setopt=install_weak_deps=0 --setopt=tsflags=nodocs upgrade|dnf --setopt=install_weak_deps=0 \
             --setopt=tsflags=nodocs install jq procps-ng|dnf clean all",
        ),
        (
            &["microdnf", "dnf"],
            "microdnf --setopt=install_weak_deps=0 --setopt=tsflags=nodocs upgrade|microdnf \
             --setopt=install_weak_deps=0 --setopt=tsflags=nodocs install jq procps-ng|microdnf clean all",
        ),
    ] {
        let Some(base) = base_with(managers) else { return };
        let image = Image::on(Builder::Legacy, &base.name, "lambda_entry_point.sh").unwrap();
        let calls = image.shell("cat /calls").replace(" -y", "").replace('\n', "|");
        assert_eq!(calls, expected);
        assert_eq!(image.shell("id -u; id -g"), "99\n99");
    }
    // A base with none of them is refused by name, not half-built.
    let Some(base) = base_with(&[]) else { return };
    let build =
        cmd!("docker", "build", "--force-rm", "--build-arg", format!("BASE_IMAGE={}", base.name), runtimes());
    let output = Builder::Legacy.ask(build).stderr_to_stdout().stdout_capture().unchecked().run().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("none of apt-get, microdnf, dnf and yum"));
}

/// A sample base without apt-get, where a script stands for each of `managers` and makes what it is to install.
fn base_with(managers: &[&str]) -> Option<Image> {
    const MANAGER: &str = r#"#!/bin/sh
echo "${0##*/} $*" >>/calls
case "$*" in *" install "*) for name in jq ps; do ln -s /bin/true "/bin/$name"; done ;; esac
"#;
    let (store, address) = upstream()?;
    let digest = store.digest("public.ecr.aws/lambda/java", "17").unwrap().unwrap();
    let base = format!("{address}/public.ecr.aws/lambda/java@{digest}");
    let name = format!("sample-upstreams-test:base-{}-{}", std::process::id(), managers.join("-"));
    let context = tempfile::tempdir().unwrap();
    let manager = context.path().join("manager");
    std::fs::write(&manager, MANAGER).unwrap();
    std::fs::set_permissions(&manager, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut dockerfile = format!("FROM {base}\nRUN rm /usr/bin/apt-get\n");
    for manager in managers {
        dockerfile += &format!("COPY manager /usr/bin/{manager}\n");
    }
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let build = cmd!("docker", "build", "--tag", &name, context.path());
    let output = Builder::Legacy.ask(build).stderr_to_stdout().stdout_capture().run().unwrap();
    Some(Image { name, base, output: String::from_utf8_lossy(&output.stdout).into_owned() })
}

#[test]
fn the_scripts_are_clean() {
    if which::which("shellcheck").is_err() {
        skipped("shellcheck is not installed; on Debian: apt-get install shellcheck");
        return;
    }
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    for script in [
        runtimes().join("lambda_entry_point.sh"),
        runtimes().join("lambda_entry_point_provided.sh"),
        assets.join("lambda-entrypoint.sh"),
        assets.join("app"),
    ] {
        cmd!("shellcheck", &script).run().unwrap();
    }
}
