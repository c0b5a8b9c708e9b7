//! Terraform or OpenTofu, run as a program: init, plan, apply and what belongs to the state.
//!
//! A child stays in this process's group. One Ctrl-C on a terminal therefore reaches it directly: it finishes what it
//! has begun, saves the state and releases the lock, while the parent waits. A second interrupt, forwarded or typed,
//! makes terraform exit at once and lose what it was creating, so only SIGTERM and SIGHUP are passed on, and only where
//! terraform does not say by itself that it got them: a service manager signals every process alike. Futures of this
//! module must be awaited to their end and not raced against an interrupt.

mod error;
mod event;
mod guard;
mod local;
mod plan;
mod program;
#[cfg(test)]
mod tests;
mod words;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use process::{Cmd, Killer, ProcessError, blocking, env_remove_all};

pub use error::{Diagnostic, Severity, TerraformError};
pub use event::{Action, Event};
pub use guard::guard;
pub use local::{LocalModule, copy_module, keep_lock};
pub use plan::{Change, Plan};
pub use program::Program;

/// How long terraform may take to say that it got a signal.
const NOTICE: Duration = Duration::from_secs(1);

/// Where the state is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// The bucket.
    pub bucket: String,
    /// The bucket's region.
    pub region: String,
    /// The object's key, where it is not the module's own.
    pub key: Option<String>,
    /// The KMS key that encrypts the state, where it is not the bucket's default.
    pub kms_key_id: Option<String>,
}

impl Backend {
    fn arguments(&self) -> Vec<String> {
        let mut pairs = vec![("bucket", self.bucket.as_str()), ("region", self.region.as_str())];
        pairs.extend(self.key.as_deref().map(|key| ("key", key)));
        pairs.extend(self.kms_key_id.as_deref().map(|key| ("kms_key_id", key)));
        pairs.into_iter().map(|(name, value)| format!("-backend-config={name}={value}")).collect()
    }
}

/// What to plan.
#[derive(Clone, Debug)]
pub struct PlanRequest<'a> {
    /// The file of the module's variables (`*.tfvars.json`).
    pub variables: &'a Path,
    /// The file that the plan is written to.
    pub out: &'a Path,
    /// Plan the end of everything instead.
    pub destroy: bool,
    /// Hold terraform's lock meanwhile, which is an object beside the state. A plan that nobody applies needs none.
    pub lock: bool,
}

/// A module with the program that runs it.
#[derive(Clone, Debug)]
pub struct Terraform {
    program: Program,
    dir: PathBuf,
    env: Vec<(String, Option<String>)>,
    lock_timeout: Duration,
}

impl Terraform {
    /// Finds the program.
    ///
    /// # Errors
    /// Neither terraform 1.11 nor OpenTofu 1.10, or newer, is in PATH.
    pub fn find() -> Result<Program, TerraformError> {
        Program::find()
    }

    /// `program` on the module in `dir`.
    pub fn new(program: Program, dir: impl Into<PathBuf>) -> Self {
        Self { program, dir: dir.into(), env: Vec::new(), lock_timeout: Duration::ZERO }
    }

    /// Sets an environment variable for the program.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Waits this long for somebody else's lock; at first a lock is an error at once.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// The module's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether `init` was run here; it may still be needed again.
    pub fn is_initialised(&self) -> bool {
        let own =
            self.env.iter().rev().find(|(name, _)| name == "TF_DATA_DIR").and_then(|(_, dir)| dir.clone());
        let data = own.map_or_else(|| self.dir.join(".terraform"), |dir| self.dir.join(dir));
        data.join("terraform.tfstate").is_file() && data.join("providers").is_dir()
    }

    /// Connects the module with its state and installs the provider. `reconfigure` forgets which state it was
    /// connected with before.
    ///
    /// # Errors
    /// [`TerraformError`]: the bucket is missing or closed, the provider cannot be installed, another state is
    /// connected already, or the program was interrupted.
    pub async fn init(
        &self,
        backend: &Backend,
        reconfigure: bool,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), TerraformError> {
        let mut cmd = self.cmd(["init", "-input=false", "-no-color"]).args(backend.arguments());
        if reconfigure {
            cmd = cmd.arg("-reconfigure");
        }
        self.run_text(cmd, on_line).await.map(drop)
    }

    /// Makes a plan and reads it back.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn plan(
        &self,
        request: &PlanRequest<'_>,
        on_event: impl FnMut(&Event) + Send + 'static,
    ) -> Result<Plan, TerraformError> {
        let mut cmd = self
            .cmd(["plan", "-json", "-input=false"])
            .arg(if request.lock { self.lock_timeout_argument() } else { "-lock=false".to_owned() })
            .arg(format!("-var-file={}", request.variables.display()))
            .arg(format!("-out={}", request.out.display()));
        if request.destroy {
            cmd = cmd.arg("-destroy");
        }
        self.run_events(cmd, on_event).await?;
        self.show(request.out).await
    }

    /// Reads a plan that was made before.
    ///
    /// # Errors
    /// [`TerraformError`]: the file is no plan, or not of this program's version.
    pub async fn show(&self, plan: &Path) -> Result<Plan, TerraformError> {
        let text = self.read(self.cmd(["show", "-json", "-no-color"]).arg(plan)).await?;
        Plan::parse(&text)
    }

    /// Does exactly what a plan says.
    ///
    /// # Errors
    /// [`TerraformError`]: the state has changed since, a resource could not be changed, or the program was
    /// interrupted. What was done until then is in the state.
    pub async fn apply(
        &self,
        plan: &Path,
        on_event: impl FnMut(&Event) + Send + 'static,
    ) -> Result<(), TerraformError> {
        let cmd = self.cmd(["apply", "-json", "-input=false"]).arg(self.lock_timeout_argument()).arg(plan);
        self.run_events(cmd, on_event).await
    }

    /// The addresses of the resources in the state, data sources left out; none where there is no state yet.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn state_list(&self) -> Result<Vec<String>, TerraformError> {
        match self.read(self.cmd(["state", "list", "-no-color"])).await {
            Ok(text) => {
                let managed = text.lines().filter(|address| !address.split('.').any(|part| part == "data"));
                Ok(managed.map(str::to_owned).collect())
            }
            Err(TerraformError::NoState) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Forgets resources without touching them, under the lock.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn state_rm(&self, addresses: &[String]) -> Result<(), TerraformError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let cmd = self.cmd(["state", "rm", "-no-color"]).arg(self.lock_timeout_argument()).args(addresses);
        self.run_text(cmd, |_| ()).await.map(drop)
    }

    /// Records a resource that stands already.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn import(&self, variables: &Path, address: &str, id: &str) -> Result<(), TerraformError> {
        let cmd = self
            .cmd(["import", "-input=false", "-no-color"])
            .arg(self.lock_timeout_argument())
            .arg(format!("-var-file={}", variables.display()))
            .args([address, id]);
        self.run_text(cmd, |_| ()).await.map(drop)
    }

    /// Takes back the mark of a resource whose creation failed half-way, so that it is not replaced.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn untaint(&self, address: &str) -> Result<(), TerraformError> {
        let cmd = self.cmd(["untaint", "-no-color"]).arg(self.lock_timeout_argument()).arg(address);
        self.run_text(cmd, |_| ()).await.map(drop)
    }

    /// Releases a lock that nobody holds any more.
    ///
    /// # Errors
    /// [`TerraformError`]: there is no such lock.
    pub async fn force_unlock(&self, id: &str) -> Result<(), TerraformError> {
        self.run_text(self.cmd(["force-unlock", "-force", "-no-color"]).arg(id), |_| ()).await.map(drop)
    }

    fn lock_timeout_argument(&self) -> String {
        format!("-lock-timeout={}s", self.lock_timeout.as_secs())
    }

    fn cmd<const N: usize>(&self, arguments: [&str; N]) -> Cmd {
        // What a shell has set for terraform by hand must not change what this program means.
        let mut cmd = Cmd::new(self.program.path())
            .args(arguments)
            .cwd(&self.dir)
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_INPUT", "0")
            // A workspace that is not there would be an empty state, without a word.
            .env("TF_WORKSPACE", "default")
            .env("CHECKPOINT_DISABLE", "1");
        cmd = env_remove_all(cmd, "TF_CLI_ARGS").env_remove("TF_DATA_DIR");
        for (name, value) in &self.env {
            cmd = match value {
                Some(value) => cmd.env(name, value),
                None => cmd.env_remove(name),
            };
        }
        cmd
    }

    /// A short command whose stdout is wanted.
    async fn read(&self, cmd: Cmd) -> Result<String, TerraformError> {
        let result = blocking(move || cmd.read()).await;
        result.map_err(|error| self.explain(error, Vec::new(), false))
    }

    /// A command that speaks to people; gives what it said.
    async fn run_text(
        &self,
        cmd: Cmd,
        mut on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<String, TerraformError> {
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let result = self
            .stream(cmd, move |line| {
                on_line(line);
                if let Ok(mut said) = heard.lock() {
                    said.push_str(line);
                    said.push('\n');
                }
            })
            .await;
        let said = said.lock().map(|said| said.clone()).unwrap_or_default();
        match result {
            Ok(()) => Ok(said),
            Err((error, interrupted)) => Err(self.explain(error, Diagnostic::from_text(&said), interrupted)),
        }
    }

    /// A command that speaks in events.
    async fn run_events(
        &self,
        cmd: Cmd,
        mut on_event: impl FnMut(&Event) + Send + 'static,
    ) -> Result<(), TerraformError> {
        let errors = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&errors);
        let result = self
            .stream(cmd, move |line| {
                let event = Event::parse(line);
                if let (Event::Diagnostic(diagnostic), Ok(mut errors)) = (&event, heard.lock())
                    && diagnostic.severity == Severity::Error
                {
                    errors.push(diagnostic.clone());
                }
                on_event(&event);
            })
            .await;
        let errors = errors.lock().map(|errors| errors.clone()).unwrap_or_default();
        result.map_err(|(error, interrupted)| self.explain(error, errors, interrupted))
    }

    /// Runs `cmd` to its end, whatever signals come, and says whether one did.
    async fn stream(
        &self,
        cmd: Cmd,
        mut on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), (ProcessError, bool)> {
        let interrupted = Arc::new(AtomicBool::new(false));
        let notice = Arc::new(watch::Sender::new(false));
        let killer = Killer::default();
        let listeners =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(|kind| {
                let (seen, killer) = (Arc::clone(&interrupted), killer.clone());
                let notice = Arc::clone(&notice);
                tokio::spawn(async move {
                    // Without a handler the signal ends this process, which is what it would have done anyway.
                    let Ok(mut signals) = signal(kind) else { return };
                    while signals.recv().await.is_some() {
                        seen.store(true, Ordering::SeqCst);
                        if kind == SignalKind::interrupt() {
                            continue;
                        }
                        let mut noticed = notice.subscribe();
                        if timeout(NOTICE, noticed.wait_for(|noticed| *noticed)).await.is_err() {
                            notice.send_replace(true);
                            killer.terminate();
                        }
                    }
                })
            });
        // The listeners must have their handlers before there is something to protect.
        tokio::task::yield_now().await;
        let result = cmd.stream(killer, move |line| {
            if line.contains("Interrupt received") {
                notice.send_replace(true);
            }
            on_line(line);
        });
        let result = result.await;
        for listener in listeners {
            listener.abort();
        }
        result.map_err(|error| (error, interrupted.load(Ordering::SeqCst)))
    }

    fn explain(&self, error: ProcessError, said: Vec<Diagnostic>, interrupted: bool) -> TerraformError {
        match error {
            ProcessError::Failed { tail, .. } => {
                let said = if said.is_empty() { Diagnostic::from_text(&tail.join("\n")) } else { said };
                TerraformError::from_diagnostics(&self.dir, said, &tail, interrupted)
            }
            other => TerraformError::Process(other),
        }
    }
}
