//! Runs terraform commands to their end even if signals arrive, and maps their errors to ours.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Diagnostic, Event, Severity, TerraformError};
use process::{Cmd, KillHandle, ProcessError, blocking};

/// How long to wait for terraform to report that it got a signal.
const NOTICE: Duration = Duration::from_secs(1);

/// Runs a short command and returns its stdout.
pub(super) async fn read(dir: &Path, cmd: Cmd) -> Result<String, TerraformError> {
    let result = blocking(move || cmd.read()).await;
    result.map_err(|error| explain(dir, error, Vec::new(), false))
}

/// Runs a command that prints plain text, and returns the text.
pub(super) async fn text(
    dir: &Path,
    cmd: Cmd,
    mut on_line: impl FnMut(&str) + Send + 'static,
) -> Result<String, TerraformError> {
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    let result = stream(cmd, move |line| {
        on_line(line);
        if let Ok(mut said) = heard.lock() {
            said.push_str(line);
            said.push('\n');
        }
    })
    .await;
    let said = said.lock().map(|said| said.clone()).unwrap_or_default();
    match result {
        Ok(()) => Ok(said),
        Err((error, interrupted)) => Err(explain(dir, error, Diagnostic::from_text(&said), interrupted)),
    }
}

/// Runs a command that prints events.
pub(super) async fn events(
    dir: &Path,
    cmd: Cmd,
    mut on_event: impl FnMut(&Event) + Send + 'static,
) -> Result<(), TerraformError> {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&errors);
    let result = stream(cmd, move |line| {
        let event = Event::parse(line);
        if let (Event::Diagnostic(diagnostic), Ok(mut errors)) = (&event, heard.lock())
            && diagnostic.severity == Severity::Error
        {
            errors.push(diagnostic.clone());
        }
        on_event(&event);
    })
    .await;
    let errors = errors.lock().map(|errors| errors.clone()).unwrap_or_default();
    result.map_err(|(error, interrupted)| explain(dir, error, errors, interrupted))
}

/// Runs `cmd` to its end, even if signals arrive. Returns whether one arrived.
async fn stream(
    cmd: Cmd,
    mut on_line: impl FnMut(&str) + Send + 'static,
) -> Result<(), (ProcessError, bool)> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let notice = Arc::new(watch::Sender::new(false));
    let kill_handle = KillHandle::default();
    let listeners = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(|kind| {
        let (seen, kill_handle) = (Arc::clone(&interrupted), kill_handle.clone());
        let notice = Arc::clone(&notice);
        tokio::spawn(async move {
            // If a handler cannot be installed, the signal ends this process, as it would by default.
            let Ok(mut signals) = signal(kind) else { return };
            while signals.recv().await.is_some() {
                seen.store(true, Ordering::SeqCst);
                if kind == SignalKind::interrupt() {
                    continue;
                }
                let mut noticed = notice.subscribe();
                if timeout(NOTICE, noticed.wait_for(|noticed| *noticed)).await.is_err() {
                    notice.send_replace(true);
                    kill_handle.terminate();
                }
            }
        })
    });
    // The signal handlers must be installed before the program starts.
    tokio::task::yield_now().await;
    let result = cmd.stream(kill_handle, move |line| {
        if line.contains("Interrupt received") {
            notice.send_replace(true);
        }
        on_line(line);
    });
    let result = result.await;
    for listener in listeners {
        listener.abort();
    }
    result.map_err(|error| (error, interrupted.load(Ordering::SeqCst)))
}

/// The error of a command on the module in `dir`, from what it printed.
fn explain(dir: &Path, error: ProcessError, said: Vec<Diagnostic>, interrupted: bool) -> TerraformError {
    match error {
        ProcessError::Failed { tail, .. } => {
            let said = if said.is_empty() { Diagnostic::from_text(&tail.join("\n")) } else { said };
            TerraformError::from_diagnostics(dir, said, &tail, interrupted)
        }
        other => TerraformError::Process(other),
    }
}
