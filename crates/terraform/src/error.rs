//! What goes wrong with terraform, in types: most of it is recognised by terraform's own words.

use std::path::{Path, PathBuf};

use process::ProcessError;
use serde::Deserialize;

use super::plan::Refusal;

/// A warning or an error of terraform's.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which of the two.
    pub severity: Severity,
    /// What happened.
    pub summary: String,
    /// More about it.
    #[serde(default)]
    pub detail: String,
    /// The resource that it is about.
    pub address: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It goes on.
    Warning,
    /// It does not.
    Error,
    /// Neither name is known here.
    #[serde(other)]
    Unknown,
}

impl Diagnostic {
    /// Reads what terraform prints for people with `-no-color`: `Error: ` and a paragraph.
    pub(super) fn from_text(text: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for line in text.lines() {
            // With colours there is a frame.
            let plain = without_colour(line);
            let line = plain.as_str();
            let line = line.trim_start_matches(['╷', '│', '╵']);
            let line = line.strip_prefix(' ').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
            if let Some((severity, summary)) = heading(line) {
                let (summary, detail, address) = (summary.to_owned(), String::new(), None);
                all.push(Self { severity, summary, detail, address });
            } else if let Some(last) = all.last_mut() {
                last.detail.push_str(line);
                last.detail.push('\n');
            }
        }
        for diagnostic in &mut all {
            diagnostic.detail = diagnostic.detail.trim().to_owned();
        }
        all.retain(|diagnostic| diagnostic.severity == Severity::Error);
        all
    }

    fn plain(lines: &[String]) -> Self {
        let summary = lines.join("\n  ");
        Self { severity: Severity::Error, summary, detail: String::new(), address: None }
    }

    fn says(&self, words: &str) -> bool {
        unwrapped(&self.summary).contains(words) || unwrapped(&self.detail).contains(words)
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(address) = &self.address {
            write!(f, "{address}: ")?;
        }
        f.write_str(&self.summary)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", unwrapped(&self.detail)) }
    }
}

fn heading(line: &str) -> Option<(Severity, &str)> {
    let error = line.strip_prefix("Error: ").map(|rest| (Severity::Error, rest));
    error.or_else(|| line.strip_prefix("Warning: ").map(|rest| (Severity::Warning, rest)))
}

/// The text without escape sequences that choose a colour.
fn without_colour(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// Terraform breaks lines where a terminal would end.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whoever holds the lock on the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockHolder {
    /// The lock's ID, which releases it.
    pub id: String,
    /// User and machine.
    pub who: String,
    /// Since when.
    pub since: String,
    /// What they do.
    pub operation: String,
    /// The state.
    pub path: String,
}

impl LockHolder {
    fn parse(detail: &str) -> Option<Self> {
        let mut holder = Self::default();
        for line in detail.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim().to_owned();
            match name.trim() {
                "ID" => holder.id = value,
                "Path" => holder.path = value,
                "Operation" => {
                    value.strip_prefix("OperationType").unwrap_or(&value).clone_into(&mut holder.operation);
                    holder.operation.make_ascii_lowercase();
                }
                "Who" => holder.who = value,
                // To the second is enough for people.
                "Created" => holder.since = value.split('.').next().unwrap_or(&value).to_owned(),
                _ => {}
            }
        }
        (!holder.id.is_empty()).then_some(holder)
    }
}

/// Why terraform did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TerraformError {
    /// Neither program is there.
    #[error("neither terraform nor tofu is in PATH")]
    Missing,
    /// The program cannot lock the state in S3.
    #[error("{program} {version} is too old: {least} is needed")]
    TooOld {
        /// Its name.
        program: &'static str,
        /// Its version.
        version: String,
        /// The first version that will do.
        least: String,
    },
    /// Somebody else works on the state.
    #[error(
        "the terraform state {} is locked by {} ({}) since {}",
        holder.path, holder.who, holder.operation, holder.since
    )]
    Locked {
        /// Who.
        holder: Box<LockHolder>,
    },
    /// A plan was made, and then the state changed.
    #[error("the plan is out of date: somebody changed the state after it was made")]
    StalePlan,
    /// The directory is connected with another state.
    #[error("{} is initialised for another state", dir.display())]
    BackendChanged {
        /// The module.
        dir: PathBuf,
    },
    /// The directory is not connected with a state, or lacks the provider.
    #[error("{} is not initialised", dir.display())]
    NotInitialised {
        /// The module.
        dir: PathBuf,
    },
    /// The bucket is not there.
    #[error("the state bucket {bucket:?} does not exist")]
    MissingBucket {
        /// Its name.
        bucket: String,
    },
    /// `TF_WORKSPACE` or an earlier `workspace select` names a workspace that is not in the bucket.
    #[error("the terraform workspace {workspace:?} does not exist in the state bucket")]
    MissingWorkspace {
        /// Its name.
        workspace: String,
    },
    /// There is no state yet.
    #[error("there is no terraform state yet")]
    NoState,
    /// The provider cannot be had.
    #[error("the terraform provider could not be installed: {words}")]
    Provider {
        /// Terraform's words.
        words: String,
    },
    /// The lock file of the providers has no checksum that the provider here fits.
    #[error("the terraform provider is not what .terraform.lock.hcl says: {words}")]
    Checksums {
        /// The program whose provider it is.
        program: &'static str,
        /// Terraform's words.
        words: String,
    },
    /// A plan does what nobody here knows the meaning of.
    #[error("the plan has an action that is not known here: {address}: {actions}")]
    UnknownAction {
        /// The resource, or the output.
        address: String,
        /// What would be done, in terraform's words.
        actions: String,
    },
    /// AWS refuses for want of a permission.
    #[error("AWS refuses {action}: {words}")]
    Denied {
        /// The IAM action.
        action: String,
        /// Terraform's words.
        words: String,
        /// Whether the state is still locked: what was refused was needed to release the lock, too.
        lock_left: bool,
    },
    /// There are no credentials, or no valid ones.
    #[error("terraform has no valid AWS credentials: {words}")]
    Credentials {
        /// Terraform's words.
        words: String,
    },
    /// The plan would take something away.
    #[error("the plan is refused:{}", listed(refusals))]
    Refused {
        /// What, and why.
        refusals: Vec<Refusal>,
    },
    /// A signal came. What was begun was finished and is in the state.
    #[error("terraform was interrupted; it finished and recorded what it had started")]
    Interrupted,
    /// Terraform was interrupted twice, or killed.
    #[error("terraform was killed before it finished{}", listed(diagnostics))]
    Killed {
        /// What it said.
        diagnostics: Vec<Diagnostic>,
    },
    /// Anything else that terraform says.
    #[error("terraform failed:{}", listed(diagnostics))]
    Failed {
        /// What it said.
        diagnostics: Vec<Diagnostic>,
    },
    /// Terraform wrote what this program cannot read.
    #[error("terraform wrote {what} in an unknown format")]
    Unreadable {
        /// What it was.
        what: &'static str,
        /// Why it cannot be read.
        source: serde_json::Error,
    },
    /// The module could not be laid out.
    #[error("could not write {}", path.display())]
    Files {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The program did not start.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

fn listed<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}

impl TerraformError {
    /// What to do now.
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
                super::local::platform()
            ),
            Self::UnknownAction { .. } => {
                "nothing was changed; use an older terraform, or a newer version of this tool".to_owned()
            }
            Self::Denied { action, .. } => format!("allow {action} (docs/iam-policy.json lists every permission)"),
            Self::Credentials { .. } => {
                "log in again (aws sso login), or name a profile with --profile".to_owned()
            }
            Self::Refused { refusals } => {
                let safe = "only cargo xtask destroy-images deletes; images are safe as long as this plan is not applied";
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

    /// Finds out what terraform's words mean.
    pub(super) fn from_diagnostics(
        dir: &Path,
        said: Vec<Diagnostic>,
        tail: &[String],
        interrupted: bool,
    ) -> Self {
        let silent = said.is_empty();
        // Some commands fail in plain words.
        let said = if silent { vec![Diagnostic::plain(tail)] } else { said };
        let any = |words: &str| said.iter().any(|diagnostic| diagnostic.says(words));
        let first =
            |words: &str| said.iter().find(|diagnostic| diagnostic.says(words)).map(ToString::to_string);
        let dir = from_here(dir);

        if let Some(holder) = said
            .iter()
            .find(|diagnostic| diagnostic.says("Error acquiring the state lock"))
            .and_then(|diagnostic| LockHolder::parse(&diagnostic.detail))
        {
            return Self::Locked { holder: Box::new(holder) };
        }
        if any("operation canceled") || tail.iter().any(|line| line.contains("Two interrupts received")) {
            return Self::Killed { diagnostics: said };
        }
        if any("execution halted") || (interrupted && silent) {
            return Self::Interrupted;
        }
        if any("Saved plan is stale") {
            return Self::StalePlan;
        }
        if any("Backend configuration changed") || any("Backend configuration block has changed") {
            return Self::BackendChanged { dir };
        }
        if any("Backend initialization required")
            || any("Inconsistent dependency lock file")
            || any("Required plugins are not installed")
            || any("Missing required provider")
            || any("please run \"terraform init\"")
        {
            return Self::NotInitialised { dir };
        }
        if any("No state file was found") {
            return Self::NoState;
        }
        if any("NoSuchBucket") || said.iter().any(|d| d.says("S3 bucket") && d.says("does not exist")) {
            let bucket = said.iter().find_map(|diagnostic| {
                quoted_after(
                    &unwrapped(&format!("{} {}", diagnostic.summary, diagnostic.detail)),
                    "S3 bucket",
                )
            });
            return Self::MissingBucket { bucket: bucket.unwrap_or_default() };
        }
        if let Some(workspace) = said.iter().find_map(missing_workspace) {
            return Self::MissingWorkspace { workspace };
        }
        // Resources are created side by side: which refusal comes first is chance, which one is told is not.
        let denied = said.iter().filter(|diagnostic| diagnostic.says("is not authorized to perform: "));
        if let Some(words) = denied.map(ToString::to_string).min() {
            let action =
                words.split("is not authorized to perform: ").nth(1).and_then(|rest| rest.split(' ').next());
            let lock_left = any("Error releasing the state lock");
            return Self::Denied { action: action.unwrap_or_default().to_owned(), words, lock_left };
        }
        for sign in [
            "No valid credential sources found",
            "ExpiredToken",
            "InvalidClientTokenId",
            "failed to refresh cached credentials",
            "the SSO session has expired",
        ] {
            if let Some(words) = first(sign) {
                return Self::Credentials { words };
            }
        }
        if let Some(words) = first("checksums previously recorded in the dependency lock file") {
            return Self::Checksums {
                program: if words.contains("registry.opentofu.org") { "tofu" } else { "terraform" },
                words,
            };
        }
        for sign in ["Failed to query available provider packages", "Failed to install provider"] {
            if let Some(words) = first(sign) {
                return Self::Provider { words };
            }
        }
        if interrupted {
            return Self::Interrupted;
        }
        Self::Failed { diagnostics: said }
    }
}

/// Whose state has this alias of a key: HTC-Grid calls it `ecr/<TAG>-htc`.
fn owner(alias: &str) -> Option<String> {
    let name = alias.strip_prefix("alias/").unwrap_or(alias);
    let tag = name.strip_prefix("ecr/")?.strip_suffix("-htc")?;
    Some(format!(
        "the state is the grid {tag}'s: say TAG={tag}, name another bucket, or keep both grids in this one with --state-key .terraform/NAME.tfstate"
    ))
}

/// The directory as people in the working directory call it.
fn from_here(dir: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    let inside = here
        .as_deref()
        .and_then(|here| dir.strip_prefix(here).ok())
        .filter(|rest| !rest.as_os_str().is_empty());
    inside.unwrap_or(dir).to_owned()
}

fn quoted_after(text: &str, words: &str) -> Option<String> {
    let (_, rest) = text.split_once(words)?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn missing_workspace(diagnostic: &Diagnostic) -> Option<String> {
    let text = unwrapped(&format!("{} {}", diagnostic.summary, diagnostic.detail));
    let (_, rest) = text.split_once("currently selected workspace (")?;
    let (name, rest) = rest.split_once(')')?;
    rest.trim_start().starts_with("does not exist").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(text: &str) -> TerraformError {
        explain_with(text, false)
    }

    fn explain_with(text: &str, interrupted: bool) -> TerraformError {
        let said = Diagnostic::from_text(text);
        let tail: Vec<String> = text.lines().map(str::to_owned).collect();
        TerraformError::from_diagnostics(Path::new("/module"), said, &tail, interrupted)
    }

    // Terraform 1.11.4's words, recorded.
    const LOCKED: &str = "\nError: Error acquiring the state lock\n\nError message: operation error S3: PutObject, \
        https response error\nStatusCode: 412, RequestID: , HostID: , api error PreconditionFailed: Object\nalready \
        exists\nLock Info:\n  ID:        44629bb0-98d3-625f-7325-04a07f9df8bc\n  Path:      state/ml-deploy/terraform.tfstate\n  \
        Operation: OperationTypeApply\n  Who:       root@vm\n  Version:   1.11.4\n  Created:   2026-11-22 \
        10:14:19.155872151 +0000 UTC\n  Info:      \n\n\nTerraform acquires a state lock to protect the state from being \
        written\nby multiple users at the same time.\n";

    #[test]
    fn a_lock_names_its_holder_and_what_releases_it() {
        let error = explain(LOCKED);
        assert_eq!(
            error.to_string(),
            "the terraform state state/ml-deploy/terraform.tfstate is locked by root@vm (apply) since 2026-11-22 10:14:19"
        );
        assert_eq!(
            error.hint().unwrap(),
            "wait until root@vm is done, or give --lock-timeout; if that run is dead: cargo xtask init-images \
             --release-lock 44629bb0-98d3-625f-7325-04a07f9df8bc, with the same TAG, REGION and bucket"
        );
    }

    #[test]
    fn the_same_lock_is_read_from_an_event() {
        let said: Vec<_> = include_str!("recorded/locked.jsonl")
            .lines()
            .filter_map(|line| match crate::Event::parse(line) {
                crate::Event::Diagnostic(diagnostic) => Some(diagnostic),
                _ => None,
            })
            .collect();
        let error = TerraformError::from_diagnostics(Path::new("/m"), said, &[], false);
        let TerraformError::Locked { holder } = error else { panic!("{error}") };
        assert_eq!((holder.who.as_str(), holder.operation.as_str()), ("anna@ci-7", "apply"));
        assert_eq!(holder.path, "state/.terraform/terraform.tfstate");
        assert_eq!(holder.id, "44629bb0-98d3-625f-7325-04a07f9df8bc");
    }

    #[test]
    fn a_framed_text_reads_like_a_plain_one() {
        let framed = "\u{1b}[31m╷\u{1b}[0m\u{1b}[0m\n\u{1b}[31m│\u{1b}[0m \u{1b}[0m\u{1b}[1m\u{1b}[31mError: \u{1b}[0m\u{1b}[0m\u{1b}[1mSaved plan is stale\u{1b}[0m\n\u{1b}[31m│\u{1b}[0m \n";
        assert!(matches!(explain(framed), TerraformError::StalePlan));
        let framed = "╷\n│ Error: Saved plan is stale\n│ \n│ The given plan file can no longer be applied because \
                      the state was changed\n│ by another operation after the plan was created.\n╵\n";
        assert!(matches!(explain(framed), TerraformError::StalePlan));
    }

    #[test]
    fn each_state_of_the_backend_has_its_own_message() {
        let changed = "Error: Backend configuration changed\n\nA change in the backend configuration has been detected, \
                       which may require migrating\nexisting state.\n";
        assert!(matches!(explain(changed), TerraformError::BackendChanged { .. }));
        let uninitialised = "Error: Backend initialization required, please run \"terraform init\"\n\nReason: Initial \
                             configuration of the requested backend \"s3\"\n";
        assert!(matches!(explain(uninitialised), TerraformError::NotInitialised { .. }));
        let bucket = "Error: Failed to get existing workspaces: Unable to list objects in S3 bucket \"no-such\": \
                      operation error S3: ListObjectsV2, https response error StatusCode: 404, RequestID: 1, HostID: , \
                      NoSuchBucket: \n";
        assert_eq!(explain(bucket).to_string(), "the state bucket \"no-such\" does not exist");
        let by_init = "Error: Failed to get existing workspaces: S3 bucket \"nope\" does not exist.\n\nThe referenced S3 \
                       bucket must have been previously created.\n";
        assert_eq!(explain(by_init).to_string(), "the state bucket \"nope\" does not exist");
        let plugins = "Error: Required plugins are not installed\n\nThe installed provider plugins are not consistent\n";
        assert!(matches!(explain(plugins), TerraformError::NotInitialised { .. }));
        let workspace = "Error: \n\nThe currently selected workspace (prod) does not exist.\n";
        assert_eq!(
            explain(workspace).to_string(),
            "the terraform workspace \"prod\" does not exist in the state bucket"
        );
    }

    #[test]
    fn one_interrupt_is_told_from_two() {
        let graceful = "Interrupt received.\nPlease wait for Terraform to exit or data loss may occur.\nGracefully \
                        shutting down...\n\nStopping operation...\n\nError: execution halted\n";
        assert!(matches!(explain_with(graceful, true), TerraformError::Interrupted));
        let twice = "Two interrupts received. Exiting immediately. Note that data loss may have occurred.\n\nError: \
                     operation canceled\n";
        assert!(matches!(explain_with(twice, true), TerraformError::Killed { .. }));
    }

    #[test]
    fn a_missing_permission_names_the_iam_action() {
        let denied = "Error: creating ECR Repository (curl): operation error ECR: CreateRepository, https response \
                      error StatusCode: 400, RequestID: 1, api error AccessDeniedException: User: \
                      arn:aws:iam::123456789012:user/anna is not authorized to perform: ecr:CreateRepository on resource: x\n";
        let TerraformError::Denied { action, lock_left, .. } = explain(denied) else { panic!("not denied") };
        assert_eq!((action.as_str(), lock_left), ("ecr:CreateRepository", false));
    }

    #[test]
    fn terraform_that_cannot_fetch_the_provider_says_so() {
        let offline = "Error: Failed to query available provider packages\n\nCould not retrieve the list of available \
                       versions for provider hashicorp/aws:\ncould not connect to registry.terraform.io: failed to \
                       request discovery\ndocument\n";
        let error = explain(offline);
        assert!(matches!(error, TerraformError::Provider { .. }), "{error}");
        assert!(error.hint().unwrap().contains("TF_CLI_CONFIG_FILE"));
    }

    // Terraform's words, from its source (internal/providercache/installer.go).
    #[test]
    fn a_lock_file_of_another_platform_says_what_adds_this_one() {
        for (host, program) in [("registry.terraform.io", "terraform"), ("registry.opentofu.org", "tofu")] {
            let other = format!(
                "Error: Failed to install provider\n\nError while installing hashicorp/aws v6.66.0: the local package for\n\
                 {host}/hashicorp/aws 6.66.0 doesn't match any of the\nchecksums previously recorded in the dependency lock file \
                 (this might be because\nthe available checksums are for packages targeting different platforms); for\nmore information: \
                 https://developer.hashicorp.com/terraform/language/provider-checksum-verification\n"
            );
            let error = explain(&other);
            assert!(matches!(error, TerraformError::Checksums { .. }), "{error}");
            let hint = error.hint().unwrap();
            let platform = super::super::local::platform();
            assert!(hint.starts_with(&format!("`{program} -chdir=")), "{hint}");
            assert!(hint.contains(&format!("providers lock -platform={platform}`")), "{hint}");
            assert!(!hint.contains("network"), "{hint}");
        }
    }

    #[test]
    fn anything_else_keeps_terraform_s_words() {
        let error = explain("Error: Unsupported argument\n\n  on main.tf line 3:\n   3:   x = 1\n");
        assert_eq!(
            error.to_string(),
            "terraform failed:\n  Unsupported argument: on main.tf line 3: 3: x = 1"
        );
        let crash = explain("signal: killed\n");
        assert_eq!(crash.to_string(), "terraform failed:\n  signal: killed");
    }
}
