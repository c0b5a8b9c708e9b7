//! The check table of images.toml: one snapshot with all errors, with a line for every rule.

use std::path::Path;

use super::parse::MAX_RUNTIMES;
use super::{Config, Sources};

const WRONG: &str = include_str!("../testdata/all_errors.toml");
const SNAPSHOT: &str = include_str!("../testdata/all_errors.txt");

/// Errors that end the reading of a file.
const ALONE: [&str; 4] = [
    "schema_version = 2\n",
    "schema_version = 1\n<<<<<<< ours\n",
    "schema_version = \n",
    "schema_version = 1\n[kms]\n[images]\n[kms]\n",
];

/// The source files with the rules.
const RULES: [&str; 13] = [
    include_str!("cached_registries.rs"),
    include_str!("names.rs"),
    include_str!("parse/images.rs"),
    include_str!("parse/min_age.rs"),
    include_str!("parse/mod.rs"),
    include_str!("parse/runtimes.rs"),
    include_str!("parse/trust.rs"),
    include_str!("parse/upstreams.rs"),
    include_str!("pattern.rs"),
    include_str!("reader/document.rs"),
    include_str!("reader/mod.rs"),
    include_str!("sources.rs"),
    include_str!("values.rs"),
];

/// Texts that are about something other than images.toml.
const OTHERS: [&str; 2] = [
    // --upstream.
    "is not HOST=URL",
    // images.lock.
    "must be a time such as",
];

/// A checkout with the files that images.toml names.
fn checkout() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "runtimes/Dockerfile",
            "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nARG ENTRY_POINT\nCOPY ${ENTRY_POINT} /start\n",
        ),
        ("runtimes/lambda_entry_point.sh", ""),
        ("own/Dockerfile", "FROM busybox:1\n"),
        ("scratch/Dockerfile", "FROM scratch\n"),
        ("htc/Dockerfile", "ARG HTCGRID_ECR_REPO\nFROM ${HTCGRID_ECR_REPO}\n"),
        ("empty/README", ""),
        ("keys/none.pub", "ssh-ed25519 AAAA"),
        ("keys/cosign.key", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"),
        ("keys/root.json", "{}"),
        ("images.toml", ""),
    ] {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn errors() -> String {
    let dir = checkout();
    let sources = Sources::of(&dir.path().join("images.toml"), dir.path());
    let said = |text: &str| match Config::parse(text, Path::new("images.toml"), Some(&sources)) {
        Ok(config) => panic!("it was taken: {config:#?}"),
        Err(problems) => problems.to_string(),
    };
    let many: String = (0..MAX_RUNTIMES).map(|number| format!("r{number} = \"x/y:1\"\n")).collect();
    let many = format!("schema_version = 1\n[runtimes]\n{many}last = \"x/y:1\"\n");
    let texts = [WRONG, &many].into_iter().chain(ALONE);
    texts.map(|text| format!("{}\n", said(text))).collect()
}

/// The texts of the rules: the literals in calls that report a problem or return a reason.
fn rules() -> Vec<String> {
    const NOTED: [&str; 7] = [
        ".fail(",
        ".fail_with(",
        "Err(",
        "map_err(|why| ",
        "let shape = || ",
        "let outside = || ",
        "sink.report(",
    ];
    let mut found = Vec::new();
    for text in RULES {
        let text = text.split("#[cfg(test)]").next().unwrap();
        for mark in NOTED {
            for (at, _) in text.match_indices(mark) {
                let mut rest = &text[at + mark.len()..];
                if mark == "sink.report(" {
                    // The call's third argument.
                    rest = rest.splitn(3, ',').nth(2).unwrap();
                }
                let rest = rest.trim_start_matches(['(', ' ', '\n']);
                let rest = rest.strip_prefix("format!(").unwrap_or(rest).trim_start();
                // Only literals: a variable's text is defined elsewhere.
                found.extend(rest.strip_prefix('"').map(literal));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A literal up to its end, without escapes.
fn literal(text: &str) -> String {
    let (mut literal, mut chars) = (String::new(), text.chars());
    while let Some(next) = chars.next() {
        match next {
            '"' => break,
            '\\' => match chars.next() {
                // A literal that continues on the next line.
                Some('\n') => {
                    let rest = chars.as_str().trim_start();
                    chars = rest.chars();
                }
                Some(escaped) => literal.push(escaped),
                None => break,
            },
            next => literal.push(next),
        }
    }
    literal
}

/// Whether a line contains the constant parts of a rule's text, in order.
fn contains_rule(line: &str, rule: &str) -> bool {
    let parts = rule.split('{').enumerate().map(|(index, part)| match index {
        0 => part,
        _ => part.split_once('}').map_or(part, |(_, constant)| constant),
    });
    let mut rest = line;
    parts.into_iter().all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

#[test]
fn all_errors_are_reported_at_once() {
    let found = errors();
    assert!(found == SNAPSHOT, "{found}");
}

#[test]
fn every_rule_has_a_line_in_the_list_of_all_errors() {
    let rules = rules();
    assert!(rules.len() > 60, "{rules:#?}");
    let lines = || SNAPSHOT.lines().filter(|line| line.starts_with("  images.toml:"));
    let untold = rules.iter().filter(|rule| {
        !OTHERS.iter().any(|other| rule.contains(other)) && !lines().any(|line| contains_rule(line, rule))
    });
    assert_eq!(untold.collect::<Vec<_>>(), Vec::<&String>::new(), "rules without a line in all_errors.txt");
}
