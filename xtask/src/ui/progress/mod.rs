//! The progress display: redrawn lines at the bottom of a terminal, or a line in a log after some time without output.

mod render;
mod state;

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use process::plain;
use state::{Count, State, Total};

pub use state::Wait;

/// Time between two redraws of a terminal.
const FRAME: Duration = Duration::from_millis(100);
/// Time without a line after which a log gets a progress line, so that it is never silent for more than five seconds.
const SILENCE: Duration = Duration::from_secs(4);
/// Time between progress lines in a log if there is a total.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Erases from the cursor to the end of the screen.
const ERASE: &str = "\r\x1b[J";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As redrawn lines on a terminal.
    Drawn,
    /// As lines in a log.
    Logged,
    /// Not at all.
    Not,
}

/// The progress of the run. Clones share one display.
#[derive(Clone, Debug)]
pub struct Progress {
    board: Arc<Board>,
}

#[derive(Debug)]
struct Board {
    shown: Shown,
    inside: Mutex<Inside>,
    /// Wakes the display's thread when there is something to show.
    news: Condvar,
}

#[derive(Debug)]
struct Inside {
    state: State,
    /// The columns of the terminal at the last redraw. `None` if nothing is drawn now.
    drawn: Option<usize>,
    /// When the last line was printed.
    said: Instant,
    /// When a log last got a progress line.
    beat: Instant,
    /// Whether the display's thread runs.
    thread: bool,
    /// Whether that thread is idle: only then is it woken, because that is a system call.
    idle: bool,
    /// A question waits for its answer, or the run has ended.
    paused: bool,
    /// When the last question was answered.
    asked: Option<Instant>,
}

impl Progress {
    /// An empty display.
    pub fn new(shown: Shown) -> Self {
        let now = Instant::now();
        let state = State::default();
        let inside = Inside {
            state,
            drawn: None,
            said: now,
            beat: now,
            thread: false,
            idle: false,
            paused: false,
            asked: None,
        };
        Self { board: Arc::new(Board { shown, inside: Mutex::new(inside), news: Condvar::new() }) }
    }

    /// Whether lines are redrawn, instead of printed once per step.
    pub fn is_drawn(&self) -> bool {
        self.board.shown == Shown::Drawn
    }

    /// Erases the display while `print` runs.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        let mut inside = self.board.lock();
        inside.erase();
        let result = print();
        inside.said = Instant::now();
        if self.is_drawn() {
            inside.draw();
        }
        result
    }

    /// Stops the display while `ask` runs.
    pub fn pause<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.set_paused(true);
        let answer = ask();
        self.set_paused(false);
        self.board.lock().asked = Some(Instant::now());
        answer
    }

    /// Whether a question was answered after this time.
    pub fn has_asked_since(&self, moment: Instant) -> bool {
        self.board.lock().asked.is_some_and(|asked| asked > moment)
    }

    /// Erases and stops the display, for other output or at the end of the run, or starts it again.
    pub fn set_paused(&self, paused: bool) {
        let mut inside = self.board.lock();
        inside.erase();
        inside.paused = paused;
        inside.said = Instant::now();
        self.board.wake(&inside);
    }

    /// Sets the running command, which is shown if there is nothing else to show.
    pub fn command(&self, name: &str) {
        self.board.change(|state, now| state.command = Some((name.to_owned(), now)));
    }

    /// A line with `name` and its latest news.
    pub fn lane(&self, name: &str) -> Lane {
        Lane::new(&self.board, name, None)
    }

    /// A line that counts bytes up to `total`.
    pub fn bytes(&self, name: &str, total: u64) -> Lane {
        Lane::new(&self.board, name, Some(total))
    }

    /// A line with the count of finished items and the bytes, shown until it is dropped.
    pub fn total(&self, noun: &'static str, all: usize, bytes: u64) -> TotalCount {
        self.board.change(|state, now| state.total = Some(Total::new(noun, all, bytes, now)));
        TotalCount { board: Arc::clone(&self.board) }
    }

    /// Adds a count of finished items to the same line, until it is dropped. [`Lane::done`] adds one.
    pub fn count(&self, noun: &'static str, all: usize) -> Counted {
        self.board.change(|state, _| state.count = Some(Count { noun, done: 0, all }));
        Counted { board: Arc::clone(&self.board) }
    }

    /// The list of waits.
    pub fn waits(&self) -> Waits {
        Waits { board: Arc::clone(&self.board) }
    }
}

/// The current waits, by a number from the caller.
#[derive(Clone, Debug)]
pub struct Waits {
    board: Arc<Board>,
}

impl Waits {
    /// Starts a wait.
    pub fn begin(&self, number: u64, wait: Wait) {
        self.board.change(|state, _| drop(state.waits.insert(number, wait)));
    }

    /// Ends a wait.
    pub fn end(&self, number: u64) {
        self.board.change(|state, _| drop(state.waits.remove(&number)));
    }

    /// All current waits.
    #[cfg(test)]
    pub fn all(&self) -> Vec<Wait> {
        self.board.lock().state.waits.values().cloned().collect()
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut inside = self.lock();
        let result = change(&mut inside.state, Instant::now());
        if self.shown != Shown::Not && !inside.thread {
            inside.thread = true;
            let board = Arc::clone(self);
            std::thread::spawn(move || board.show());
        }
        self.wake(&inside);
        result
    }

    /// Wakes the display's thread if it is idle.
    fn wake(&self, inside: &Inside) {
        if inside.idle {
            self.news.notify_one();
        }
    }

    /// Shows the progress until the process ends.
    fn show(&self) {
        let mut inside = self.lock();
        loop {
            if inside.paused || inside.state.is_idle() {
                inside.erase();
                inside.idle = true;
                inside = self.news.wait(inside).unwrap_or_else(PoisonError::into_inner);
                inside.idle = false;
            }
            drop(inside);
            std::thread::sleep(FRAME);
            inside = self.lock();
            match self.shown {
                Shown::Drawn => inside.draw(),
                Shown::Logged => inside.beat(),
                Shown::Not => return,
            }
        }
    }
}

impl Inside {
    /// Erases the display. The cursor is at its start: a terminal that rewraps lines when its width changes moves the cursor with
    /// its line, so that no line above is erased and none of the display remains.
    fn erase(&mut self) {
        if self.drawn.take().is_some() {
            let _ = std::io::stderr().lock().write_all(ERASE.as_bytes());
        }
    }

    /// Draws the display, and leaves the cursor at its start.
    fn draw(&mut self) {
        let Some((columns, rows)) = terminal_size(&std::io::stderr()).filter(|_| !self.paused) else {
            return;
        };
        let now = Instant::now();
        let silent = now.duration_since(self.said);
        let lines = render::lines(&mut self.state, (columns, rows), now, silent);
        if lines.is_empty() {
            return self.erase();
        }
        if self.drawn.is_some_and(|before| before != columns) {
            self.erase();
        }
        let mut frame = String::from("\r");
        for (number, line) in lines.iter().enumerate() {
            let end = if number + 1 < lines.len() { "\x1b[K\n" } else { "\x1b[J" };
            frame += &format!("{line}{end}");
        }
        if lines.len() > 1 {
            frame += &format!("\x1b[{}A", lines.len() - 1);
        }
        frame.push('\r');
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(frame.as_bytes()).and_then(|()| stderr.flush());
        self.drawn = Some(columns);
    }

    /// Prints progress to a log, if it is time.
    fn beat(&mut self) {
        let now = Instant::now();
        let silent = now.duration_since(self.said) >= SILENCE;
        let counts = (self.state.total.is_some() || self.state.count.is_some())
            && now.duration_since(self.beat) >= HEARTBEAT;
        if self.paused || !(silent || counts) {
            return;
        }
        for line in render::heartbeat(&mut self.state, now) {
            super::say(&line);
            self.said = now;
            self.beat = now;
        }
    }
}

/// A task with a line in the display, which is removed when dropped.
#[derive(Debug)]
pub struct Lane {
    board: Arc<Board>,
    task: u64,
}

impl Lane {
    fn new(board: &Arc<Board>, name: &str, bytes: Option<u64>) -> Self {
        let task = board.change(|state, now| state.begin(plain(name).into_owned(), bytes, now));
        Self { board: Arc::clone(board), task }
    }

    /// Shows the latest news, in one line.
    pub fn news(&self, text: &str) {
        let text = plain(text.trim()).replace(['\n', '\t'], " ");
        self.board.change(|state, _| {
            if let Some(task) = state.tasks.get_mut(&self.task) {
                task.news = text;
            }
        });
    }

    /// Ends the task and counts it as finished ([`Progress::count`]).
    pub fn done(self) {
        self.board.change(|state, _| {
            if let Some(count) = &mut state.count {
                count.done += 1;
            }
        });
    }

    /// Counts `bytes` more that were sent.
    pub fn advance(&self, bytes: u64) {
        self.board.change(|state, now| state.advance(self.task, bytes, true, now));
    }

    /// Counts `bytes` more that existed already.
    pub fn skip(&self, bytes: u64) {
        self.board.change(|state, now| state.advance(self.task, bytes, false, now));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.board.change(|state, _| drop(state.tasks.remove(&self.task)));
    }
}

/// The total count. It is removed when dropped.
#[derive(Debug)]
pub struct TotalCount {
    board: Arc<Board>,
}

impl TotalCount {
    /// Counts one more finished item.
    pub fn one_done(&self) {
        self.board.change(|state, _| {
            if let Some(total) = &mut state.total {
                total.done += 1;
            }
        });
    }
}

impl Drop for TotalCount {
    fn drop(&mut self) {
        self.board.change(|state, _| state.total = None);
    }
}

/// A count of finished items. It is removed when dropped.
#[derive(Debug)]
pub struct Counted {
    board: Arc<Board>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.board.change(|state, _| state.count = None);
    }
}

/// The columns and rows of a terminal. `None` if it is not a terminal, or has no known size.
pub fn terminal_size(stream: &impl std::os::fd::AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}
