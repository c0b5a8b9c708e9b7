//! Images of the runtimes' Dockerfile, built on the sample bases.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use duct::cmd;
use sample_upstreams::{Config, Options, Server, Store, build};

/// Reports what was not tested, directly to stderr: the harness hides the output of a passing test. If `cargo xtask test` has
/// checked that everything is there, it fails instead.
pub(crate) fn skipped(missing: &str) {
    assert!(std::env::var_os("HTC_GRID_TEST_COMPLETE").is_none(), "missing: {missing}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
}

/// The directory of the Dockerfile.
pub(crate) fn runtimes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes")
}

/// The sample bases, created once and served until the tests end; or what is missing to create them.
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
        // Next to the test's own directory: `cargo xtask demo` uses the same images.
        let data = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../local/sample-upstreams");
        let store = build(&data, &Options::default()).map_err(|error| error.to_string())?;
        // A separate thread keeps the server running while the tests run.
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

/// The builder that a client is expected to use.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Builder {
    Legacy,
    BuildKit,
}

impl Builder {
    /// A client in PATH that has this builder, detected without building anything.
    fn client(self) -> Option<PathBuf> {
        let found = which::which_all("docker").unwrap().find(|client| {
            let probe = cmd!(client, "build", "-q", "--no-cache", "-")
                .stdin_bytes("FROM scratch\nLABEL sample-upstreams=probe\n");
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

    pub(crate) fn ask(self, command: duct::Expression) -> duct::Expression {
        command.env("DOCKER_BUILDKIT", if self == Self::BuildKit { "1" } else { "0" })
    }
}

/// An image that is removed with the test, and its base.
pub(crate) struct Image {
    pub(crate) name: String,
    base: String,
    /// The output of the build.
    pub(crate) output: String,
}

impl Image {
    /// Builds the Dockerfile, unmodified, on a sample base given as `REPOSITORY:TAG`.
    pub(crate) fn on_sample_base(builder: Builder, base: &str, entry_point: &str) -> Option<Self> {
        let (store, address) = upstream()?;
        let (repository, tag) = base.split_once(':').unwrap();
        let repository = format!("public.ecr.aws/{repository}");
        let digest = store.digest(&repository, tag).unwrap().unwrap();
        Self::on(builder, &format!("{address}/{repository}@{digest}"), entry_point)
    }

    pub(crate) fn on(builder: Builder, base: &str, entry_point: &str) -> Option<Self> {
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

    /// Runs a shell command in the image and returns its output.
    pub(crate) fn shell(&self, command: &str) -> String {
        cmd!("docker", "run", "--rm", "--entrypoint", "/bin/sh", &self.name, "-c", command).read().unwrap()
    }

    /// Runs the entry point in the foreground and returns exit code and stderr.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let all = ["run", "--rm", &self.name].into_iter().chain(arguments.iter().copied());
        let output = cmd("docker", all).stdout_capture().stderr_capture().unchecked().run().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for name in [&self.name, &self.base] {
            // BuildKit does not add the base to the engine's images.
            let _ =
                cmd!("docker", "image", "rm", "--force", name).stdout_null().stderr_null().unchecked().run();
        }
    }
}

/// A sample base without apt-get, in which a script replaces each of `managers` and creates what it is told to install.
pub(crate) fn base_with(managers: &[&str]) -> Option<Image> {
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
    let build = cmd!("docker", "build", "--no-cache", "--tag", &name, context.path());
    let output = Builder::Legacy.ask(build).stderr_to_stdout().stdout_capture().run().unwrap();
    Some(Image { name, base, output: String::from_utf8_lossy(&output.stdout).into_owned() })
}
