//! The lines of the journal, and the search in the sorted part.

/// The version of the file's format. Files of another version are ignored.
pub(super) const VERSION: u32 = 2;

/// The kind of fact in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::cache) enum Kind {
    /// The repository that a manifest's artifacts came from.
    Artifacts,
    /// The blobs of a manifest.
    Blobs,
    /// The digest of a source's name.
    SourceDigest,
    /// The digest put at a target.
    TargetDigest,
    /// A signer whose signature of a digest was valid.
    Signed,
    /// The digest for a source's digest and a set of platforms.
    Wanted,
}

impl Kind {
    fn letter(self) -> &'static str {
        match self {
            Self::Artifacts => "a",
            Self::Blobs => "b",
            Self::SourceDigest => "m",
            Self::TargetDigest => "p",
            Self::Signed => "s",
            Self::Wanted => "w",
        }
    }
}

/// A fact, and the day when a list last used it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) day: u32,
    pub(super) value: String,
}

pub(super) fn name(kind: Kind, key: &str) -> String {
    format!("{}\t{key}", kind.letter())
}

pub(super) fn line(name: &str, day: u32, value: &str) -> String {
    format!("{name}\t{day}\t{value};\n")
}

/// A fact, borrowed from the file's text.
pub(super) struct FactRef<'a> {
    pub(super) day: u32,
    pub(super) value: &'a str,
}

impl FactRef<'_> {
    pub(super) fn owned(&self) -> Fact {
        Fact { day: self.day, value: self.value.to_owned() }
    }
}

/// Name and fact of a line. `None` if the line is incomplete.
pub(super) fn parse(line: &str) -> Option<(&str, FactRef<'_>)> {
    let line = line.strip_suffix(';')?;
    let (rest, value) = line.rsplit_once('\t')?;
    let (name, day) = rest.rsplit_once('\t')?;
    Some((name, FactRef { day: day.parse().ok()?, value }))
}

/// Finds the fact of a name in sorted lines.
pub(super) fn find<'a>(lines: &'a str, name: &str) -> Option<FactRef<'a>> {
    let (found, fact) = parse(from(lines, name).lines().next()?)?;
    (found == name).then_some(fact)
}

/// The lines from the first one whose name is at least `name`, by bisection.
pub(super) fn from<'a>(lines: &'a str, name: &str) -> &'a str {
    let lower = || {
        let (mut low, mut high) = (0, lines.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let start = lines.get(low..middle)?.rfind('\n').map_or(low, |at| low + at + 1);
            let end = lines.get(start..high)?.find('\n').map_or(high, |at| start + at);
            let (found, _) = parse(lines.get(start..end)?)?;
            if found < name {
                low = end + 1;
            } else {
                high = start;
            }
        }
        lines.get(low..)
    };
    lower().unwrap_or_default()
}

/// The content of a file: a sorted part, and the lines appended to it. It may be large, so it is stored once.
pub(super) struct Parts {
    text: String,
    begin: usize,
    end: usize,
}

impl Parts {
    pub(super) fn sorted(&self) -> &str {
        &self.text[self.begin..self.end]
    }

    pub(super) fn loose(&self) -> &str {
        &self.text[self.end..]
    }

    pub(super) fn into_sorted(self) -> String {
        let mut sorted = self.text;
        sorted.truncate(self.end);
        sorted.drain(..self.begin);
        sorted.shrink_to_fit();
        sorted
    }
}

/// Splits a file into its parts. Returns the bytes if the file has another format.
pub(super) fn parts(bytes: Vec<u8>) -> Result<Parts, Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Head {
        version: u32,
        sorted: usize,
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text,
        Ok(text) => return Err(text.into_bytes()),
        Err(error) => return Err(error.into_bytes()),
    };
    let head = text.split_once('\n').and_then(|(head, _)| {
        let parsed: Head = serde_json::from_str(head).ok()?;
        (parsed.version == VERSION).then_some((head.len() + 1, parsed.sorted))
    });
    let bounds = head.and_then(|(begin, sorted)| {
        let end = begin.checked_add(sorted)?;
        (end <= text.len()).then_some((begin, end))
    });
    match bounds {
        Some((begin, end)) => Ok(Parts { text, begin, end }),
        None => Err(text.into_bytes()),
    }
}
