//! Terraform or OpenTofu, run as a program: init, plan, apply and what belongs to the state.
//!
//! A child stays in this process's group. One Ctrl-C on a terminal therefore reaches it directly: it finishes what it
//! has begun, saves the state and releases the lock, while the parent waits. A second interrupt, forwarded or typed,
//! makes terraform exit at once and lose what it was creating, so only SIGTERM and SIGHUP are passed on, and only where
//! terraform does not say by itself that it got them: a service manager signals every process alike. Futures of this
//! module must be awaited to their end and not raced against an interrupt.

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
        let own = self.env.iter().rev().find(|(name, _)| name == "TF_DATA_DIR");
        let data = self.dir.join(own.map_or(".terraform", |(_, dir)| dir));
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
        run::text(&self.dir, cmd, on_line).await.map(drop)
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
        run::events(&self.dir, cmd, on_event).await?;
        self.show(request.out).await
    }

    /// Reads a plan that was made before.
    ///
    /// # Errors
    /// [`TerraformError`]: the file is no plan, or not of this program's version.
    pub async fn show(&self, plan: &Path) -> Result<Plan, TerraformError> {
        let text = run::read(&self.dir, self.cmd(["show", "-json", "-no-color"]).arg(plan)).await?;
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
        run::events(&self.dir, cmd, on_event).await
    }

    /// What changes the state without a plan.
    pub fn state(&self) -> State<'_> {
        State(self)
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
            cmd = cmd.env(name, value);
        }
        cmd
    }
}
