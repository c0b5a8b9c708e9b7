//! Source times in compiled Python files.
//!
//! Python uses a compiled file only if the time in it is that of the source file
//! (<https://docs.python.org/3/reference/import.html#pyc-invalidation>); else it compiles the source at each start, because a Lambda's file
//! system is read-only. So a source file keeps its time if a compiled file contains it.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Path, join, split};

/// The times of source files, from their compiled files.
#[derive(Debug, Default)]
pub(super) struct Stamps(BTreeMap<Path, BTreeSet<u32>>);

impl Stamps {
    /// How many bytes of a compiled file contain the time.
    pub(super) const LENGTH: usize = 12;

    /// Reads the time from the first bytes of a file, if it is a compiled one.
    pub(super) fn see(&mut self, path: &[u8], begin: &[u8]) {
        let Some(source) = source(path) else { return };
        // The time follows the magic number, since Python 3.7 the flags (https://peps.python.org/pep-0552/).
        for at in [4, 8] {
            if let Some(Ok(time)) = begin.get(at..at + 4).map(<[u8; 4]>::try_from) {
                self.0.entry(source.clone()).or_default().insert(u32::from_le_bytes(time));
            }
        }
    }

    /// Whether a compiled file has this time of its source.
    pub(super) fn name(&self, source: &[u8], time: u64) -> bool {
        let stamped = self.0.get(source);
        // The file has the time's lower 32 bits.
        stamped.is_some_and(|times| times.iter().any(|stamp| u64::from(*stamp) == time & 0xffff_ffff))
    }
}

/// The source of a compiled file: `d/x.py` of `d/__pycache__/x.cpython-312.opt-1.pyc`, and of `d/x.pyc`.
fn source(path: &[u8]) -> Option<Path> {
    let (directory, name) = split(path);
    let stem = name.strip_suffix(b".pyc").or_else(|| name.strip_suffix(b".pyo"))?;
    let (above, last) = split(directory);
    if last != b"__pycache__" {
        return Some(join(directory, &[stem, b".py"].concat()));
    }
    let dot = |text: &[u8]| text.iter().rposition(|byte| *byte == b'.');
    let mut stem = stem;
    if let Some(at) = dot(stem).filter(|at| stem[*at..].starts_with(b".opt-")) {
        stem = &stem[..at];
    }
    let at = dot(stem)?;
    Some(join(above, &[&stem[..at], b".py"].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_compiled_file() {
        for (path, wanted) in [
            ("d/__pycache__/x.cpython-312.pyc", Some("d/x.py")),
            ("__pycache__/x.y.cpython-312.opt-1.pyc", Some("x.y.py")),
            ("d/x.pyc", Some("d/x.py")),
            ("x.pyo", Some("x.py")),
            ("d/x.py", None),
        ] {
            assert_eq!(source(path.as_bytes()), wanted.map(|path| path.as_bytes().to_vec()), "{path}");
        }
    }

    #[test]
    fn the_time_is_at_one_of_two_offsets() {
        let mut stamps = Stamps::default();
        stamps.see(b"old.pyc", b"\x03\xf3\x0d\x0a\x01\x00\x00\x00code");
        stamps.see(b"__pycache__/new.cpython-312.pyc", b"\xcb\x0d\x0d\x0a\x00\x00\x00\x00\x02\x00\x00\x00");
        stamps.see(b"short.pyc", b"\x03\xf3");
        let named = |source: &str, time| stamps.name(source.as_bytes(), time);
        assert!(named("old.py", 1) && !named("old.py", 2) && named("new.py", 2) && !named("new.py", 3));
        assert!(named("new.py", (1 << 32) + 2) && !named("short.py", 0) && !named("none.py", 0));
    }
}
