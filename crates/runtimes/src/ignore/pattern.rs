//! Patterns of ignore files and of `COPY`, as docker matches them.

/// What a pattern of an ignore file matches.
#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Exact,
    /// `dir/**`: everything that starts with the text before the stars.
    Prefix(String),
    /// `**/name`: everything that ends with it, and the name itself.
    Suffix(String),
    Tokens(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Char(char),
    /// `?`: one character except `/`.
    One,
    /// `*`: any characters except `/`.
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

impl Matcher {
    /// Whether the whole of `path` matches; `text` is the pattern's source.
    pub(super) fn matches(&self, text: &str, path: &str) -> bool {
        match self {
            Self::Exact => path == text,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => {
                path.ends_with(suffix.as_str()) || suffix.strip_prefix('/').is_some_and(|name| path == name)
            }
            Self::Tokens(tokens) => matches_tokens(tokens, &path.chars().collect::<Vec<_>>()),
        }
    }
}

/// A pattern of `COPY` and `ADD`: Go's `filepath.Match`, which does not support `**`.
#[derive(Clone, Debug)]
pub(crate) struct Glob(Vec<Token>);

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(pattern: &str) -> Result<Self, &'static str> {
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
    pub(crate) fn matches(&self, path: &str) -> bool {
        matches_tokens(&self.0, &path.chars().collect::<Vec<_>>())
    }
}

/// Compiles a cleaned pattern of an ignore file.
///
/// # Errors
/// What is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<Matcher, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = pattern.chars().peekable();
    // As docker does it: simple patterns are compared as text, all others are matched token by token.
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
