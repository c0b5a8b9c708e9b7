//! Progress: bars on a terminal, one line for each step elsewhere.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::plain::plain;

/// The lines at the terminal's foot that are redrawn in place.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: MultiProgress,
}

impl Progress {
    /// A display that draws, or one that only prints lines.
    pub fn new(drawn: bool) -> Self {
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target) }
    }

    /// Prints while the bars step aside.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }

    /// A line that shows `name` and its latest news.
    pub fn lane(&self, name: &str) -> Lane {
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(style("{spinner} {prefix:<28!} {wide_msg}"));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Lane { bar }
    }

    /// A line that counts bytes up to `total`.
    pub fn bytes(&self, name: &str, total: u64) -> Lane {
        let bar = self.bars.add(ProgressBar::new(total));
        bar.set_style(style(
            "{spinner} {prefix:<28!} {bar:24} {binary_bytes:>10}/{binary_total_bytes:<10} {binary_bytes_per_sec:>12} {wide_msg}",
        ));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Lane { bar }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// One line of the display; it leaves when dropped.
#[derive(Debug)]
pub struct Lane {
    bar: ProgressBar,
}

impl Lane {
    /// Shows the latest news, folded to the terminal's width.
    pub fn news(&self, text: &str) {
        self.bar.set_message(plain(text.trim()).into_owned());
    }

    /// Counts `bytes` more.
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
