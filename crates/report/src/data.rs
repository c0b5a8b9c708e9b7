//! What a page tells.

use std::collections::BTreeMap;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Something was changed, and everything is in place.
    Done,
    /// Everything was in place before.
    NothingToDo,
    /// A dry run: nothing was changed.
    Plan,
    /// It failed, before anything was changed or part-way.
    Failed,
    /// Ctrl-C or SIGTERM.
    Interrupted,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Page {
    /// The grid's name.
    pub grid: String,
    /// How it ended.
    pub ending: Ending,
    /// Whether it had begun to change anything.
    pub begun: bool,
    /// The exit code.
    pub exit_code: u8,
    /// What that is called.
    pub exit_name: String,
    /// The version of the tool.
    pub version: String,
    /// When it began, as RFC 3339 in UTC, to the second.
    pub began: String,
    /// How long it took.
    pub took: Duration,
    /// Where it worked, each with its label: account, region, registry.
    pub place: Vec<(&'static str, String)>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What it did, or would do, about the account's resources, a line each.
    pub resources: Vec<String>,
    /// What else is to be known, a line each.
    pub notes: Vec<String>,
    /// Images and runtimes.
    pub images: Vec<Image>,
    /// What else took time.
    pub phases: Vec<(String, Span)>,
    /// Whether the registry scans images.
    pub is_scanned: bool,
}

/// Why a run failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What failed.
    pub message: String,
    /// Each cause, the innermost last.
    pub causes: Vec<String>,
    /// What to do.
    pub hints: Vec<String>,
}

/// How far an image or a runtime came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// This run brought it to where it should be.
    Done,
    /// It was there before.
    UpToDate,
    /// It would be brought.
    Planned,
    /// It failed.
    Failed,
    /// It was begun, and the run ended before it was done.
    Unfinished,
    /// The run ended before it was begun.
    NotBegun,
}

/// An image or a runtime.
#[derive(Clone, Debug)]
pub struct Image {
    /// `repository:tag`.
    pub name: String,
    /// Whether it is built, not copied.
    pub is_runtime: bool,
    /// Where it comes from; of a runtime, its base.
    pub from: String,
    /// How far it came.
    pub state: State,
    /// That in a word or two: `copied`, `to build`.
    pub result: String,
    /// Why that is done.
    pub why: String,
    /// The digest that its tag has, or would have.
    pub digest: Option<String>,
    /// Bytes that were sent, or would be at most.
    pub sent: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Who signed it, where `[trust]` asks for that.
    pub signed_by: Option<String>,
    /// What stands beside it, where that was read.
    pub beside: Option<Beside>,
    /// Its layers and configurations, of all its platforms, where they are known.
    pub layers: Option<Vec<Layer>>,
    /// When it was copied or built.
    pub span: Option<Span>,
    /// What a scan found.
    pub scan: Scan,
}

/// A blob of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its digest.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A part of the run's time, counted from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub begin: Duration,
    /// When it ended; none where the run ended before.
    pub end: Option<Duration>,
}

/// What stands beside an image, as its registry lists it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Signatures.
    pub signatures: usize,
    /// SBOMs.
    pub sboms: usize,
    /// Provenances.
    pub provenances: usize,
    /// Anything else.
    pub others: usize,
}

/// What the registry's scan of an image found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scan {
    /// Nobody asked.
    #[default]
    NotAsked,
    /// It was not scanned, or the scan has not ended.
    NotScanned,
    /// It could not be read, for this reason.
    Unread(String),
    /// Findings by severity, as ECR writes it.
    Found(BTreeMap<String, u64>),
}
