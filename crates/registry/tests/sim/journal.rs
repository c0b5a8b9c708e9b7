//! What happened in a run, and what must never have happened.

use std::hash::{DefaultHasher, Hasher as _};

use tokio::time::Instant;

/// The journal of a run.
pub struct Journal {
    pub began: Instant,
    trace: DefaultHasher,
    pub log: Option<Vec<String>>,
    violation: Option<String>,
}

impl Journal {
    /// `is_told`: whether it is to be read line by line.
    pub fn new(is_told: bool) -> Self {
        let log = is_told.then(Vec::new);
        Self { began: Instant::now(), trace: DefaultHasher::new(), log, violation: None }
    }

    /// The first thing that must never be, if it was.
    pub fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub fn violate(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let what = what();
            self.note(&format!("VIOLATION: {what}"));
            self.violation = Some(format!("{what}, after {:?}", self.began.elapsed()));
        }
    }

    /// Notes what happened: two runs of a seed must note the same.
    pub fn note(&mut self, what: &str) {
        self.trace.write(what.as_bytes());
        self.trace.write_u128(self.began.elapsed().as_millis());
        if let Some(log) = &mut self.log {
            log.push(format!("{:>9.3} {what}", self.began.elapsed().as_secs_f64()));
        }
    }

    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }
}
