//! When each copy and each build started and ended.

use std::time::Duration;

use crate::html::{Html, Percent, html};
use crate::{Page, Section, Span, State, units};

/// Most bars in the picture.
const DRAWN: usize = 60;
/// Most lines of the axis.
const TICKS: u64 = 5;

/// A bar.
struct Bar<'a> {
    name: &'a str,
    what: &'static str,
    class: &'static str,
    failed: bool,
    span: Span,
}

impl Bar<'_> {
    fn end(&self, whole: Duration) -> Duration {
        self.span.end.unwrap_or(whole)
    }

    fn took(&self, whole: Duration) -> Duration {
        self.end(whole).saturating_sub(self.span.begin)
    }
}

/// The picture; `None` if nothing was done.
pub fn section(page: &Page) -> Option<Section> {
    let phases = page.phases.iter().map(|(name, span)| Bar {
        name,
        what: "resources",
        class: "time-phase",
        failed: false,
        span: *span,
    });
    let images = page.images.iter().filter_map(|image| {
        let (what, class) = if image.is_runtime { ("build", "time-build") } else { ("copy", "time-copy") };
        let failed = image.state == State::Failed;
        Some(Bar { name: &image.name, what, class, failed, span: image.span? })
    });
    let mut bars: Vec<Bar<'_>> = phases.chain(images).collect();
    let all = bars.len();
    let whole = bars.iter().filter_map(|bar| bar.span.end).chain([page.took]).max()?;
    bars.sort_by_key(|bar| std::cmp::Reverse(bar.took(whole)));
    bars.truncate(DRAWN);
    bars.sort_by_key(|bar| (bar.span.begin, bar.end(whole)));
    if bars.is_empty() {
        return None;
    }
    let ticks = ticks(whole);
    let rows: Vec<Html> = bars.iter().map(|bar| row(bar, whole, &ticks)).collect();
    let limited = (all > DRAWN).then(|| html! { " The ", DRAWN, " longest of ", all, " are drawn." });
    let key = |class: &'static str, words: &'static str| {
        html! {
            "<span><svg class=\"key\" width=\"22\" height=\"16\" aria-hidden=\"true\"><rect class=\"", class,
            "\" width=\"22\" height=\"16\"/></svg> ", words, "</span> "
        }
    };
    let kinds = [
        ("time-phase", "resources", "resources (terraform)"),
        ("time-copy", "copy", "copies"),
        ("time-build", "build", "builds"),
    ];
    let keys = kinds.iter().filter(|(_, what, _)| bars.iter().any(|bar| bar.what == *what));
    let keys: Vec<Html> = keys.map(|(class, _, words)| key(class, words)).collect();
    let body = html! {
        "<p>From the run's beginning to its end, ", units::duration(whole), ".", limited, " </p>\n<p class=\"keys\">",
        keys, "</p>\n<ul class=\"bars\">", axis(&ticks, whole), rows, "</ul>\n"
    };
    Some(Section { id: "timeline", title: "Timeline", body })
}

fn row(bar: &Bar<'_>, whole: Duration, ticks: &[Duration]) -> Html {
    let (begin, took) = (bar.span.begin, bar.took(whole));
    let (at, width) = (percent(begin, whole), percent(took, whole));
    // Bars that are too short are drawn with a visible width.
    let width = Percent(width.0.max(0.5));
    let at = Percent(at.0.min(100.0 - width.0));
    let ended = match (bar.span.end, bar.failed) {
        (Some(_), false) => "",
        (Some(_), true) => ", failed",
        (None, _) => ", not done",
    };
    let words = format!(
        "{}: begun after {}, took {}{ended}",
        bar.what,
        units::duration(begin),
        units::duration(took)
    );
    let sign = match (bar.span.end, bar.failed) {
        (Some(_), false) => None,
        (Some(_), true) => Some(html! { " <b class=\"bad\">✗ failed</b>" }),
        (None, _) => Some(html! { " <b class=\"warn\">not done</b>" }),
    };
    html! {
        "<li><span class=\"name\">", bar.name, sign, "</span><svg class=\"bar\" role=\"img\" aria-label=\"", words,
        "\" height=\"20\">", grid(ticks, whole), "<rect class=\"", bar.class, "\" x=\"", at, "\" y=\"3\" width=\"",
        width, "\" height=\"14\" rx=\"2\"><title>", words, "</title></rect></svg><span class=\"value\">",
        units::duration(took), "</span></li>\n"
    }
}

/// The times above the bars.
fn axis(ticks: &[Duration], whole: Duration) -> Html {
    let labels = ticks.iter().map(|tick| {
        let at = percent(*tick, whole);
        let first = if tick.is_zero() { " first" } else { "" };
        html! { "<text class=\"tick", first, "\" x=\"", at, "\" y=\"15\">", short(*tick), "</text>" }
    });
    let labels: Vec<Html> = labels.collect();
    html! {
        "<li class=\"axis\" aria-hidden=\"true\"><span class=\"name\"></span><svg class=\"bar\" height=\"20\">", labels,
        "</svg><span class=\"value\"></span></li>\n"
    }
}

fn grid(ticks: &[Duration], whole: Duration) -> Vec<Html> {
    let line = |tick: &Duration| {
        let at = percent(*tick, whole);
        html! { "<line class=\"grid\" x1=\"", at, "\" x2=\"", at, "\" y2=\"20\"/>" }
    };
    ticks.iter().map(line).collect()
}

/// The times of the axis: round ones, from the start. The last one leaves space for its label.
fn ticks(whole: Duration) -> Vec<Duration> {
    const STEPS: [u64; 16] = [
        100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000,
        1_800_000, 3_600_000, 7_200_000,
    ];
    let whole_ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    let fits = STEPS.iter().find(|step| whole_ms / **step < TICKS).copied();
    let step = fits.unwrap_or(whole_ms / TICKS + 1);
    let ticks = (0..=TICKS).map(|tick| Duration::from_millis(tick.saturating_mul(step)));
    ticks.take_while(|tick| percent(*tick, whole).0 <= 94.0).collect()
}

/// A round time in its largest unit.
fn short(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        0 => "0".to_owned(),
        1..=999 => format!("0.{} s", ms / 100),
        1_000..=59_999 => format!("{} s", ms / 1_000),
        60_000..=3_599_999 => format!("{} min", ms / 60_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{} h", ms / 3_600_000),
        _ => format!("{}:{:02} h", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

fn percent(part: Duration, whole: Duration) -> Percent {
    Percent(100.0 * part.as_secs_f64() / whole.as_secs_f64().max(0.001))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_has_few_round_times_for_any_duration() {
        let labels = |ms: u64| ticks(Duration::from_millis(ms)).into_iter().map(short).collect::<Vec<_>>();
        assert_eq!(labels(0), ["0"]);
        assert_eq!(labels(430), ["0", "0.1 s", "0.2 s", "0.3 s", "0.4 s"]);
        assert_eq!(labels(31_000), ["0", "10 s", "20 s"]);
        assert_eq!(labels(240_000), ["0", "1 min", "2 min", "3 min"]);
        assert_eq!(labels(8_900_000), ["0", "30 min", "1 h", "1:30 h", "2 h"]);
        for ms in (1..2_000).map(|n| n * 60_007) {
            let count = ticks(Duration::from_millis(ms)).len();
            assert!((2..=6).contains(&count), "{ms}: {count}");
        }
    }
}
