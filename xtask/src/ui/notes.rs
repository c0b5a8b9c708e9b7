//! Receives the crates' `tracing` output: events are printed as lines of the run, and open spans named `wait` are shown as waits,
//! with the fields `on`, `what` and, in milliseconds, the maximum `most`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::Printer;
use super::progress::{Wait, Waits};

/// The name of the spans for waits.
const WAIT: &str = "wait";

/// Prints this tool's warnings from now on, with `--verbose` also its debug events. Events of libraries are not shown: they are not
/// written for the user, and may contain secrets.
pub fn listen(printer: &Printer) {
    let most = if printer.verbose() { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let (printer, waits) = (printer.clone(), printer.progress().waits());
    let print = move |level: Level, text: String| match level {
        Level::ERROR | Level::WARN => printer.warn(text),
        _ => printer.detail(text),
    };
    // Only the first subscriber is used, for the whole process.
    let _ = tracing::subscriber::set_global_default(Notes::new(most, print, waits));
}

/// The crates whose events are written for the user.
const OWN: [&str; 6] =
    [env!("CARGO_CRATE_NAME"), "aws", "docker_credentials", "images_config", "runtimes", "terraform"];

/// The crate whose waits are also shown. Its events are not, because they are also written for other programs.
const WAITING: &str = "registry";

struct Notes<F> {
    most: LevelFilter,
    print: F,
    waits: Waits,
    next: AtomicU64,
    /// The reference count of each open span.
    held: Mutex<HashMap<u64, usize>>,
}

impl<F> Notes<F> {
    fn new(most: LevelFilter, print: F, waits: Waits) -> Self {
        Self { most, print, waits, next: AtomicU64::new(1), held: Mutex::default() }
    }
}

impl<F: Fn(Level, String) + Send + Sync + 'static> Subscriber for Notes<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = |name: &str| OWN.contains(&name) || (metadata.is_span() && name == WAITING);
        let own = metadata.target().split("::").next().is_some_and(own);
        own && (metadata.is_event() || metadata.name() == WAIT) && *metadata.level() <= self.most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        (self.print)(*event.metadata().level(), text.0);
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut wait = Waited::default();
        span.record(&mut wait);
        let since = Instant::now();
        let until = wait.most.and_then(|most| since.checked_add(most));
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(number, 1);
        self.waits.begin(number, Wait { on: wait.on, what: wait.what, since, until });
        span::Id::from_u64(number)
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(id.into_u64()).or_default() += 1;
        id.clone()
    }

    fn try_close(&self, id: span::Id) -> bool {
        let number = id.into_u64();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let left = held.get_mut(&number).map(|count| {
            *count -= 1;
            *count
        });
        let is_over = left == Some(0);
        if is_over {
            held.remove(&number);
            self.waits.end(number);
        }
        is_over
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// The fields of a span.
#[derive(Default)]
struct Waited {
    on: String,
    what: String,
    most: Option<Duration>,
}

impl Visit for Waited {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "most" {
            self.most = Some(Duration::from_millis(value));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "on" => self.on = process::plain(value).replace('\n', " "),
            "what" => self.what = process::plain(value).replace('\n', " "),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// An event's message.
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string does not fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use super::super::progress::{Progress, Shown};
    use super::*;

    fn waits() -> Waits {
        Progress::new(Shown::Not).waits()
    }

    #[test]
    fn only_our_own_warnings_are_printed() {
        let printed = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&printed);
        let print = move |level: Level, text: String| seen.lock().unwrap().push((level, text));
        let waits = waits();
        tracing::subscriber::with_default(Notes::new(LevelFilter::WARN, print, waits), || {
            tracing::warn!("could not renew the lease: {}", "why");
            tracing::warn!(target: "images_config::cache", "what was learned is not kept");
            tracing::debug!("a small step");
            tracing::error!(target: "hyper::proto", "authorization: Bearer 1234");
        });
        let wanted = ["could not renew the lease: why", "what was learned is not kept"];
        assert_eq!(*printed.lock().unwrap(), wanted.map(|text| (Level::WARN, text.to_owned())));
    }

    #[test]
    fn a_wait_is_known_while_its_span_is_open() {
        let waits = waits();
        let notes = Notes::new(LevelFilter::WARN, |_, _| {}, waits.clone());
        tracing::subscriber::with_default(notes, || {
            let most = 9_000_u64;
            let wait =
                tracing::warn_span!(target: "registry::client", "wait", on = "docker.io", what = "it", most);
            let other = tracing::warn_span!(target: "hyper", "wait", on = "a", what = "b");
            let clone = wait.clone();
            drop(wait);
            let all = waits.all();
            assert_eq!((all.len(), all[0].on.as_str(), all[0].what.as_str()), (1, "docker.io", "it"));
            assert_eq!(all[0].until, Some(all[0].since + Duration::from_secs(9)));
            drop((clone, other));
            assert!(waits.all().is_empty());
        });
    }

    #[test]
    fn the_events_of_every_crate_are_received() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let manifest = |folder: &str| std::fs::read_to_string(top.join(folder).join("Cargo.toml"));
        let speaks = |name: &&str| {
            manifest(&format!("crates/{name}")).is_ok_and(|text| text.contains("\ntracing.workspace = true"))
        };
        let own = manifest("xtask").unwrap();
        let below = own.lines().filter_map(|line| line.strip_suffix(".workspace = true")).filter(speaks);
        // The registry's crate is also written for other programs.
        let below = below.filter(|name| *name != "registry").map(|name| name.replace('-', "_"));
        assert_eq!(OWN[1..], below.collect::<Vec<_>>());
    }
}
