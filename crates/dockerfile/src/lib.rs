//! A parser for Dockerfiles: which images and files a build takes from elsewhere, and how its base and its entry point are passed.
//!
//! All of that has to be in a runtime's build key, or an input could change while the key stays the same. The base's digest is part of the
//! key. Everything else from elsewhere (a second `FROM`, `COPY --from=image`, `RUN --mount=...,from=image`, `# syntax=`, an address of
//! `ADD`, what a base's `ONBUILD` triggers take) has to be pinned in the text itself, which is part of the key. What is not understood is
//! rejected, with file and line. What a `RUN` downloads cannot be determined.
//!
//! # Why not a library
//! parse-dockerfile is well maintained, but finds a here-document only at the start of a `RUN`; dockerfile-parser does not support them.
//! Neither expands variables, which is most of the work here.
//!
//! The directory `corpus/` of this crate has Dockerfiles with what each takes from elsewhere. The end-to-end tests build them with docker.

mod expand;
mod layers;
mod lines;
mod needs;
mod stages;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::BTreeMap;

use lines::{Fault, Instruction};
use registry::{Platform, Reference};

pub use layers::Layer;
pub use needs::{Needs, check_triggers};

/// Arguments for the base if images.toml does not name one: this project's and HTC-Grid's.
const BASE_ARGUMENTS: [&str; 2] = ["BASE_IMAGE", "HTCGRID_ECR_REPO"];
/// Arguments for the entry point's file, likewise.
const ENTRY_POINT_ARGUMENTS: [&str; 2] = ["ENTRY_POINT", "HTCGRID_LAMBDA_ENTRYPOINT"];

/// Repositories of frontends that parse Dockerfiles as this crate does, by the end of their names.
const SYNTAXES: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// Why a Dockerfile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileError {
    /// Something that may change while the key stays the same.
    #[error("{path}:{line}: {what} is not pinned{}: the build key cannot notice when it changes", pin(what))]
    Unpinned {
        /// The Dockerfile, or the image of the trigger.
        path: String,
        /// The line on which the instruction starts, from 1.
        line: usize,
        /// The image or address.
        what: String,
    },
    /// Something that cannot be built, or that is not supported.
    #[error("{path}:{line}: {reason}")]
    Refused {
        /// The Dockerfile.
        path: String,
        /// The line on which the instruction starts, from 1.
        line: usize,
        /// Why, as a lowercase fragment.
        reason: String,
    },
}

fn pin(what: &str) -> &'static str {
    if what.contains("://") { ": give it --checksum=sha256:..." } else { ": write it as name@sha256:..." }
}

/// A Dockerfile, split into its instructions.
#[derive(Debug, Default)]
pub struct Dockerfile {
    path: String,
    text: String,
    escape: char,
    syntax: Option<(usize, String)>,
    instructions: Vec<Instruction>,
}

/// What a build passes to its Dockerfile.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Whether images.toml names the base.
    pub base: bool,
    /// The argument for the base, if images.toml names it; else one of the known ones.
    pub base_argument: Option<&'a str>,
    /// The argument for the entry point, likewise.
    pub entry_point_argument: Option<&'a str>,
    /// Build arguments.
    pub args: &'a BTreeMap<String, String>,
    /// The stage to build; `None` for the last one.
    pub target: Option<&'a str>,
    /// The platforms to build for.
    pub platforms: &'a [Platform],
}

/// Where a build's base comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// There is no base.
    Scratch,
    /// The base is passed as this argument.
    Argument(String),
    /// The Dockerfile names it itself.
    Own(Box<Reference>),
}

impl Dockerfile {
    /// Parses a Dockerfile; `path` is its name in errors.
    ///
    /// # Errors
    /// It is not text, or not a Dockerfile.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, DockerfileError> {
        let refused = |fault| refuse(path, fault);
        let text = std::str::from_utf8(bytes).map_err(|why| {
            let line = bytes.iter().take(why.valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
            refused(Fault::new(line, "is not UTF-8 text"))
        })?;
        let lines = lines::read(text).map_err(refused)?;
        let file = Self {
            path: path.to_owned(),
            text: text.to_owned(),
            escape: lines.escape,
            syntax: lines.syntax,
            instructions: lines.instructions,
        };
        if let Some((line, image)) = &file.syntax {
            let name = image.parse::<Reference>();
            let is_known =
                name.is_ok_and(|name| SYNTAXES.iter().any(|known| name.repository().ends_with(known)));
            if !is_known {
                return Err(refused(Fault::new(*line, format!("the syntax {image} is not supported"))));
            }
        }
        Ok(file)
    }

    /// Whether it runs programs, which requires a machine that can run them.
    pub fn runs_programs(&self) -> bool {
        self.instructions.iter().any(|found| found.keyword == "RUN")
    }

    /// The line of its first here-document. Builders before docker 23 do not support them, unless `# syntax=` selects a newer frontend.
    pub fn heredoc(&self) -> Option<usize> {
        self.instructions.iter().find(|found| found.has_heredoc).map(|found| found.line)
    }

    /// Whether `# syntax=` selects a frontend image.
    pub fn has_syntax(&self) -> bool {
        self.syntax.is_some()
    }

    /// How base and entry point are passed, after a check that everything else from elsewhere is pinned.
    ///
    /// # Errors
    /// The first thing that is not pinned, cannot be built, or is not supported.
    pub fn needs(&self, given: &Given<'_>) -> Result<Needs, DockerfileError> {
        needs::of(self, given)
    }

    /// The instructions that can make a layer of the image for `platform`, the lowest layer first; empty for a file that
    /// [`Dockerfile::needs`] rejects.
    pub fn layers(&self, given: &Given<'_>, platform: &Platform) -> Vec<Layer> {
        stages::follow(self, given, Some(platform)).map(|found| found.layers).unwrap_or_default()
    }

    /// Whether the entry point is passed as one of the known arguments.
    pub fn takes_entry_point(&self) -> bool {
        let known = |name: &String| ENTRY_POINT_ARGUMENTS.contains(&name.as_str());
        let found = self.instructions.iter().filter(|found| found.keyword == "ARG");
        found.flat_map(|found| variables::pairs(found).unwrap_or_default()).any(|(name, _)| known(&name))
    }

    /// Whether a `COPY` or `ADD` names a file of the context exactly. Returns true if this cannot be determined.
    pub fn names(&self, file: &str, args: &BTreeMap<String, String>) -> bool {
        sources(self, args).any(|source| source.is_none_or(|path| path == file))
    }

    /// Whether a `COPY` or `ADD` may copy a file of the context, also by a pattern or with its directory. Returns true if this cannot be
    /// determined.
    pub fn may_copy(&self, file: &str, args: &BTreeMap<String, String>) -> bool {
        let may_bring = |path: String| {
            let is_above = path.is_empty() || path == "." || file.starts_with(&format!("{path}/"));
            is_above || path == file || path.contains(['*', '?', '['])
        };
        sources(self, args).any(|source| source.is_none_or(may_bring))
    }

    /// The text with `pinned` as the image of the base's `FROM`s, line for line.
    pub fn pin(&self, needs: &Needs, pinned: &str) -> String {
        let mut text = String::with_capacity(self.text.len() + pinned.len());
        let mut at = 0;
        for found in needs.froms.iter().filter_map(|place| self.instructions.get(*place)) {
            let old = &self.text[found.span.clone()];
            text.push_str(&self.text[at..found.span.start]);
            at = found.span.end;
            text.push_str("FROM");
            for flag in &found.flags {
                text.push(' ');
                text.push_str(flag);
            }
            text.push(' ');
            text.push_str(pinned);
            let mut words = found.rest.split_whitespace().skip(1);
            if let (Some(_), Some(name)) = (words.next(), words.next()) {
                text.push_str(" AS ");
                text.push_str(name);
            }
            text.extend(old.matches('\n'));
        }
        text.push_str(&self.text[at..]);
        text
    }
}

/// The paths that `COPY` and `ADD` take from the context; `None` for a path that is not known before the build.
fn sources<'a>(
    file: &'a Dockerfile,
    args: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = Option<String>> + use<'a> {
    let arguments = file.instructions.iter().filter(|found| found.keyword == "ARG");
    let known: BTreeMap<String, String> = arguments
        .flat_map(|found| variables::pairs(found).unwrap_or_default())
        .filter_map(|(name, default)| Some((name, default?)))
        .collect();
    let path = move |word: String| {
        let lookup = |name: &str| match args.get(name).or_else(|| known.get(name)) {
            Some(value) => expand::Value::Known(value.clone()),
            None => expand::Value::Unknown,
        };
        let path = expand::expand(&word, file.escape, &lookup).ok().filter(|path| !path.contains('$'))?;
        Some(path.trim_start_matches("./").trim_matches('/').to_owned())
    };
    file.instructions
        .iter()
        .filter(|found| matches!(found.keyword.as_str(), "ADD" | "COPY" | "ONBUILD"))
        .filter(|found| !found.flags.iter().any(|flag| flag.starts_with("--from=")))
        .flat_map(stages::sources)
        .map(path)
}

fn refuse(path: &str, fault: Fault) -> DockerfileError {
    DockerfileError::Refused { path: path.to_owned(), line: fault.line, reason: fault.reason }
}

fn unpinned(path: &str, line: usize, what: &str) -> DockerfileError {
    DockerfileError::Unpinned { path: path.to_owned(), line, what: what.to_owned() }
}
