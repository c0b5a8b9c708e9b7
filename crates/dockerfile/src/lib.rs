//! A reader of Dockerfiles: which images and files a build takes from elsewhere, and where its base and its entry point go.
//!
//! All of that has to be in a runtime's build key, or an input could change while the key stays. The base's digest is part of the
//! key. Everything else from elsewhere (a second `FROM`, `COPY --from=image`, `RUN --mount=...,from=image`, `# syntax=`, an
//! address of `ADD`, what `ONBUILD` triggers of a base take) has to be pinned in the text itself, which is part of the key. What
//! is not understood is refused, by file and line. What a `RUN` fetches from the network nobody can tell.
//!
//! # Why not a library
//! parse-dockerfile is well kept, and finds a here-document only at the beginning of a `RUN`; dockerfile-parser knows none.
//! Neither expands variables, which is most of the work here.
//!
//! The folder `corpus/` of this crate holds Dockerfiles with what each takes from elsewhere. The end-to-end tests have docker build them.

mod expand;
mod lines;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use lines::{Fault, Instruction};
use registry::{Platform, Reference};
use stages::{Found, Outside, Root, What};

/// Arguments that take the base where images.toml names none: this project's, and HTC-Grid's.
const BASE_ARGUMENTS: [&str; 2] = ["BASE_IMAGE", "HTCGRID_ECR_REPO"];
/// Arguments that take the entry point's file, likewise.
const ENTRY_POINT_ARGUMENTS: [&str; 2] = ["ENTRY_POINT", "HTCGRID_LAMBDA_ENTRYPOINT"];

/// Repositories whose images read Dockerfiles as they are read here, by the end of their names.
const SYNTAXES: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// Why a Dockerfile cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileError {
    /// Something that may change while the key stays.
    #[error("{path}:{line}: {what} is not pinned{}: the build key cannot notice when it changes", pin(what))]
    Unpinned {
        /// The Dockerfile, or the image whose trigger it is.
        path: String,
        /// The line on which the instruction starts, from 1.
        line: usize,
        /// The image or address.
        what: String,
    },
    /// Something that cannot be built, or that is not understood.
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

/// A Dockerfile, cut into its instructions.
#[derive(Debug)]
pub struct Dockerfile {
    path: String,
    text: String,
    escape: char,
    syntax: Option<(usize, String)>,
    instructions: Vec<Instruction>,
}

/// What a build gives to its Dockerfile.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Whether images.toml names the base.
    pub base: bool,
    /// The argument that takes it, where images.toml names that; else it is one of the known ones.
    pub base_argument: Option<&'a str>,
    /// The argument that takes the entry point, likewise.
    pub entry_point_argument: Option<&'a str>,
    /// Build arguments.
    pub args: &'a BTreeMap<String, String>,
    /// The stage that is built; the last one where none is named.
    pub target: Option<&'a str>,
    /// What is built for.
    pub platforms: &'a [Platform],
}

/// Where a build's base comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// There is none.
    Scratch,
    /// This argument takes it.
    Argument(String),
    /// The Dockerfile names it itself.
    Own(Box<Reference>),
}

impl Needs {
    /// What is taken for granted where no Dockerfile can be looked at.
    pub fn assumed(base_argument: Option<String>, entry_point_argument: Option<String>, base: bool) -> Self {
        let argument = |given: Option<String>, known: [&str; 2]| given.unwrap_or_else(|| known[0].to_owned());
        Self {
            base: match base {
                true => Base::Argument(argument(base_argument, BASE_ARGUMENTS)),
                false => Base::Scratch,
            },
            base_line: 1,
            entry_point: Some((argument(entry_point_argument, ENTRY_POINT_ARGUMENTS), None)),
            stages: Vec::new(),
            froms: Vec::new(),
        }
    }
}

/// What a Dockerfile makes of what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The base.
    pub base: Base,
    /// The line of the base's `FROM`.
    pub base_line: usize,
    /// The argument that takes the entry point's file, and the file that it means where nothing is given.
    pub entry_point: Option<(String, Option<String>)>,
    /// Images that stages begin with, the base not among them: each is pinned, and its triggers run.
    pub stages: Vec<Reference>,
    /// The places of the `FROM`s that name the base, among the instructions.
    froms: Vec<usize>,
}

impl Dockerfile {
    /// Reads a Dockerfile; `path` is its name in errors.
    ///
    /// # Errors
    /// It is no text, or no Dockerfile.
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

    fn empty() -> Self {
        Self {
            path: String::new(),
            text: String::new(),
            escape: '\\',
            syntax: None,
            instructions: Vec::new(),
        }
    }

    /// The instructions, each with its line (from 1) and on one line: comments and here-documents are left out.
    pub fn instructions(&self) -> Vec<(usize, String)> {
        let text = |found: &Instruction| {
            let words = std::iter::once(&found.keyword).chain(&found.flags).chain([&found.rest]);
            words.map(String::as_str).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        };
        self.instructions.iter().map(|found| (found.line, text(found))).collect()
    }

    /// Whether it starts programs, which takes a machine that can run them.
    pub fn runs_programs(&self) -> bool {
        self.instructions.iter().any(|found| found.keyword == "RUN")
    }

    /// The line of its first here-document, which builders from before docker 23 do not know, unless `# syntax=` brings them one
    /// that does.
    pub fn heredoc(&self) -> Option<usize> {
        self.instructions.iter().find(|found| found.has_heredoc).map(|found| found.line)
    }

    /// Whether `# syntax=` names an image that reads it.
    pub fn has_syntax(&self) -> bool {
        self.syntax.is_some()
    }

    /// Everything that a build takes from elsewhere, the base among it where the Dockerfile names that itself: for every platform,
    /// and as the legacy builder has it, which knows no variables for the platform.
    fn follow(&self, given: &Given<'_>) -> Result<Found, DockerfileError> {
        let mut all: Option<Found> = None;
        for platform in given.platforms.iter().map(Some).chain([None]) {
            let found = match (stages::follow(self, given, platform), platform) {
                (Ok(found), _) => found,
                (Err(fault), Some(_)) => return Err(refuse(&self.path, fault)),
                // The legacy builder refuses it as well.
                (Err(_), None) => continue,
            };
            match &mut all {
                None => all = Some(found),
                Some(all) if all.root == found.root => {
                    all.outside.extend(
                        found
                            .outside
                            .into_iter()
                            .filter(|new| !all.outside.contains(new))
                            .collect::<Vec<_>>(),
                    );
                    if all.froms != found.froms {
                        all.froms.retain(|from| found.froms.contains(from));
                    }
                }
                Some(all) => {
                    let reason = "the base differs between platforms or builders".to_owned();
                    return Err(refuse(&self.path, Fault { line: all.root_line, reason }));
                }
            }
        }
        let mut found =
            all.ok_or_else(|| refuse(&self.path, Fault::new(1, "there is no platform to build for")))?;
        found.outside.sort();
        found.outside.dedup();
        Ok(found)
    }

    /// Where base and entry point go, once everything else from elsewhere is known to be pinned.
    ///
    /// # Errors
    /// The first thing that is not pinned, cannot be built, or is not understood.
    pub fn needs(&self, given: &Given<'_>) -> Result<Needs, DockerfileError> {
        let found = self.follow(given)?;
        let refused = |line, reason: String| refuse(&self.path, Fault { line, reason });
        let base = match &found.root {
            Root::Scratch => Base::Scratch,
            Root::Argument(argument) => Base::Argument(argument.clone()),
            Root::Image(image) => {
                let name =
                    image.parse().map_err(|why| refused(found.root_line, format!("{image}: {why}")))?;
                Base::Own(Box::new(name))
            }
        };
        let own = match &base {
            Base::Own(own) => Some(own.as_ref()),
            Base::Scratch | Base::Argument(_) => None,
        };
        if let Some(own) = own
            && own.tag().is_none()
            && own.digest().is_none()
        {
            return Err(refused(found.root_line, format!("the base {own} has neither tag nor digest")));
        }
        let mut stages = Vec::new();
        for outside in &found.outside {
            if let Some(pinned) = self.pinned(outside, own)? {
                stages.push(pinned);
            }
        }
        let is_base = |image: &Option<String>| match (image, own) {
            (Some(image), Some(own)) => image.parse::<Reference>().is_ok_and(|name| name == *own),
            _ => false,
        };
        let froms = found.froms.iter().filter(|(_, image)| is_base(image)).map(|(place, _)| *place).collect();
        let entry_point = self.entry_point(given);
        Ok(Needs { base, base_line: found.root_line, entry_point, stages, froms })
    }

    /// Refuses what is not pinned and not the base; gives the image of a stage.
    fn pinned(
        &self,
        outside: &Outside,
        base: Option<&Reference>,
    ) -> Result<Option<Reference>, DockerfileError> {
        let (image, begins) = match &outside.what {
            What::Stage(image) => (image, true),
            What::Image(image) => (image, false),
            What::Address { is_pinned: true, .. } => return Ok(None),
            What::Address { address, .. } => return Err(unpinned(&self.path, outside.line, address)),
        };
        let name = image.parse::<Reference>();
        let name = name.map_err(|why| refuse(&self.path, Fault::new(outside.line, why.to_string())))?;
        if begins && base == Some(&name) {
            return Ok(None);
        }
        match name.digest() {
            Some(_) => Ok(begins.then_some(name)),
            None => Err(unpinned(&self.path, outside.line, image)),
        }
    }

    /// Whether one of the known arguments takes the entry point.
    pub fn takes_entry_point(&self) -> bool {
        let known = |name: &String| ENTRY_POINT_ARGUMENTS.contains(&name.as_str());
        let found = self.instructions.iter().filter(|found| found.keyword == "ARG");
        found.flat_map(|found| stages::pairs(found).unwrap_or_default()).any(|(name, _)| known(&name))
    }

    /// The argument that takes the entry point, and its own default.
    fn entry_point(&self, given: &Given<'_>) -> Option<(String, Option<String>)> {
        let declared = |name: &str| {
            let found = self.instructions.iter().filter(|found| found.keyword == "ARG");
            let mut pairs = found.flat_map(|found| stages::pairs(found).unwrap_or_default());
            pairs.find(|(declared, _)| declared == name)
        };
        let (name, default) = match given.entry_point_argument {
            Some(name) => declared(name)?,
            None => ENTRY_POINT_ARGUMENTS.iter().find_map(|name| declared(name))?,
        };
        let default =
            default.and_then(|text| expand::expand(&text, self.escape, &|_| expand::Value::Unknown).ok());
        Some((name, default))
    }

    /// Whether a `COPY` or `ADD` names a file of the context by itself. What cannot be told counts as yes.
    pub fn names(&self, file: &str, args: &BTreeMap<String, String>) -> bool {
        self.sources(args).any(|source| source.is_none_or(|path| path == file))
    }

    /// Whether a `COPY` or `ADD` may bring a file of the context into the image, also by a pattern or by a folder that it is in.
    /// What cannot be told counts as yes.
    pub fn may_copy(&self, file: &str, args: &BTreeMap<String, String>) -> bool {
        let may_bring = |path: String| {
            let is_above = path.is_empty() || path == "." || file.starts_with(&format!("{path}/"));
            is_above || path == file || path.contains(['*', '?', '['])
        };
        self.sources(args).any(|source| source.is_none_or(may_bring))
    }

    /// The paths that `COPY` and `ADD` take from the context; none for one that is not known before the build.
    fn sources<'a>(
        &'a self,
        args: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = Option<String>> + use<'a> {
        let arguments = self.instructions.iter().filter(|found| found.keyword == "ARG");
        let known: BTreeMap<String, String> = arguments
            .flat_map(|found| stages::pairs(found).unwrap_or_default())
            .filter_map(|(name, default)| Some((name, default?)))
            .collect();
        let path = move |word: String| {
            let lookup = |name: &str| match args.get(name).or_else(|| known.get(name)) {
                Some(value) => expand::Value::Known(value.clone()),
                None => expand::Value::Unknown,
            };
            let path = expand::expand(&word, self.escape, &lookup).ok().filter(|path| !path.contains('$'))?;
            Some(path.trim_start_matches("./").trim_matches('/').to_owned())
        };
        self.instructions
            .iter()
            .filter(|found| matches!(found.keyword.as_str(), "ADD" | "COPY" | "ONBUILD"))
            .filter(|found| !found.flags.iter().any(|flag| flag.starts_with("--from=")))
            .flat_map(stages::sources)
            .map(path)
    }

    /// The text with the base's `FROM`s naming `pinned` in the place of what stands there, line for line.
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

/// Checks the `ONBUILD` triggers of an image that a stage begins with: they run with the build, and nothing of them stands in the
/// Dockerfile.
///
/// # Errors
/// The first trigger that takes something unpinned from elsewhere, or is not understood.
pub fn check_triggers(image: &str, triggers: &[String]) -> Result<(), DockerfileError> {
    let path = format!("{image}, ONBUILD");
    let file = Dockerfile { path: path.clone(), ..Dockerfile::empty() };
    for outside in stages::of_triggers(triggers).map_err(|fault| refuse(&path, fault))? {
        file.pinned(&outside, None)?;
    }
    Ok(())
}

fn refuse(path: &str, fault: Fault) -> DockerfileError {
    DockerfileError::Refused { path: path.to_owned(), line: fault.line, reason: fault.reason }
}

fn unpinned(path: &str, line: usize, what: &str) -> DockerfileError {
    DockerfileError::Unpinned { path: path.to_owned(), line, what: what.to_owned() }
}
