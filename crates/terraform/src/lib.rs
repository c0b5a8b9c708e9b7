//! Terraform or OpenTofu, run as a program: init, plan, apply and commands on the state.
//!
//! A child stays in this process's group, so one Ctrl-C on a terminal reaches it directly: it finishes what it has started, saves
//! the state and releases the lock, while the parent waits. A second interrupt makes terraform exit at once and lose what it was
//! creating. Therefore only SIGTERM and SIGHUP are forwarded, and only if terraform does not report that it got them itself,
//! because a service manager signals every process. Futures of this module must be awaited to their end and not raced against an
//! interrupt.

mod deletion_guard;
mod error;
mod event;
mod local;
mod plan;
mod program;
mod run;
mod state;
#[cfg(test)]
mod tests;
mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use process::{Cmd, env_remove_all};

pub use deletion_guard::guard;
pub use error::{Diagnostic, Severity, TerraformError};
pub use event::{Action, Event};
pub use local::{LocalModule, copy_module, keep_lock};
pub use plan::{Change, Plan};
pub use program::Program;
pub use state::State;

/// The location of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// The bucket.
    pub bucket: String,
    /// The bucket's region.
    pub region: String,
    /// The object's key. `None` for the module's default.
    pub key: Option<String>,
    /// The KMS key that encrypts the state. `None` for the bucket's default.
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
    /// Plan to delete everything.
    pub destroy: bool,
    /// Hold terraform's lock, an object next to the state, while planning. A plan that will not be applied needs no lock.
    pub lock: bool,
}

/// A module and the program that runs it.
#[derive(Clone, Debug)]
pub struct Terraform {
    program: Program,
    dir: PathBuf,
    env: Vec<(String, String)>,
    lock_timeout: Duration,
}

impl Terraform {
    /// `program` on the module in `dir`.
    pub fn new(program: Program, dir: impl Into<PathBuf>) -> Self {
        Self { program, dir: dir.into(), env: Vec::new(), lock_timeout: Duration::ZERO }
    }

    /// Sets an environment variable for the program.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Waits this long for a lock that another run holds. The default is zero: a lock is an error at once.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// The module's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether `init` has been run here. It may be needed again.
    pub fn is_initialised(&self) -> bool {
        let own = self.env.iter().rev().find(|(name, _)| name == "TF_DATA_DIR");
        let data = self.dir.join(own.map_or(".terraform", |(_, dir)| dir));
        data.join("terraform.tfstate").is_file() && data.join("providers").is_dir()
    }

    /// Connects the module with its state and installs the provider. `reconfigure` ignores the state it was connected with before.
    ///
    /// # Errors
    /// [`TerraformError`]: the bucket is missing or access is denied, the provider cannot be installed, the module is connected
    /// with another state, or the program was interrupted.
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
        run::text(&self.dir, cmd, on_line).await.map(drop)
    }

    /// Makes a plan and reads it.
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
        run::events(&self.dir, cmd, on_event).await?;
        self.show(request.out).await
    }

    /// Reads a plan made earlier.
    ///
    /// # Errors
    /// [`TerraformError`]: the file is not a plan, or was made by another version of the program.
    pub async fn show(&self, plan: &Path) -> Result<Plan, TerraformError> {
        let text = run::read(&self.dir, self.cmd(["show", "-json", "-no-color"]).arg(plan)).await?;
        Plan::parse(&text)
    }

    /// Applies exactly this plan.
    ///
    /// # Errors
    /// [`TerraformError`]: the state has changed since, a resource could not be changed, or the program was interrupted. Changes
    /// that were made until then are in the state.
    pub async fn apply(
        &self,
        plan: &Path,
        on_event: impl FnMut(&Event) + Send + 'static,
    ) -> Result<(), TerraformError> {
        let cmd = self.cmd(["apply", "-json", "-input=false"]).arg(self.lock_timeout_argument()).arg(plan);
        run::events(&self.dir, cmd, on_event).await
    }

    /// Commands that change the state without a plan.
    pub fn state(&self) -> State<'_> {
        State(self)
    }

    fn lock_timeout_argument(&self) -> String {
        format!("-lock-timeout={}s", self.lock_timeout.as_secs())
    }

    fn cmd<const N: usize>(&self, arguments: [&str; N]) -> Cmd {
        // Terraform variables set in the user's shell must not change the command.
        let mut cmd = Cmd::new(self.program.path())
            .args(arguments)
            .cwd(&self.dir)
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_INPUT", "0")
            // Terraform treats a workspace that does not exist as an empty state, without a message.
            .env("TF_WORKSPACE", "default")
            .env("CHECKPOINT_DISABLE", "1");
        cmd = env_remove_all(cmd, "TF_CLI_ARGS").env_remove("TF_DATA_DIR");
        for (name, value) in &self.env {
            cmd = cmd.env(name, value);
        }
        cmd
    }
}
