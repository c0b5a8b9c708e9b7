//! Which files of the context the Dockerfile's `COPY` and `ADD` instructions put into the image.
//!
//! This covers only the sources and their names below the destination; the destination itself is read from the image. What cannot be
//! determined from the Dockerfile and its arguments is [`Sources::Unknown`], never guessed.

use std::collections::BTreeMap;

use dockerfile::Layer;

use super::context::{BuildContext, Entry};
use super::ignore;
use super::key::Mode;

/// Longest chain of symlinks; a longer one is treated as a cycle.
const LINK_LIMIT: usize = 16;

/// One `COPY` or `ADD` of the stages that the image is made of, in the order of its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The line on which it starts, from 1.
    pub line: usize,
    /// The instruction as written, on one line.
    pub text: String,
    /// Whether it sets the files' mode (`--chmod`).
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
        /// Whether this is one file, which the destination may rename.
        is_one_file: bool,
    },
    /// Another stage or image, an address, or the Dockerfile itself.
    Elsewhere,
    /// The context, in a form that is not supported here.
    Unknown,
}

/// A file as it must be in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its path in the context.
    pub path: String,
    /// git's mode.
    pub mode: Mode,
    /// SHA-256 of the content, or of a symlink's target, in hex.
    pub sha256: String,
}

/// The files of those layers that copy into the image, the lowest layer first.
pub fn copies(context: &BuildContext, layers: &[Layer]) -> Vec<Copy> {
    let copies = layers.iter().filter(|layer| ["COPY", "ADD"].contains(&layer.keyword.as_str()));
    let copy = |layer: &Layer| {
        let chmod = layer.flags.iter().any(|flag| flag_name(flag) == "--chmod");
        Copy { line: layer.line, text: layer.text.clone(), chmod, sources: sources(context, layer) }
    };
    copies.map(copy).collect()
}

fn flag_name(flag: &str) -> &str {
    flag.split('=').next().unwrap_or_default()
}

/// Where a layer's files come from.
fn sources(context: &BuildContext, layer: &Layer) -> Sources {
    for flag in &layer.flags {
        match flag_name(flag) {
            "--from" => return Sources::Elsewhere,
            "--chmod" | "--chown" | "--link" | "--keep-git-dir" | "--checksum" => {}
            // `--parents`, `--exclude`, `--unpack` and future flags.
            _ => return Sources::Unknown,
        }
    }
    let Some(all) = &layer.sources else { return Sources::Unknown };
    let is_add = layer.keyword == "ADD";
    let is_address = |source: &&String| source.contains("://") || source.starts_with("git@");
    let elsewhere = all.iter().filter(|word| word.starts_with("<<") || (is_add && is_address(word))).count();
    if elsewhere > 0 {
        return if elsewhere == all.len() { Sources::Elsewhere } else { Sources::Unknown };
    }
    of_context(context, is_add, all).unwrap_or(Sources::Unknown)
}

/// The files of the context that the sources refer to.
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

/// The topmost files and directories that a pattern matches.
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

/// The file or directory that a path refers to: builders follow symlinks on the way and at its end.
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
    use dockerfile::{Dockerfile, Given};

    use super::*;
    use crate::context::Reads;
    use crate::context::tests::directory;

    /// What each instruction copies: `destination<-path` for each file, `=` if it may be renamed.
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
        let platforms = ["linux/arm64/v8".parse().unwrap()];
        let given = Given {
            base: false,
            base_argument: None,
            entry_point_argument: None,
            args: &args,
            target,
            platforms: &platforms,
        };
        let layers =
            Dockerfile::parse("Dockerfile", &context.dockerfile).unwrap().layers(&given, &platforms[0]);
        let copies = copies(&context, &layers);
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
    fn only_the_stages_that_the_image_uses() {
        let dockerfile = "ARG ENTRY_POINT\nARG BASE=first\nFROM scratch AS first\nCOPY a /a\n\
             FROM scratch AS second\nCOPY b /b\nFROM ${BASE} AS third\nARG ENTRY_POINT\nCOPY $ENTRY_POINT /c\n\
             COPY --from=second /b /b\n";
        assert_eq!(copied(dockerfile, None), ["=a<-a", "=a<-a", "elsewhere"]);
        assert_eq!(copied(dockerfile, Some("SECOND")), ["=b<-b"]);
        assert_eq!(copied(dockerfile, Some("0")), ["=a<-a"]);
    }
}
