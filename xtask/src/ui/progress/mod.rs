//! Progress: lines at the terminal's foot that are drawn anew, or a line in a log whenever nothing else was said for a while.

mod render;
mod state;

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use process::plain;
use state::{Count, State, Total};

pub use state::Wait;

/// How often a terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// After so long without a line, a log is told what is going on: nobody has to wonder for more than five seconds.
const SILENCE: Duration = Duration::from_secs(4);
/// And so often while there is an amount to count.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Erases from the cursor to the end of the screen.
const ERASE: &str = "\r\x1b[J";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// On a terminal.
    Drawn,
    /// In a log.
    Logged,
    /// Not at all.
    Not,
}

/// What is going on, for those who look on. Clones show the same.
#[derive(Clone, Debug)]
pub struct Progress {
    board: Arc<Board>,
}

#[derive(Debug)]
struct Board {
    shown: Shown,
    inside: Mutex<Inside>,
    /// There is something to show.
    news: Condvar,
}

#[derive(Debug)]
struct Inside {
    state: State,
    /// The columns of the terminal at the last frame; none where nothing is drawn now.
    drawn: Option<usize>,
    /// When the last line was printed.
    said: Instant,
    /// When a log was last told what is going on.
    beat: Instant,
    /// Whether the thread runs that shows what is going on.
    thread: bool,
    /// Whether that thread waits for something to show: only then is it woken, which is a call of the system.
    idle: bool,
    /// A question waits for its answer, or the run is over.
    paused: bool,
    /// When the last question was answered.
    asked: Option<Instant>,
}

impl Progress {
    /// A display with nothing on it.
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

    /// Whether lines are drawn anew, in the place of one line for each step.
    pub fn is_drawn(&self) -> bool {
        self.board.shown == Shown::Drawn
    }

    /// Prints while what is drawn steps aside.
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

    /// Asks while nothing is drawn or told.
    pub fn pause<T>(&self, ask: impl FnOnce() -> T) -> T {
        self.set_paused(true);
        let answer = ask();
        self.set_paused(false);
        self.board.lock().asked = Some(Instant::now());
        answer
    }

    /// Whether a question was answered after this moment.
    pub fn has_asked_since(&self, moment: Instant) -> bool {
        self.board.lock().asked.is_some_and(|asked| asked > moment)
    }

    /// Takes everything away while nothing goes on: something else is to happen first, or the run is over.
    pub fn set_paused(&self, paused: bool) {
        let mut inside = self.board.lock();
        inside.erase();
        inside.paused = paused;
        inside.said = Instant::now();
        self.board.wake(&inside);
    }

    /// The command that runs: what is told where nothing says more.
    pub fn command(&self, name: &str) {
        self.board.change(|state, now| state.command = Some((name.to_owned(), now)));
    }

    /// A line that shows `name` and its latest news.
    pub fn lane(&self, name: &str) -> Lane {
        Lane::new(&self.board, name, None)
    }

    /// A line that counts bytes up to `total`.
    pub fn bytes(&self, name: &str, total: u64) -> Lane {
        Lane::new(&self.board, name, Some(total))
    }

    /// A line that counts done things, and all the bytes that are counted until it is dropped.
    pub fn total(&self, noun: &'static str, all: usize, bytes: u64) -> Whole {
        self.board.change(|state, now| state.total = Some(Total::new(noun, all, bytes, now)));
        Whole { board: Arc::clone(&self.board) }
    }

    /// Counts done things in the same line, until it is dropped. [`Lane::done`] says that one more is done.
    pub fn count(&self, noun: &'static str, all: usize) -> Counted {
        self.board.change(|state, _| state.count = Some(Count { noun, done: 0, all }));
        Counted { board: Arc::clone(&self.board) }
    }

    /// What is waited for.
    pub fn waits(&self) -> Waits {
        Waits { board: Arc::clone(&self.board) }
    }
}

/// What does not answer at once, each under a number of the caller's.
#[derive(Clone, Debug)]
pub struct Waits {
    board: Arc<Board>,
}

impl Waits {
    /// Something is waited for.
    pub fn begin(&self, number: u64, wait: Wait) {
        self.board.change(|state, _| drop(state.waits.insert(number, wait)));
    }

    /// It has come, or was given up.
    pub fn end(&self, number: u64) {
        self.board.change(|state, _| drop(state.waits.remove(&number)));
    }

    /// All that is waited for.
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

    /// Tells the thread that waits for something to show.
    fn wake(&self, inside: &Inside) {
        if inside.idle {
            self.news.notify_one();
        }
    }

    /// Shows what is going on for as long as the process lives.
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
    /// Takes what is drawn away. The cursor stands where it begins: a terminal that breaks lines anew when its width changes takes
    /// the cursor with its line, so that nothing above is ever erased and nothing below remains.
    fn erase(&mut self) {
        if self.drawn.take().is_some() {
            let _ = std::io::stderr().lock().write_all(ERASE.as_bytes());
        }
    }

    /// Draws, and leaves the cursor where it was.
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

    /// Tells a log what is going on, where it is time.
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

/// One thing that is worked on; its line leaves when it is dropped.
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

    /// One more is done of what is counted ([`Progress::count`]).
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

    /// Counts `bytes` more that were there already.
    pub fn skip(&self, bytes: u64) {
        self.board.change(|state, now| state.advance(self.task, bytes, false, now));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.board.change(|state, _| drop(state.tasks.remove(&self.task)));
    }
}

/// The count of all that is done; it leaves when it is dropped.
#[derive(Debug)]
pub struct Whole {
    board: Arc<Board>,
}

impl Whole {
    /// One more is done.
    pub fn one_done(&self) {
        self.board.change(|state, _| {
            if let Some(total) = &mut state.total {
                total.done += 1;
            }
        });
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.board.change(|state, _| state.total = None);
    }
}

/// A count of what is done; it leaves when it is dropped.
#[derive(Debug)]
pub struct Counted {
    board: Arc<Board>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.board.change(|state, _| state.count = None);
    }
}

/// The columns and rows of a terminal; none where it is none, or does not say.
pub fn terminal_size(stream: &impl std::os::fd::AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}
