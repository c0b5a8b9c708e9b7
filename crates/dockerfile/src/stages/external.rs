//! What one instruction takes from elsewhere.

use super::{Stage, from_words, is_name};
use crate::Dockerfile;
use crate::expand::expand;
use crate::lines::{self, Fault, Instruction, excerpt};
use crate::variables::{Scope, explain};

/// Something that a build takes from outside of its Dockerfile and context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct External {
    /// The line of the instruction, from 1.
    pub(crate) line: usize,
    /// Its kind.
    pub(crate) what: What,
}

/// A kind of external input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A stage's base image: its `ONBUILD` triggers run.
    Stage(String),
    /// An image that files are copied from, or the one of `# syntax=`.
    Image(String),
    /// An address of `ADD`.
    Address {
        /// The address.
        address: String,
        /// Whether a checksum or a commit pins it.
        is_pinned: bool,
    },
}

/// What one instruction of a stage takes from elsewhere, and the variables that it sets.
pub(super) fn step(
    file: &Dockerfile,
    found: &Instruction,
    stages: &[Stage],
    scope: &mut Scope<'_>,
    outside: &mut Vec<External>,
) -> Result<(), Fault> {
    let line = found.line;
    let mut image = |name: &str| -> Result<(), Fault> {
        if let Some(name) = from_elsewhere(name, file, stages, line)? {
            outside.push(External { line, what: What::Image(name) });
        }
        Ok(())
    };
    match found.keyword.as_str() {
        "ARG" => scope.declare(found, file)?,
        "ENV" => scope.set(found, file)?,
        "COPY" => {
            for flag in &found.flags {
                if let Some(name) = flag.strip_prefix("--from=") {
                    image(name)?;
                }
            }
        }
        "RUN" => {
            for mount in found.flags.iter().filter_map(|flag| flag.strip_prefix("--mount=")) {
                if mount.contains('"') {
                    return Err(Fault::new(line, "quotes in --mount are not supported"));
                }
                for option in mount.split(',') {
                    if let Some((key, name)) = option.split_once('=')
                        && key.trim().eq_ignore_ascii_case("from")
                    {
                        image(name)?;
                    }
                }
            }
        }
        "ADD" => add(file, found, scope, outside)?,
        // These instructions take nothing from elsewhere; `ONBUILD` only affects builds on this image.
        "CMD" | "ENTRYPOINT" | "EXPOSE" | "HEALTHCHECK" | "LABEL" | "MAINTAINER" | "ONBUILD" | "SHELL"
        | "STOPSIGNAL" | "USER" | "VOLUME" | "WORKDIR" => {}
        other => return Err(Fault::new(line, format!("`{}` is not an instruction", excerpt(other)))),
    }
    Ok(())
}

/// The image of `--from=NAME`; `None` if it is an earlier stage.
fn from_elsewhere(
    name: &str,
    file: &Dockerfile,
    stages: &[Stage],
    line: usize,
) -> Result<Option<String>, Fault> {
    if name.contains('$') {
        let reason = format!(
            "docker expands no variable in from={name}: name a stage, FROM {name} AS ..., and take that"
        );
        return Err(Fault::new(line, reason));
    }
    // The last one is the instruction's own stage.
    let earlier = stages.split_last().map_or(stages, |(_, earlier)| earlier);
    if name == "scratch" || earlier.iter().any(|stage| stage.is_called(name)) {
        return Ok(None);
    }
    let mut all = file.instructions.iter().filter(|found| found.keyword == "FROM");
    let is_it = |found: &Instruction| from_words(found).is_ok_and(|(_, other)| is_name(&other, name));
    if all.any(is_it) {
        let reason = format!("stage {name} comes later: the legacy builder would take an image of that name");
        return Err(Fault::new(line, reason));
    }
    match name.parse::<usize>() {
        Ok(number) if number < earlier.len() => Ok(None),
        Ok(number) => Err(Fault::new(line, format!("from={number}: there is no such stage before this one"))),
        Err(_) => Ok(Some(name.to_owned())),
    }
}

/// The sources of an `ADD` that are addresses.
fn add(
    file: &Dockerfile,
    found: &Instruction,
    scope: &Scope<'_>,
    outside: &mut Vec<External>,
) -> Result<(), Fault> {
    let line = found.line;
    let lookup = |name: &str| scope.lookup(name);
    for word in sources(found) {
        let address = expand(&word, file.escape, &lookup).map_err(|stuck| explain(&stuck, line))?;
        if !is_address(&address) {
            continue;
        }
        let checksum = found.flags.iter().find_map(|flag| flag.strip_prefix("--checksum="));
        let checksum = checksum.map(|text| expand(text, file.escape, &lookup)).transpose();
        let checksum = checksum.map_err(|stuck| explain(&stuck, line))?;
        let is_pinned = is_commit(&address)
            || checksum.is_some_and(|sum| sum.parse::<registry::Digest>().is_ok() || is_hash(&sum));
        outside.push(External { line, what: What::Address { address, is_pinned } });
    }
    Ok(())
}

/// The sources of a `COPY` or `ADD` as written, without here-documents.
pub(crate) fn sources(found: &Instruction) -> Vec<String> {
    let mut words: Vec<String> = serde_json::from_str(&found.rest)
        .unwrap_or_else(|_| found.rest.split_whitespace().map(str::to_owned).collect());
    words.pop();
    words.retain(|word| !lines::is_heredoc(word));
    words
}

/// Whether docker downloads it: `http://`, `https://`, `git://`, `ssh://`, and git's `user@host:path`.
fn is_address(source: &str) -> bool {
    let scheme = source.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    });
    let git = source.split_once(':').is_some_and(|(host, _)| host.contains('@') && !host.contains('/'));
    scheme || git
}

/// Whether an address names a commit of a git repository: `...#<commit>[:directory]`.
fn is_commit(address: &str) -> bool {
    address
        .split_once('#')
        .is_some_and(|(_, fragment)| is_hash(fragment.split(':').next().unwrap_or_default()))
}

/// A whole SHA-1 or SHA-256 in hexadecimal.
fn is_hash(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
