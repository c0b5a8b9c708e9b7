//! Maps terraform's messages to typed errors.

use std::path::{Path, PathBuf};

use super::TerraformError;
use super::diagnostic::{Diagnostic, LockHolder, unwrapped};

impl TerraformError {
    /// Finds the error that terraform's messages describe.
    pub(crate) fn from_diagnostics(
        dir: &Path,
        said: Vec<Diagnostic>,
        tail: &[String],
        interrupted: bool,
    ) -> Self {
        let silent = said.is_empty();
        // Some commands report errors as plain text.
        let said = if silent { vec![Diagnostic::plain(tail)] } else { said };
        let any = |words: &str| said.iter().any(|diagnostic| diagnostic.contains(words));
        let first =
            |words: &str| said.iter().find(|diagnostic| diagnostic.contains(words)).map(ToString::to_string);
        let dir = from_here(dir);

        if let Some(holder) = said
            .iter()
            .find(|diagnostic| diagnostic.contains("Error acquiring the state lock"))
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
        if any("NoSuchBucket") || said.iter().any(|d| d.contains("S3 bucket") && d.contains("does not exist"))
        {
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
        // Resources are created in parallel, so the order of the refusals is random. The first in sorted order is reported.
        let denied = said.iter().filter(|diagnostic| diagnostic.contains("is not authorized to perform: "));
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

/// The directory relative to the working directory, as users name it.
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
