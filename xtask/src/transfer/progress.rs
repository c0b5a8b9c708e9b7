//! What is seen of copies while they run.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use registry::mirror::{Event, Plan, Planned};

use super::images::short;
use crate::ui::{Lane, Printer, units};

/// Images up to which each has a line of its own while it is copied.
const LINES: usize = 16;

/// What is seen of copies while they run.
pub struct Board {
    printer: Printer,
    names: Vec<String>,
    lanes: Mutex<Lanes>,
}

/// A line for each image, or one for all where they are many.
struct Lanes {
    each: BTreeMap<usize, Lane>,
    all: Option<Lane>,
    done: usize,
    copies: usize,
}

impl Lanes {
    fn of(&self, image: usize) -> Option<&Lane> {
        self.all.as_ref().or_else(|| self.each.get(&image))
    }

    fn end(&mut self, image: usize) {
        self.each.remove(&image);
        self.done += 1;
        if let Some(all) = &self.all {
            all.news(&format!("{} of {}", self.done, units::count(self.copies, "image")));
        }
    }
}

impl Board {
    /// Of a plan that is about to be carried out.
    pub fn new(printer: &Printer, plan: &Plan) -> Self {
        let names = plan.images.iter().map(|planned| short(&planned.job)).collect();
        let contents = || plan.images.iter().filter_map(Planned::content);
        let (copies, bytes) = (contents().count(), contents().map(|content| content.bytes).sum());
        let all = (copies > LINES).then(|| printer.progress().bytes("copying", bytes));
        let lanes = Lanes { each: BTreeMap::new(), all, done: 0, copies };
        Self { printer: printer.clone(), names, lanes: Mutex::new(lanes) }
    }

    fn name(&self, image: usize) -> &str {
        self.names.get(image).map_or("?", String::as_str)
    }

    /// Shows what happened.
    pub fn hear(&self, event: &Event) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::ImageStarted { image, bytes, blobs } => {
                if lanes.all.is_none() {
                    lanes.each.insert(*image, self.printer.progress().bytes(self.name(*image), *bytes));
                }
                self.printer.detail(format!(
                    "{}: {}, {}",
                    self.name(*image),
                    units::count(*blobs, "blob"),
                    units::bytes(*bytes)
                ));
            }
            Event::BlobSkipped { image, digest, size } | Event::BlobMounted { image, digest, size, .. } => {
                if let Some(lane) = lanes.of(*image) {
                    lane.advance(*size);
                }
                let how =
                    if matches!(event, Event::BlobMounted { .. }) { "mounted" } else { "there already" };
                self.printer.detail(format!("{}: blob {} {how}", self.name(*image), digest.short()));
            }
            Event::BlobProgress { image, bytes, .. } => {
                if let Some(lane) = lanes.of(*image) {
                    lane.advance(*bytes);
                }
            }
            Event::Retried { image, error, pause } => {
                self.printer.line(format!(
                    "{}: {error}; again in {}",
                    self.name(*image),
                    units::duration(*pause)
                ));
            }
            Event::Warning { image, message } => {
                self.printer.warn(format!("{}: {message}", self.name(*image)));
            }
            Event::ImageDone { image, digest } => {
                lanes.end(*image);
                self.printer.line(format!("{}: copied, {digest}", self.name(*image)));
            }
            Event::ImageFailed { image, error } => {
                lanes.end(*image);
                self.printer.line(format!("{}: failed: {error}", self.name(*image)));
            }
            Event::BlobDone { image, digest, size } => {
                self.printer.detail(format!(
                    "{}: blob {} sent, {}",
                    self.name(*image),
                    digest.short(),
                    units::bytes(*size)
                ));
            }
            _ => {}
        }
    }
}
