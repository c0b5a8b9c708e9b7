//! The module of `deployment/image_repository/terraform`, checked by real terraform with the real provider's schema.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::workspace::{Workspace, module};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn init(workspace: &Workspace) {
    let init = workspace.terraform(&["init", "-backend=false", "-input=false", "-no-color"], None);
    assert!(init.ok(), "{}", init.text);
    assert!(init.text.contains(crate::workspace::VERSION), "{}", init.text);
}

fn flat(text: &str) -> String {
    // Terraform draws a border and breaks lines at the terminal's width.
    let words = text.split_whitespace().filter(|word| !matches!(*word, "│" | "╷" | "╵"));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_module_is_formatted() {
    let workspace = Workspace::of(&module());
    let fmt = workspace.terraform(&["fmt", "-check", "-diff", "-recursive", "-no-color", "."], None);
    assert!(fmt.ok(), "{}", fmt.text);
}

#[test]
fn the_module_is_valid_and_passes_its_own_tests() {
    let workspace = Workspace::of(&module());
    init(&workspace);
    let validate = workspace.terraform(&["validate", "-no-color"], None);
    assert!(validate.ok(), "{}", validate.text);
    assert!(!validate.text.contains("Warning"), "{}", validate.text);
    let test = workspace.terraform(&["test", "-no-color"], None);
    assert!(test.ok(), "{}", test.text);
    assert!(test.text.contains("Success!"), "{}", test.text);
}

#[test]
fn a_wrong_configuration_fails_with_terraforms_own_message() {
    for (name, words) in [
        (
            "misspelt-argument",
            "Unsupported argument on main.tf line 14, in resource \"aws_ecr_repository\" \"fixture\": 14: \
             scan_on_pushh = true An argument named \"scan_on_pushh\" is not expected here. Did you mean \
             \"scan_on_push\"?",
        ),
        ("wrong-type", "Inappropriate value for attribute \"force_delete\": a bool is required."),
        ("missing-argument", "The argument \"target_key_id\" is required, but no definition was found."),
    ] {
        let workspace = Workspace::of(&fixture(name));
        init(&workspace);
        let validate = workspace.terraform(&["validate", "-no-color"], None);
        assert!(!validate.ok(), "{name} is accepted");
        assert!(flat(&validate.text).contains(words), "{name}: {}", validate.text);
    }
}

#[test]
fn only_an_emulator_on_this_machine_is_called() {
    let workspace = Workspace::of(&fixture("no-endpoint"));
    init(&workspace);
    for (endpoint, words) in [
        (None, "AWS_ENDPOINT_URL is not set"),
        (Some("https://ecr.eu-west-1.amazonaws.com"), "takes a loopback address only"),
        (Some("http://127.0.0.1.example.com"), "takes a loopback address only"),
    ] {
        let plan = workspace.terraform(&["plan", "-input=false", "-no-color"], endpoint);
        assert!(!plan.ok(), "{endpoint:?} is accepted");
        assert!(flat(&plan.text).contains(words), "{endpoint:?}: {}", plan.text);
    }
}

#[test]
fn the_module_runs_no_program_and_does_not_read_the_time() {
    let mut files = 0;
    for entry in std::fs::read_dir(module()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "tf") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let words =
            ["null_resource", "local-exec", "remote-exec", "provisioner", "timestamp()", "plantimestamp()"];
        for word in words.into_iter().chain(["data \"external\"", "data \"http\""]) {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
    assert!(files >= 6, "the module has {files} files");
}

/// The names in the first column of the table below a heading of the module's README.
fn documented(heading: &str) -> BTreeSet<String> {
    let readme = std::fs::read_to_string(module().join("README.md")).unwrap();
    let (_, section) = readme.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    cells.flat_map(|cell| cell.split(", ").map(|name| name.trim_matches('`').to_owned())).collect()
}

/// The names of all blocks of one kind in a file.
fn declared(file: &str, kind: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(module().join(file)).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix(&format!("{kind} \""))?.split('"').next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_readmes_tables_have_every_variable_and_output() {
    assert_eq!(documented("Variables"), declared("variables.tf", "variable"));
    assert_eq!(documented("Outputs"), declared("outputs.tf", "output"));
    assert!(documented("Variables").len() > 10 && documented("Outputs").len() > 5);
}
