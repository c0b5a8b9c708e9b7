//! What code below says by `tracing`, printed as the run's own lines.

use std::fmt::Write as _;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::Printer;

/// Prints this tool's warnings from here on, and its smaller steps where every step is shown. Libraries stay silent: what they
/// say is not written for the user, and may hold secrets.
pub fn listen(printer: &Printer) {
    let most = if printer.verbose() { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let printer = printer.clone();
    let print = move |level: Level, text: String| match level {
        Level::ERROR | Level::WARN => printer.warn(text),
        _ => printer.detail(text),
    };
    // The first one listens for the whole process.
    let _ = tracing::subscriber::set_global_default(Notes { most, print });
}

/// The crates whose events are written for the user.
const OWN: [&str; 6] =
    [env!("CARGO_CRATE_NAME"), "aws", "docker_credentials", "images_config", "runtimes", "terraform"];

struct Notes<F> {
    most: LevelFilter,
    print: F,
}

impl<F: Fn(Level, String) + Send + Sync + 'static> Subscriber for Notes<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().split("::").next().is_some_and(|name| OWN.contains(&name));
        own && metadata.is_event() && *metadata.level() <= self.most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        (self.print)(*event.metadata().level(), text.0);
    }

    // Nothing here makes spans.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
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

    use super::*;

    #[test]
    fn own_warnings_are_printed_and_nothing_of_a_librarys() {
        let printed = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&printed);
        let print = move |level: Level, text: String| seen.lock().unwrap().push((level, text));
        tracing::subscriber::with_default(Notes { most: LevelFilter::WARN, print }, || {
            tracing::warn!("could not renew the lease: {}", "why");
            tracing::warn!(target: "images_config::cache", "what was learned is not kept");
            tracing::debug!("a small step");
            tracing::error!(target: "hyper::proto", "authorization: Bearer 1234");
        });
        let wanted = ["could not renew the lease: why", "what was learned is not kept"];
        assert_eq!(*printed.lock().unwrap(), wanted.map(|text| (Level::WARN, text.to_owned())));
    }

    #[test]
    fn every_crate_below_that_speaks_is_heard() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let manifest = |folder: &str| std::fs::read_to_string(top.join(folder).join("Cargo.toml"));
        let speaks = |name: &&str| {
            manifest(&format!("crates/{name}")).is_ok_and(|text| text.contains("\ntracing.workspace = true"))
        };
        let own = manifest("xtask").unwrap();
        let below = own.lines().filter_map(|line| line.strip_suffix(".workspace = true")).filter(speaks);
        // The registry's crate is written for others, too.
        let below = below.filter(|name| *name != "registry").map(|name| name.replace('-', "_"));
        assert_eq!(OWN[1..], below.collect::<Vec<_>>());
    }
}
