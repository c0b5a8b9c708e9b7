//! The environment variables that programs inherit, and the changes made to them for all programs.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::Cmd;

/// Variables that every program gets in addition to this process's own.
static INHERITED: std::sync::Mutex<Vec<(String, OsString)>> = std::sync::Mutex::new(Vec::new());

/// Sets a variable for every program started from now on. Changing this process's own environment is unsafe.
pub fn hand_down(name: &str, value: impl Into<OsString>) {
    if let Ok(mut variables) = INHERITED.lock() {
        variables.push((name.to_owned(), value.into()));
    }
}

/// Variables that programs get instead of all inherited ones with a prefix.
pub(super) static IN_PLACE_OF: std::sync::Mutex<Option<Replacement>> = std::sync::Mutex::new(None);

/// The prefix of the names, and the variables to set instead.
type Replacement = (&'static str, Vec<(String, String)>);

/// Every program started from now on gets these variables instead of those whose names begin with `prefix`.
pub fn hand_down_in_place_of(prefix: &'static str, variables: Vec<(String, String)>) {
    if let Ok(mut place) = IN_PLACE_OF.lock() {
        *place = Some((prefix, variables));
    }
}

/// The names of this process's own variables that begin with `prefix`.
fn names_with(prefix: &str) -> impl Iterator<Item = OsString> {
    let prefix = prefix.as_bytes().to_vec();
    std::env::vars_os().map(|(name, _)| name).filter(move |name| name.as_encoded_bytes().starts_with(&prefix))
}

/// Removes every inherited environment variable whose name begins with `prefix`.
pub fn env_remove_all(command: Cmd, prefix: &str) -> Cmd {
    names_with(prefix).fold(command, |command, name| command.env_remove(name))
}

/// cargo, without the variables in which the calling cargo describes its package: a build script that reads them (ring's does)
/// would recompile everything that depends on it in every nested build.
pub fn cargo() -> Cmd {
    const ABOUT_THE_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    let cargo = Cmd::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    ABOUT_THE_PACKAGE.iter().fold(cargo, |command, prefix| env_remove_all(command, prefix))
}

/// The changes to the inherited variables: set, or removed (`None`). The command's own variables override those for every program,
/// and the run's identity overrides both.
pub(super) fn variables(command: &Cmd) -> BTreeMap<OsString, Option<OsString>> {
    let mut variables = BTreeMap::new();
    if let Ok(handed_down) = INHERITED.lock() {
        variables.extend(handed_down.iter().map(|(name, value)| (name.into(), Some(value.clone()))));
    }
    variables.extend(command.env.iter().cloned());
    let in_place = IN_PLACE_OF.lock().ok().and_then(|place| place.clone());
    if let Some((prefix, own)) = in_place.filter(|_| !command.keeps_shell) {
        let taken = |name: &OsString| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        variables.retain(|name, _| !taken(name));
        variables.extend(std::env::vars_os().map(|(name, _)| (name, None)).filter(|(name, _)| taken(name)));
        variables.extend(own.into_iter().map(|(name, value)| (name.into(), Some(value.into()))));
    }
    variables
}
