//! What cargo alone knows: where it builds, and where the programs are that it built.
//!
//! It is asked in this process's own directory and environment, as the cargo that started it was: a relative
//! `CARGO_TARGET_DIR` then means the same directory, and the same configuration files count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Deserialize;

use crate::error::{Exit, FailWith as _};
use crate::process::{Cmd, Killer};
use crate::ui::Printer;

/// cargo's target directory for the workspace at `root`.
///
/// An absolute `CARGO_TARGET_DIR` is the answer by itself: no configuration file outranks it
/// (<https://doc.rust-lang.org/cargo/reference/config.html#buildtarget-dir>). Without a cargo nothing is ever built, and
/// `target` is as good a place for this tool's own files as any.
pub fn target_directory(root: &Path) -> PathBuf {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    if let Some(dir) = named.filter(|dir| dir.is_absolute()) {
        return dir;
    }
    let asked = Cmd::cargo().args(["metadata", "--no-deps", "--format-version", "1"]).arg("--manifest-path");
    let answer = asked.arg(root.join("Cargo.toml")).read().ok();
    let metadata = answer.and_then(|text| serde_json::from_str::<Metadata>(&text).ok());
    metadata.map_or_else(|| root.join("target"), |metadata| metadata.target_directory)
}

/// Compiles packages of the workspace at `root`, and gives the path of each program by its name.
///
/// # Errors
/// cargo is missing or the packages do not compile.
pub async fn build(
    root: &Path,
    packages: &[&str],
    printer: &Printer,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut command = Cmd::cargo().args(["build", "--message-format", "json-render-diagnostics"]);
    command = command.arg("--manifest-path").arg(root.join("Cargo.toml"));
    for package in packages {
        command = command.arg("--package").arg(*package);
    }
    let programs = Arc::new(Mutex::new(BTreeMap::new()));
    let found = Arc::clone(&programs);
    let lane = printer.progress().lane("compiling");
    let (print, names) = (printer.clone(), packages.join(", "));
    let mut told = false;
    let result = command.stream(Killer::default(), move |line| {
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
        .hint(Exit::Unexpected, "the local parts are compiled from this workspace; is it complete?")?;
    Ok(programs.lock().map(|programs| programs.clone()).unwrap_or_default())
}

/// Name and path of the program that a message of cargo's is about, if it is about one
/// (<https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>).
fn program(message: &str) -> Option<(String, PathBuf)> {
    #[derive(Deserialize)]
    struct Artifact {
        target: Target,
        executable: PathBuf,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let artifact: Artifact = serde_json::from_str(message).ok()?;
    let is_program = artifact.target.kind.iter().any(|kind| kind == "bin");
    is_program.then_some((artifact.target.name, artifact.executable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_where_cargo_says() {
        let message = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"local-aws"},
            "filenames":["/t/x86_64-unknown-linux-gnu/debug/local-aws"],
            "executable":"/t/x86_64-unknown-linux-gnu/debug/local-aws","fresh":true}"#;
        let path = PathBuf::from("/t/x86_64-unknown-linux-gnu/debug/local-aws");
        assert_eq!(program(message), Some(("local-aws".to_owned(), path)));
        for other in [
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"hex"},"executable":null}"#,
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"it"},"executable":"/t/it"}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ] {
            assert_eq!(program(other), None, "{other}");
        }
    }
}
