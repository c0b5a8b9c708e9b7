//! The state itself: which resources are in it, and what is put into it or taken out without a plan, under terraform's lock.

use std::path::Path;

use super::{Terraform, TerraformError, run};
use process::Cmd;

/// The state of a module that is initialised.
#[derive(Clone, Copy, Debug)]
pub struct State<'a>(pub(super) &'a Terraform);

impl State<'_> {
    /// The addresses of the resources in the state, data sources left out; none where there is no state yet.
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

    /// Forgets resources without touching them.
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

    /// Records a resource that exists already.
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

    /// Takes back the mark of a resource whose creation failed half-way, so that it is not replaced.
    ///
    /// # Errors
    /// [`TerraformError`].
    pub async fn untaint(&self, address: &str) -> Result<(), TerraformError> {
        let cmd = self.0.cmd(["untaint", "-no-color"]).arg(self.0.lock_timeout_argument());
        self.change(cmd.arg(address)).await
    }

    /// Releases a lock whose holder has ended.
    ///
    /// # Errors
    /// [`TerraformError`]: there is no such lock.
    pub async fn force_unlock(&self, id: &str) -> Result<(), TerraformError> {
        self.change(self.0.cmd(["force-unlock", "-force", "-no-color"]).arg(id)).await
    }

    async fn change(&self, cmd: Cmd) -> Result<(), TerraformError> {
        run::text(&self.0.dir, cmd, |_| ()).await.map(drop)
    }
}
