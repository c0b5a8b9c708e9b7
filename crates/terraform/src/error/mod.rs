//! Typed terraform errors. Most of them are recognised by terraform's messages.

mod diagnostic;
mod recognised;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use process::ProcessError;

use super::deletion_guard::Refusal;

pub use diagnostic::{Diagnostic, LockHolder, Severity};

/// Why a terraform command failed.
#[derive(Debug, thiserror::Error)]
pub enum TerraformError {
    /// Neither terraform nor tofu is in PATH.
    #[error("neither terraform nor tofu is in PATH")]
    Missing,
    /// The program cannot lock the state in S3.
    #[error("{program} {version} is too old: {least} is needed")]
    TooOld {
        /// Its name.
        program: &'static str,
        /// Its version.
        version: String,
        /// The oldest version that works.
        least: String,
    },
    /// Another run has locked the state.
    #[error(
        "the terraform state {} is locked by {} ({}) since {}",
        holder.path, holder.who, holder.operation, holder.since
    )]
    Locked {
        /// The run that holds the lock.
        holder: Box<LockHolder>,
    },
    /// The state changed after the plan was made.
    #[error("the plan is out of date: the state was changed after it was made")]
    StalePlan,
    /// The directory is initialised for another state.
    #[error("{} is initialised for another state", dir.display())]
    BackendChanged {
        /// The module.
        dir: PathBuf,
    },
    /// The directory is not initialised, or the provider is missing.
    #[error("{} is not initialised", dir.display())]
    NotInitialised {
        /// The module.
        dir: PathBuf,
    },
    /// The state bucket does not exist.
    #[error("the state bucket {bucket:?} does not exist")]
    MissingBucket {
        /// Its name.
        bucket: String,
    },
    /// `TF_WORKSPACE` or an earlier `workspace select` names a workspace that does not exist in the bucket.
    #[error("the terraform workspace {workspace:?} does not exist in the state bucket")]
    MissingWorkspace {
        /// Its name.
        workspace: String,
    },
    /// There is no state yet.
    #[error("there is no terraform state yet")]
    NoState,
    /// The provider cannot be installed.
    #[error("the terraform provider could not be installed: {words}")]
    Provider {
        /// Terraform's message.
        words: String,
    },
    /// The providers' lock file has no checksum that matches the provider here.
    #[error("the terraform provider is not what .terraform.lock.hcl says: {words}")]
    Checksums {
        /// The program that the provider belongs to.
        program: &'static str,
        /// Terraform's message.
        words: String,
    },
    /// A plan has an action that this program does not know.
    #[error("the plan has an action that is not known here: {address}: {actions}")]
    UnknownAction {
        /// The resource, or the output.
        address: String,
        /// The actions, by terraform's names.
        actions: String,
    },
    /// AWS refuses because a permission is missing.
    #[error("AWS refuses {action}: {words}")]
    Denied {
        /// The IAM action.
        action: String,
        /// Terraform's message.
        words: String,
        /// Whether the state is still locked, because the permission is also needed to release the lock.
        lock_left: bool,
    },
    /// Credentials are missing or not valid.
    #[error("terraform has no valid AWS credentials: {words}")]
    Credentials {
        /// Terraform's message.
        words: String,
    },
    /// The plan would delete something protected.
    #[error("the plan is refused:{}", listed(refusals))]
    Refused {
        /// The refused changes, with the reasons.
        refusals: Vec<Refusal>,
    },
    /// A signal arrived. The changes in progress were finished and are in the state.
    #[error("terraform was interrupted; it finished and recorded what it had started")]
    Interrupted,
    /// Terraform was interrupted twice, or killed.
    #[error("terraform was killed before it finished{}", listed(diagnostics))]
    Killed {
        /// Terraform's messages.
        diagnostics: Vec<Diagnostic>,
    },
    /// Any other error from terraform.
    #[error("terraform failed:{}", listed(diagnostics))]
    Failed {
        /// Terraform's messages.
        diagnostics: Vec<Diagnostic>,
    },
    /// Terraform's output cannot be read.
    #[error("terraform wrote {what} in an unknown format")]
    Unreadable {
        /// Which output.
        what: &'static str,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// The module's files could not be written.
    #[error("could not write {}", path.display())]
    Files {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The program could not be started or failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

fn listed<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}

impl TerraformError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing => "install terraform 1.11 or newer (https://developer.hashicorp.com/terraform/install) or \
                              OpenTofu 1.10.2 or newer (https://opentofu.org/docs/intro/install)"
                .to_owned(),
            Self::TooOld { program: "tofu", .. } => {
                "install a newer one (https://opentofu.org/docs/intro/install): 1.10.0 and 1.10.1 write the lock of the state \
                 without encryption, which many buckets refuse, and older ones lock nothing in S3"
                    .to_owned()
            }
            Self::TooOld { .. } => {
                "install a newer one: https://developer.hashicorp.com/terraform/install".to_owned()
            }
            Self::Locked { holder } => format!(
                "wait until {} is done, or give --lock-timeout; if that run is dead: cargo xtask init-images \
                 --release-lock {}, with the same TAG, REGION and bucket",
                holder.who, holder.id
            ),
            Self::StalePlan => "run the command again: it makes a new plan".to_owned(),
            Self::BackendChanged { .. } => {
                "run cargo xtask reset-images-deployment, then cargo xtask init-images; this changes nothing in AWS"
                    .to_owned()
            }
            Self::NotInitialised { .. } => "run cargo xtask init-images".to_owned(),
            Self::MissingBucket { .. } => {
                "check its name and region, or let cargo xtask init-images --create-state-bucket make it".to_owned()
            }
            Self::MissingWorkspace { .. } => {
                "this tool uses the workspace \"default\": unset TF_WORKSPACE, or cargo xtask reset-images-deployment"
                    .to_owned()
            }
            Self::Provider { .. } => "terraform fetches hashicorp/aws from registry.terraform.io: check the network \
                                      and its proxy, or set up a mirror in the file that TF_CLI_CONFIG_FILE names"
                .to_owned(),
            Self::Checksums { program, .. } => format!(
                "`{program} -chdir=deployment/image_repository/terraform providers lock -platform={}` adds the checksums of this \
                 platform to .terraform.lock.hcl (-platform=... once for each that you use); where the file is of another build of \
                 the provider, delete it and run init-images again",
                crate::local::platform()
            ),
            Self::UnknownAction { .. } => {
                "nothing was changed; use an older terraform, or a newer version of this tool".to_owned()
            }
            Self::Denied { action, .. } => format!("allow {action} (docs/iam-policy.json lists every permission)"),
            Self::Credentials { .. } => {
                "log in again (aws sso login), or name a profile with --profile".to_owned()
            }
            Self::Refused { refusals } => {
                let safe = "only cargo xtask destroy-images and prune delete; images are safe as long as this plan is not applied";
                let owners = refusals.iter().filter_map(|refusal| owner(refusal.alias.as_deref()?));
                owners.fold(safe.to_owned(), |hint, owner| hint + "\n" + &owner)
            }
            Self::Interrupted => "run the command again: it continues where it stopped".to_owned(),
            Self::Killed { .. } => "run the command again; if it names a lock that nobody holds, release that as it \
                                    says"
                .to_owned(),
            Self::NoState
            | Self::Failed { .. }
            | Self::Unreadable { .. }
            | Self::Files { .. }
            | Self::Process(_) => return None,
        })
    }
}

/// The tag of the grid whose key has this alias: HTC-Grid names it `ecr/<TAG>-htc`.
fn owner(alias: &str) -> Option<String> {
    let name = alias.strip_prefix("alias/").unwrap_or(alias);
    let tag = name.strip_prefix("ecr/")?.strip_suffix("-htc")?;
    Some(format!(
        "the state is the grid {tag}'s: use TAG={tag}, name another bucket, or keep both grids in this one with --state-key .terraform/NAME.tfstate"
    ))
}
