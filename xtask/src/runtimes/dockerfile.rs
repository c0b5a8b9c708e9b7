//! Which images a Dockerfile names: each of them has to be in the build key.
//!
//! The base comes in as a build argument, and its digest is part of the key. Any other image (a second `FROM`, a
//! `COPY --from=image`, a `RUN --mount=...,from=image`) changes the result unseen, unless it is pinned by digest, which is part
//! of the Dockerfile's bytes.

use std::path::Path;

/// Why a Dockerfile cannot be keyed.
#[derive(Debug, thiserror::Error)]
pub enum DockerfileError {
    /// An image that may change while the key stays.
    #[error(
        "{path}: line {line}: {image} is not pinned: write it as name@sha256:..., or the build key would not notice \
         when it changes"
    )]
    Unpinned {
        /// The Dockerfile.
        path: String,
        /// The line on which the instruction starts, from 1.
        line: usize,
        /// The image as written.
        image: String,
    },
}

/// Checks that every image in a Dockerfile is a build argument, a stage, `scratch` or pinned by digest.
///
/// # Errors
/// The first image that is not.
pub(super) fn check(path: &Path, bytes: &[u8]) -> Result<(), DockerfileError> {
    let text = String::from_utf8_lossy(bytes);
    let mut stages: Vec<String> = Vec::new();
    for (line, instruction) in instructions(&text) {
        let mut words = instruction.split_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        let mut words = words.skip_while(|word| keyword == "FROM" && word.starts_with("--"));
        let images: Vec<&str> = match keyword.as_str() {
            "FROM" => words.next().into_iter().collect(),
            "COPY" | "ADD" | "RUN" => {
                words.take_while(|word| word.starts_with("--")).filter_map(from).collect()
            }
            _ => continue,
        };
        for image in images {
            let known = image.contains('$')
                || image == "scratch"
                || image.contains("@sha256:")
                || stages.iter().any(|stage| stage.eq_ignore_ascii_case(image))
                || (keyword != "FROM" && image.parse::<usize>().is_ok());
            if !known {
                return Err(DockerfileError::Unpinned {
                    path: path.display().to_string(),
                    line,
                    image: image.to_owned(),
                });
            }
        }
        if keyword == "FROM"
            && let Some((_, name)) = rsplit_as(&instruction)
        {
            stages.push(name.to_owned());
        }
    }
    Ok(())
}

/// Whether a Dockerfile starts programs, which takes a machine that can run them.
pub(super) fn runs_programs(bytes: &[u8]) -> bool {
    let starts =
        |instruction: &str| instruction.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("RUN "));
    instructions(&String::from_utf8_lossy(bytes)).iter().any(|(_, instruction)| starts(instruction))
}

/// The image of `--from=image` or `--mount=type=bind,from=image`.
fn from(flag: &str) -> Option<&str> {
    flag.strip_prefix("--from=")
        .or_else(|| flag.strip_prefix("--mount=")?.split(',').find_map(|option| option.strip_prefix("from=")))
}

fn rsplit_as(instruction: &str) -> Option<(&str, &str)> {
    let mut words = instruction.rsplitn(3, char::is_whitespace).filter(|word| !word.is_empty());
    let name = words.next()?;
    let keyword = words.next()?;
    keyword.eq_ignore_ascii_case("AS").then_some((keyword, name))
}

/// The logical lines: comments dropped, continued lines joined.
pub(super) fn instructions(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (part, continues) = match trimmed.strip_suffix('\\') {
            Some(part) => (part.trim_end(), true),
            None => (trimmed, false),
        };
        match found.last_mut() {
            Some((_, instruction)) if open => {
                instruction.push(' ');
                instruction.push_str(part);
            }
            _ => found.push((index + 1, part.to_owned())),
        }
        open = continues;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pinned_images_stages_and_arguments_pass() {
        let pinned = format!("x@sha256:{}", "a".repeat(64));
        let good = format!(
            "# FROM nothing\nARG BASE\nFROM --platform=linux/amd64 ${{BASE}} AS first\nRUN \\\n  # why\n  true\n\
             COPY --chown=1 --from=first /a /b\nFROM {pinned} as second\nCOPY --from=0 /a /a\nFROM scratch\nFROM First\n\
             RUN --mount=type=bind,from=second,target=/x true\n"
        );
        check(Path::new("Dockerfile"), good.as_bytes()).unwrap();
        for (bad, line, image) in [
            ("FROM debian:12", 1, "debian:12"),
            ("ARG A\nFROM $A\nCOPY --from=busybox:1 /a /b", 3, "busybox:1"),
            ("FROM scratch\nRUN --mount=type=bind,from=alpine \\\n true", 2, "alpine"),
            ("FROM a as b", 1, "a"),
        ] {
            let error = check(Path::new("D"), bad.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("D: line {line}: {image} is not pinned")), "{error}");
        }
    }
}
