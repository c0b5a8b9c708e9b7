//! Copies images across an air gap: from a registry to an OCI image layout in a file, and from the file to another registry.

mod export;
mod import;

use std::path::Path;

use oci_layout::{HOST, LayoutError};
use registry::mirror::Outcome;
use registry::{ErrorKind, Reference};
use serde::Serialize;

use crate::context::Context;
use crate::target::Target;
use crate::transfer::{image_verdict, short};
use crate::ui::{Table, units};
use failure::{FailWith as _, Kind, ending, kind_of};

pub use export::{Export, export};
pub use import::{Import, import};

/// The result for one image.
#[derive(Debug, Serialize)]
pub struct ImageResult {
    /// `repository:tag`.
    name: String,
    /// The source of its bytes.
    from: String,
    digest: Option<registry::Digest>,
    /// Bytes written or sent.
    bytes: u64,
    /// Whether all of it existed already.
    up_to_date: bool,
    error: Option<String>,
}

/// A run in `--format json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: String,
    images: &'a [ImageResult],
    /// Bytes written or sent.
    bytes: u64,
}

/// The reference of an image in a layout.
fn in_layout(repository: &str, tag: &str) -> anyhow::Result<Reference> {
    Ok(Reference::new(HOST, repository)?.with_tag(tag)?)
}

/// Adds kind and hint to a file's error.
fn file_error(error: LayoutError) -> anyhow::Error {
    let (kind, hint) = match &error {
        LayoutError::Foreign { .. } => {
            (Kind::Usage, Some("give the name of a directory that is new or empty"))
        }
        LayoutError::Exists { .. } => (Kind::Usage, Some("give another name, or remove the file")),
        LayoutError::Malformed { .. } => (Kind::Usage, None),
        LayoutError::Busy { .. } => (Kind::Refused, Some("wait until it has ended")),
        _ => (Kind::Unexpected, None),
    };
    ending(kind, hint.map(str::to_owned), error)
}

/// Adds name, kind and hint to an image's error. Errors of the layout are errors of the file.
fn image_error(path: &Path, target: Option<&Target>, name: &str, error: &registry::Error) -> anyhow::Error {
    let is_ours = matches!(error.kind(), ErrorKind::Untrusted { .. } | ErrorKind::TooFresh { .. });
    if error.registry() == HOST && !is_ours {
        let shown = format!("{name}: {}", path.display());
        use ErrorKind::{DigestMismatch, NotFound, SizeMismatch, Truncated};
        let (kind, hint) = match error.kind() {
            DigestMismatch { .. } | NotFound { .. } | SizeMismatch { .. } | Truncated { .. } => {
                (Kind::Usage, "the file is damaged, or not all of it is here: bring it over once more")
            }
            _ => (Kind::Unexpected, "is the disk full, or the file read-only?"),
        };
        return ending(kind, Some(hint.to_owned()), anyhow::Error::new(error.clone()).context(shown));
    }
    let (kind, hint) = image_verdict(error, target);
    ending(kind, hint, anyhow::Error::new(error.clone()).context(name.to_owned()))
}

fn moved(outcomes: &[Outcome]) -> Vec<ImageResult> {
    let one = |outcome: &Outcome| {
        let done = outcome.result.as_ref().ok();
        ImageResult {
            name: short(&outcome.job),
            from: match outcome.job.source.registry() {
                HOST => "file".to_owned(),
                _ => outcome.job.source.to_string(),
            },
            digest: done.map(|done| done.digest),
            bytes: done.map_or(0, |done| done.bytes),
            up_to_date: done.is_some_and(|done| done.was_up_to_date),
            error: outcome.result.as_ref().err().map(ToString::to_string),
        }
    };
    outcomes.iter().map(one).collect()
}

/// Prints the table or the JSON document to stdout.
fn report(context: &Context, path: &Path, moved: &[ImageResult]) -> anyhow::Result<()> {
    let mut table = Table::new(["IMAGE", "FROM", "WRITTEN", "DIGEST"]);
    for image in moved {
        let written = match (&image.error, image.up_to_date) {
            (Some(_), _) => "failed".to_owned(),
            (None, true) => "was there".to_owned(),
            (None, false) => units::bytes(image.bytes),
        };
        let digest = image.digest.map_or_else(|| "-".to_owned(), |digest| digest.to_string());
        table.row([image.name.clone(), image.from.clone(), written, digest]);
    }
    let bytes = moved.iter().fold(0, |sum: u64, image| sum.saturating_add(image.bytes));
    context.printer.results().data(&table, &Report { file: path.display().to_string(), images: moved, bytes })
}

/// Prints all errors except the first, which ends the run.
fn failures(context: &Context, errors: Vec<anyhow::Error>) -> anyhow::Result<()> {
    let mut errors = errors.into_iter();
    let Some(first) = errors.next() else { return Ok(()) };
    for error in errors {
        context.printer.error(&error);
    }
    let kind = kind_of(&first);
    Err(first).hint(kind, "what is done is kept; run the command again and it continues from there")
}
