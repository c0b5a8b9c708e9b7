//! Fuzz tests of what servers and users may write: a corpus of readable files (`corpus/`), and mutations of it.
//!
//! Each run begins from another seed, which a failure prints with the input; `FUZZ_SEED` repeats it. `SOAK=1` runs for an hour
//! a target, `FUZZ_SECONDS` for as long as it says.

use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Bytes that mean something to one of the parsers.
const SPECIAL: &[u8] = b"/:@.-_ ,;=\"\\?#%&[]{}<>()0129aAzZ\t\n\0\x7f\xc3\xa9\xff";

/// Long enough to exceed the limits of the parsers.
const LONGEST: usize = 20_000;

/// Shows the input of a check that panics.
struct Shown<'a>(&'a [u8], u64);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let begin = self.0.get(..2_000).unwrap_or(self.0).escape_ascii();
            eprintln!("FUZZ_SEED={}, an input of {} bytes: {begin}", self.1, self.0.len());
        }
    }
}

/// Gives every file of a corpus, and mutations of them for a while, to `check`, which says whether the input was accepted. At
/// least one in a hundred has to be: otherwise nothing is tested.
pub(crate) fn each(corpus: &str, check: impl Fn(&[u8]) -> bool) {
    let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(corpus));
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let usual = if std::env::var_os("SOAK").is_some() { 3_600 } else { 1 };
    let time = Duration::from_secs(seconds.unwrap_or(usual));
    let random = &mut Rng::with_seed(seed);
    let taken = |input: &[u8]| {
        let _shown = Shown(input, seed);
        usize::from(check(input))
    };
    let (mut all, mut good) = (files.len(), files.iter().map(|file| taken(file)).sum::<usize>());
    let began = Instant::now();
    while began.elapsed() < time {
        all += 1;
        good += taken(&mutated(&files, random));
    }
    println!("{corpus}: {all} inputs in {:.0?}, {good} of them taken", began.elapsed());
    assert!(good * 100 >= all, "only {good} of {all} were taken: the test looks at nothing");
}

fn files(dir: &Path) -> Vec<Vec<u8>> {
    let entries = dir.read_dir().unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 5, "{} is no corpus", dir.display());
    let read = |path| {
        let mut bytes = std::fs::read(path).unwrap();
        // The files end like text; the inputs do not.
        bytes.pop_if(|byte| *byte == b'\n');
        bytes
    };
    paths.into_iter().map(read).collect()
}

/// One of the files after a few accidents.
fn mutated(files: &[Vec<u8>], random: &mut Rng) -> Vec<u8> {
    let mut bytes = random.choice(files).cloned().unwrap_or_default();
    for _ in 0..random.usize(1..5) {
        let (begin, end) = range(bytes.len(), random);
        match random.u8(0..6) {
            0 => drop(bytes.drain(begin..end)),
            1 => {
                let other = random.choice(files).cloned().unwrap_or_default();
                let (from, to) = range(other.len(), random);
                bytes.splice(begin..begin, other[from..to].iter().copied());
            }
            2 => {
                let piece = bytes[begin..end].repeat(random.usize(1..40));
                bytes.splice(end..end, piece);
            }
            3 if begin < bytes.len() => bytes[begin] = *random.choice(SPECIAL).unwrap_or(&0),
            4 => bytes.insert(begin, *random.choice(SPECIAL).unwrap_or(&0)),
            _ if begin < bytes.len() => bytes[begin] ^= 1 << random.u8(0..8),
            _ => {}
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// A part of so many bytes, mostly a short one.
fn range(length: usize, random: &mut Rng) -> (usize, usize) {
    let begin = random.usize(0..=length);
    let most = if random.u8(0..4) == 0 { length - begin } else { (length - begin).min(12) };
    (begin, begin + random.usize(0..=most))
}
