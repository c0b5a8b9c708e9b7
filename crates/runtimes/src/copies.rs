//! Which files of the context the Dockerfile's `COPY` and `ADD` instructions put into the image.
//!
//! Only where they come from and what they are called below their destination: where the destination is, the image itself says.
//! What cannot be told from the Dockerfile and its arguments is [`Sources::Unknown`], never guessed.

use std::collections::BTreeMap;

use dockerfile::Dockerfile;

use super::context::{BuildContext, Entry};
use super::ignore;
use super::key::Mode;

/// How far one symlink leads to another before it is a circle.
const LINK_LIMIT: usize = 16;

/// One `COPY` or `ADD` of the stages that the image is made of, in the order of its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The line on which it starts, from 1.
    pub line: usize,
    /// As written, on one line.
    pub text: String,
    /// Whether it gives the files a mode of its own.
    pub chmod: bool,
    /// Where its files come from.
    pub sources: Sources,
}

/// Where an instruction's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// The context.
    Context {
        /// The files by their path below the destination.
        files: BTreeMap<String, Wanted>,
        /// Whether it is one file, which the destination may give another name.
        is_one_file: bool,
    },
    /// Another stage or image, an address, or the Dockerfile itself.
    Elsewhere,
    /// The context, in a way that is not understood here.
    Unknown,
}

/// A file as it has to be in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// In the context.
    pub path: String,
    /// git's mode.
    pub mode: Mode,
    /// Of the content, or of a symlink's target, in hex.
    pub sha256: String,
}

/// A stage: its instructions, and what it is built upon.
#[derive(Default)]
struct Stage {
    name: Option<String>,
    parent: Option<usize>,
    instructions: Vec<(usize, String)>,
}

/// The variables at one place, with their values; `None` for one that is not known here.
#[derive(Clone, Default)]
struct Variables {
    args: BTreeMap<String, Option<String>>,
    /// Stronger than an argument, wherever that is declared.
    env: BTreeMap<String, Option<String>>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&String> {
        self.env.get(name).or_else(|| self.args.get(name))?.as_ref()
    }
}

/// An instruction of the stages that the image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// `RUN`, `COPY`, `ADD` or `WORKDIR`.
    pub keyword: String,
    /// As written, on one line.
    pub text: String,
}

/// The instructions that can make a layer of the image, lowest layer first.
pub fn layers(
    context: &BuildContext,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
    platform: &str,
) -> Vec<Instruction> {
    let (chain, _) = chain(context, target, args, platform);
    let all = chain.into_iter().map(|(_, text)| Instruction { keyword: split(&text).0, text });
    all.filter(|found| ["RUN", "COPY", "ADD", "WORKDIR"].contains(&found.keyword.as_str())).collect()
}

/// The instructions that copy into the image, lowest layer first. `args` are the build arguments by their values, `platform` is
/// `os/architecture[/variant]`.
pub fn copies(
    context: &BuildContext,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
    platform: &str,
) -> Vec<Copy> {
    let (chain, global) = chain(context, target, args, platform);
    let mut variables = Variables::default();
    let mut found = Vec::new();
    for (line, instruction) in &chain {
        let (keyword, rest) = split(instruction);
        match keyword.as_str() {
            "ARG" => declare(&rest, args, platform, &global, &mut variables),
            "ENV" => set(&rest, &mut variables),
            "COPY" | "ADD" => {
                let (chmod, sources) = sources(context, keyword == "ADD", &rest, &variables);
                found.push(Copy { line: *line, text: instruction.clone(), chmod, sources });
            }
            _ => {}
        }
    }
    found
}

/// The instructions of the stages that the image is made of, each with its line, and the variables that all stages see.
fn chain(
    context: &BuildContext,
    target: Option<&str>,
    args: &BTreeMap<String, String>,
    platform: &str,
) -> (Vec<(usize, String)>, Variables) {
    // The plan has read it already.
    let dockerfile = Dockerfile::parse("Dockerfile", &context.dockerfile);
    let instructions = dockerfile.map(|dockerfile| dockerfile.instructions()).unwrap_or_default();
    let mut variables = Variables::default();
    let mut stages: Vec<Stage> = Vec::new();
    for (line, instruction) in instructions {
        let (keyword, rest) = split(&instruction);
        match keyword.as_str() {
            "FROM" => {
                let words: Vec<&str> =
                    rest.split_whitespace().filter(|word| !word.starts_with("--")).collect();
                let image = words.first().and_then(|word| expand(word, &variables));
                let parent = image.and_then(|image| find(&stages, &image));
                let name = words.get(2).map(|name| (*name).to_owned());
                stages.push(Stage { name, parent, instructions: Vec::new() });
            }
            "ARG" if stages.is_empty() => {
                declare(&rest, args, platform, &Variables::default(), &mut variables);
            }
            _ => {
                if let Some(stage) = stages.last_mut() {
                    stage.instructions.push((line, instruction));
                }
            }
        }
    }
    let last = stages.len().checked_sub(1);
    let mut at = match target {
        Some(target) => find(&stages, target).or_else(|| target.parse().ok()),
        None => last,
    };
    let mut chain = Vec::new();
    while let Some(stage) = at.and_then(|at| stages.get(at)) {
        chain.push(stage);
        at = stage.parent;
    }
    let instructions = chain.into_iter().rev().flat_map(|stage| stage.instructions.clone()).collect();
    (instructions, variables)
}

/// An instruction's keyword in capitals, and the rest of it.
fn split(instruction: &str) -> (String, String) {
    let (keyword, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    (keyword.to_ascii_uppercase(), rest.trim().to_owned())
}

fn find(stages: &[Stage], name: &str) -> Option<usize> {
    // The last of that name, as a later stage hides an earlier one.
    stages.iter().rposition(|stage| stage.name.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(name)))
}

/// `ARG name[=default] ...`
fn declare(
    rest: &str,
    args: &BTreeMap<String, String>,
    platform: &str,
    global: &Variables,
    variables: &mut Variables,
) {
    let mut parts = platform.splitn(3, '/');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let of_platform = BTreeMap::from([
        ("TARGETPLATFORM", platform.to_owned()),
        ("TARGETOS", part()),
        ("TARGETARCH", part()),
        ("TARGETVARIANT", part()),
    ]);
    for word in words(rest) {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, expand(default, variables)),
            None => (word.as_str(), Some(String::new())),
        };
        let value = if let Some(given) = args.get(name) {
            Some(given.clone())
        } else if word.contains('=') {
            default
        } else if let Some(value) = global.args.get(name) {
            value.clone()
        } else if let Some(value) = of_platform.get(name) {
            Some(value.clone())
        } else if name.starts_with("BUILD") {
            // The machine that builds: BUILDARCH and the like.
            None
        } else {
            default
        };
        variables.args.insert(name.to_owned(), value);
    }
}

/// `ENV name=value ...`, or the old `ENV name value`.
fn set(rest: &str, variables: &mut Variables) {
    let all = words(rest);
    if all.first().is_some_and(|word| !word.contains('=')) {
        let (name, value) = split_once_space(rest);
        let value = expand(value, variables);
        variables.env.insert(name.to_owned(), value);
        return;
    }
    // All values of one instruction see the variables as they were before it.
    let before = variables.clone();
    for (name, value) in all.iter().filter_map(|word| word.split_once('=')) {
        variables.env.insert(name.to_owned(), expand(value, &before));
    }
}

fn split_once_space(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (name, value.trim())
}

/// The words of a line, quotes and backslashes still in them.
fn words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

/// Replaces variables and takes quotes away; `None` where a value is not known, or a form is not understood.
fn expand(word: &str, variables: &Variables) -> Option<String> {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = word.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => out.extend(chars.next()),
            (None | Some('"'), '$') => {
                let braces = chars.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                // `${name:-word}` and the like are left to those who need them.
                if name.is_empty() || (braces && chars.next() != Some('}')) {
                    return None;
                }
                out.push_str(variables.get(&name)?);
            }
            (_, c) => out.push(c),
        }
    }
    quote.is_none().then_some(out)
}

/// Whether the files get another mode, and where they come from.
fn sources(context: &BuildContext, is_add: bool, rest: &str, variables: &Variables) -> (bool, Sources) {
    let (mut chmod, mut rest) = (false, rest);
    while rest.starts_with("--") {
        let (flag, after) = split_once_space(rest);
        let name = flag.split('=').next().unwrap_or_default();
        match name {
            "--from" => return (chmod, Sources::Elsewhere),
            "--chmod" => chmod = true,
            "--chown" | "--link" | "--keep-git-dir" | "--checksum" => {}
            // `--parents`, `--exclude`, `--unpack` and what is yet to come.
            _ => return (chmod, Sources::Unknown),
        }
        rest = after;
    }
    let all = match serde_json::from_str::<Vec<String>>(rest) {
        Ok(words) if rest.starts_with('[') => words,
        _ => words(rest),
    };
    let Some((_, all)) = all.split_last() else { return (chmod, Sources::Unknown) };
    let Some(all) = all.iter().map(|word| expand(word, variables)).collect::<Option<Vec<_>>>() else {
        return (chmod, Sources::Unknown);
    };
    let is_address = |source: &&String| source.contains("://") || source.starts_with("git@");
    let elsewhere = all.iter().filter(|word| word.starts_with("<<") || (is_add && is_address(word))).count();
    if elsewhere > 0 {
        return (chmod, if elsewhere == all.len() { Sources::Elsewhere } else { Sources::Unknown });
    }
    (chmod, of_context(context, is_add, &all).unwrap_or(Sources::Unknown))
}

/// What the sources mean in the context.
fn of_context(context: &BuildContext, is_add: bool, sources: &[String]) -> Option<Sources> {
    let mut files = BTreeMap::new();
    let mut is_one_file = sources.len() == 1;
    for source in sources {
        let source = normal(source);
        let matches: Vec<String> = if source.contains(['*', '?', '[', '\\']) {
            is_one_file = false;
            matching(context, &source)?
        } else {
            vec![source]
        };
        for path in matches {
            let resolved = follow(context, &path)?;
            if let Some(entry) = context.entries.get(&resolved) {
                if is_add && entry.may_unpack {
                    return None;
                }
                let name = path.rsplit('/').next().unwrap_or_default();
                files.insert(name.to_owned(), wanted(&resolved, entry));
                continue;
            }
            is_one_file = false;
            let above = if resolved.is_empty() { String::new() } else { format!("{resolved}/") };
            for (path, entry) in &context.entries {
                if let Some(below) = path.strip_prefix(&above) {
                    files.insert(below.to_owned(), wanted(path, entry));
                }
            }
        }
    }
    Some(Sources::Context { files, is_one_file })
}

fn wanted(path: &str, entry: &Entry) -> Wanted {
    Wanted { path: path.to_owned(), mode: entry.mode, sha256: entry.sha256.clone() }
}

/// The highest files and directories that a pattern matches.
fn matching(context: &BuildContext, pattern: &str) -> Option<Vec<String>> {
    let glob = ignore::Glob::new(pattern).ok()?;
    let mut found = std::collections::BTreeSet::new();
    for path in context.entries.keys() {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        found.extend(ends.map(|end| &path[..end]).find(|above| glob.matches(above)).map(str::to_owned));
    }
    Some(found.into_iter().collect())
}

/// A path from the context's root without `.`, `..` and empty parts.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The file or directory that a path means: builders follow the symlinks on the way, and at its end.
fn follow(context: &BuildContext, path: &str) -> Option<String> {
    let mut path = path.to_owned();
    'again: for _ in 0..LINK_LIMIT {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
        for end in ends {
            let above = &path[..end];
            let Some(link) = context.entries.get(above).filter(|entry| entry.mode == Mode::Symlink) else {
                continue;
            };
            let target = std::str::from_utf8(&link.target).ok()?;
            let parent = above.rsplit_once('/').map_or("", |(parent, _)| parent);
            let from = if target.starts_with('/') { "" } else { parent };
            path = normal(&format!("{from}/{target}/{}", &path[end..]));
            continue 'again;
        }
        return Some(path);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Reads;
    use crate::context::tests::directory;

    /// What each instruction copies: `destination<-path` for each file, `=` where it may be renamed.
    fn copied(dockerfile: &str, target: Option<&str>) -> Vec<String> {
        let root = directory(&[
            ("Dockerfile", dockerfile),
            (".dockerignore", "Dockerfile\n.dockerignore\n"),
            ("a", "a"),
            ("b", "b"),
            ("ab", "ab"),
            ("d/x", "x"),
            ("d/e/y", "y"),
            ("x.tgz", "\x1f\u{8b}"),
        ]);
        std::os::unix::fs::symlink("../b", root.path().join("d/link")).unwrap();
        std::os::unix::fs::symlink("d/e", root.path().join("dir")).unwrap();
        std::fs::write(root.path().join("x.tgz"), b"\x1f\x8b\x08").unwrap();
        let context = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap();
        let args = BTreeMap::from([("ENTRY_POINT".to_owned(), "a".to_owned())]);
        let copies = copies(&context, target, &args, "linux/arm64/v8");
        let shown = |copy: &Copy| match &copy.sources {
            Sources::Context { files, is_one_file } => {
                let files = files.iter().map(|(name, file)| format!("{name}<-{}", file.path));
                let files = files.collect::<Vec<_>>().join(" ");
                if *is_one_file { format!("={files}") } else { files }
            }
            Sources::Elsewhere => "elsewhere".to_owned(),
            Sources::Unknown => "unknown".to_owned(),
        };
        copies.iter().map(shown).collect()
    }

    #[test]
    fn the_files_of_each_form() {
        let table = [
            ("COPY a /x", "=a<-a"),
            ("COPY ./d/../a /x/", "=a<-a"),
            ("copy [\"a\", \"b\", \"/x/\"]", "a<-a b<-b"),
            ("COPY d /x", "e/y<-d/e/y link<-d/link x<-d/x"),
            ("COPY d/link /x", "=link<-b"),
            ("COPY dir/y /x", "=y<-d/e/y"),
            ("COPY dir /x", "y<-d/e/y"),
            ("COPY ?b a* /x/", "a<-a ab<-ab"),
            ("COPY d/* /x/", "link<-b x<-d/x y<-d/e/y"),
            ("ADD a d /x/", "a<-a e/y<-d/e/y link<-d/link x<-d/x"),
            ("ARG ENTRY_POINT=b\nCOPY ${ENTRY_POINT} /x", "=a<-a"),
            ("ARG F=b\nCOPY $F /x", "=b<-b"),
            ("ARG TARGETARCH\nCOPY a ${TARGETARCH} /x", "a<-a"),
            ("ENV F=b\nARG F=a\nCOPY $F /x", "=b<-b"),
            ("ENV F=a G=$F\nENV G ${F}b\nCOPY \"$G\" /x", "=ab<-ab"),
            ("COPY --chown=1 --chmod=755 a /x", "=a<-a"),
            ("COPY --from=other a /x", "elsewhere"),
            ("ADD https://example.org/a /x", "elsewhere"),
            ("COPY --exclude=a . /x", "unknown"),
            ("COPY $OF_THE_BASE /x", "unknown"),
            ("COPY ${F:-a} /x", "unknown"),
            ("ARG BUILDARCH\nCOPY $BUILDARCH /x", "unknown"),
            ("ADD x.tgz /x", "unknown"),
            ("COPY x.tgz /x", "=x.tgz<-x.tgz"),
        ];
        for (text, wanted) in table {
            assert_eq!(
                copied(&format!("FROM scratch AS other\nFROM scratch\n{text}\n"), None),
                [wanted],
                "{text}"
            );
        }
    }

    #[test]
    fn the_stages_that_the_image_is_made_of_and_no_others() {
        let dockerfile = "ARG ENTRY_POINT\nARG BASE=first\nFROM scratch AS first\nCOPY a /a\n\
             FROM scratch AS second\nCOPY b /b\nFROM ${BASE} AS third\nARG ENTRY_POINT\nCOPY $ENTRY_POINT /c\n\
             COPY --from=second /b /b\n";
        assert_eq!(copied(dockerfile, None), ["=a<-a", "=a<-a", "elsewhere"]);
        assert_eq!(copied(dockerfile, Some("SECOND")), ["=b<-b"]);
        assert_eq!(copied(dockerfile, Some("0")), ["=a<-a"]);
    }
}
