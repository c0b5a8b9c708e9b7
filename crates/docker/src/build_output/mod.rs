//! Parses a builder's output into events: the step that runs, its program's output, its result.
//!
//! Every builder has its own format. Each parser is tested with real output (`recorded/`).

mod failure;
mod follow;
mod legacy;
mod log;
mod plain;
mod podman;
mod rawjson;

pub use failure::BuildFailure;
pub use follow::{BuildEvent, Follower};
pub use log::{Log, Logs};

/// How many characters of an instruction are shown.
const SHOWN: usize = 60;

/// One step of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Its stage, if the builder names one.
    pub stage: Option<String>,
    /// Its number and the number of steps; `None` if the builder does not count it (`load build context`).
    pub place: Option<(u32, u32)>,
    /// The Dockerfile's instruction, or the builder's name for the step, on one line.
    pub instruction: String,
}

impl Step {
    fn new(stage: Option<&str>, place: Option<(u32, u32)>, instruction: &str) -> Self {
        let instruction = instruction.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { stage: stage.map(str::to_owned), place, instruction }
    }

    /// BuildKit's name of a step: `[stage 2/3] RUN ...`, `[internal] load build context` or `exporting to image`.
    fn named(name: &str) -> Self {
        let Some((inside, rest)) = name.strip_prefix('[').and_then(|name| name.split_once(']')) else {
            return Self::new(None, None, name);
        };
        let (stage, last) = inside.rsplit_once(' ').unwrap_or(("", inside));
        match place(last) {
            Some(place) => Self::new(Some(stage).filter(|stage| !stage.is_empty()), Some(place), rest),
            None => Self::new(None, None, rest),
        }
    }

    /// `step 2 of 3`, with its stage; `None` for a step that is not counted.
    fn counted(&self) -> Option<String> {
        let (number, of) = self.place?;
        let stage = self.stage.as_ref().map(|stage| format!(" ({stage})")).unwrap_or_default();
        Some(format!("step {number} of {of}{stage}"))
    }
}

/// `step 2 of 3  RUN ...`, the instruction shortened.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(counted) = self.counted() {
            write!(f, "{counted}  ")?;
        }
        f.write_str(&clipped(&self.instruction, SHOWN))
    }
}

/// An event in a builder's output.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// A step has begun.
    Began { id: usize, step: Step },
    /// A line from a step's program or from the builder.
    Line { id: usize, text: String },
    /// A step has succeeded; `cached` if it came from the cache.
    Ended { id: usize, cached: bool },
    /// A step has failed.
    Failed { id: usize, reason: String },
    /// A line outside of all steps.
    Said(String),
}

/// The format of a builder's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// BuildKit's `--progress=rawjson` (buildx 0.13 and newer).
    RawJson,
    /// BuildKit's `--progress=plain`, also of nerdctl and finch.
    Plain,
    /// Docker's legacy builder.
    Legacy,
    /// podman's builder.
    Podman,
}

#[derive(Debug)]
enum Parser {
    RawJson(rawjson::Parser),
    Plain(plain::Parser),
    Legacy(legacy::Parser),
    Podman(podman::Parser),
}

impl Parser {
    fn new(form: Form) -> Self {
        match form {
            Form::RawJson => Self::RawJson(rawjson::Parser::default()),
            Form::Plain => Self::Plain(plain::Parser::default()),
            Form::Legacy => Self::Legacy(legacy::Parser::default()),
            Form::Podman => Self::Podman(podman::Parser::default()),
        }
    }

    fn line(&mut self, line: &str) -> Vec<Event> {
        match self {
            Self::RawJson(parser) => parser.line(line),
            Self::Plain(parser) => parser.line(line),
            Self::Legacy(parser) => parser.line(line),
            Self::Podman(parser) => parser.line(line),
        }
    }
}

/// `2/3`.
fn place(text: &str) -> Option<(u32, u32)> {
    let (number, of) = text.split_once('/')?;
    Some((number.parse().ok()?, of.parse().ok()?))
}

/// The exit code at the end of a builder's message about a failed program.
fn exit_code(reason: &str) -> Option<i32> {
    const BEFORE: [&str; 3] = ["exit code: ", "returned a non-zero code: ", "exit status "];
    let (_, code) = BEFORE.iter().find_map(|words| reason.rsplit_once(words))?;
    code.trim().parse().ok()
}

/// `text`, cut with an ellipsis if it has more than `most` characters.
fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests;
