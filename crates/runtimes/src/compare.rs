//! Compares the built image with the files that were hashed.
//!
//! A builder that got the right files may still build others: files of an earlier build, or of a cache. So the files that the Dockerfile
//! copied are read from the image, layer by layer, and compared with the build's inputs. The image's history shows which layer belongs to
//! which instruction: every builder writes one entry for each `COPY` and `ADD`. `docs/build-key.md` describes what this covers.

use std::collections::{BTreeMap, BTreeSet};

use super::archive::{Archive, ArchiveError, LayerFile};
use super::copy_instructions::{Copy, Sources, Wanted};
use super::key::Mode;

/// An image that does not match its inputs.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The image cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The history cannot be matched with the layers.
    #[error("the image's history does not tell which layers the Dockerfile's COPY and ADD made: {reason}")]
    History {
        /// What is wrong with it.
        reason: String,
    },
    /// A copied file has other content or another mode.
    #[error("{instruction}: {path} is in the image with {found}; what was hashed has {wanted}")]
    Other {
        /// The instruction, with its line.
        instruction: String,
        /// The file, in the image.
        path: String,
        /// What the image contains.
        found: String,
        /// What was hashed.
        wanted: String,
    },
    /// A file that the instruction names is missing.
    #[error("{instruction}: {path} did not reach the image")]
    Missing {
        /// The instruction, with its line.
        instruction: String,
        /// The file, in the context.
        path: String,
    },
    /// A file that is not among those that were hashed.
    #[error("{instruction}: {path} is in the image, and no file of the build context")]
    Foreign {
        /// The instruction, with its line.
        instruction: String,
        /// The file, in the image.
        path: String,
    },
}

/// Compares the files that `copies` put into a saved image.
///
/// # Errors
/// The first file that is not what was hashed, or an image that cannot be read.
pub fn compare(archive: &Archive, copies: &[Copy]) -> Result<(), CompareError> {
    let layers = layers(archive, copies.len())?;
    // The files of the layers below, by path: a builder may leave unchanged files out of a layer.
    let mut below = BTreeMap::new();
    for (copy, layer) in copies.iter().zip(layers) {
        let Sources::Context { files, is_one_file } = &copy.sources else { continue };
        let found = match layer {
            Some(layer) => archive.files(layer)?,
            None => BTreeMap::new(),
        };
        check(copy, files, *is_one_file, &found, &below)?;
        below.extend(found);
    }
    Ok(())
}

/// The layer of each of the last `count` `COPY` and `ADD` instructions; `None` if an instruction changed nothing.
fn layers(archive: &Archive, count: usize) -> Result<Vec<Option<usize>>, CompareError> {
    let history = archive.history()?;
    let failed = |reason: String| CompareError::History { reason };
    let filled = history.iter().filter(|step| !step.empty_layer).count();
    if filled != archive.diff_ids.len() {
        return Err(failed(format!("it has {filled} layers, and the image {}", archive.diff_ids.len())));
    }
    let mut next = 0;
    let mut copied = Vec::new();
    for step in &history {
        let layer = (!step.empty_layer).then_some(next);
        next += usize::from(!step.empty_layer);
        if is_copy(&step.created_by) {
            copied.push(layer);
        }
    }
    // Instructions of the base come first.
    let Some(base) = copied.len().checked_sub(count) else {
        return Err(failed(format!("it has {} of them, and the Dockerfile {count}", copied.len())));
    };
    Ok(copied.split_off(base))
}

/// Whether a step of the history is a `COPY` or an `ADD`, in the form of BuildKit or of the legacy builder and podman, which put the shell
/// and `#(nop)` before instructions that run no program.
fn is_copy(created_by: &str) -> bool {
    let text = created_by.split_once("#(nop) ").map_or(created_by, |(_, instruction)| instruction);
    ["COPY ", "ADD "].iter().any(|keyword| text.trim_start().starts_with(keyword))
}

fn check(
    copy: &Copy,
    files: &BTreeMap<String, Wanted>,
    is_one_file: bool,
    found: &BTreeMap<String, LayerFile>,
    below: &BTreeMap<String, LayerFile>,
) -> Result<(), CompareError> {
    let instruction = format!("Dockerfile:{}: {}", copy.line, copy.text);
    if is_one_file && let (Some(wanted), 0..=1) = (files.values().next(), found.len()) {
        let Some((path, file)) = found.iter().next() else {
            return match below.values().any(|file| is_it(file, wanted, copy.chmod)) {
                true => Ok(()),
                false => Err(CompareError::Missing { instruction, path: wanted.path.clone() }),
            };
        };
        return same(copy, instruction, path, file, wanted);
    }
    // All files are below one destination, which is known only from the image: every directory that fits one of them is tried.
    let Some((path, _)) = found.iter().next() else {
        let missing = files.iter().find(|(name, wanted)| {
            !below.iter().any(|(path, file)| ends_with(path, name) && is_it(file, wanted, copy.chmod))
        });
        return match missing {
            Some((_, wanted)) => Err(CompareError::Missing { instruction, path: wanted.path.clone() }),
            None => Ok(()),
        };
    };
    let destinations: BTreeSet<&str> = files
        .keys()
        .filter(|name| ends_with(path, name))
        .map(|name| &path[..path.len() - name.len()])
        .collect();
    let mut first = None;
    for destination in destinations {
        match check_below(copy, &instruction, destination, files, found, below) {
            Ok(()) => return Ok(()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| CompareError::Foreign { instruction, path: path.clone() }))
}

/// `destination` is empty or ends in `/`.
fn check_below(
    copy: &Copy,
    instruction: &str,
    destination: &str,
    files: &BTreeMap<String, Wanted>,
    found: &BTreeMap<String, LayerFile>,
    below: &BTreeMap<String, LayerFile>,
) -> Result<(), CompareError> {
    for (path, file) in found {
        let wanted = path.strip_prefix(destination).and_then(|name| files.get(name));
        let instruction = instruction.to_owned();
        match wanted {
            Some(wanted) => same(copy, instruction, path, file, wanted)?,
            None => return Err(CompareError::Foreign { instruction, path: path.clone() }),
        }
    }
    for (name, wanted) in files {
        let path = format!("{destination}{name}");
        let there =
            found.contains_key(&path) || below.get(&path).is_some_and(|file| is_it(file, wanted, copy.chmod));
        if !there {
            let instruction = instruction.to_owned();
            return Err(CompareError::Missing { instruction, path: wanted.path.clone() });
        }
    }
    Ok(())
}

fn same(
    copy: &Copy,
    instruction: String,
    path: &str,
    file: &LayerFile,
    wanted: &Wanted,
) -> Result<(), CompareError> {
    if is_it(file, wanted, copy.chmod) {
        return Ok(());
    }
    let shown = |mode: &str, sha256: &str| format!("mode {mode} and sha256:{sha256}");
    let found = shown(&file.mode(), &file.sha256);
    let wanted = shown(wanted.mode.as_str(), &wanted.sha256);
    Err(CompareError::Other { instruction, path: path.to_owned(), found, wanted })
}

fn is_it(file: &LayerFile, wanted: &Wanted, chmod: bool) -> bool {
    let mode = match wanted.mode {
        Mode::Symlink => file.is_symlink,
        Mode::File => !file.is_symlink && (chmod || file.bits == 0o644),
        Mode::Executable => !file.is_symlink && (chmod || file.bits == 0o755),
    };
    mode && file.sha256 == wanted.sha256
}

/// Whether `path` is `name`, or `name` below some directory.
fn ends_with(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::sha256;

    fn found(files: &[(&str, &str)]) -> BTreeMap<String, LayerFile> {
        let file = |content: &str| match content.strip_prefix("->") {
            Some(target) => LayerFile { is_symlink: true, bits: 0o777, sha256: sha256(target.as_bytes()) },
            None => LayerFile { is_symlink: false, bits: 0o644, sha256: sha256(content.as_bytes()) },
        };
        files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect()
    }

    fn wanted(files: &[(&str, &str)]) -> BTreeMap<String, Wanted> {
        let file = |name: &str, content: &str| {
            let (mode, content) = match content.strip_prefix("->") {
                Some(target) => (Mode::Symlink, target),
                None => (Mode::File, content),
            };
            Wanted { path: format!("c/{name}"), mode, sha256: sha256(content.as_bytes()) }
        };
        files.iter().map(|(name, content)| ((*name).to_owned(), file(name, content))).collect()
    }

    type Files<'a> = &'a [(&'a str, &'a str)];

    /// The result of the comparison; empty if everything matches.
    fn said(is_one_file: bool, files: Files<'_>, layer: Files<'_>, below: Files<'_>) -> String {
        let files = wanted(files);
        let copy = Copy {
            line: 3,
            text: "COPY x /y".to_owned(),
            chmod: false,
            sources: Sources::Context { files: files.clone(), is_one_file },
        };
        match check(&copy, &files, is_one_file, &found(layer), &found(below)) {
            Ok(()) => String::new(),
            Err(CompareError::Other { path, .. }) => format!("other {path}"),
            Err(CompareError::Missing { path, .. }) => format!("missing {path}"),
            Err(CompareError::Foreign { path, .. }) => format!("foreign {path}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_instructions_result_is_compared_with_the_expected_one() {
        let (a, two): (Files<'_>, Files<'_>) = (&[("a", "1")], &[("a", "1"), ("d/a", "2")]);
        // (one file that may be renamed, the files, the layer's files, the files below, the result)
        let table: &[(bool, Files<'_>, Files<'_>, Files<'_>, &str)] = &[
            (true, a, &[("x/start", "1")], &[], ""),
            (true, a, &[("x/start", "2")], &[], "other x/start"),
            (true, a, &[], &[], "missing c/a"),
            (true, a, &[], &[("start", "1")], ""),
            (true, a, &[], &[("start", "2")], "missing c/a"),
            (true, a, &[("start", "1"), ("left", "1")], &[], "foreign left"),
            (false, two, &[("a", "1"), ("d/a", "2")], &[], ""),
            (false, two, &[("w/a", "1"), ("w/d/a", "2")], &[], ""),
            (false, two, &[("w/d/a", "2")], &[("w/a", "1")], ""),
            (false, two, &[("w/d/a", "2")], &[("w/a", "2")], "missing c/a"),
            (false, two, &[("w/d/a", "2")], &[("a", "1")], "missing c/a"),
            (false, two, &[], &[("w/a", "1"), ("w/d/a", "2")], ""),
            (false, two, &[("a", "2"), ("d/a", "1")], &[], "other a"),
            (false, two, &[("a", "1")], &[], "missing c/d/a"),
            (false, two, &[("a", "1"), ("b", "1"), ("d/a", "2")], &[], "foreign b"),
            (false, two, &[("z", "1")], &[], "foreign z"),
            (false, &[("l", "->a")], &[("l", "->a")], &[], ""),
            (false, &[("l", "->a")], &[("l", "->b")], &[], "other l"),
            (false, &[("l", "->a")], &[("l", "a")], &[], "other l"),
            (false, &[], &[("l", "a")], &[], "foreign l"),
            (false, &[], &[], &[], ""),
        ];
        for (is_one_file, files, layer, below, wanted) in table {
            assert_eq!(said(*is_one_file, files, layer, below), *wanted, "{files:?} {layer:?} {below:?}");
        }
    }

    #[test]
    fn copy_steps_are_recognised_in_each_builders_history() {
        for (created_by, wanted) in [
            ("COPY a /b # buildkit", true),
            ("ADD a /b # buildkit", true),
            ("RUN /bin/sh -c true # buildkit", false),
            ("/bin/sh -c #(nop) COPY file:0123 in /b ", true),
            ("/bin/bash -o pipefail -c #(nop) ADD multi:0123 in /b ", true),
            ("/bin/sh -c #(nop)  ENV A=COPY ", false),
            ("/bin/sh -c COPY a b", false),
            ("", false),
        ] {
            assert_eq!(is_copy(created_by), wanted, "{created_by}");
        }
    }
}
