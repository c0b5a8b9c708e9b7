//! The command tree, and the Makefile's `KEY=VALUE` arguments on top of it.

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::config::values::upstream_option;
use crate::error::EXIT_CODES;

/// Puts every container image an HTC-Grid needs into your own Amazon ECR.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(after_long_help = concat!(
    "The Makefile's arguments keep working: `make transfer-images TAG=x REGION=y` is\n",
    "`cargo xtask transfer-images TAG=x REGION=y`.\n\n",
    "Exit codes: 0 done, 1 unexpected, 2 usage, 3 bad configuration, 4 missing tool, 5 credentials, 6 refused,\n",
    "7 upstream, 8 registry, 9 terraform, 10 docker, 130 interrupted."
))]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results reach stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The grid's name [TAG=..., environment TAG; default: mainline]
    #[arg(long, global = true, value_name = "TAG")]
    pub tag: Option<String>,
    /// The AWS region [REGION=..., environment REGION or HTCGRID_REGION, AWS profile; default: eu-west-1]
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// The bucket of the terraform state [S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME=..., or the environment]
    #[arg(long, global = true, value_name = "BUCKET")]
    pub state_bucket: Option<String>,
    /// The key of the terraform state in its bucket [default: .terraform/terraform.tfstate]
    #[arg(long, global = true, value_name = "KEY")]
    pub state_key: Option<String>,
    /// Seconds to wait for somebody else's lock on the terraform state
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 0)]
    pub lock_timeout: u64,
    /// The AWS profile
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Stop before the first write unless the credentials belong to this AWS account
    #[arg(long, global = true, value_name = "ID")]
    pub expect_account: Option<String>,
    /// Use the AWS that is emulated on this machine
    #[arg(long, global = true)]
    pub local: bool,
    /// Where the emulated AWS keeps its data [default: target/local]
    #[arg(long, global = true, value_name = "DIR")]
    pub local_dir: Option<std::path::PathBuf>,
    /// Use this OCI registry in the place of the account's ECR; terraform and AWS are left out
    #[arg(long, global = true, value_name = "HOST[/PREFIX]", conflicts_with = "local")]
    pub registry: Option<String>,
    /// Reach a source registry through another address, as `docker.io=https://mirror.example/hub`
    #[arg(long, global = true, value_name = "HOST=URL", value_parser = upstream_option)]
    pub upstream: Vec<(String, String)>,
    /// The list of what the grid needs [default: deployment/image_repository/images.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub images: Option<std::path::PathBuf>,
    /// The container client: docker, podman, finch or nerdctl [default: the first one in PATH]
    #[arg(long, global = true, value_name = "NAME")]
    pub container_cli: Option<String>,
    /// What stdout carries
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
    /// Show every step, and the programs' own words
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    EcrLogin(commands::login::EcrLogin),
    PublicEcrLogin(commands::login::PublicEcrLogin),
    DockerRegistryLogin(commands::login::DockerRegistryLogin),
    InitImages(commands::init::InitImages),
    TransferImages(commands::transfer::TransferImages),
    AutoTransferImages(commands::transfer::AutoTransferImages),
    RebuildRuntimes(commands::rebuild::RebuildRuntimes),
    ListImages(commands::list::ListImages),
    Lock(commands::lock::Lock),
    ImportConfig(commands::import::ImportConfig),
    Local(commands::local::Local),
    DestroyImages(commands::destroy::DestroyImages),
    AutoDestroyImages(commands::destroy::AutoDestroyImages),
    Prune(commands::prune::Prune),
    ResetImagesDeployment(commands::reset::ResetImagesDeployment),
    Doctor(commands::doctor::Doctor),
    Demo(commands::demo::Demo),
    Test(commands::test::Test),
    Bench(commands::bench::Bench),
}

/// The Makefile's variables and the flags that they stand for.
const KEYS: [(&str, &str); 5] = [
    ("TAG", "--tag"),
    ("REGION", "--region"),
    ("HTCGRID_REGION", "--region"),
    ("REBUILD_RUNTIMES", "--rebuild-runtimes"),
    ("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME", "--state-bucket"),
];

/// Turns the Makefile's `KEY=VALUE` arguments into flags; a flag given as well wins.
///
/// # Errors
/// An unknown KEY (the text names the known ones), or a KEY without a value.
pub fn translate(args: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    let args: Vec<String> = args.into_iter().collect();
    let mut translated = Vec::with_capacity(args.len());
    for (index, arg) in args.iter().enumerate() {
        // The one flag whose separate value may look like KEY=VALUE.
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
                continue; // As for make: empty means no.
            }
            return Err(format!("{key}= is empty: is the shell variable set? leave it out for the default"));
        }
        let flag_given =
            |a: &String| a == flag || a.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='));
        // `REGION=` wins over `HTCGRID_REGION=`, which stands in for it.
        let outranked = key == "HTCGRID_REGION" && args.iter().any(|a| a.starts_with("REGION="));
        if !outranked && !args.iter().any(flag_given) {
            translated.push(format!("{flag}={value}"));
        }
    }
    Ok(translated)
}

fn is_key(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// `true`, `false` and what people write for them in a Makefile's variable.
///
/// # Errors
/// The text is neither.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_tree_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        use clap::CommandFactory as _;
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
    fn a_flag_wins_over_a_key() {
        assert_eq!(
            translate(words("xtask init-images TAG=x --tag y")).unwrap(),
            words("xtask init-images --tag y")
        );
        let both = translate(words("xtask init-images HTCGRID_REGION=a REGION=b")).unwrap();
        assert_eq!(both, words("xtask init-images --region=b"));
    }

    #[test]
    fn the_value_of_a_flag_is_left_alone() {
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
