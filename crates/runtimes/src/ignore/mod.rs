//! `.dockerignore`, with the semantics of docker rather than git's.
//!
//! The rules are those that the docker client and BuildKit apply (documented at
//! <https://docs.docker.com/build/concepts/context/#dockerignore-files>): patterns are anchored at the context's root,
//! the last pattern that matches wins, a match of a parent directory counts for everything below it, `**` spans any
//! number of directories, and `!` brings a path back even from below an excluded directory.
//!
//! If builders differ, the wider result is used, which is that of current BuildKit: the legacy client and the BuildKit of docker 20.10 do
//! not search below an excluded directory unless an exception starts with that directory's literal name. The tests build with both and list
//! the files in the image.

mod pattern;

use std::path::Path;

use pattern::{Matcher, compile};

pub(super) use pattern::Glob;

/// Why an ignore file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// The file exists but cannot be read.
    #[error("could not read {path}")]
    Read {
        /// The file.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A pattern that docker rejects as well.
    #[error("{path}: line {line}: `{pattern}` is not a pattern: {reason}")]
    Pattern {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The patterns of one ignore file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    /// `!`: a match includes the path again.
    exception: bool,
    /// The cleaned text, without `!`.
    text: String,
    matcher: Matcher,
}

impl Ignore {
    /// Reads an ignore file; a missing file ignores nothing.
    ///
    /// # Errors
    /// The file exists but cannot be read, or has a pattern that docker rejects.
    pub fn read(path: &Path) -> Result<Self, IgnoreError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&path.display().to_string(), &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(IgnoreError::Read { path: path.display().to_string(), source }),
        }
    }

    /// Parses the text of an ignore file; `path` is for errors.
    ///
    /// # Errors
    /// A pattern that docker rejects.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, IgnoreError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // Comments start in the first column: docker checks before it trims.
            if line.starts_with('#') {
                continue;
            }
            let trimmed = line.trim();
            if trimmed.is_empty() {
                continue;
            }
            let wrong = |reason| IgnoreError::Pattern {
                path: path.to_owned(),
                line: index + 1,
                pattern: trimmed.to_owned(),
                reason,
            };
            let (exception, rest) = match trimmed.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, trimmed),
            };
            if rest.is_empty() {
                return Err(wrong("an exception needs a path after `!`"));
            }
            let mut cleaned = clean(rest);
            if cleaned.len() > 1 && cleaned.starts_with('/') {
                cleaned.remove(0);
            }
            let matcher = compile(&cleaned).map_err(wrong)?;
            patterns.push(Pattern { exception, text: cleaned, matcher });
        }
        Ok(Self { patterns })
    }

    /// Whether `path` (relative to the context, separated by `/`) is excluded from the context.
    pub fn excludes(&self, path: &str) -> bool {
        let parents: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        let mut excluded = false;
        for pattern in &self.patterns {
            // Skips patterns that could not change the result.
            if pattern.exception == excluded
                && (pattern.matches(path) || parents.iter().any(|parent| pattern.matches(parent)))
            {
                excluded = !pattern.exception;
            }
        }
        excluded
    }

    /// Whether no exception can match below `directory`, which is excluded, so that it need not be read.
    pub fn prunes(&self, directory: &str) -> bool {
        let below = format!("{directory}/");
        self.patterns.iter().filter(|pattern| pattern.exception).all(|pattern| match &pattern.matcher {
            Matcher::Exact => !pattern.text.starts_with(&below),
            Matcher::Prefix(prefix) => !prefix.starts_with(&below) && !below.starts_with(prefix.as_str()),
            Matcher::Suffix(_) | Matcher::Tokens(_) => false,
        })
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        self.matcher.matches(&self.text, path)
    }
}

/// Go's `filepath.Clean` for `/` paths, with which docker cleans its patterns.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(file: &str, path: &str) -> bool {
        Ignore::parse(".dockerignore", file.as_bytes()).unwrap().excludes(path)
    }

    #[test]
    fn each_form_of_a_pattern() {
        // (ignore file, path, excluded)
        let table: &[(&str, &str, bool)] = &[
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "x/a", false),
            ("a/", "a/b", true),
            ("/a", "a", true),
            ("./a//b/../c", "a/c", true),
            ("../a", "a", false),
            ("*", "a/b", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("*/*.txt", "d/a.txt", true),
            ("**/*.txt", "a.txt", true),
            ("**/*.txt", "d/e/a.txt", true),
            ("**", "a", true),
            ("**/a", "a", true),
            ("**/a", "d/a", true),
            ("**/a", "d/ba", false),
            ("d/**", "d/x/y", true),
            ("d/**", "d", false),
            ("d/**/a", "d/a", true),
            ("d/**/a", "d/x/y/a", true),
            ("d/**/a", "d/ba", false),
            ("**/d/**", "x/d/y", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("a[b-d]c", "acc", true),
            ("a[^b-d]c", "acc", false),
            ("a\\*c", "a*c", true),
            ("a\\*c", "abc", false),
            ("a.c", "abc", false),
            ("# comment\n#a", "#a", false),
            (" #a", "#a", true),
            ("  a  \r\n", "a", true),
            ("\u{feff}a", "a", true),
            ("*\n!a", "a", false),
            ("*\n!a", "b", true),
            ("*\n! a", "a", false),
            ("!a\n*", "a", true),
            ("d\n!d/keep", "d/keep", false),
            ("d\n!d/keep", "d/keep/below", false),
            ("d\n!d/keep", "d/other", true),
            ("*\n!**/*.sh", "d/a.sh", false),
            ("*.md\n!README*.md\nREADME-secret.md", "README.md", false),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("é*", "énorme", true),
        ];
        for (file, path, wanted) in table {
            assert_eq!(excluded(file, path), *wanted, "{file:?} on {path:?}");
        }
    }

    #[test]
    fn a_pattern_that_docker_refuses_is_refused_with_its_line() {
        for (file, line) in [("ok\n!", 2), ("[", 1), ("a\\", 1), ("a\n\n[]", 3), ("[-x]", 1), ("[a-]", 1)] {
            let error = Ignore::parse("ctx/.dockerignore", file.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("ctx/.dockerignore: line {line}: ")), "{error}");
        }
    }

    #[test]
    fn a_directory_is_only_skipped_if_no_pattern_can_include_files_again() {
        let ignore = |file: &str| Ignore::parse("f", file.as_bytes()).unwrap();
        assert!(ignore("d").prunes("d"));
        assert!(ignore("d\n!e").prunes("d"));
        assert!(!ignore("d\n!d/x").prunes("d"));
        assert!(!ignore("d\n!**/x").prunes("d"));
        assert!(!ignore("d\n!d/x/**").prunes("d"));
    }
}
