//! The only place that starts programs: typed arguments, never a shell string.
//!
//! Children stay in this process's group, so one Ctrl-C on the terminal reaches them directly. It is never forwarded: terraform
//! treats a second interrupt as "exit at once and lose the state".

mod command;
mod error;
mod inherited;
mod plain;
mod secret;
mod short;
#[cfg(test)]
mod tests;
mod within;

pub use command::{Cmd, Ended, KillHandle, KillOnDrop, by_shell};
pub use error::ProcessError;
pub use inherited::{cargo, env_remove_all, hand_down, hand_down_in_place_of};
pub use plain::plain;
pub use secret::Secret;
pub use short::{shell, xshell};
pub use within::end_within;

/// Runs work that waits for the disk or a program on a thread for blocking work. A panic in it is raised again here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
