//! Docker's legacy builder: `Step 2/7 : RUN ...`, then the step's output.

use super::{Event, Step, place};

#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The number of steps so far; the last one runs.
    steps: usize,
    cached: bool,
}

impl Parser {
    pub(super) fn line(&mut self, line: &str) -> Vec<Event> {
        let id = self.steps;
        if let Some((place, instruction)) = header(line) {
            let mut events = self.end();
            self.steps += 1;
            events.push(Event::Began { id: self.steps, step: Step::new(None, Some(place), instruction) });
            return events;
        }
        if line == " ---> Using cache" {
            self.cached = true;
        }
        if line.starts_with("Successfully built ") {
            let mut events = self.end();
            events.push(Event::Said(line.to_owned()));
            self.steps = 0;
            return events;
        }
        let own =
            ["Sending build context ", " ---> ", "Removing intermediate container ", "Successfully tagged "];
        if id == 0 || own.iter().any(|own| line.starts_with(own)) {
            return vec![Event::Said(line.to_owned())];
        }
        if line.starts_with("The command '") && line.contains("' returned a non-zero code: ") {
            return vec![Event::Failed { id, reason: line.to_owned() }];
        }
        vec![Event::Line { id, text: line.to_owned() }]
    }

    fn end(&mut self) -> Vec<Event> {
        let cached = std::mem::take(&mut self.cached);
        if self.steps == 0 { Vec::new() } else { vec![Event::Ended { id: self.steps, cached }] }
    }
}

/// `Step 2/7 : RUN ...`.
fn header(line: &str) -> Option<((u32, u32), &str)> {
    let (counted, instruction) = line.strip_prefix("Step ")?.split_once(" : ")?;
    Some((place(counted)?, instruction))
}
