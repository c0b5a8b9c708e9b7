//! Commands on the state, under terraform's lock: list its resources; remove, import and untaint them without a plan.

use std::path::Path;

use super::{Terraform, TerraformError, run};
use process::Cmd;

/// The state of an initialised module.
#[derive(Clone, Copy, Debug)]
pub struct State<'a>(pub(super) &'a Terraform);

impl State<'_> {
    /// The addresses of the resources in the state, without data sources. Empty if there is no state yet.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn list(&self) -> Result<Vec<String>, TerraformError> {
        match run::read(&self.0.dir, self.0.cmd(["state", "list", "-no-color"])).await {
            Ok(text) => {
                let managed = text.lines().filter(|address| !address.split('.').any(|part| part == "data"));
                Ok(managed.map(str::to_owned).collect())
            }
            Err(TerraformError::NoState) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Removes resources from the state without changing them.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn remove(&self, addresses: &[String]) -> Result<(), TerraformError> {
        if addresses.is_empty() {
            return Ok(());
        }
        let cmd = self.0.cmd(["state", "rm", "-no-color"]).arg(self.0.lock_timeout_argument());
        self.change(cmd.args(addresses)).await
    }

    /// Adds a resource that already exists to the state.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn import(&self, variables: &Path, address: &str, id: &str) -> Result<(), TerraformError> {
        let cmd = self
            .0
            .cmd(["import", "-input=false", "-no-color"])
            .arg(self.0.lock_timeout_argument())
            .arg(format!("-var-file={}", variables.display()));
        self.change(cmd.args([address, id])).await
    }

    /// Removes the taint of a resource whose creation failed halfway, so that it is not replaced.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn untaint(&self, address: &str) -> Result<(), TerraformError> {
        let cmd = self.0.cmd(["untaint", "-no-color"]).arg(self.0.lock_timeout_argument());
        self.change(cmd.arg(address)).await
    }

    /// Releases the lock of a run that has ended.
    ///
    /// # Errors
    /// [`TerraformError`]: there is no lock with this ID.
    pub async fn force_unlock(&self, id: &str) -> Result<(), TerraformError> {
        self.change(self.0.cmd(["force-unlock", "-force", "-no-color"]).arg(id)).await
    }

    async fn change(&self, cmd: Cmd) -> Result<(), TerraformError> {
        run::text(&self.0.dir, cmd, |_| ()).await.map(drop)
    }
}
