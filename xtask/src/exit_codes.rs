//! The exit codes: for each kind of failure, and for successful runs.

use failure::{ErrorParts, Kind, error_parts, kind_of};
use serde_json::{Value, json};

/// Kind of failure, exit code, its name (also in JSON), and its meaning for docs/exit-codes.md. Codes and names are stable.
type Row = (Option<Kind>, u8, &'static str, &'static str);

/// Two rows without a kind, and one for each kind: `Interrupted` is the last one, so a kind without a row does not compile.
const TABLE: [Row; Kind::Interrupted as usize + 3] = [
    (None, 0, "done", "Done, or there was nothing to do."),
    (
        Some(Kind::Unexpected),
        1,
        "unexpected",
        "An unexpected failure: please report it, with the whole message.",
    ),
    (Some(Kind::Usage), 2, "usage", "The command line is wrong. Nothing was done."),
    (
        Some(Kind::Config),
        3,
        "configuration",
        "images.toml, images.lock or the state bucket is not valid: the message names file and line. `lock --check` found that upstream tags have changed.",
    ),
    (Some(Kind::MissingTool), 4, "missing tool", "A program is missing or too old: terraform, docker."),
    (
        Some(Kind::Credentials),
        5,
        "credentials",
        "No credentials, expired ones, another account than expected, or a permission that is missing: the message names it.",
    ),
    (
        Some(Kind::Refused),
        6,
        "refused",
        "The answer was no, there was no terminal to ask on, the plan would delete or replace a resource that holds images, or an image is not signed as `[trust]` in images.toml requires or is younger than `min_age` there.",
    ),
    (
        Some(Kind::Upstream),
        7,
        "upstream",
        "A source registry does not answer, limits, or does not have an image; with `--locked`, it has moved. Transient failures were retried before.",
    ),
    (
        Some(Kind::Registry),
        8,
        "registry",
        "Your registry, or an AWS service, failed; `verify` found a difference.",
    ),
    (
        Some(Kind::Terraform),
        9,
        "terraform",
        "Terraform failed, or another run holds the lock of its state or the grid's lease (`--lock-timeout` waits).",
    ),
    (Some(Kind::Docker), 10, "docker", "The container engine does not answer, or a build failed."),
    (
        None,
        11,
        "changes",
        "No failure: with `--exit-code` there is something to do (`transfer-images --dry-run`, `outdated`), and `watch` has changed something.",
    ),
    (Some(Kind::Findings), 12, "findings", "`status --fail-on` found what it was asked to look for."),
    (
        Some(Kind::Interrupted),
        130,
        "interrupted",
        "Ctrl-C or SIGTERM. What was done is kept; the next run continues.",
    ),
];

/// The exit codes, for `--help`, in lines of at most 80 columns.
pub fn help() -> String {
    let (mut lines, mut line) = (String::new(), "Exit codes:".to_owned());
    for (_, code, name, _) in TABLE {
        // `3 configuration` would not read like a failure.
        let item = format!("{code} {},", name.replace("configuration", "bad configuration"));
        if line.len() + 1 + item.len() > 80 {
            lines = lines + &line + "\n";
            line = item;
        } else {
            line = line + " " + &item;
        }
    }
    lines + line.trim_end_matches(',') + "."
}

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
        row(|row| row.1 == self.code()).2
    }
}

/// The first row that `is_wanted` accepts; without one it is an unexpected failure.
fn row(is_wanted: impl Fn(&Row) -> bool) -> Row {
    TABLE.into_iter().find(is_wanted).unwrap_or(TABLE[1])
}

fn row_of(error: &anyhow::Error) -> Row {
    let kind = kind_of(error);
    row(|row| row.0 == Some(kind))
}

/// The exit code for `error`.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    row_of(error).1
}

/// The name of the exit code for `error`.
pub fn exit_name(error: &anyhow::Error) -> &'static str {
    row_of(error).2
}

/// `error` in the format of a document's `errors`.
pub fn as_json(error: &anyhow::Error) -> Value {
    let ErrorParts { message, causes, hints } = error_parts(error);
    let (_, code, kind, _) = row_of(error);
    json!({ "kind": kind, "exit_code": code, "message": message, "causes": causes, "hints": hints })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of docs/exit-codes.md.
    fn page() -> String {
        let row = |(_, code, name, meaning): Row| format!("| {code} | {name} | {meaning} |\n");
        let rows: String = TABLE.into_iter().map(row).collect();
        format!(
            "# Exit codes\n\nThey are stable. Of several failures the first one decides; with `--format json` all of them are in\n\
             `errors`, each with the code of its kind ([docs/json.md](json.md)).\n\n\
             <!-- Generated by `UPDATE=1 cargo test -p xtask exit_codes`. -->\n\n| code | name | meaning |\n|---|---|---|\n{rows}"
        )
    }

    #[test]
    fn the_page_of_exit_codes_is_generated_and_each_code_has_one_meaning() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/exit-codes.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), page(), "UPDATE=1 writes it anew");
        assert!(TABLE.windows(2).all(|pair| pair[0].1 < pair[1].1), "codes in order, each once");
        for (kind, code, ..) in TABLE {
            let first = row(|row| row.0 == kind).1;
            assert!(kind.is_none() || first == code, "{kind:?} has the codes {first} and {code}");
        }
        for ending in [Ending::Done, Ending::Changes] {
            assert_eq!(row(|row| row.1 == ending.code()).0, None, "{ending:?}");
        }
    }
}
