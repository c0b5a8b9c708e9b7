//! Identifies a process, to find out whether the holder of a lease still runs.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process, by properties that no other process on any machine has.
///
/// Process IDs are reused, so the start time within one boot counts too
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>, field 22). Containers on one machine share its boot and may share
/// its name, but not the namespace of process IDs.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessId {
    host: String,
    boot: String,
    namespace: String,
    pid: u32,
    start: u64,
}

impl ProcessId {
    /// This process. `None` on a machine without /proc, where processes cannot be checked safely.
    pub fn own() -> Option<Self> {
        let pid = std::process::id();
        let (_, start) = alive(pid)?;
        Some(Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned(),
            namespace: Path::new("/proc/self/ns/pid").read_link().ok()?.display().to_string(),
            pid,
            start,
        })
    }

    /// Whether it is known to have ended: it ran on this machine and is no longer there. For a process of another machine this is
    /// always `false`.
    pub fn is_gone(&self) -> bool {
        let Some(own) = Self::own() else { return false };
        let here = (&self.host, &self.boot, &self.namespace) == (&own.host, &own.boot, &own.namespace);
        here && match alive(self.pid) {
            None => true,
            // Ended, but its parent has not collected its status yet; or another process with the same ID.
            Some((state, start)) => matches!(state, 'Z' | 'X') || start != self.start,
        }
    }
}

/// State and start of a process, in clock ticks since the boot.
fn alive(pid: u32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may contain spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_reused_process_id_is_another_process() {
        let own = ProcessId::own().unwrap();
        assert!(!own.is_gone());
        assert!(ProcessId { start: own.start + 1, ..own.clone() }.is_gone());
        // No process has an ID above the kernel's limit.
        let ended = ProcessId { pid: 1 << 30, ..own };
        assert!(ended.is_gone());
        for elsewhere in [
            ProcessId { host: "another".into(), ..ended.clone() },
            ProcessId { boot: "another".into(), ..ended.clone() },
            ProcessId { namespace: "pid:[1]".into(), ..ended },
        ] {
            assert!(!elsewhere.is_gone(), "{elsewhere:?}");
        }
    }
}
