//! Resolves the settings from the command line, the environment and the defaults.

use std::path::PathBuf;

use aws::state::STATE_KEY;
use clap::Args;
use failure::{FailWith as _, Kind, failure};
use images_config::values::upstream_option;

use crate::ui::{Color, Format, OutputOptions};

/// The default name of the grid.
pub const DEFAULT_TAG: &str = "mainline";

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
    /// Seconds to wait for another run on this grid, and for a lock on the terraform state
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 0)]
    pub lock_timeout: u64,
    /// The AWS profile
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Stop before the first write if the credentials belong to another AWS account
    #[arg(long, global = true, value_name = "ID")]
    pub expect_account: Option<String>,
    /// Use the AWS that is emulated on this machine
    #[arg(long, global = true)]
    pub local: bool,
    /// Where the emulated AWS keeps its data [default: target/local]
    #[arg(long, global = true, value_name = "DIR")]
    pub local_dir: Option<PathBuf>,
    /// Use this OCI registry instead of the account's ECR; terraform and AWS are not used
    #[arg(long, global = true, value_name = "HOST[/PREFIX]", conflicts_with = "local")]
    pub registry: Option<String>,
    /// Reach a source registry through another address, as `docker.io=https://mirror.example/hub`
    #[arg(long, global = true, value_name = "HOST=URL", value_parser = upstream_option)]
    pub upstream: Vec<(String, String)>,
    /// The list of what the grid needs [default: deployment/image_repository/images.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub images: Option<PathBuf>,
    /// The container client: docker, podman, finch or nerdctl [default: the first one in PATH]
    #[arg(long, global = true, value_name = "NAME")]
    pub container_cli: Option<String>,
    /// What stdout carries
    #[arg(long, global = true, value_enum, default_value_t)]
    pub format: Format,
    /// Show every step, and the output of the programs that are run
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Show only warnings, errors, results and questions
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// When to use colours; NO_COLOR, CLICOLOR and CLICOLOR_FORCE are read too
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Color,
}

impl Global {
    /// How much to print, and in which format.
    pub fn words(&self) -> OutputOptions {
        OutputOptions { format: self.format, verbose: self.verbose, quiet: self.quiet, color: self.color }
    }
}

/// The resolved options of a run: flag, then KEY=VALUE (which became a flag), then environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The grid's name.
    pub tag: String,
    /// The region chosen by the user. `None` for the AWS profile's.
    pub region: Option<String>,
    /// The bucket of the terraform state, if named.
    pub state_bucket: Option<String>,
    /// The key of the terraform state in its bucket.
    pub state_key: String,
    /// How long to wait for a lock or lease that another run holds.
    pub lock_timeout: std::time::Duration,
    /// The AWS profile.
    pub profile: Option<String>,
    /// The account that the credentials must belong to.
    pub expect_account: Option<String>,
    /// Whether AWS is emulated.
    pub local: bool,
    /// The directory of the emulated AWS's data, as typed.
    pub local_dir: Option<PathBuf>,
    /// The path of images.toml, as typed.
    pub images: Option<PathBuf>,
    /// Another registry instead of ECR.
    pub registry: Option<String>,
    /// Source registries and their addresses.
    pub upstreams: Vec<(String, String)>,
    /// The container client.
    pub container_cli: Option<String>,
}

impl Settings {
    /// Resolves the options, with `env` for the environment.
    ///
    /// # Errors
    /// A name that AWS would refuse.
    pub fn resolve(global: &Global, env: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        // Empty variables count as not set, because some shells clear a variable with `export TAG=`.
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let tag = global.tag.clone().or_else(|| env("TAG")).unwrap_or_else(|| DEFAULT_TAG.into());
        check_tag(&tag)?;
        let upstreams = global.upstream.clone();
        let region = global.region.clone().or_else(|| env("REGION")).or_else(|| env("HTCGRID_REGION"));
        region.as_deref().map_or(Ok(()), check_region)?;
        let state_bucket =
            global.state_bucket.clone().or_else(|| env("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME"));
        state_bucket.as_deref().map_or(Ok(()), check_bucket)?;
        let state_key = global.state_key.clone().unwrap_or_else(|| STATE_KEY.into());
        check_key(&state_key)?;
        Ok(Self {
            tag,
            region,
            state_bucket,
            state_key,
            lock_timeout: std::time::Duration::from_secs(global.lock_timeout),
            profile: global.profile.clone(),
            expect_account: global.expect_account.clone(),
            local: global.local,
            local_dir: global.local_dir.clone(),
            images: global.images.clone(),
            registry: global.registry.clone(),
            upstreams,
            container_cli: global.container_cli.clone(),
        })
    }

    /// Arguments that tell the emulated AWS the addresses of the sources, so that its pull-through cache uses the same ones.
    pub fn upstream_arguments(&self) -> Vec<String> {
        let pairs = self.upstreams.iter();
        pairs.flat_map(|(host, url)| ["--upstream".to_owned(), format!("{host}={url}")]).collect()
    }
}

/// The tag becomes a part of a KMS alias, of ECR tag keys and of file names.
fn check_tag(tag: &str) -> anyhow::Result<()> {
    let sound = (1..=100).contains(&tag.len())
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if sound {
        return Ok(());
    }
    Err(failure(Kind::Usage, format!("TAG {tag:?} is not 1 to 100 letters, digits, `-` or `_`")))
}

/// Checks a region's name by the pattern of all partitions
/// (<https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json>, `regionRegex`), so that new regions work too.
fn check_region(region: &str) -> anyhow::Result<()> {
    let parts: Vec<&str> = region.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    if let [names @ .., number] = parts.as_slice()
        && names.len() >= 2
        && names.iter().all(is_word)
    {
        if !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) {
            return Ok(());
        }
        let zone = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
        if zone != *number && !zone.is_empty() && zone.chars().all(|c| c.is_ascii_digit()) {
            let of = region.trim_end_matches(|c: char| c.is_ascii_lowercase());
            return Err(failure(
                Kind::Usage,
                format!("REGION {region:?} is an availability zone: its region is {of}"),
            ));
        }
    }
    Err(failure(Kind::Usage, format!("REGION {region:?} is not a region such as eu-west-1")))
}

/// A bucket's name, not its address.
fn check_bucket(bucket: &str) -> anyhow::Result<()> {
    if !bucket.contains([':', '/']) {
        return Ok(());
    }
    let rest = bucket.strip_prefix("s3://").or_else(|| bucket.rsplit_once(":::").map(|(_, rest)| rest));
    let name = rest.and_then(|rest| rest.split('/').next()).filter(|name| !name.is_empty());
    let message = format!("the state bucket {bucket:?} is an address: give only the name of the bucket");
    let error = Err(failure(Kind::Usage, message));
    match name {
        Some(name) => error.hint(Kind::Usage, format!("use {name}; --state-key names the object in it")),
        None => error.kind(Kind::Usage),
    }
}

/// The rules of terraform's backend (<https://developer.hashicorp.com/terraform/language/backend/s3#key>), checked early.
fn check_key(key: &str) -> anyhow::Result<()> {
    if key.is_empty() {
        let error = Err(failure(Kind::Usage, "--state-key is empty"));
        return error.hint(Kind::Usage, format!("leave it out for {STATE_KEY}: is the shell variable set?"));
    }
    if key.starts_with('/') || key.ends_with('/') {
        let message =
            format!("--state-key {key:?} is not a key for a state: it must not begin or end with `/`");
        return Err(failure(Kind::Usage, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// A command line with any command.
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        global: Global,
        _command: String,
    }

    fn resolve(line: &str, env: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let cli = Line::try_parse_from(line.split_whitespace())?;
        let lookup =
            |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(&cli.global, lookup)
    }

    #[test]
    fn flag_then_environment_then_default() {
        let none = resolve("xtask init-images", &[]).unwrap();
        assert_eq!((none.tag.as_str(), none.region), ("mainline", None));
        let env = [("TAG", "prod"), ("HTCGRID_REGION", "eu-west-3")];
        let from_env = resolve("xtask init-images", &env).unwrap();
        assert_eq!((from_env.tag.as_str(), from_env.region.as_deref()), ("prod", Some("eu-west-3")));
        let both = resolve(
            "xtask init-images --tag dev",
            &[("TAG", "prod"), ("REGION", "us-east-1"), ("HTCGRID_REGION", "x")],
        );
        let both = both.unwrap();
        assert_eq!((both.tag.as_str(), both.region.as_deref()), ("dev", Some("us-east-1")));
        assert_eq!(resolve("xtask init-images", &[("TAG", "")]).unwrap().tag, "mainline");
    }

    #[test]
    fn regions_buckets_and_keys_are_validated() {
        for region in
            ["eu-west-1", "us-gov-west-1", "cn-north-1", "us-isob-east-1", "eusc-de-east-1", "xx-new-12"]
        {
            assert_eq!(
                resolve(&format!("xtask init-images --region {region}"), &[]).unwrap().region.as_deref(),
                Some(region)
            );
        }
        for (line, words) in [
            ("--region eu-west-1a", "\"eu-west-1a\" is an availability zone: its region is eu-west-1"),
            ("--region Ireland", "is not a region such as"),
            ("--region eu-west", "is not a region such as"),
            ("--region eu-west-1.", "is not a region such as"),
            ("--state-bucket s3://grid/x", "\"s3://grid/x\" is an address"),
            ("--state-bucket arn:aws:s3:::grid", "is an address"),
            ("--state-key /x", "must not begin or end"),
            ("--state-key x/", "must not begin or end"),
        ] {
            let error = resolve(&format!("xtask init-images {line}"), &[]).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
        let hint =
            failure::render(&resolve("xtask init-images --state-bucket arn:aws:s3:::grid", &[]).unwrap_err());
        assert!(hint.contains("hint: use grid;"), "{hint}");
        assert!(resolve("xtask init-images", &[("REGION", "eu-west-1a")]).is_err());
    }

    #[test]
    fn names_that_aws_would_refuse_are_refused_before() {
        assert!(resolve("xtask init-images --tag a/b", &[]).unwrap_err().to_string().contains("\"a/b\""));
    }
}
