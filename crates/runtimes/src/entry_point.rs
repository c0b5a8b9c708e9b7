//! Detects entry points that no container can start, before they are built.
//!
//! A checkout with `core.autocrlf=true` turns `#!/bin/sh` into `#!/bin/sh<CR>`, and the container exits with status 127.

use std::path::Path;

/// The first bytes of a Linux executable, which needs no interpreter.
const ELF: &[u8] = b"\x7fELF";
/// The byte order mark that some editors write at the start of a text.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Why an entry point cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum EntryPointError {
    /// The file cannot be read.
    #[error("could not read the entry point {path}")]
    Read {
        /// The file.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Linux would not find the program that runs the script.
    #[error("{path}:{line}: {reason}")]
    Unusable {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it, as a lowercase fragment.
        reason: &'static str,
    },
}

/// Checks that a container can start `path`; errors call it `shown`.
///
/// # Errors
/// The file cannot be read, begins with neither `#!` nor an executable's header, or has Windows line endings.
pub(super) fn check(path: &Path, shown: &str) -> Result<(), EntryPointError> {
    let bytes =
        std::fs::read(path).map_err(|source| EntryPointError::Read { path: shown.to_owned(), source })?;
    match fault(&bytes) {
        None => Ok(()),
        Some((line, reason)) => Err(EntryPointError::Unusable { path: shown.to_owned(), line, reason }),
    }
}

fn fault(bytes: &[u8]) -> Option<(usize, &'static str)> {
    if bytes.starts_with(ELF) {
        return None;
    }
    if bytes.starts_with(BOM) {
        return Some((
            1,
            "begins with a byte order mark, behind which Linux sees no `#!`: save it without one",
        ));
    }
    if !bytes.starts_with(b"#!") {
        return Some((
            1,
            "does not begin with `#!` and an interpreter, such as #!/bin/sh: no container can start it",
        ));
    }
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let with_cr = lines.position(|line| line.ends_with(b"\r\n") || line.ends_with(b"\r"))?;
    Some((
        with_cr + 1,
        "ends with a carriage return, as on Windows: save it with LF alone, and check out with core.autocrlf=false",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_point_that_cannot_start_is_reported_with_its_line() {
        for good in [&b"#!/bin/sh\necho a\n"[..], b"#! /bin/bash\n", b"#!/bin/sh", b"\x7fELF\x02\r\n"] {
            assert_eq!(fault(good), None);
        }
        for (bad, line, words) in [
            (&b"#!/bin/sh\r\necho\r\n"[..], 1, "carriage return"),
            (b"#!/bin/sh\necho a\r\n", 2, "carriage return"),
            (b"#!/bin/sh\r", 1, "carriage return"),
            (b"echo a\n", 1, "#!"),
            (b"", 1, "#!"),
            (b"\n#!/bin/sh\n", 1, "#!"),
            (b"\xef\xbb\xbf#!/bin/sh\n", 1, "byte order mark"),
        ] {
            let (found, reason) = fault(bad).unwrap();
            assert_eq!(found, line, "{reason}");
            assert!(reason.contains(words), "{reason}");
        }
    }
}
