//! Terraform's working directory and its connection with the grid's state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws::bucket::StateBucket;
use aws::encryption::Encryption;
use aws::errors::{key_refusal, permission};
use failure::{FailWith as _, Kind, ending};
use serde_json::Value;
use terraform::{Backend, LocalModule, Program, Terraform, TerraformError, copy_module, keep_lock};

use super::{GridEvent, Infrastructure, Options};

/// Terraform, ready to run.
struct WorkingDirectory {
    terraform: Terraform,
    init_needed: bool,
}

impl Infrastructure<'_> {
    /// Terraform in its directory, connected with this state. Runs `terraform init` if needed.
    ///
    /// # Errors
    /// Terraform is missing, the bucket cannot be used, or the initialisation fails.
    pub async fn terraform(&self) -> anyhow::Result<Terraform> {
        let working_directory = working_directory(self).await?;
        if !working_directory.init_needed && is_connected(self, &working_directory.terraform).await? {
            return Ok(working_directory.terraform);
        }
        StateBucket::new(self.aws, self.store.bucket()).check().await?;
        init(self, working_directory.terraform).await
    }

    /// Runs `terraform init` in any case.
    ///
    /// # Errors
    /// Terraform is missing or fails.
    pub async fn initialise(&self) -> anyhow::Result<()> {
        init(self, working_directory(self).await?.terraform).await.map(drop)
    }
}

pub(super) async fn init(grid: &Infrastructure<'_>, terraform: Terraform) -> anyhow::Result<Terraform> {
    let backend = Backend {
        bucket: grid.store.bucket().to_owned(),
        region: grid.aws.region().to_owned(),
        key: Some(grid.store.key().to_owned()),
        kms_key_id: kms_key(grid).await?,
    };
    terraform.init(&backend, true, grid.options.watch.init()).await.map_err(explain)?;
    if grid.options.stand_in.is_none() {
        keep_lock(&grid.options.module, terraform.dir());
    }
    Ok(terraform)
}

/// The key that terraform encrypts the state and its lock with.
async fn kms_key(grid: &Infrastructure<'_>) -> anyhow::Result<Option<String>> {
    let encryption = grid.store.encryption().await?;
    Ok(encryption.and_then(Encryption::terraform_key).map(str::to_owned))
}

/// Whether the last `terraform init` here was for this state.
async fn is_connected(grid: &Infrastructure<'_>, terraform: &Terraform) -> anyhow::Result<bool> {
    #[derive(serde::Deserialize)]
    struct Connected {
        backend: Inner,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        config: BTreeMap<String, Value>,
    }
    let file = terraform.dir().join(".terraform/terraform.tfstate");
    let Ok(bytes) = std::fs::read(file) else { return Ok(false) };
    let Ok(connected) = serde_json::from_slice::<Connected>(&bytes) else { return Ok(false) };
    let key = kms_key(grid).await?;
    let is =
        |name: &str, value: Option<&str>| connected.backend.config.get(name).and_then(Value::as_str) == value;
    Ok(terraform.is_initialised()
        && is("bucket", Some(grid.store.bucket()))
        && is("key", Some(grid.store.key()))
        && is("region", Some(grid.aws.region()))
        && is("kms_key_id", key.as_deref()))
}

/// A copy of the module and terraform's settings there, which include the stand-in provider if AWS is emulated.
async fn working_directory(grid: &Infrastructure<'_>) -> anyhow::Result<WorkingDirectory> {
    let program = Program::find().map_err(explain)?;
    let Options { module, directory, .. } = &*grid.options;
    let mut working_directory = if let Some(stand_in) = &grid.options.stand_in {
        let laid = LocalModule::lay_out(module, directory, &stand_in().await?).map_err(explain)?;
        let terraform = Terraform::new(program, laid.dir)
            .env("TF_CLI_CONFIG_FILE", laid.cli_config.display().to_string());
        WorkingDirectory { terraform, init_needed: laid.init_needed }
    } else {
        let copy = copy_module(module, directory).map_err(explain)?;
        WorkingDirectory { terraform: Terraform::new(program, copy), init_needed: false }
    };
    working_directory.terraform = working_directory.terraform.lock_timeout(grid.options.lock_timeout);
    Ok(working_directory)
}

/// The result of a terraform command. If it had no permission to release its own lock, the lock is released here: this run took it.
pub(super) async fn unlocked<T>(
    grid: &Infrastructure<'_>,
    result: Result<T, TerraformError>,
) -> anyhow::Result<T> {
    let error = match result {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    let left = matches!(error, TerraformError::Denied { lock_left: true, .. });
    let error = explain(error);
    if !left {
        return Err(error);
    }
    let lock = grid.store.sidecar("tflock");
    match grid.store.delete(&lock, None).await {
        Ok(()) => {
            grid.options.watch.on_event(&GridEvent::Unlocked);
            Err(error)
        }
        // The error names the missing permission already.
        Err(_) => Err(error).hint(
            Kind::Terraform,
            format!(
                "the terraform state stays locked: `aws s3 rm s3://{}/{lock}` removes the lock; it needs s3:DeleteObject",
                grid.store.bucket()
            ),
        ),
    }
}

/// Releases the lock on the state of a run that has ended.
///
/// # Errors
/// There is no lock with this ID.
pub async fn release_lock(grid: &Infrastructure<'_>, id: &str) -> anyhow::Result<()> {
    grid.terraform().await?.state().force_unlock(id).await.map_err(explain)
}

/// The directory of `terraform init`: the connection with the state, and the provider.
pub fn terraform_data(directory: &Path) -> PathBuf {
    directory.join("module/.terraform")
}

/// Adds kind and hint to terraform's errors.
pub(super) fn explain(error: TerraformError) -> anyhow::Error {
    if let TerraformError::Failed { .. } = &error
        && let Some(hint) = key_refusal("", &error.to_string())
    {
        return ending(Kind::Credentials, Some(hint), error);
    }
    let kind = match &error {
        TerraformError::Missing | TerraformError::TooOld { .. } => Kind::MissingTool,
        TerraformError::Credentials { .. } | TerraformError::Denied { .. } => Kind::Credentials,
        TerraformError::Refused { .. } => Kind::Refused,
        TerraformError::Interrupted | TerraformError::Killed { .. } => Kind::Interrupted,
        _ => Kind::Terraform,
    };
    let hint = match &error {
        TerraformError::Denied { action, words, .. } => Some(permission(action, words)),
        other => other.hint(),
    };
    ending(kind, hint, error)
}

#[cfg(test)]
mod tests {
    use failure::kind_of;
    use terraform::{Diagnostic, Severity};

    use super::*;

    #[test]
    fn a_key_that_kms_refuses_is_a_permission_failure() {
        let failed = |summary: &str| {
            let summary = summary.to_owned();
            let diagnostic =
                Diagnostic { severity: Severity::Error, summary, detail: String::new(), address: None };
            explain(TerraformError::Failed { diagnostics: vec![diagnostic] })
        };
        let refused = failed(
            "creating ECR Repository (awshpc): operation error ECR: CreateRepository, KmsException: The operation failed",
        );
        assert_eq!(kind_of(&refused), Kind::Credentials);
        assert!(
            failure::render(&refused).contains("hint: the key that this is encrypted with cannot be used")
        );
        assert_eq!(
            kind_of(&failed("creating ECR Repository (awshpc): LimitExceededException")),
            Kind::Terraform
        );
    }
}
