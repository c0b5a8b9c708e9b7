//! A process that can be found again: whether the holder of a lease still lives.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process, by what no other process of any machine shares with it.
///
/// A process id alone comes round again, so its start counts too, and that within one boot
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>, field 22). Containers of one machine share its boot and
/// may share its name, but not the namespace that process ids belong to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ProcessId {
    host: String,
    boot: String,
    namespace: String,
    pid: u32,
    start: u64,
}

impl ProcessId {
    /// This process; none where the machine has no /proc, and so cannot be asked about its processes safely.
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

    /// Whether it is known to have ended: it ran where this process runs, and is no longer there. A process of another
    /// machine is never known to have.
    pub fn is_gone(&self) -> bool {
        let Some(own) = Self::own() else { return false };
        let here = (&self.host, &self.boot, &self.namespace) == (&own.host, &own.boot, &own.namespace);
        here && match alive(self.pid) {
            None => true,
            // Ended, and its parent has not looked yet; or another one with the same number.
            Some((state, start)) => matches!(state, 'Z' | 'X') || start != self.start,
        }
    }
}

/// State and start of a process, in clock ticks since the boot.
fn alive(pid: u32) -> Option<(char, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold blanks and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_ends_and_a_reused_number_is_another_one() {
        let own = ProcessId::own().unwrap();
        assert!(!own.is_gone());
        assert!(ProcessId { start: own.start + 1, ..own.clone() }.is_gone());
        // No process has a number above the kernel's bound.
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
