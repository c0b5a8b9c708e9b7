//! Splits the text of a Dockerfile into instructions as docker's parser does: parser directives, comments, continued lines, here-documents
//! (<https://docs.docker.com/reference/dockerfile/>).

use std::ops::Range;

/// An unusable part of a Dockerfile: its line, from 1, and the reason, as a lowercase fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(line: usize, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

/// One instruction, with its continued lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    /// The line on which it starts, from 1.
    pub(super) line: usize,
    /// The bytes of its lines in the text, including line ends, without here-documents.
    pub(super) span: Range<usize>,
    /// The first word in capitals.
    pub(super) keyword: String,
    /// The words that start with `--`, without quotes.
    pub(super) flags: Vec<String>,
    /// The rest of the instruction.
    pub(super) rest: String,
    /// Whether a here-document follows.
    pub(super) has_heredoc: bool,
}

impl Instruction {
    /// The instruction as written, on one line, without comments and here-documents.
    pub(super) fn text(&self) -> String {
        let words = std::iter::once(&self.keyword).chain(&self.flags).chain([&self.rest]);
        words.map(String::as_str).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// A Dockerfile's lines.
#[derive(Debug)]
pub(super) struct Lines {
    /// The character that continues a line and escapes the next character.
    pub(super) escape: char,
    /// The line and the image of `# syntax=`.
    pub(super) syntax: Option<(usize, String)>,
    pub(super) instructions: Vec<Instruction>,
}

/// The byte order mark, which docker ignores at the start of a Dockerfile.
const BOM: char = '\u{feff}';

/// Instructions that can have here-documents.
const WITH_HEREDOC: [&str; 3] = ["ADD", "COPY", "RUN"];

/// Splits a text into instructions.
pub(super) fn read(text: &str) -> Result<Lines, Fault> {
    let start = if text.starts_with(BOM) { BOM.len_utf8() } else { 0 };
    let mut at = start;
    let raw: Vec<(usize, &str)> = text[start..]
        .split_inclusive('\n')
        .map(|line| {
            let begin = at;
            at += line.len();
            (begin, line)
        })
        .collect();
    let (escape, syntax) = directives(raw.iter().map(|(_, line)| *line))?;
    let mut instructions = Vec::new();
    let mut lines = raw.iter().enumerate().peekable();
    while let Some((index, (begin, first))) = lines.next() {
        let first = without_end(first).trim_start();
        if first.is_empty() || first.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let (part, mut is_open) = continued(first, escape);
        let mut line = part.to_owned();
        let mut end = begin + raw[index].1.len();
        while is_open && let Some((_, (begin, next))) = lines.next() {
            end = begin + next.len();
            let next = without_end(next);
            if next.trim_start().is_empty() || next.trim_start().starts_with('#') {
                continue;
            }
            let (part, open) = continued(next, escape);
            line.push_str(part);
            is_open = open;
        }
        let mut instruction = instruction(&line, number)?;
        instruction.span = *begin..end;
        for document in heredocs(&instruction)? {
            instruction.has_heredoc = true;
            let is_end = |line: &str| {
                let line = without_end(line);
                document.name == if document.strips_tabs { line.trim_start_matches('\t') } else { line }
            };
            if !lines.by_ref().any(|(_, (_, line))| is_end(line)) {
                return Err(Fault::new(number, format!("the here-document {} has no end", document.name)));
            }
        }
        instructions.push(instruction);
    }
    Ok(Lines { escape, syntax, instructions })
}

/// Parses one instruction: also the form in which a base stores its `ONBUILD` triggers.
pub(super) fn instruction(line: &str, number: usize) -> Result<Instruction, Fault> {
    let line = line.trim();
    let (keyword, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let keyword = keyword.to_ascii_uppercase();
    if !keyword.chars().all(|c| c.is_ascii_uppercase()) {
        return Err(Fault::new(number, format!("`{}` is not an instruction", excerpt(&keyword))));
    }
    let (flags, rest) = flags(rest.trim());
    Ok(Instruction { line: number, span: 0..0, keyword, flags, rest: rest.to_owned(), has_heredoc: false })
}

/// A text shortened for a message.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

fn without_end(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// A line without its continuation character, and whether it had one. Two of them are the character itself.
fn continued(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches([' ', '\t']).strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}

/// The directives in the first comments: escape character, and the image of the syntax. Docker's builders disagree on which of several
/// lines count; a line that one of them would read differently is rejected.
fn directives<'t>(lines: impl Iterator<Item = &'t str>) -> Result<(char, Option<(usize, String)>), Fault> {
    let (mut escape, mut syntax) = (None, None);
    for (index, line) in lines.enumerate() {
        let number = index + 1;
        let line = without_end(line).trim_start();
        if index == 0 && line.starts_with("#!") {
            continue;
        }
        let Some((name, value)) = directive(line) else { break };
        match name.as_str() {
            "escape" if index > 0 => {
                return Err(Fault::new(
                    number,
                    "`# escape=` must be the first line: the legacy builder reads it nowhere else",
                ));
            }
            "escape" if value == "\\" || value == "`" => escape = value.chars().next(),
            "escape" => return Err(Fault::new(number, "the escape character is \\ or `")),
            "syntax" if syntax.is_some() => return Err(Fault::new(number, "`# syntax=` is given twice")),
            "syntax" => {
                let image = value.split_whitespace().next().unwrap_or_default();
                syntax = Some((number, image.to_owned()));
            }
            // `check`, and names that docker treats as comments.
            _ => {}
        }
    }
    Ok((escape.unwrap_or('\\'), syntax))
}

/// `# name = value`, with the name in lower case.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then(|| (name.to_ascii_lowercase(), value))
}

/// Splits off the leading words that start with `--`. Quotes are dropped, and a backslash escapes the next character, whatever the escape
/// character is.
fn flags(mut rest: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (mut word, mut quote, mut end) = (String::new(), None, rest.len());
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match (c, quote) {
                ('\\', _) => word.extend(chars.next().map(|(_, c)| c)),
                (c, Some(open)) if c == open => quote = None,
                ('\'' | '"', None) => quote = Some(c),
                (c, None) if c.is_whitespace() => {
                    end = at;
                    break;
                }
                (c, _) => word.push(c),
            }
        }
        rest = &rest[end..];
        if word == "--" {
            return (flags, rest.trim_start());
        }
        flags.push(word);
    }
}

/// The end marker of a here-document.
struct Heredoc {
    name: String,
    strips_tabs: bool,
}

/// The here-documents of an instruction: words that start with `<<`.
fn heredocs(found: &Instruction) -> Result<Vec<Heredoc>, Fault> {
    if found.keyword == "ONBUILD" {
        return heredocs(&instruction(&found.rest, found.line)?);
    }
    if !WITH_HEREDOC.contains(&found.keyword.as_str()) || !found.rest.contains("<<") || is_json(&found.rest) {
        return Ok(Vec::new());
    }
    let Some(words) = words(&found.rest) else {
        return Err(Fault::new(found.line, "a quote has no end, and `<<` may begin a here-document"));
    };
    Ok(words.iter().filter_map(|word| heredoc(word)).collect())
}

/// `[n]<<[-]NAME`, the name quoted or not.
fn heredoc(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strips_tabs, name) = match rest.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, rest),
    };
    let plain: String = name.chars().filter(|c| !['"', '\'', '\\'].contains(c)).collect();
    (!plain.is_empty() && !name.contains('<')).then_some(Heredoc { name: plain, strips_tabs })
}

/// Whether a word starts a here-document and is not a path.
pub(super) fn is_heredoc(word: &str) -> bool {
    heredoc(word).is_some()
}

/// Whether arguments are a JSON list, which cannot have here-documents.
pub(super) fn is_json(rest: &str) -> bool {
    serde_json::from_str::<Vec<String>>(rest).is_ok()
}

/// Splits at spaces outside of quotes; quotes are kept. `None` if a quote is not closed.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.push(c);
                word.extend(chars.next());
            }
            (c, Some(open)) if c == open => {
                quote = None;
                word.push(c);
            }
            ('\'' | '"', None) => {
                quote = Some(c);
                word.push(c);
            }
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (c, _) => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    quote.is_none().then_some(words)
}
