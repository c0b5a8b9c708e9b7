//! What the command line, the environment and the defaults come to; where this run's files are.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::aws::state::STATE_KEY;
use crate::cli::Global;
use crate::error::{Exit, FailWith as _, failure};

/// The grid's name where nobody says another.
pub const DEFAULT_TAG: &str = "mainline";
/// The region where neither the user nor the AWS profile says another.
pub const DEFAULT_REGION: &str = "eu-west-1";

/// The options of a run, resolved: flag, then KEY=VALUE (which became a flag), then environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The grid's name.
    pub tag: String,
    /// The region that the user chose; the AWS profile's otherwise.
    pub region: Option<String>,
    /// The bucket of the terraform state, where it was named.
    pub state_bucket: Option<String>,
    /// The key of the terraform state in its bucket.
    pub state_key: String,
    /// How long to wait for somebody else's lock on the state.
    pub lock_timeout: std::time::Duration,
    /// The AWS profile.
    pub profile: Option<String>,
    /// The account that the credentials must belong to.
    pub expect_account: Option<String>,
    /// Whether AWS is emulated.
    pub local: bool,
    /// Another registry in the place of ECR.
    pub registry: Option<String>,
    /// Source registries and where to reach them.
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
        // An empty variable is as good as none: `export TAG=` is how shells forget.
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let tag = global.tag.clone().or_else(|| env("TAG")).unwrap_or_else(|| DEFAULT_TAG.into());
        check_tag(&tag)?;
        let upstreams = global.upstream.clone();
        Ok(Self {
            tag,
            region: global.region.clone().or_else(|| env("REGION")).or_else(|| env("HTCGRID_REGION")),
            state_bucket: global.state_bucket.clone().or_else(|| env("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME")),
            state_key: global.state_key.clone().unwrap_or_else(|| STATE_KEY.into()),
            lock_timeout: std::time::Duration::from_secs(global.lock_timeout),
            profile: global.profile.clone(),
            expect_account: global.expect_account.clone(),
            local: global.local,
            registry: global.registry.clone(),
            upstreams,
            container_cli: global.container_cli.clone(),
        })
    }
}

/// The tag becomes part of a KMS alias, of ECR tag keys and of file names.
fn check_tag(tag: &str) -> anyhow::Result<()> {
    let sound = (1..=100).contains(&tag.len())
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if sound {
        return Ok(());
    }
    Err(failure(Exit::Usage, format!("TAG {tag:?} is not 1 to 100 letters, digits, `-` or `_`")))
}

/// Where this project's files are.
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    images: PathBuf,
    target: PathBuf,
    local: PathBuf,
}

impl Paths {
    /// Finds the project: where cargo says the xtask stands, else the nearest parent of the working directory.
    ///
    /// # Errors
    /// The working directory is not inside the project.
    pub fn find(global: &Global) -> anyhow::Result<Self> {
        let cwd = std::env::current_dir().context("could not read the working directory")?;
        let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR")
            .and_then(|dir| Path::new(&dir).parent().map(Path::to_owned));
        let root = by_cargo
            .into_iter()
            .chain(cwd.ancestors().map(Path::to_owned))
            .find(|dir| dir.join("deployment/image_repository").is_dir() && dir.join("xtask").is_dir())
            .context("no deployment/image_repository here or above")
            .hint(Exit::Usage, "run this inside the project")?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        let images = match &global.images {
            Some(file) => cwd.join(file),
            None => root.join("deployment/image_repository/images.toml"),
        };
        let local = global.local_dir.as_ref().map_or_else(|| target.join("local"), |dir| cwd.join(dir));
        Ok(Self { root, images, target, local })
    }

    /// The project's top.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// images.toml.
    pub fn images(&self) -> &Path {
        &self.images
    }
    /// images.lock, beside images.toml.
    pub fn lock(&self) -> PathBuf {
        self.images.with_extension("lock")
    }
    /// The terraform module.
    pub fn module(&self) -> PathBuf {
        self.root.join("deployment/image_repository/terraform")
    }
    /// cargo's target directory.
    pub fn target(&self) -> &Path {
        &self.target
    }
    /// What this tool keeps between runs and may lose.
    pub fn cache(&self) -> PathBuf {
        self.target.join("xtask")
    }
    /// The emulated AWS and all that belongs to it.
    pub fn local(&self) -> &Path {
        &self.local
    }
    /// `path` from the project's top where it is inside: for errors, which never show where the project stands.
    pub fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }
    /// `path` as people read it: from the project's top where it is inside.
    pub fn show<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn resolve(line: &str, env: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let cli = Cli::try_parse_from(line.split_whitespace())?;
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
    fn names_that_aws_would_refuse_are_refused_first() {
        assert!(resolve("xtask init-images --tag a/b", &[]).unwrap_err().to_string().contains("\"a/b\""));
    }
}
