//! The log files of builds.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How many logs of earlier runs are kept.
const KEPT: usize = 20;

/// The directory of the logs.
#[derive(Clone, Debug)]
pub struct Logs {
    dir: PathBuf,
    /// The directory's name in messages.
    shown: String,
}

impl Logs {
    /// Logs in `dir`, which is created for the first one; messages call it `shown`.
    pub fn new(dir: PathBuf, shown: String) -> Self {
        Self { dir, shown }
    }

    /// Removes all but the newest logs. Call it at the start of a run, so that the run's own logs are kept.
    pub fn tidy(&self) {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut logs: Vec<(SystemTime, PathBuf)> = entries
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        logs.sort_unstable_by(|one, other| other.cmp(one));
        for (_, path) in logs.iter().skip(KEPT) {
            // Another run may remove it at the same time.
            let _ = std::fs::remove_file(path);
        }
    }

    /// A new log, `<name>-<time>.log`. `None` if it cannot be created: that does not fail the build.
    pub fn open(&self, name: &str) -> Option<Log> {
        std::fs::create_dir_all(&self.dir).ok()?;
        let name = name.replace('/', "-");
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        (1..100_u32).find_map(|number| {
            let more = if number == 1 { String::new() } else { format!("-{number}") };
            let file = format!("{name}-{time}{more}.log");
            let shown = Path::new(&self.shown).join(&file).display().to_string();
            match File::options().write(true).create_new(true).open(self.dir.join(&file)) {
                Ok(file) => Some(Some(Log { file, shown })),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
                Err(_) => Some(None),
            }
        })?
    }
}

/// One build's log.
#[derive(Debug)]
pub struct Log {
    file: File,
    shown: String,
}

impl Log {
    /// Its path in messages.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Writes a line immediately, so that a killed run leaves a complete log.
    pub fn write(&mut self, line: &str) {
        // If the disk is full, the build itself shows the error.
        let _ = self.file.write_all(format!("{line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_stay_until_newer_ones_replace_them() {
        let room = tempfile::tempdir().unwrap();
        let logs = Logs::new(room.path().join("logs"), "target/logs".into());
        logs.tidy();
        let (mut first, second) = (logs.open("lambda/x").unwrap(), logs.open("lambda/x").unwrap());
        assert_ne!(first.shown(), second.shown());
        assert!(first.shown().starts_with("target/logs/lambda-x-2"), "{}", first.shown());
        first.write("a line");
        let name = Path::new(first.shown()).file_name().unwrap();
        assert_eq!(std::fs::read_to_string(room.path().join("logs").join(name)).unwrap(), "a line\n");

        let old = SystemTime::now() - std::time::Duration::from_secs(3600);
        for number in 0..30 {
            let file = File::create(room.path().join(format!("logs/old-{number}.log"))).unwrap();
            file.set_modified(old).unwrap();
        }
        std::fs::write(room.path().join("logs/notes.txt"), "not ours").unwrap();
        logs.tidy();
        let left = || std::fs::read_dir(room.path().join("logs")).unwrap().count();
        assert_eq!(left(), KEPT + 1);
        assert!(room.path().join("logs").join(name).exists() && room.path().join("logs/notes.txt").exists());
    }
}
