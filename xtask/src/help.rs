//! The help texts: the most used commands, each command with its own options, and the options of all commands in one page.

use aws::signing;
use clap::{Args as _, Command, CommandFactory as _};

use registry::{RetryPolicy, Timeouts};

use crate::cli::Cli;
use crate::commands::doctor;
use crate::program;
use crate::settings::Global;
use crate::transfer::LOCK_TIMEOUT;
use crate::ui::units;

/// The commands shown by `cargo xtask` without arguments.
const FIRST: [(&str, &str); 5] = [
    ("init-images", "Initialise terraform with the state bucket, once"),
    ("transfer-images", "Copy and build what is missing; asks once"),
    ("list-images", "List images, and which tags changed upstream"),
    ("verify", "Read everything back"),
    ("doctor", "Find out what is missing or wrong here"),
];

/// The last line of each command's help.
const OPTIONS: &str = "`cargo xtask help options` shows the options of every command.";

/// The command tree for help. The options of every command are hidden in each one's help.
pub fn command() -> Command {
    let command = Cli::command().mut_args(|argument| argument.hide(true));
    let long = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    program::named(noted(command).after_long_help(format!("{OPTIONS}\n\n{long}")), program::name())
}

/// Adds a note on where the other options are shown.
fn noted(command: Command) -> Command {
    let words = command.get_after_help().map(ToString::to_string);
    let words = words.map_or_else(|| OPTIONS.to_owned(), |words| format!("{words}\n\n{OPTIONS}"));
    command.after_help(words).mut_subcommands(noted)
}

/// The text to show instead of running a command. `None` to run it. `arguments` start with the program.
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
    let there = if program::name() == program::ALIAS { "" } else { ", in a checkout of the source code" };
    text + &format!("\nWithout an AWS account: cargo xtask demo{there}\nAll commands: cargo xtask --help\n")
}

fn options() -> String {
    let command = Global::augment_args(Command::new("options"));
    let mut command = command.disable_help_flag(true).help_template("{all-args}").max_term_width(100);
    let text = command.render_help().to_string();
    format!("{}\n\n{}", text.trim_end(), waits())
}

/// The maximum wait times.
fn waits() -> String {
    let (times, tries) = (Timeouts::default(), RetryPolicy::default());
    format!(
        "Waits, each at most:\n  \
         {} for a connection, {} for a registry's reply, {} for a transfer without data\n  \
         {} tries of a request that fails, {} for all of them; {} where a registry asks for a pause (Retry-After)\n  \
         --lock-timeout for terraform's lock and for another run on the same grid\n  \
         {} for terraform's lock while a plan is carried out, {} for another run by watch and with --shard\n  \
         {} for AWS's reply, three times (AWS_MAX_ATTEMPTS)\n  \
         {} for ECR to show what was created, {} for S3 to show a new bucket, {} for S3 to return an object that it lists\n  \
         {} for ECR's signature of a runtime\n  \
         {} for all that doctor looks at\n",
        units::about(times.connect),
        units::about(times.reply),
        units::about(times.idle),
        tries.attempts,
        // The last attempt may start at the end of the time.
        units::about(tries.give_up_after + times.reply),
        units::about(tries.max_wait),
        units::about(grid::planning::MIN_LOCK_WAIT),
        units::about(LOCK_TIMEOUT),
        units::about(aws::http::READ_TIMEOUT),
        units::about(grid::VISIBLE_BOUND),
        units::about(aws::bucket::VISIBLE),
        units::about(aws::store::PROPAGATION),
        units::about(signing::BOUND),
        units::about(doctor::BOUND),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::KEYS;
    use crate::origins::NETWORK;

    /// The search order of [`crate::paths::Paths::find`].
    const FILES: &str = "A run works with images.toml, the terraform module and `runtimes/` of one place, which `config show` names:\n\n\
        1. Started by `cargo xtask`: of the workspace.\n\
        2. Started as a program: of the nearest folder, from the working directory upwards, that has \
        `deployment/image_repository/images.toml`.\n   `write-files [DIR]` makes such a folder. Its files are used as they are, edited or \
        of an older version. A checkout is one, too.\n\
        3. Where there is none: the files that the program of a release has in it. `--images FILE` uses another list with them.\n\n\
        What is kept between runs and may be deleted (terraform's working directory, logs, what is known of the sources) is in\n\
        `target/xtask` of a workspace. Elsewhere it is below `$XDG_CACHE_HOME/htc-grid-images`, else `~/.cache/htc-grid-images`: a folder for\n\
        each place of files, and one for each version of the program whose own files were used.";

    /// The content of docs/configuration.md.
    fn configuration() -> String {
        let mut options = String::from("| option | value | meaning |\n|---|---|---|\n");
        for argument in Global::augment_args(Command::new("x")).get_arguments() {
            let value = argument.get_value_names().filter(|_| argument.get_action().takes_values());
            let value =
                value.and_then(|names| names.first()).map(|name| format!("`{name}`")).unwrap_or_default();
            let help = argument.get_help().unwrap_or_default().to_string();
            options += &format!("| `--{}` | {value} | {help} |\n", argument.get_long().unwrap());
        }
        let keys: String = KEYS.iter().map(|(key, flag)| format!("| `{key}` | `{flag}` |\n")).collect();
        let network = NETWORK.map(|name| format!("`{name}`")).join(", ");
        let reader = include_str!("../../crates/images-config/src/lib.rs");
        let table =
            reader.lines().filter_map(|line| line.strip_prefix("//! ")).filter(|line| line.starts_with('|'));
        let table: String = table.map(|line| format!("{}\n", line.replace("../../../docs/", ""))).collect();
        format!(
            "# Configuration\n\n<!-- Generated by `UPDATE=1 cargo test -p xtask configuration`. -->\n\n\
             `cargo xtask config show` says which value each setting of a run has and where it comes from.\n\n\
             ## Where the files are\n\n{FILES}\n\n\
             ## Options of every command\n\nAn option takes precedence over a variable given as an argument, that one over the \
             environment, and that over the AWS profile.\n\n{options}\n\
             ## Variables of the Makefile\n\nAs arguments (`TAG=prod`) and in the environment.\n\n\
             | variable | option |\n|---|---|\n{keys}\n\
             Servers are reached as these say: {network}.\n\n\
             ## images.toml\n\n[schema/images.toml.json](schema/images.toml.json) is for editors: with the extension Even Better TOML, \
             `#:schema ../../docs/schema/images.toml.json` as the file's first line.\n\n{table}"
        )
    }

    #[test]
    fn the_page_of_the_configuration_is_generated() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, configuration()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), configuration(), "UPDATE=1 writes it anew");
    }

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
    fn common_options_are_shown_once() {
        let text = shown(&["xtask".into(), "help".into(), "options".into()]).unwrap();
        for argument in Global::augment_args(Command::new("x")).get_arguments() {
            let flag = format!("--{}", argument.get_long().unwrap());
            assert!(text.contains(&flag), "{flag}: {text}");
        }
        assert!(text.starts_with("Options of every command:\n"), "{text}");
        let waits = "\
Waits, each at most:
  10 s for a connection, 2 min 0 s for a registry's reply, 30 s for a transfer without data
  7 tries of a request that fails, 5 min 0 s for all of them; 2 min 0 s where a registry asks for a pause (Retry-After)
  --lock-timeout for terraform's lock and for another run on the same grid
  60 s for terraform's lock while a plan is carried out, 15 min 0 s for another run by watch and with --shard
  30 s for AWS's reply, three times (AWS_MAX_ATTEMPTS)
  60 s for ECR to show what was created, 60 s for S3 to show a new bucket, 2 min 0 s for S3 to return an object that it lists
  30 s for ECR's signature of a runtime
  12 s for all that doctor looks at
";
        assert!(text.contains(waits), "{text}");
        assert_eq!(shown(&["xtask".into(), "help".into()]), None);
    }

    #[test]
    fn without_arguments_five_commands_are_shown_in_80_columns() {
        let text = shown(&["xtask".into()]).unwrap();
        assert_eq!(text.matches("  cargo xtask ").count(), 5, "{text}");
        let tree = Cli::command();
        assert!(FIRST.iter().all(|(name, _)| tree.find_subcommand(name).is_some()));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
