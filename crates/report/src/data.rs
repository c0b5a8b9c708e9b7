//! The data of a page.

use std::collections::BTreeMap;
use std::time::Duration;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Something was changed, and everything is up to date.
    Done,
    /// Everything was up to date before.
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
    /// The result.
    pub ending: Ending,
    /// Whether it had started to change anything.
    pub begun: bool,
    /// The exit code.
    pub exit_code: u8,
    /// The exit code's name.
    pub exit_name: String,
    /// The version of the tool.
    pub version: String,
    /// Start time, as RFC 3339 in UTC, to the second.
    pub began: String,
    /// Duration.
    pub took: Duration,
    /// Account, region and registry, each with its label.
    pub place: Vec<(&'static str, String)>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// Changes, or planned changes, of the account's resources, a line each.
    pub resources: Vec<String>,
    /// Other notes, a line each.
    pub notes: Vec<String>,
    /// Images and runtimes.
    pub images: Vec<Image>,
    /// Other phases that took time.
    pub phases: Vec<(String, Span)>,
    /// Whether the registry scans images.
    pub is_scanned: bool,
}

/// Why a run failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What failed.
    pub message: String,
    /// The causes, the innermost last.
    pub causes: Vec<String>,
    /// What the user can do.
    pub hints: Vec<String>,
}

/// The state of an image or a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Copied or built by this run.
    Done,
    /// Up to date before the run.
    UpToDate,
    /// To be copied or built.
    Planned,
    /// It failed.
    Failed,
    /// Started, but the run ended before it was done.
    Unfinished,
    /// Not started when the run ended.
    NotBegun,
}

/// An image or a runtime.
#[derive(Clone, Debug)]
pub struct Image {
    /// `repository:tag`.
    pub name: String,
    /// Whether it is built, not copied.
    pub is_runtime: bool,
    /// Its source; for a runtime, its base.
    pub from: String,
    /// Its state.
    pub state: State,
    /// The state in a word or two: `copied`, `to build`.
    pub result: String,
    /// The reason.
    pub why: String,
    /// The digest that its tag has, or will have.
    pub digest: Option<String>,
    /// Bytes sent, or at most to be sent.
    pub sent: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// Who signed it, if `[trust]` requires a signature.
    pub signed_by: Option<String>,
    /// Its referrers, if they were read.
    pub referrers: Option<Referrers>,
    /// Its layers and configurations, for all its platforms, if known.
    pub layers: Option<Vec<Layer>>,
    /// When it was copied or built.
    pub span: Option<Span>,
    /// The result of a scan.
    pub scan: Scan,
}

/// A blob of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its digest.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
}

/// A part of the run's time, relative to its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it started.
    pub begin: Duration,
    /// When it ended; `None` if the run ended before.
    pub end: Option<Duration>,
}

/// Referrers of an image, as listed by its registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// Signatures.
    pub signatures: usize,
    /// SBOMs.
    pub sboms: usize,
    /// Provenance documents.
    pub provenances: usize,
    /// Anything else.
    pub others: usize,
}

/// What the registry's scan of an image found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scan {
    /// Not requested.
    #[default]
    NotAsked,
    /// Not scanned, or the scan has not ended.
    NotScanned,
    /// It could not be read, for this reason.
    Unread(String),
    /// Findings by ECR's severity.
    Found(BTreeMap<String, u64>),
}
