//! The events of a run, and violations of the invariants.

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
    /// `is_told`: whether each line is to be printed.
    pub fn new(is_told: bool) -> Self {
        let log = is_told.then(Vec::new);
        Self { began: Instant::now(), trace: DefaultHasher::new(), log, violation: None }
    }

    /// The first violation, if any.
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

    /// Records an event: two runs of a seed must record the same.
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
