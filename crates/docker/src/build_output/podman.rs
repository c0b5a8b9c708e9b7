//! podman's builder: `STEP 2/6: RUN ...`, with `[1/3] ` before it if there are several stages.

use super::{Event, Step, place};

#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The number of steps so far; the last one runs.
    steps: usize,
    /// Its instruction as printed by podman.
    instruction: String,
    cached: bool,
    over: bool,
}

impl Parser {
    pub(super) fn line(&mut self, line: &str) -> Vec<Event> {
        if let Some((stage, place, instruction)) = header(line) {
            let mut events = self.end();
            self.steps += 1;
            self.over = false;
            instruction.clone_into(&mut self.instruction);
            let stage = stage.map(|stage| format!("stage {stage}"));
            let step = Step::new(stage.as_deref(), Some(place), instruction);
            events.push(Event::Began { id: self.steps, step });
            return events;
        }
        if line.starts_with("--> Using cache ") {
            self.cached = true;
        }
        if line.starts_with("COMMIT ") {
            let mut events = self.end();
            events.push(Event::Said(line.to_owned()));
            return events;
        }
        if self.steps == 0 || self.over || line.starts_with("--> ") || line.starts_with("time=\"") {
            return vec![Event::Said(line.to_owned())];
        }
        if let Some(reason) = self.reason(line) {
            return vec![Event::Failed { id: self.steps, reason: reason.to_owned() }];
        }
        vec![Event::Line { id: self.steps, text: line.to_owned() }]
    }

    fn end(&mut self) -> Vec<Event> {
        let cached = std::mem::take(&mut self.cached);
        let is_over = std::mem::replace(&mut self.over, true);
        if self.steps == 0 || is_over { Vec::new() } else { vec![Event::Ended { id: self.steps, cached }] }
    }

    /// Why a step failed, without the instruction, which podman repeats.
    fn reason<'a>(&self, line: &'a str) -> Option<&'a str> {
        let words = line.strip_prefix("Error: ")?;
        if let Some(step) = words.strip_prefix("building at STEP \"") {
            let reason =
                step.strip_prefix(self.instruction.trim_end()).and_then(|rest| rest.strip_prefix("\": "));
            return Some(reason.unwrap_or(words));
        }
        words.starts_with("creating build container: ").then_some(words)
    }
}

/// `[1/3] STEP 2/6: RUN ...`.
fn header(line: &str) -> Option<(Option<&str>, (u32, u32), &str)> {
    let (stage, rest) = match line.strip_prefix('[') {
        Some(line) => line.split_once("] ").map(|(stage, rest)| (Some(stage), rest))?,
        None => (None, line),
    };
    let (counted, instruction) = rest.strip_prefix("STEP ")?.split_once(": ")?;
    Some((stage, place(counted)?, instruction))
}
