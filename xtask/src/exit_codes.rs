//! The exit codes: for each kind of failure, and for successful runs.

use failure::{Kind, Told, kind_of, told};
use serde_json::{Value, json};

/// The exit codes, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 unexpected, 2 usage, 3 bad configuration, 4 missing tool,
5 credentials, 6 refused, 7 upstream, 8 registry, 9 terraform, 10 docker,
11 changes, 12 findings, 130 interrupted.";

/// How a successful command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Done.
    Done,
    /// Something was changed, or would be. The exit code shows this if requested.
    Changes,
}

impl Ending {
    /// Its exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Changes => 11,
        }
    }

    /// The name of its exit code.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Changes => "changes",
        }
    }
}

/// The exit code of a kind of failure, and its name in JSON. Both are documented and stable.
fn exit(kind: Kind) -> (u8, &'static str) {
    match kind {
        Kind::Unexpected => (1, "unexpected"),
        Kind::Usage => (2, "usage"),
        Kind::Config => (3, "configuration"),
        Kind::MissingTool => (4, "missing tool"),
        Kind::Credentials => (5, "credentials"),
        Kind::Refused => (6, "refused"),
        Kind::Upstream => (7, "upstream"),
        Kind::Registry => (8, "registry"),
        Kind::Terraform => (9, "terraform"),
        Kind::Docker => (10, "docker"),
        Kind::Findings => (12, "findings"),
        Kind::Interrupted => (130, "interrupted"),
    }
}

/// The exit code for `error`.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    exit(kind_of(error)).0
}

/// The name of the exit code for `error`.
pub fn exit_name(error: &anyhow::Error) -> &'static str {
    exit(kind_of(error)).1
}

/// `error` in the format of a document's `errors`.
pub fn as_json(error: &anyhow::Error) -> Value {
    let Told { message, causes, hints } = told(error);
    let (code, kind) = exit(kind_of(error));
    json!({ "kind": kind, "exit_code": code, "message": message, "causes": causes, "hints": hints })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts for each exit code in docs/exit-codes.md.
    const MEANINGS: [(Kind, &str); 12] = [
        (Kind::Unexpected, "An unexpected failure: please report it, with the whole message."),
        (Kind::Usage, "The command line is wrong. Nothing was done."),
        (
            Kind::Config,
            "images.toml, images.lock or the state bucket is not valid: the message names file and line. `lock --check` found that upstream tags have changed.",
        ),
        (Kind::MissingTool, "A program is missing or too old: terraform, docker."),
        (
            Kind::Credentials,
            "No credentials, expired ones, another account than expected, or a permission that is missing: the message names it.",
        ),
        (
            Kind::Refused,
            "The answer was no, there was no terminal to ask on, the plan would delete or replace a resource that holds images, or an image is not signed as `[trust]` in images.toml requires or is younger than `min_age` there.",
        ),
        (
            Kind::Upstream,
            "A source registry does not answer, limits, or does not have an image; with `--locked`, it has moved. Transient failures were retried before.",
        ),
        (Kind::Registry, "Your registry, or an AWS service, failed; `verify` found a difference."),
        (
            Kind::Terraform,
            "Terraform failed, or another run holds the lock of its state or the grid's lease (`--lock-timeout` waits).",
        ),
        (Kind::Docker, "The container engine does not answer, or a build failed."),
        (Kind::Findings, "`status --fail-on` found what it was asked to look for."),
        (Kind::Interrupted, "Ctrl-C or SIGTERM. What was done is kept; the next run continues."),
    ];

    /// The content of docs/exit-codes.md.
    fn page() -> String {
        let mut rows: Vec<(u8, &str, &str)> = vec![
            (Ending::Done.code(), Ending::Done.name(), "Done, or there was nothing to do."),
            (
                Ending::Changes.code(),
                Ending::Changes.name(),
                "No failure: with `--exit-code` there is something to do (`transfer-images --dry-run`, `outdated`), and `watch` has changed something.",
            ),
        ];
        rows.extend(MEANINGS.map(|(kind, meaning)| (exit(kind).0, exit(kind).1, meaning)));
        rows.sort_unstable();
        let rows: String =
            rows.iter().map(|(code, name, meaning)| format!("| {code} | {name} | {meaning} |\n")).collect();
        format!(
            "# Exit codes\n\nThey are stable. Of several failures the first one decides; with `--format json` all of them are in\n\
             `errors`, each with the code of its kind ([docs/json.md](json.md)).\n\n\
             <!-- Generated by `UPDATE=1 cargo test -p xtask exit_codes`. -->\n\n| code | name | meaning |\n|---|---|---|\n{rows}"
        )
    }

    #[test]
    fn the_page_of_exit_codes_and_the_help_are_generated() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/exit-codes.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), page(), "UPDATE=1 writes it anew");
        let codes: Vec<u8> = MEANINGS.iter().map(|(kind, _)| exit(*kind).0).chain([0, 11]).collect();
        for code in &codes {
            assert!(
                EXIT_CODES.contains(&format!(" {code} ")) || EXIT_CODES.contains(&format!("\n{code} ")),
                "{code}"
            );
            assert_eq!(codes.iter().filter(|other| *other == code).count(), 1, "{code}");
        }
    }
}
