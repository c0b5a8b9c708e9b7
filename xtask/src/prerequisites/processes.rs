//! Finds the docker engines that run on this machine, in /proc.

/// A running dockerd.
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) arguments: Vec<String>,
}

impl Process {
    /// Whether it can run next to another engine: it has its own bridge and does not change the firewall, like the engines of the
    /// tests.
    pub(super) fn keeps_to_itself(&self) -> bool {
        let has = |wanted: &str| self.arguments.iter().any(|argument| argument == wanted);
        has("--bridge") && has("--iptables=false")
    }

    /// The first address on its command line.
    pub(super) fn address(&self) -> Option<String> {
        let mut arguments = self.arguments.iter();
        while let Some(argument) = arguments.next() {
            if let Some(address) = argument.strip_prefix("--host=") {
                return Some(address.to_owned());
            }
            if argument == "-H" || argument == "--host" {
                return arguments.next().filter(|address| *address != "fd://").cloned();
            }
        }
        None
    }
}

/// Every dockerd on this machine. Empty without /proc, because engines then run in a virtual machine.
pub(super) fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "dockerd")
    })
    .filter_map(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments =
            line.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned());
        let arguments: Vec<String> = arguments.collect();
        // A process that has ended, and whose status was not collected, has no command line.
        (arguments.len() > 1).then_some(Process { pid, arguments })
    })
    .collect()
}

/// Whether a process has ended, even if its parent has not collected its status.
pub fn has_ended(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        // The state follows the name, which is in parentheses and may contain any characters.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engines_address_is_read_from_its_command_line() {
        let address = |line: &str| {
            Process { pid: 1, arguments: line.split(' ').map(str::to_owned).collect() }.address()
        };
        assert_eq!(address("dockerd -H unix:///a.sock --debug"), Some("unix:///a.sock".into()));
        assert_eq!(address("dockerd --host=tcp://[::1]:1"), Some("tcp://[::1]:1".into()));
        assert_eq!(address("dockerd -H fd://"), None);
    }

    #[test]
    fn an_ended_process_is_distinguished_from_a_running_one() {
        assert!(!has_ended(std::process::id()));
        assert!(has_ended(u32::MAX));
    }
}
