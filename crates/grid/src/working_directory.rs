//! Terraform's directory: connected with the grid's state, or about to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aws::bucket::StateBucket;
use aws::encryption::Encryption;
use aws::errors::{key_refusal, permission};
use failure::{Kind, ending};
use serde_json::Value;
use terraform::{Backend, LocalModule, Program, Terraform, TerraformError, copy_module, keep_lock};

use super::{Infrastructure, Options};

/// Terraform, ready to run.
struct WorkingDirectory {
    terraform: Terraform,
    init_needed: bool,
}

impl Infrastructure<'_> {
    /// Terraform in its directory, connected with this state; `terraform init` is run where that was not done.
    ///
    /// # Errors
    /// Terraform is missing, the bucket will not do, or the initialisation fails.
    pub async fn terraform(&self) -> anyhow::Result<Terraform> {
        let working_directory = self.working_directory().await?;
        if !working_directory.init_needed && self.is_connected(&working_directory.terraform).await? {
            return Ok(working_directory.terraform);
        }
        StateBucket::new(self.aws, self.store.bucket()).check().await?;
        self.init(working_directory.terraform).await
    }

    /// Runs `terraform init`, whatever was done before.
    ///
    /// # Errors
    /// Terraform is missing or fails.
    pub async fn initialise(&self) -> anyhow::Result<()> {
        self.init(self.working_directory().await?.terraform).await.map(drop)
    }

    pub(super) async fn init(&self, terraform: Terraform) -> anyhow::Result<Terraform> {
        let backend = Backend {
            bucket: self.store.bucket().to_owned(),
            region: self.aws.region().to_owned(),
            key: Some(self.store.key().to_owned()),
            kms_key_id: self.kms_key().await?,
        };
        terraform.init(&backend, true, self.options.watch.init()).await.map_err(explain)?;
        if self.options.stand_in.is_none() {
            keep_lock(&self.options.module, terraform.dir());
        }
        Ok(terraform)
    }

    /// The key that terraform is told to encrypt the state and its lock with.
    async fn kms_key(&self) -> anyhow::Result<Option<String>> {
        let encryption = self.store.encryption().await?;
        Ok(encryption.and_then(Encryption::terraform_key).map(str::to_owned))
    }

    /// Whether the last `terraform init` here was for this very state.
    async fn is_connected(&self, terraform: &Terraform) -> anyhow::Result<bool> {
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
        let key = self.kms_key().await?;
        let is = |name: &str, value: Option<&str>| {
            connected.backend.config.get(name).and_then(Value::as_str) == value
        };
        Ok(terraform.is_initialised()
            && is("bucket", Some(self.store.bucket()))
            && is("key", Some(self.store.key()))
            && is("region", Some(self.aws.region()))
            && is("kms_key_id", key.as_deref()))
    }

    /// A copy of the module, and what terraform has to be told there: where AWS is emulated also where the stand-in provider is.
    async fn working_directory(&self) -> anyhow::Result<WorkingDirectory> {
        let program = Program::find().map_err(explain)?;
        let Options { module, directory, .. } = &*self.options;
        let mut working_directory = if let Some(stand_in) = &self.options.stand_in {
            let laid = LocalModule::lay_out(module, directory, &stand_in().await?).map_err(explain)?;
            let terraform = Terraform::new(program, laid.dir)
                .env("TF_CLI_CONFIG_FILE", laid.cli_config.display().to_string());
            WorkingDirectory { terraform, init_needed: laid.init_needed }
        } else {
            let copy = copy_module(module, directory).map_err(explain)?;
            WorkingDirectory { terraform: Terraform::new(program, copy), init_needed: false }
        };
        working_directory.terraform = working_directory.terraform.lock_timeout(self.options.lock_timeout);
        Ok(working_directory)
    }
}

/// What `terraform init` left in the directory where terraform works: the connection with the state, and the provider.
pub fn terraform_data(directory: &Path) -> PathBuf {
    directory.join("module/.terraform")
}

/// Terraform's errors with their kind and hint.
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
    fn a_key_that_kms_refuses_is_a_matter_of_permissions() {
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
