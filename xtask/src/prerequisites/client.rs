//! Checks with a docker client whether an engine answers.

use std::time::{Duration, Instant};

use process::{Cmd, blocking, cmd};

/// The time limit for an engine to answer or end. Its very first start creates its directories and bridge.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Time between two checks while an engine starts or ends.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// The time limit for a client: with an engine behind ssh it may never return.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Whether an engine answers the client: the given one, or the environment's. The error is the client's message.
pub(super) async fn answers(host: Option<&str>) -> Result<(), String> {
    answers_to(Cmd::new("docker"), host).await
}

pub(super) async fn answers_to(client: Cmd, host: Option<&str>) -> Result<(), String> {
    let mut client = client.args(["version", "--format", "{{.Server.Version}}"]);
    if let Some(host) = host {
        client = client.env("DOCKER_HOST", host).env_remove("DOCKER_CONTEXT");
    }
    match tokio::time::timeout(CLIENT_TIMEOUT, blocking(move || client.read())).await {
        // Some clients exit without an error and print no version.
        Ok(Ok(version)) if !version.is_empty() && version != "<no value>" => Ok(()),
        Ok(Ok(_)) => Err("it named no version".to_owned()),
        Ok(Err(error)) => Err(error.tail().last().cloned().unwrap_or_else(|| error.to_string())),
        Err(_) => Err(format!("no answer within {} s", CLIENT_TIMEOUT.as_secs())),
    }
}

/// Waits for the environment's own engine to start.
pub(super) async fn comes_up() -> bool {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if answers(None).await.is_ok() {
            return true;
        }
        tokio::time::sleep(LOOK).await;
    }
    false
}

/// Starts docker's service. If there is none, or it fails, the caller starts its own engine.
pub(super) async fn start_service() -> bool {
    let start = || cmd!(process::shell()?, "systemctl start docker.service").read();
    blocking(start).await.is_ok() && answers(None).await.is_ok()
}
