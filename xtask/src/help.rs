//! What is shown of the command line: the few commands that most people need, each command with its own options, and the options of
//! all commands in one place.

use clap::{Args as _, Command, CommandFactory as _};

use registry::{RetryPolicy, Timeouts};

use crate::cli::Cli;
use crate::commands::doctor;
use crate::settings::Global;
use crate::ui::units;

/// The commands that `cargo xtask` alone shows.
const FIRST: [(&str, &str); 5] = [
    ("init-images", "Connect with the state bucket, once"),
    ("transfer-images", "Copy and build what is missing; asks once"),
    ("list-images", "Show what is there, and what upstream has moved"),
    ("verify", "Read everything back"),
    ("doctor", "Find out what is missing or wrong here"),
];

/// Ends each command's help.
const OPTIONS: &str = "`cargo xtask help options` shows the options of every command.";

/// The command tree for help: the options of every command are not repeated with each of them.
pub fn command() -> Command {
    let command = Cli::command().mut_args(|argument| argument.hide(true));
    let long = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    noted(command).after_long_help(format!("{OPTIONS}\n\n{long}"))
}

/// Says where the other options are.
fn noted(command: Command) -> Command {
    let words = command.get_after_help().map(ToString::to_string);
    let words = words.map_or_else(|| OPTIONS.to_owned(), |words| format!("{words}\n\n{OPTIONS}"));
    command.after_help(words).mut_subcommands(noted)
}

/// What is shown instead of running a command; none where a command is to run. `arguments` begin with the program.
pub fn shown(arguments: &[String]) -> Option<String> {
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        [] => Some(first()),
        ["help", "options"] => Some(options()),
        _ => None,
    }
}

fn first() -> String {
    let mut text = String::from(
        "Puts every container image an HTC-Grid needs into your own Amazon ECR.\n\nThe commands that most people need:\n",
    );
    for (name, words) in FIRST {
        text += &format!("  cargo xtask {name:<16} {words}\n");
    }
    text + "\nWithout an AWS account: cargo xtask demo\nAll commands: cargo xtask --help\n"
}

fn options() -> String {
    let command = Global::augment_args(Command::new("options"));
    let mut command = command.disable_help_flag(true).help_template("{all-args}").max_term_width(100);
    let text = command.render_help().to_string();
    format!("{}\n\n{}", text.trim_end(), waits())
}

/// How long what is waited for, at most.
fn waits() -> String {
    let (times, tries) = (Timeouts::default(), RetryPolicy::default());
    format!(
        "Waits, each at most:\n  \
         {} for a connection, {} for a registry's reply, {} for a transfer in which nothing moves\n  \
         {} tries of what failed in passing; {} where a registry asks for a pause (Retry-After)\n  \
         --lock-timeout for terraform's lock and for another run on the same grid\n  \
         {} for all that doctor looks at\n",
        units::about(times.connect),
        units::about(times.reply),
        units::about(times.idle),
        tries.attempts,
        units::about(tries.max_wait),
        units::about(doctor::PATIENCE),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(name: &str) -> String {
        let mut tree = command();
        tree.build();
        tree.find_subcommand_mut(name).unwrap().render_long_help().to_string()
    }

    #[test]
    fn each_command_shows_its_own_options_and_where_the_others_are() {
        for command in Cli::command().get_subcommands() {
            let text = long(command.get_name());
            assert!(!text.contains("Options of every command:"), "{text}");
            assert!(!text.contains("--state-bucket <BUCKET>"), "{text}");
            assert!(text.contains(OPTIONS), "{text}");
            assert!(text.contains("cargo xtask"), "{text}");
        }
        let text = long("transfer-images");
        assert!(text.contains("--dry-run") && text.lines().count() < 60, "{text}");
    }

    #[test]
    fn the_options_of_every_command_are_shown_once() {
        let text = shown(&["xtask".into(), "help".into(), "options".into()]).unwrap();
        for argument in Global::augment_args(Command::new("x")).get_arguments() {
            let flag = format!("--{}", argument.get_long().unwrap());
            assert!(text.contains(&flag), "{flag}: {text}");
        }
        assert!(text.starts_with("Options of every command:\n"), "{text}");
        let waits = "10 s for a connection, 2 min 0 s for a registry's reply";
        assert!(text.contains(waits) && text.contains("12 s for all that doctor looks at"), "{text}");
        assert_eq!(shown(&["xtask".into(), "help".into()]), None);
    }

    #[test]
    fn alone_it_shows_five_commands_in_80_columns() {
        let text = shown(&["xtask".into()]).unwrap();
        assert_eq!(text.matches("  cargo xtask ").count(), 5, "{text}");
        let tree = Cli::command();
        assert!(FIRST.iter().all(|(name, _)| tree.find_subcommand(name).is_some()));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
