//! The helper programs that store logins (<https://github.com/docker/docker-credential-helpers#development>).

use std::collections::BTreeSet;

use process::{Cmd, ProcessError, Secret, end_within};
use registry::{Credential, Server};

use crate::{CredentialError, DockerCredentials, config_json, login};

/// The helpers' message if they have no credential: <https://github.com/docker/docker-credential-helpers/blob/master/credentials/error.go>.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Largest output of a helper, in bytes.
const ANSWER: u64 = 1 << 20;

impl DockerCredentials {
    pub(super) async fn ask(
        &self,
        shown: &str,
        helper: &str,
        server: &Server,
    ) -> Result<Option<Credential>, CredentialError> {
        let mut command = Cmd::new(format!("docker-credential-{helper}"))
            .arg("get")
            .stdin(Secret::new(config_json::server_address(server)));
        if let Some(path) = &self.path {
            command = command.env("PATH", path);
        }
        let (registry, helper) = (server.to_string(), helper.to_owned());
        let ended = match end_within(command, self.timeout, ANSWER).await {
            Ok(ended) => ended,
            // Continue without credentials, which is enough for public images.
            Err(ProcessError::Missing { program }) => {
                warn_once(&program, shown);
                return Ok(None);
            }
            Err(source @ (ProcessError::Late { .. } | ProcessError::Endless { .. })) => {
                return Err(CredentialError::HelperEndless { helper, registry, source: Box::new(source) });
            }
            Err(source) => {
                let (shown, source) = (shown.to_owned(), Box::new(source));
                return Err(CredentialError::HelperMissing { registry, shown, source });
            }
        };
        if !ended.success {
            if ended.stdout.contains(NOT_FOUND) || ended.stderr.contains(NOT_FOUND) {
                return Ok(None);
            }
            // Helpers print their reason to stdout. Output that looks like an answer is not shown: it may contain the secret.
            let reason = if ended.stdout.is_empty() || ended.stdout.contains('{') {
                &ended.stderr
            } else {
                &ended.stdout
            };
            let line = reason.lines().next().unwrap_or("it failed without a word");
            let message = line.chars().take(200).collect();
            return Err(CredentialError::HelperFailed { helper, registry, message });
        }
        let answer: Option<Answer> = serde_json::from_str(&ended.stdout).ok();
        let Some(Answer { username, secret }) = answer else {
            return Err(CredentialError::HelperAnswer { helper, registry });
        };
        Ok(login::answered(username, secret))
    }
}

/// Warns that a helper is missing, once per helper.
fn warn_once(program: &str, shown: &str) {
    static WARNED: std::sync::Mutex<BTreeSet<String>> = std::sync::Mutex::new(BTreeSet::new());
    if WARNED.lock().is_ok_and(|mut said| said.insert(program.to_owned())) {
        tracing::warn!(
            "{shown} names {program}, which is not in PATH: registries are asked without its credentials"
        );
    }
}

/// A helper's output; other fields are ignored.
#[derive(serde::Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}
