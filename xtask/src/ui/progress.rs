//! Progress: bars on a terminal, one line for each step elsewhere.

use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use process::plain;

/// The lines at the terminal's foot that are redrawn in place; none where nothing is drawn: each would have a thread and stay in
/// memory to the end.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: Option<MultiProgress>,
}

impl Progress {
    /// A display that draws, or one that only prints lines.
    pub fn new(drawn: bool) -> Self {
        Self { bars: drawn.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())) }
    }

    /// Prints while the bars step aside.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    /// A line that shows `name` and its latest news.
    pub fn lane(&self, name: &str) -> Lane {
        self.add(name, "{spinner} {prefix:<28!} {wide_msg}", ProgressBar::new_spinner)
    }

    /// A line that counts bytes up to `total`.
    pub fn bytes(&self, name: &str, total: u64) -> Lane {
        const TEMPLATE: &str = "{spinner} {prefix:<28!} {bar:24} {binary_bytes:>10}/{binary_total_bytes:<10} {binary_bytes_per_sec:>12} \
                                {wide_msg}";
        self.add(name, TEMPLATE, || ProgressBar::new(total))
    }

    fn add(&self, name: &str, template: &str, bar: impl FnOnce() -> ProgressBar) -> Lane {
        let Some(bars) = &self.bars else { return Lane { drawn: None } };
        let bar = bars.add(bar());
        bar.set_style(style(template));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Lane { drawn: Some((bars.clone(), bar)) }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// One line of the display; it leaves when dropped.
#[derive(Debug)]
pub struct Lane {
    drawn: Option<(MultiProgress, ProgressBar)>,
}

impl Lane {
    /// Shows the latest news, folded to the terminal's width.
    pub fn news(&self, text: &str) {
        if let Some((_, bar)) = &self.drawn {
            bar.set_message(plain(text.trim()).into_owned());
        }
    }

    /// Counts `bytes` more.
    pub fn advance(&self, bytes: u64) {
        if let Some((_, bar)) = &self.drawn {
            bar.inc(bytes);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some((bars, bar)) = &self.drawn {
            bar.finish_and_clear();
            // Else it would be kept, and looked at with each line that is drawn.
            bars.remove(bar);
        }
    }
}
