//! The command line: the command tree, and the Makefile's `KEY=VALUE` arguments.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum as _};
use failure::{Kind, ending, failure};

use crate::commands::Command;
use crate::exit_codes;
use crate::settings::Global;
use crate::ui::Format;

/// Puts every container image an HTC-Grid needs into your own Amazon ECR.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100, after_help = exit_codes::help())]
#[command(after_long_help = format!(
    "The Makefile's arguments keep working: `make transfer-images TAG=x REGION=y` is\n\
     `cargo xtask transfer-images TAG=x REGION=y`.\n\n{}",
    exit_codes::help()
))]
pub struct Cli {
    /// The options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
    /// The command's name.
    #[arg(skip)]
    pub name: String,
}

/// The Makefile's variables and the flags that they replace.
pub const KEYS: [(&str, &str); 5] = [
    ("TAG", "--tag"),
    ("REGION", "--region"),
    ("HTCGRID_REGION", "--region"),
    ("REBUILD_RUNTIMES", "--rebuild-runtimes"),
    ("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME", "--state-bucket"),
];

/// Turns the Makefile's `KEY=VALUE` arguments into flags.
///
/// # Errors
/// An unknown KEY (the message lists the known ones), a KEY without a value, or two different values for one option.
pub fn translate(args: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    let args: Vec<String> = args.into_iter().collect();
    let mut translated = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        // The only flag whose separate value may look like KEY=VALUE.
        let belongs_to_flag = index > 0 && args[index - 1] == "--upstream";
        let Some((key, value)) = arg.split_once('=').filter(|(key, _)| !belongs_to_flag && is_key(key))
        else {
            translated.push(arg.clone());
            continue;
        };
        let Some((_, flag)) = KEYS.iter().find(|(known, _)| *known == key) else {
            let known = KEYS.map(|(known, _)| known).join(", ");
            return Err(format!("unknown variable {key}; known are {known}"));
        };
        if value.is_empty() {
            if key == "REBUILD_RUNTIMES" {
                continue; // As in make, empty means no.
            }
            return Err(format!("{key}= is empty: is the shell variable set? leave it out for the default"));
        }
        match values(&args, flag).find(|(_, other)| *other != value) {
            Some((other, _)) => {
                return Err(format!("{arg} and {other} contradict each other: give one of them"));
            }
            // The same value twice would be an error in clap.
            None if translated.iter().any(|before| given(before, flag)) => {}
            None if args.iter().any(|other| given(other, flag)) => {}
            None => translated.push(format!("{flag}={value}")),
        }
    }
    Ok(translated)
}

/// All values for `flag` in the arguments, each with its argument.
fn values<'a>(args: &'a [String], flag: &'a str) -> impl Iterator<Item = (String, &'a str)> {
    let keys = KEYS.iter().filter(move |(_, stands_for)| *stands_for == flag).map(|(key, _)| *key);
    args.iter().enumerate().filter_map(move |(index, arg)| {
        if arg == flag {
            let value = args.get(index + 1)?;
            return Some((format!("{flag} {value}"), value.as_str()));
        }
        let (name, value) = arg.split_once('=')?;
        (name == flag || keys.clone().any(|key| key == name)).then(|| (arg.clone(), value))
    })
}

/// Whether `arg` is `flag`, or `flag=...`.
fn given(arg: &str, flag: &str) -> bool {
    arg.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// Commands that delete something. They are never suggested for a mistyped name.
const DESTRUCTIVE: [&str; 4] = ["destroy-images", "auto-destroy-images", "prune", "reset-images-deployment"];

/// Parses the command line for `command`.
///
/// # Errors
/// clap's message for a wrong command line, and the output of `--help` and `--version`.
pub fn parse(arguments: Vec<String>, command: clap::Command) -> Result<Cli, clap::Error> {
    read(arguments, command).map_err(|error| without_logins(with_safe_suggestions(error)))
}

/// The error of a wrong command line, for the JSON document.
pub fn usage_error(answer: &clap::Error) -> anyhow::Error {
    if answer.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return failure(Kind::Usage, "the command needs more arguments");
    }
    let text = answer.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let error = failure(Kind::Usage, first.trim_start_matches("error: "));
    let tips: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    if tips.is_empty() { error } else { ending(Kind::Usage, Some(tips.join("\n")), error) }
}

/// The `--format` in the arguments, even if other arguments are wrong: an error uses this format too.
pub fn format(arguments: &[String]) -> Format {
    let words = arguments.iter().take_while(|word| *word != "--");
    let (mut format, mut is_value) = (Format::default(), false);
    for word in words {
        let value = if is_value { Some(word.as_str()) } else { word.strip_prefix("--format=") };
        format = value.and_then(|value| Format::from_str(value, false).ok()).unwrap_or(format);
        is_value = word == "--format";
    }
    format
}

/// The command in the arguments, with its subcommand: `local up`.
pub fn named(arguments: &[String]) -> Option<String> {
    let tree = Cli::command();
    let mut words = arguments.iter().skip(1);
    let command = words.find_map(|word| tree.find_subcommand(word))?;
    let own = words.find_map(|word| command.find_subcommand(word));
    let names = std::iter::once(command).chain(own).map(clap::Command::get_name);
    Some(names.collect::<Vec<_>>().join(" "))
}

fn read(arguments: Vec<String>, mut command: clap::Command) -> Result<Cli, clap::Error> {
    let matches = command.try_get_matches_from_mut(arguments)?;
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Cli { name, ..cli })
}

/// Removes logins from values in the error.
fn without_logins(mut error: clap::Error) -> clap::Error {
    let texts = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(text) => Some((kind, images_config::without_logins(text))),
        _ => None,
    });
    for (kind, text) in texts.collect::<Vec<_>>() {
        error.insert(kind, ContextValue::String(text));
    }
    error
}

/// Removes destructive commands from clap's suggestions for a mistyped one, and puts the most similar first. If the most similar
/// one is destructive, it was probably intended, so nothing is suggested.
fn with_safe_suggestions(mut error: clap::Error) -> clap::Error {
    let suggested = match error.remove(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::Strings(names)) => names,
        Some(ContextValue::String(name)) => vec![name],
        _ => return error,
    };
    let is_safe = |name: &String| !DESTRUCTIVE.contains(&name.as_str());
    // clap sorts by similarity, the most similar last.
    if suggested.last().is_some_and(is_safe) {
        let safe = suggested.into_iter().rev().filter(is_safe).collect();
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(safe));
    } else {
        // clap would show an empty list of suggestions as an empty line.
        error.remove(ContextKind::Suggested);
    }
    error
}

fn is_key(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
        for name in crate::program::OF_THE_WORKSPACE.iter().chain(&DESTRUCTIVE) {
            assert!(Cli::command().find_subcommand(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_login_in_a_refused_value_is_not_shown() {
        for value in
            ["docker.io=http://me:hunter2@m.example", "https://me:hunter2@m.example", "x=me:hunter2@m"]
        {
            let words = words(&format!("xtask transfer-images --upstream {value}"));
            let error = parse(words, Cli::command()).unwrap_err();
            let text = format!("{error} {:?}", usage_error(&error));
            assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            assert!(command.get_about().is_some(), "{} has no text", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("cargo xtask"), "{} has no example", command.get_name());
        }
    }

    #[test]
    fn makefile_arguments_become_flags() {
        let translated =
            translate(words("xtask transfer-images TAG=x REGION=eu-west-2 REBUILD_RUNTIMES=true")).unwrap();
        assert_eq!(
            translated,
            words("xtask transfer-images --tag=x --region=eu-west-2 --rebuild-runtimes=true")
        );
    }

    #[test]
    fn one_option_has_one_value() {
        for line in [
            "TAG=x --tag y",
            "--tag=y TAG=x",
            "TAG=x TAG=y",
            "HTCGRID_REGION=a REGION=b",
            "REGION=b --region a",
        ] {
            let error = translate(words(&format!("xtask init-images {line}"))).unwrap_err();
            assert!(error.ends_with("contradict each other: give one of them"), "{line}: {error}");
        }
        let error = translate(words("xtask init-images TAG=x --tag y")).unwrap_err();
        assert!(error.starts_with("TAG=x and --tag y "), "{error}");
        for (line, flags) in [
            ("TAG=x --tag x", "--tag x"),
            ("TAG=x TAG=x", "--tag=x"),
            ("HTCGRID_REGION=a REGION=a", "--region=a"),
        ] {
            let translated = translate(words(&format!("xtask init-images {line}"))).unwrap();
            assert_eq!(translated, words(&format!("xtask init-images {flags}")), "{line}");
        }
    }

    #[test]
    fn a_mistyped_command_suggests_nothing_that_deletes() {
        for (typed, suggested) in [
            ("transfer-image", Some("transfer-images")),
            ("destroy-image", None),
            ("auto-destroy", None),
            ("prun", None),
            ("reset-images", None),
            ("list-image", Some("list-images")),
        ] {
            let error = Cli::try_parse_from(["cargo xtask", typed]).unwrap_err();
            let text = with_safe_suggestions(error).to_string();
            for name in DESTRUCTIVE {
                assert!(!text.contains(&format!("'{name}'")), "{typed}: {text}");
            }
            assert!(!text.contains("\n\n\n"), "{typed}: {text}");
            assert!(suggested.is_some() || !text.contains("tip:"), "{typed}: {text}");
            if let Some(suggested) = suggested {
                let tip = text.lines().find(|line| line.trim_start().starts_with("tip:")).unwrap_or_default();
                let first = tip.split('\'').nth(1);
                assert_eq!(first, Some(suggested), "{typed}: {text}");
            }
        }
    }

    #[test]
    fn the_format_and_the_command_of_a_wrong_line_are_known() {
        for (line, form, command) in [
            ("xtask lock --format json --bogus", Format::Json, Some("lock")),
            ("xtask --format=json local --tag x down", Format::Json, Some("local down")),
            ("xtask --format xml", Format::Text, None),
            ("xtask lok --format json", Format::Json, None),
            ("xtask bench -- --format json", Format::Text, Some("bench")),
        ] {
            assert_eq!((format(&words(line)), named(&words(line)).as_deref()), (form, command), "{line}");
        }
        let error = parse(words("xtask transfer-image"), Cli::command()).unwrap_err();
        let told = failure::error_parts(&usage_error(&error));
        assert_eq!(told.message, "unrecognized subcommand 'transfer-image'");
        assert!(told.hints[0].contains("'transfer-images'"), "{told:?}");
    }

    #[test]
    fn the_value_of_a_flag_is_not_changed() {
        let line = "xtask lock --upstream GHCR=http://127.0.0.1:1";
        assert_eq!(translate(words(line)).unwrap(), words(line));
    }

    #[test]
    fn an_unknown_or_empty_key_is_refused() {
        let error = translate(words("xtask transfer-images TAGS=x")).unwrap_err();
        assert_eq!(
            error,
            "unknown variable TAGS; known are TAG, REGION, HTCGRID_REGION, REBUILD_RUNTIMES, S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME"
        );
        assert!(translate(words("xtask init-images TAG=")).unwrap_err().contains("TAG= is empty"));
        assert_eq!(
            translate(words("xtask transfer-images REBUILD_RUNTIMES=")).unwrap(),
            words("xtask transfer-images")
        );
    }
}
