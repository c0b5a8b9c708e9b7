//! The name under which the user starts this program, for all messages.
//!
//! All texts are written with `cargo xtask`. The printing code replaces this with the name by which this process was started.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;

use clap::builder::StyledStr;
use clap::{Arg, Command};

/// The command of cargo's alias, and the program that it starts.
pub const ALIAS: &str = "cargo xtask";
const ALIASED: &str = "xtask";

/// The name if the process's own name is not a single shell word.
const DEFAULT: &str = "htc-grid-images";

/// Commands that compile programs of the workspace. They only exist in cargo's alias, so their name is not replaced.
pub const OF_THE_WORKSPACE: [&str; 4] = ["bench", "demo", "local", "test"];

/// The name that the user types to start this program.
pub fn name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| match cfg!(test) {
        // Cargo's name for the program of these tests is not a name of the tool.
        true => ALIAS.to_owned(),
        false => named_by(std::env::args_os().next()),
    })
}

fn named_by(argument: Option<OsString>) -> String {
    let file = argument.as_deref().and_then(|path| Path::new(path).file_name()?.to_str());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match file {
        Some(ALIASED) => ALIAS.to_owned(),
        Some(file) if file.chars().all(is_plain) => file.to_owned(),
        _ => DEFAULT.to_owned(),
    }
}

/// `text` with the name of this program.
pub fn with_program_name(text: &str) -> Cow<'_, str> {
    with_name(text, name())
}

/// `text` with `name` instead of [`ALIAS`], except before [`OF_THE_WORKSPACE`].
pub fn with_name<'a>(text: &'a str, name: &str) -> Cow<'a, str> {
    if name == ALIAS || !text.contains(ALIAS) {
        return Cow::Borrowed(text);
    }
    let mut pieces = text.split(ALIAS);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for rest in pieces {
        let word =
            rest.strip_prefix(' ').map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
        let command = word.and_then(|mut words| words.next()).unwrap_or_default();
        out += if OF_THE_WORKSPACE.contains(&command) { ALIAS } else { name };
        out += rest;
    }
    Cow::Owned(out)
}

/// The command tree with `name` as the program, also in its texts.
pub fn named(command: Command, name: &'static str) -> Command {
    with_words(command.name(name).bin_name(name), name)
}

fn with_words(mut command: Command, name: &'static str) -> Command {
    let words = |text: Option<&StyledStr>| Some(with_name(&text?.to_string(), name).into_owned());
    let (about, long_about) = (words(command.get_about()), words(command.get_long_about()));
    let (after, long_after) = (words(command.get_after_help()), words(command.get_after_long_help()));
    command = command.mut_args(|argument| {
        let (help, long) = (words(argument.get_help()), words(argument.get_long_help()));
        let argument = help.into_iter().fold(argument, Arg::help);
        long.into_iter().fold(argument, Arg::long_help)
    });
    command = about.into_iter().fold(command, Command::about);
    command = long_about.into_iter().fold(command, Command::long_about);
    command = after.into_iter().fold(command, Command::after_help);
    command = long_after.into_iter().fold(command, Command::after_long_help);
    command.mut_subcommands(|own| with_words(own, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_its_files_name() {
        for (argument, name) in [
            ("/t/debug/xtask", ALIAS),
            ("./htc-grid-images", "htc-grid-images"),
            ("images", "images"),
            ("/t/my images", DEFAULT),
            ("", DEFAULT),
        ] {
            assert_eq!(named_by(Some(argument.into())), name, "{argument}");
        }
        assert_eq!(named_by(None), DEFAULT);
    }

    #[test]
    fn texts_have_the_name_of_the_program_with_the_command() {
        for (text, wanted) in [
            ("`cargo xtask lock` writes it", "`images lock` writes it"),
            ("cargo xtask", "images"),
            ("cargo xtask --help\ncargo xtask help", "images --help\nimages help"),
            ("`cargo xtask demo` shows it", "`cargo xtask demo` shows it"),
            ("$(cargo xtask local env), cargo xtask lock", "$(cargo xtask local env), images lock"),
            ("cargo xtask test-it", "images test-it"),
            ("cargo test", "cargo test"),
        ] {
            assert_eq!(with_name(text, "images"), wanted);
            assert_eq!(with_name(text, ALIAS), text);
        }
    }
}
