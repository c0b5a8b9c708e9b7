//! `.dockerignore`, with the semantics of docker rather than git's.
//!
//! The rules are those that the docker client and BuildKit apply (documented at
//! <https://docs.docker.com/build/concepts/context/#dockerignore-files>): patterns are anchored at the context's root,
//! the last pattern that matches wins, a match of a parent directory counts for everything below it, `**` spans any
//! number of directories, and `!` brings a path back even from below an excluded directory.
//!
//! Where builders differ the wider answer is taken, which is that of today's BuildKit: the legacy client and the BuildKit of
//! docker 20.10 do not look below an excluded directory unless an exception starts with that directory's literal name. The
//! tests build with both and list what arrived.

use std::path::Path;

/// Why an ignore file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IgnoreError {
    /// The file exists and cannot be read.
    #[error("could not read {path}")]
    Read {
        /// The file.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A pattern that docker refuses as well.
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
    /// `!`: a match brings the path back.
    exception: bool,
    /// The cleaned text, without `!`.
    text: String,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact,
    /// `dir/**`: everything that starts with the text before the stars.
    Prefix(String),
    /// `**/name`: everything that ends so, and the name itself.
    Suffix(String),
    Tokens(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Char(char),
    /// `?`: one character but `/`.
    One,
    /// `*`: any characters but `/`.
    Star,
    /// `**/`: nothing, or anything that ends in `/`.
    Directories,
    /// `**` at the end: anything.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    /// Reads an ignore file; one that does not exist ignores nothing.
    ///
    /// # Errors
    /// The file exists and cannot be read, or holds a pattern that docker refuses.
    pub fn read(path: &Path) -> Result<Self, IgnoreError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&path.display().to_string(), &bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(IgnoreError::Read { path: path.display().to_string(), source }),
        }
    }

    /// Parses the text of an ignore file; `path` is for the errors.
    ///
    /// # Errors
    /// A pattern that docker refuses.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, IgnoreError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // A comment only in the first column: docker looks before it trims.
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

    /// Whether `path` (relative to the context, `/` between its parts) stays out of the context.
    pub fn excludes(&self, path: &str) -> bool {
        let parents: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        let mut excluded = false;
        for pattern in &self.patterns {
            // Only a pattern that could change the answer is asked.
            if pattern.exception == excluded
                && (pattern.matches(path) || parents.iter().any(|parent| pattern.matches(parent)))
            {
                excluded = !pattern.exception;
            }
        }
        excluded
    }

    /// Whether nothing below `directory`, which is excluded, can come back: it need not be read then.
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
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/').is_some_and(|name| path == name)
            }
            Matcher::Tokens(tokens) => {
                let chars: Vec<char> = path.chars().collect();
                matches_tokens(tokens, &chars)
            }
        }
    }
}

/// A pattern of `COPY` and `ADD`: Go's `filepath.Match`, which knows no `**`.
#[derive(Clone, Debug)]
pub(super) struct Glob(Vec<Token>);

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(pattern: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::One,
                '[' => class(&mut chars)?,
                '\\' => Token::Char(chars.next().ok_or("it ends in a backslash")?),
                c => Token::Char(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether the whole of `path` matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        matches_tokens(&self.0, &path.chars().collect::<Vec<_>>())
    }
}

/// Go's `filepath.Clean` for `/` paths, which is what docker cleans its patterns with.
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

fn compile(pattern: &str) -> Result<Matcher, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    // As docker does it: the cheap forms stay text, and everything else is matched token by token.
    let mut suffix = false;
    let mut special = false;
    let mut prefix_end = None;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                let first = tokens.is_empty();
                if chars.peek() == Some(&'/') {
                    chars.next();
                }
                if chars.peek().is_none() {
                    if !suffix && !special {
                        prefix_end = Some(pattern.len() - 2);
                    } else {
                        special = true;
                    }
                    tokens.push(Token::Rest);
                } else {
                    special |= !first;
                    tokens.push(Token::Directories);
                }
                suffix |= first;
            }
            '*' => {
                special = true;
                tokens.push(Token::Star);
            }
            '?' => {
                special = true;
                tokens.push(Token::One);
            }
            '[' => {
                special = true;
                tokens.push(class(&mut chars)?);
            }
            '\\' => {
                special = true;
                tokens.push(Token::Char(chars.next().ok_or("it ends in a backslash")?));
            }
            c => tokens.push(Token::Char(c)),
        }
    }
    Ok(if special {
        Matcher::Tokens(tokens)
    } else if suffix {
        Matcher::Suffix(pattern[2..].to_owned())
    } else if let Some(end) = prefix_end {
        Matcher::Prefix(pattern[..end].to_owned())
    } else {
        Matcher::Exact
    })
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    const OPEN: &str = "a `[` without its `]`";
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match chars.next().ok_or(OPEN)? {
            ']' if ranges.is_empty() => return Err("an empty `[]`"),
            ']' => return Ok(Token::Class { negated, ranges }),
            '\\' => chars.next().ok_or(OPEN)?,
            '-' => return Err("a `-` without its first character"),
            c => c,
        };
        let last = if chars.next_if_eq(&'-').is_some() {
            match chars.next().ok_or(OPEN)? {
                '\\' => chars.next().ok_or(OPEN)?,
                ']' => return Err("a `-` without its last character"),
                c => c,
            }
        } else {
            first
        };
        ranges.push((first, last));
    }
}

/// Matches without recursion over the text: for each token the set of positions that can follow it.
fn matches_tokens(tokens: &[Token], text: &[char]) -> bool {
    let mut at = vec![false; text.len() + 1];
    at[0] = true;
    for token in tokens {
        let mut next = vec![false; text.len() + 1];
        for start in (0..=text.len()).filter(|start| at[*start]) {
            match token {
                Token::Char(c) => next_one(&mut next, text, start, |found| found == *c),
                Token::One => next_one(&mut next, text, start, |found| found != '/'),
                Token::Class { negated, ranges } => next_one(&mut next, text, start, |found| {
                    ranges.iter().any(|(first, last)| (*first..=*last).contains(&found)) != *negated
                }),
                Token::Star => {
                    let end = text[start..].iter().position(|c| *c == '/').map_or(text.len(), |n| start + n);
                    next[start..=end].fill(true);
                }
                Token::Directories => {
                    next[start] = true;
                    for end in (start..text.len()).filter(|end| text[*end] == '/') {
                        next[end + 1] = true;
                    }
                }
                Token::Rest => next[start..].fill(true),
            }
        }
        at = next;
    }
    at[text.len()]
}

fn next_one(next: &mut [bool], text: &[char], start: usize, accepts: impl Fn(char) -> bool) {
    if text.get(start).is_some_and(|c| accepts(*c)) {
        next[start + 1] = true;
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
    fn what_docker_refuses_is_refused_with_its_line() {
        for (file, line) in [("ok\n!", 2), ("[", 1), ("a\\", 1), ("a\n\n[]", 3), ("[-x]", 1), ("[a-]", 1)] {
            let error = Ignore::parse("ctx/.dockerignore", file.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("ctx/.dockerignore: line {line}: ")), "{error}");
        }
    }

    #[test]
    fn a_directory_is_left_out_only_where_nothing_can_come_back() {
        let ignore = |file: &str| Ignore::parse("f", file.as_bytes()).unwrap();
        assert!(ignore("d").prunes("d"));
        assert!(ignore("d\n!e").prunes("d"));
        assert!(!ignore("d\n!d/x").prunes("d"));
        assert!(!ignore("d\n!**/x").prunes("d"));
        assert!(!ignore("d\n!d/x/**").prunes("d"));
    }
}
