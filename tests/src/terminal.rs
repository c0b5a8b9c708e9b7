//! A terminal whose size can be changed and whose screen can be read: tmux without a user's settings.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{BOUND, command, program, text};

/// A terminal with one program; the program ends with the terminal, which ends when this is dropped.
#[derive(Debug)]
pub struct Terminal {
    tmux: PathBuf,
    dir: TempDir,
}

impl Terminal {
    /// Starts the shell's `line` in a terminal of this size, or reports that tmux is missing.
    pub fn start(line: &str, columns: u16, rows: u16) -> Option<Self> {
        let terminal = Self { tmux: program("tmux")?, dir: tempfile::tempdir().unwrap() };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let settings = terminal.dir.path().join("tmux.conf");
        let words = "set -g remain-on-exit on\nset -g remain-on-exit-format ''\nset -g status off\nset -g history-limit 10000\n\
                     set -g default-terminal screen-256color\n";
        std::fs::write(&settings, words).unwrap();
        let settings = settings.display().to_string();
        terminal.tmux(&["-u", "-f", &settings, "new-session", "-d", "-x", &columns, "-y", &rows, line]);
        Some(terminal)
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = command(&self.tmux);
        tmux.arg("-S").arg(self.dir.path().join("socket")).args(words);
        tmux.env_remove("TMUX").env("LC_ALL", "C.UTF-8").env("SHELL", "/bin/sh");
        text(&mut tmux)
    }

    /// Changes its size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Its screen, without empty lines at the end.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// Its screen with colours.
    pub fn coloured(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"]).trim_end().to_owned()
    }

    /// Everything that it shows and has shown. A line that the terminal wrapped is one line here.
    pub fn transcript(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-"]).trim_end().to_owned()
    }

    /// Types a line.
    pub fn type_line(&self, line: &str) {
        self.tmux(&["send-keys", "-l", line]);
        self.tmux(&["send-keys", "Enter"]);
    }

    /// Types Ctrl-C.
    pub fn interrupt(&self) {
        self.tmux(&["send-keys", "C-c"]);
    }

    /// Waits until `is_wanted` returns true for the screen, and returns it; else the last screen.
    pub fn wait_until(
        &self,
        bound: Duration,
        mut is_wanted: impl FnMut(&str) -> bool,
    ) -> Result<String, String> {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if is_wanted(&screen) {
                return Ok(screen);
            }
            if started.elapsed() > bound {
                return Err(screen);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it shows these words.
    pub fn wait_for(&self, words: &str) -> String {
        let found = self.wait_until(BOUND, |screen| screen.contains(words));
        found.unwrap_or_else(|screen| panic!("no {words:?} on\n{screen}"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut tmux = command(&self.tmux);
        // It may have ended already.
        let _ = tmux.arg("-S").arg(self.dir.path().join("socket")).arg("kill-server").output();
    }
}
