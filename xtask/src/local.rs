//! The emulated AWS on this machine: a separate process that is started when needed and stays running.

mod setup;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use aws::Endpoint;
use process::Cmd;
pub use setup::LocalSetup;

use crate::cargo;
use crate::paths::Paths;
use crate::prerequisites::has_ended;
use crate::ui::Printer;

/// The time limit for the emulator to listen. It usually takes a few milliseconds.
const START_BOUND: Duration = Duration::from_secs(20);
/// The programs of `--local`. Compiled together, because cargo would recompile shared dependencies for each selection of packages.
pub const PROGRAMS: &[&str] = &["local-aws", "provider-standin", "sample-upstreams"];
/// The emulated account.
pub const ACCOUNT: &str = "123456789012";
/// The bucket of the terraform state with `--local`, if none is named.
pub const STATE_BUCKET: &str = "htc-grid-local-state";

/// A background server of this project, as it writes itself to `server.json` when it listens.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Running {
    /// Its process ID.
    pub pid: u32,
    /// Its port on 127.0.0.1.
    pub port: u16,
}

impl Running {
    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// A background server of this workspace: a package, its data and its log.
#[derive(Clone, Debug)]
pub struct Background {
    package: &'static str,
    data: PathBuf,
    paths: Paths,
    http: reqwest::Client,
}

impl Background {
    /// The emulated AWS.
    pub fn aws(paths: &Paths, http: &reqwest::Client) -> Self {
        Self::new("local-aws", paths, http)
    }

    /// The sample upstreams.
    pub fn samples(paths: &Paths, http: &reqwest::Client) -> Self {
        Self::new("sample-upstreams", paths, http)
    }

    fn new(package: &'static str, paths: &Paths, http: &reqwest::Client) -> Self {
        Self { package, data: paths.local().join(package), paths: paths.clone(), http: http.clone() }
    }

    /// The directory of its data.
    pub fn data(&self) -> &PathBuf {
        &self.data
    }

    /// The server, if it runs and answers.
    pub async fn running(&self) -> Option<Running> {
        let known = self.known()?;
        self.answers(&known).await.then_some(known)
    }

    /// The server; starts it if it does not run. `extra` are further arguments of `serve`. A server with other arguments is
    /// restarted on the same port and keeps its data.
    ///
    /// # Errors
    /// It cannot be compiled or started, or does not listen in time.
    pub async fn ensure(&self, extra: &[String], printer: &Printer) -> anyhow::Result<Running> {
        std::fs::create_dir_all(&self.data).context("could not create the directory for local data")?;
        let arguments = self.data.join("arguments");
        if let Some(running) = self.running().await {
            let same = std::fs::read_to_string(&arguments).is_ok_and(|text| text == extra.join("\n"));
            if same || extra.is_empty() {
                return Ok(running);
            }
            self.stop().await?;
        }
        let program = self.build(printer).await?;
        let before = self.known();
        let mut serve = Cmd::new(program).args(["serve", "--data"]).arg(&self.data);
        if let Some(before) = &before {
            serve = serve.arg("--port").arg(before.port.to_string());
        }
        let log = self.data.join("server.log");
        let pid = serve.args(extra).spawn_detached(&log)?;
        let running = self.wait(pid, &log).await?;
        std::fs::write(&arguments, extra.join("\n")).context("could not note the server's arguments")?;
        if let Some(before) = before.filter(|before| before.port != running.port) {
            printer.warn(format!(
                "port {} was taken: {} listens on {} now",
                before.port, self.package, running.port
            ));
        }
        Ok(running)
    }

    /// Ends the server, if it runs, and waits until its process has ended.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn stop(&self) -> anyhow::Result<Option<Running>> {
        let Some(running) = self.running().await else { return Ok(None) };
        if let Some(pid) = i32::try_from(running.pid).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended in the meantime.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + START_BOUND;
        // The process uses its data until it has ended.
        while !has_ended(running.pid) {
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} (process {}) does not stop",
                self.package,
                running.pid
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(running))
    }

    /// Compiles the server and returns the path of its program.
    ///
    /// # Errors
    /// cargo is missing or the server does not compile.
    pub async fn build(&self, printer: &Printer) -> anyhow::Result<PathBuf> {
        program(&self.paths, self.package, printer).await
    }

    fn known(&self) -> Option<Running> {
        let text = std::fs::read(self.data.join("server.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    async fn answers(&self, running: &Running) -> bool {
        let request =
            self.http.get(format!("{}/_local/requests", running.url())).timeout(Duration::from_secs(2));
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn wait(&self, pid: u32, log: &std::path::Path) -> anyhow::Result<Running> {
        let deadline = Instant::now() + START_BOUND;
        loop {
            if let Some(running) = self.known().filter(|known| known.pid == pid)
                && self.answers(&running).await
            {
                return Ok(running);
            }
            if Instant::now() > deadline {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                anyhow::bail!("{} did not start: {}", self.package, said.trim());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Compiles the programs of `--local`, and returns the path of one of them.
async fn program(paths: &Paths, name: &str, printer: &Printer) -> anyhow::Result<PathBuf> {
    let programs = cargo::build(paths.root(), PROGRAMS, printer).await?;
    programs.get(name).cloned().with_context(|| format!("cargo built no program {name}"))
}

impl From<&Running> for Endpoint {
    fn from(running: &Running) -> Self {
        Self { url: running.url() }
    }
}

/// The variables that lead the aws CLI, docker and terraform to the emulated AWS.
pub fn environment(url: &str, region: &str) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT_URL", url.to_owned()),
        ("AWS_ACCESS_KEY_ID", "local".into()),
        ("AWS_SECRET_ACCESS_KEY", "local".into()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
    ]
}

/// Compiles the stand-in provider and returns the path of its program.
///
/// # Errors
/// It does not compile.
pub async fn provider(paths: &Paths, printer: &Printer) -> anyhow::Result<PathBuf> {
    program(paths, "provider-standin", printer).await
}
