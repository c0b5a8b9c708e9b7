//! Asks cargo for its target directory and for the programs that it has built.
//!
//! Cargo runs in this process's own directory and environment, like the cargo that started this process: a relative
//! `CARGO_TARGET_DIR` then refers to the same directory, and the same configuration files apply.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use failure::{FailWith as _, Kind};
use process::{KillHandle, cmd};
use serde::Deserialize;

use crate::ui::Printer;

/// cargo's target directory for the workspace at `root`.
///
/// An absolute `CARGO_TARGET_DIR` needs no call of cargo: no configuration file overrides it
/// (<https://doc.rust-lang.org/cargo/reference/config.html#buildtarget-dir>). Without cargo nothing is built, and `target` is good
/// enough for this tool's own files.
pub fn target_directory(root: &Path) -> PathBuf {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    if let Some(dir) = named.filter(|dir| dir.is_absolute()) {
        return dir;
    }
    let manifest = root.join("Cargo.toml");
    let asked = process::shell().and_then(|sh| {
        cmd!(sh, "cargo metadata --no-deps --format-version 1 --manifest-path {manifest}").read()
    });
    let answer = asked.ok();
    let metadata = answer.and_then(|text| serde_json::from_str::<Metadata>(&text).ok());
    metadata.map_or_else(|| root.join("target"), |metadata| metadata.target_directory)
}

/// Compiles packages of the workspace at `root`, and returns the path of each program by its name.
///
/// # Errors
/// cargo is missing or the packages do not compile.
pub async fn build(
    root: &Path,
    packages: &[&str],
    printer: &Printer,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let manifest = root.join("Cargo.toml");
    let packages_flags = packages.iter().flat_map(|package| ["--package", package]);
    let command = cmd!(
        process::shell()?,
        "cargo build --message-format json-render-diagnostics --manifest-path {manifest} {packages_flags...}"
    );
    let programs = Arc::new(Mutex::new(BTreeMap::new()));
    let found = Arc::clone(&programs);
    let lane = printer.progress().lane("cargo");
    let (print, names) = (printer.clone(), packages.join(", "));
    let mut told = false;
    let result = command.stream(KillHandle::default(), move |line| {
        if line.starts_with('{') {
            if let (Some((name, path)), Ok(mut found)) = (program(line), found.lock()) {
                found.insert(name, path);
            }
            return;
        }
        if !told && line.trim_start().starts_with("Compiling ") {
            told = true;
            print.line(format!("compiling {names}: once, a minute or so"));
        }
        lane.news(line);
        print.detail(line);
    });
    result
        .await
        .hint(Kind::Unexpected, "the local parts are compiled from this workspace; is it complete?")?;
    Ok(programs.lock().map(|programs| programs.clone()).unwrap_or_default())
}

/// An executable that cargo built
/// (<https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>).
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: PathBuf,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Name and path of the program in a message of cargo's, if it has one.
fn program(message: &str) -> Option<(String, PathBuf)> {
    let artifact: Artifact = serde_json::from_str(message).ok()?;
    let is_program = artifact.target.kind.iter().any(|kind| kind == "bin") && !artifact.profile.test;
    is_program.then_some((artifact.target.name, artifact.executable))
}

/// A test program: cargo makes one for each file in a package's `tests`, and one for the unit tests of each library or program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestProgram {
    /// The root file of its source.
    pub source: PathBuf,
    /// Its package's folder, which cargo uses as its working directory.
    pub package: PathBuf,
    /// Its path.
    pub path: PathBuf,
}

/// The test program in a message of cargo's, if it has one.
pub fn test_program(message: &str) -> Option<TestProgram> {
    let artifact: Artifact = serde_json::from_str(message).ok()?;
    let package = artifact.manifest_path.parent()?.to_owned();
    let found = TestProgram { source: artifact.target.src_path, package, path: artifact.executable };
    artifact.profile.test.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo's message about one artifact.
    fn message(kind: &str, executable: &str, test: bool) -> String {
        let target = serde_json::json!({ "kind": [kind], "name": "x", "src_path": "/w/x/tests/x.rs" });
        serde_json::json!({ "reason": "compiler-artifact", "manifest_path": "/w/x/Cargo.toml", "target": target,
            "profile": { "test": test, "opt_level": "0" }, "executable": executable, "fresh": true })
        .to_string()
    }

    #[test]
    fn a_programs_path_is_read_from_cargo() {
        let path = "/t/x86_64-unknown-linux-gnu/debug/x";
        assert_eq!(program(&message("bin", path, false)), Some(("x".to_owned(), path.into())));
        let library = message("lib", path, false).replace(&format!("\"{path}\""), "null");
        let of_no_interest = [library, message("bin", path, true), message("test", path, true)];
        for other in
            of_no_interest.into_iter().chain([r#"{"reason":"build-finished","success":true}"#.into()])
        {
            assert_eq!(program(&other), None, "{other}");
        }
    }

    #[test]
    fn test_programs_are_distinguished_from_others() {
        let found = test_program(&message("test", "/t/it-1", true)).unwrap();
        let (source, package) = ("/w/x/tests/x.rs".into(), "/w/x".into());
        assert_eq!(found, TestProgram { source, package, path: "/t/it-1".into() });
        assert!(test_program(&message("bin", "/t/x-1", true)).is_some());
        assert_eq!(test_program(&message("bin", "/t/x", false)), None);
    }
}
