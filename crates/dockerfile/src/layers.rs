//! The instructions that can make a layer of the image, and the sources of those that copy.

use super::Dockerfile;
use super::expand::expand;
use super::lines::{self, Instruction};
use super::variables::Scope;

/// An instruction of the stages that the image is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// The line on which it starts, from 1.
    pub line: usize,
    /// `RUN`, `COPY`, `ADD` or `WORKDIR`.
    pub keyword: String,
    /// The instruction as written, on one line.
    pub text: String,
    /// The words that start with `--`.
    pub flags: Vec<String>,
    /// The sources of `COPY` and `ADD`, with variables expanded; `None` if one is not known before the build.
    pub sources: Option<Vec<String>>,
}

impl Layer {
    /// The layer of an instruction; `scope` has its variables.
    pub(super) fn of(found: &Instruction, file: &Dockerfile, scope: &Scope<'_>) -> Option<Self> {
        if !["RUN", "COPY", "ADD", "WORKDIR"].contains(&found.keyword.as_str()) {
            return None;
        }
        Some(Self {
            line: found.line,
            keyword: found.keyword.clone(),
            text: found.text(),
            flags: found.flags.clone(),
            sources: sources(found, file, scope),
        })
    }
}

fn sources(found: &Instruction, file: &Dockerfile, scope: &Scope<'_>) -> Option<Vec<String>> {
    let mut words = serde_json::from_str(&found.rest).ok().or_else(|| lines::words(&found.rest))?;
    // The last one is the destination.
    words.pop()?;
    let value = |word: String| expand(&word, file.escape, &|name| scope.lookup(name)).ok();
    words.into_iter().map(value).collect()
}
