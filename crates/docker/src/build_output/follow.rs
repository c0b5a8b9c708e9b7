//! Follows a build's output line by line.

use std::collections::{BTreeMap, VecDeque};

use super::failure::CANCELED;
use super::{BuildFailure, Event, Form, Log, Parser, Step};

/// How many lines are kept for each step, and outside of steps. The legacy builder reads a program's two outputs separately: text on stderr
/// may come long before the end of stdout.
const KEPT: usize = 500;

/// Events of a build for its caller.
#[derive(Clone, Copy, Debug)]
pub enum BuildEvent<'a> {
    /// A step of the Dockerfile has begun.
    Step(&'a Step),
    /// A line of the output, as in the log.
    Line(&'a str),
}

/// Reads a build's output.
#[derive(Debug)]
pub struct Follower {
    form: Form,
    parser: Parser,
    steps: BTreeMap<usize, Running>,
    pub(super) failed: Vec<(usize, String)>,
    said: VecDeque<String>,
    /// The step whose lines were last written to the log.
    written: Option<usize>,
    log: Option<Log>,
}

#[derive(Debug)]
pub(super) struct Running {
    step: Step,
    tail: VecDeque<String>,
    is_over: bool,
}

impl Running {
    /// Whether the build continues if it fails: a cache that does not exist yet, as before the first build.
    fn is_optional(&self) -> bool {
        self.step.instruction.starts_with("importing cache manifest from ")
    }
}

impl Follower {
    /// Reads output of this form, and writes all of it to `log`.
    pub fn new(form: Form, log: Option<Log>) -> Self {
        Self {
            form,
            parser: Parser::new(form),
            steps: BTreeMap::new(),
            failed: Vec::new(),
            said: VecDeque::new(),
            written: None,
            log,
        }
    }

    /// Handles the next line, and reports its events.
    pub fn read_line(&mut self, line: &str, tell: &mut impl FnMut(BuildEvent<'_>)) {
        for event in self.parser.line(line) {
            self.take(event, tell);
        }
    }

    fn take(&mut self, event: Event, tell: &mut impl FnMut(BuildEvent<'_>)) {
        match event {
            Event::Began { id, step } => {
                if step.place.is_some() {
                    tell(BuildEvent::Step(&step));
                }
                self.steps.insert(id, Running { step, tail: VecDeque::new(), is_over: false });
                self.head(id);
            }
            Event::Line { id, text } => {
                self.head(id);
                self.write(&text, tell);
                if let Some(running) = self.steps.get_mut(&id) {
                    keep(&mut running.tail, text);
                }
            }
            Event::Ended { id, cached } => {
                let Some(running) = self.steps.get_mut(&id) else { return };
                running.is_over = true;
                if cached {
                    self.head(id);
                    self.write("(cached)", tell);
                }
            }
            Event::Failed { id, reason } => {
                let Some(running) = self.steps.get_mut(&id) else { return };
                running.is_over = true;
                let is_optional = running.is_optional();
                self.head(id);
                if is_optional {
                    self.write(&format!("not used: {reason}"), tell);
                } else {
                    self.write(&reason, tell);
                    self.failed.push((id, reason));
                }
            }
            Event::Said(text) => {
                self.written = None;
                self.write(&text, tell);
                keep(&mut self.said, text);
            }
        }
    }

    /// Writes the step's name if the previous lines were another step's.
    fn head(&mut self, id: usize) {
        if self.written == Some(id) {
            return;
        }
        self.written = Some(id);
        let Some(running) = self.steps.get(&id) else { return };
        let counted = running.step.counted().map(|counted| format!("{counted}  ")).unwrap_or_default();
        if let Some(log) = &mut self.log {
            log.write(&format!("{counted}{}", running.step.instruction));
        }
    }

    fn write(&mut self, text: &str, tell: &mut impl FnMut(BuildEvent<'_>)) {
        if let Some(log) = &mut self.log {
            log.write(text);
        }
        if !text.trim().is_empty() {
            tell(BuildEvent::Line(text));
        }
    }

    /// The lines of the client and the engine, without any program's output. They show whether the engine is down or the build failed.
    pub fn engine_lines(&self) -> Vec<String> {
        let reasons = self.failed.iter().filter(|(_, reason)| super::exit_code(reason).is_none());
        let mut said: Vec<String> =
            self.said.iter().chain(reasons.map(|(_, reason)| reason)).cloned().collect();
        // The legacy builder and podman report in a step why it could not start.
        if self.failed.is_empty()
            && let Some(running) = self.unfinished()
        {
            said.extend(running.tail.back().cloned());
        }
        said
    }

    /// The step that was running when the output ended.
    pub(super) fn unfinished(&self) -> Option<&Running> {
        self.steps.values().rev().find(|running| !running.is_over && running.step.place.is_some())
    }

    /// Why the build failed; call it after the client has ended.
    pub fn failure(&self) -> BuildFailure {
        // One failure stops the parallel steps: theirs are not the reason.
        let first = self.failed.iter().find(|(_, reason)| !reason.contains(CANCELED)).or(self.failed.first());
        let said: Vec<String> = self.said.iter().cloned().collect();
        let mut failure = match first.and_then(|(id, reason)| Some((self.steps.get(id)?, reason))) {
            Some((running, reason)) => {
                BuildFailure::of_step(running.step.clone(), running.lines(), Some(reason.clone()))
            }
            None => match self.unfinished() {
                Some(running) => {
                    let reason = match self.form {
                        Form::RawJson | Form::Plain => BuildFailure::of_client(&said).reason,
                        Form::Legacy | Form::Podman => None,
                    };
                    BuildFailure::of_step(running.step.clone(), running.lines(), reason)
                }
                None => BuildFailure::of_client(&said),
            },
        };
        failure.log = self.log.as_ref().map(|log| log.shown().to_owned());
        failure
    }
}

impl Running {
    fn lines(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}

fn keep(lines: &mut VecDeque<String>, line: String) {
    if lines.len() == KEPT {
        lines.pop_front();
    }
    lines.push_back(line);
}
