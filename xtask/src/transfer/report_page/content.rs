//! The content of the page, made from the results of the run.

use failure::{ErrorParts, Kind, error_parts, kind_of};
use images_config::RUNTIMES_REPOSITORY;
use jiff::Timestamp;
use process::plain;
use registry::mirror::Blob;
use report::{Failure, Image, Layer, Page, Scan, Span, State};

use super::Known;
use crate::context::Context;
use crate::exit_codes::{self, Ending};
use crate::transfer::Request;
use crate::transfer::completed::Completed;
use crate::transfer::show::{ImageReport, Report, done_word};
use crate::transfer::spans::Work;

/// The action of an image that is up to date.
const UP_TO_DATE: &str = "up to date";

/// A run that has ended.
pub(super) struct EndedRun<'a> {
    pub(super) context: &'a Context,
    pub(super) request: &'a Request,
    pub(super) completed: &'a Completed,
    pub(super) began: Timestamp,
    pub(super) result: Result<&'a Ending, &'a anyhow::Error>,
}

impl EndedRun<'_> {
    /// The page.
    pub(super) fn page(&self, mut known: Known) -> Page {
        let report = known.report.take();
        let images = report.as_ref().map(|report| self.images(report, &mut known)).unwrap_or_default();
        let (exit_code, exit_name) = match self.result {
            Ok(ending) => (ending.code(), ending.name()),
            Err(error) => (exit_codes::exit_code(error), exit_codes::exit_name(error)),
        };
        let is_plan = self.request.dry_run && report.is_some();
        let begun = self.completed.has_begun();
        let resources = report.as_ref().filter(|_| begun || is_plan).map(Report::resources);
        let notes = report.as_ref().map(Report::notes).unwrap_or_default();
        let resources_span = self.completed.spans.of(&Work::Resources);
        let phases = resources_span.into_iter().map(|span| ("terraform apply".to_owned(), span));
        Page {
            grid: self.context.settings.tag.clone(),
            ending: self.ending(report.as_ref()),
            begun,
            exit_code,
            exit_name: exit_name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            began: self.began.strftime("%FT%TZ").to_string(),
            took: self.completed.spans.elapsed(),
            place: self.place(report.as_ref()),
            failure: self.result.err().map(why),
            resources: all_plain(resources.unwrap_or_default()),
            notes: all_plain(notes.into_iter().chain(known.notes).collect()),
            images,
            phases: phases.collect(),
            is_scanned: report.is_some_and(|report| report.account.is_some()),
        }
    }

    fn ending(&self, report: Option<&Report>) -> report::Ending {
        match (self.result, report) {
            (Err(error), _) if kind_of(error) == Kind::Interrupted => report::Ending::Interrupted,
            (_, Some(_)) if self.request.dry_run => report::Ending::Plan,
            (Err(_), _) => report::Ending::Failed,
            (Ok(_), Some(report)) if report.has_changed() => report::Ending::Done,
            (Ok(_), _) => report::Ending::NothingToDo,
        }
    }

    /// The target, as far as it is known.
    fn place(&self, report: Option<&Report>) -> Vec<(&'static str, String)> {
        let settings = &self.context.settings;
        let Some(report) = report else {
            let region = settings.region.clone().map(|region| ("region", region));
            let registry = settings.registry.clone().map(|registry| ("registry", registry));
            return region.into_iter().chain(registry).collect();
        };
        let emulated = if settings.local { " (emulated on this machine)" } else { "" };
        let account = report.account.as_ref().map(|account| ("account", format!("{account}{emulated}")));
        let region = report.region.clone().map(|region| ("region", region));
        let shard = report.shard.clone().map(|shard| ("shard", shard));
        let registry = ("registry", report.registry.clone());
        account.into_iter().chain(region).chain([registry]).chain(shard).collect()
    }

    fn images(&self, report: &Report, known: &mut Known) -> Vec<Image> {
        let images = report.images.iter().enumerate().map(|(position, image)| (Work::Image(position), image));
        let runtimes = report.runtimes.iter().map(|runtime| {
            let name = runtime.name.strip_prefix(RUNTIMES_REPOSITORY).unwrap_or(&runtime.name);
            (Work::Runtime(name.trim_start_matches(':').to_owned()), runtime)
        });
        images.chain(runtimes).map(|(work, image)| self.image(image, &work, known)).collect()
    }

    fn image(&self, image: &ImageReport, work: &Work, known: &mut Known) -> Image {
        let looked = known.looked.remove(&image.name).unwrap_or_default();
        let (planned, error) = match work {
            Work::Image(position) => {
                (known.blobs.get_mut(*position).and_then(Option::take), known.errors.remove(position))
            }
            _ => (None, None),
        };
        let layer = |blob: &Blob| Layer { digest: blob.digest.to_string(), size: blob.size };
        let error = image.error.clone().or(error);
        let span = self.completed.spans.of(work);
        let is_final = self.result.is_ok() || known.is_final;
        let state = match span {
            _ if error.is_some() => State::Failed,
            _ if image.action == UP_TO_DATE => State::UpToDate,
            _ if self.request.dry_run => State::Planned,
            _ if is_final => State::Done,
            // An interrupted run has only the report of its plan.
            Some(Span { end: Some(_), .. }) => State::Done,
            Some(Span { end: None, .. }) => State::Unfinished,
            None => State::NotBegun,
        };
        let result = match state {
            State::UpToDate => UP_TO_DATE.to_owned(),
            State::Done => done_word(&image.action).to_owned(),
            State::Planned => format!("to {}", image.action),
            State::Failed => "failed".to_owned(),
            State::Unfinished => "not finished".to_owned(),
            State::NotBegun => "not begun".to_owned(),
        };
        let held = if image.held.is_some() { ", held" } else { "" };
        // The bytes sent by an interrupted run were not counted.
        let is_sent = state == State::Planned || state == State::Done && is_final;
        Image {
            name: words(&image.name),
            is_runtime: matches!(work, Work::Runtime(_)),
            from: words(&image.from),
            state,
            result: format!("{result}{held}"),
            why: words(&image.why),
            digest: image.digest.clone(),
            sent: if is_sent { image.bytes } else { 0 },
            error: error.as_deref().map(words),
            signed_by: image.signed_by.as_deref().map(words),
            referrers: looked.referrers,
            layers: looked.layers.or_else(|| Some(planned?.iter().map(layer).collect())),
            span,
            scan: match looked.scan {
                Scan::Unread(why) => Scan::Unread(words(&why)),
                scan => scan,
            },
        }
    }
}

fn why(error: &anyhow::Error) -> Failure {
    let ErrorParts { message, causes, hints } = error_parts(error);
    Failure { message: words(&message), causes: all_plain(causes), hints: all_plain(hints) }
}

/// Text of other programs and servers, without terminal control sequences.
fn words(text: &str) -> String {
    plain(text).into_owned()
}

fn all_plain(lines: Vec<String>) -> Vec<String> {
    lines.iter().map(|line| words(line)).collect()
}
