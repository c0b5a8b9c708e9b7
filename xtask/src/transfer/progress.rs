//! The progress display of copies.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use registry::mirror::{Event, Plan, Planned};

use super::images::short;
use crate::ui::{Lane, Printer, TotalCount, units};

/// The progress display of copies.
pub struct Board {
    printer: Printer,
    names: Vec<String>,
    lanes: Mutex<Lanes>,
}

/// A line for each image being copied, and the total count.
struct Lanes {
    each: BTreeMap<usize, Lane>,
    whole: TotalCount,
}

impl Lanes {
    fn end(&mut self, image: usize) {
        self.each.remove(&image);
        self.whole.one_done();
    }
}

impl Board {
    /// The display for a plan that is about to be applied.
    pub fn new(printer: &Printer, plan: &Plan) -> Self {
        let names = plan.images.iter().map(|planned| short(&planned.job)).collect();
        let images = plan.images.iter().filter(|planned| planned.has_work()).count();
        let bytes = plan.images.iter().filter_map(Planned::content).map(|content| content.bytes).sum();
        let lanes = Lanes { each: BTreeMap::new(), whole: printer.progress().total("image", images, bytes) };
        Self { printer: printer.clone(), names, lanes: Mutex::new(lanes) }
    }

    fn name(&self, image: usize) -> &str {
        self.names.get(image).map_or("?", String::as_str)
    }

    /// Shows an event.
    pub fn on_event(&self, event: &Event) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::ImageStarted { image, bytes, blobs } => {
                lanes.each.insert(*image, self.printer.progress().bytes(self.name(*image), *bytes));
                let words = format!(
                    "{}: copying {} in {}",
                    self.name(*image),
                    units::bytes(*bytes),
                    units::count(*blobs, "blob")
                );
                // A terminal has a line for each image being copied. If only a tag is set, its end is enough.
                if self.printer.progress().is_drawn() || *blobs == 0 {
                    self.printer.detail(words);
                } else {
                    self.printer.line(words);
                }
            }
            Event::BlobSkipped { image, digest, size } | Event::BlobMounted { image, digest, size, .. } => {
                if let Some(lane) = lanes.each.get(image) {
                    lane.skip(*size);
                }
                let how =
                    if matches!(event, Event::BlobMounted { .. }) { "mounted" } else { "there already" };
                self.printer.detail(format!("{}: blob {} {how}", self.name(*image), digest.short()));
            }
            Event::BlobProgress { image, bytes, .. } => {
                if let Some(lane) = lanes.each.get(image) {
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
                self.printer.line(format!("{}: copied, sha256:{}", self.name(*image), digest.short()));
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
