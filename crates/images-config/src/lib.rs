//! Reads and validates images.toml and images.lock: the grid's images and runtimes, and their digests.
//!
//! # The keys of images.toml
//! The file in deployment/image_repository/ has an example of every key; this is the reference.
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `schema_version` | 1 | the version of the format; later versions are refused with the reason |
//! | `account` | "123456789012" | the only account to write to; with another one a command stops before the first write |
//! | `platforms` | list, default `["linux/amd64"]` | for images and runtimes that name none |
//! | `attestations` | true or false, default true | an SBOM and a provenance for each built runtime ([docs/attestations.md](../../../docs/attestations.md)) |
//! | `prime` | list of `prefix/name:tag` | pulled through ECR's cache by transfer-images |
//! | `min_age` | `"3d"`, or a table of `"source/*" = "3d"` | how long a digest must be known before it is locked, copied or built upon ([docs/min-age.md](../../../docs/min-age.md)) |
//! | `[images]` | `"repository[:tag]" = "source"` or `{ source, platforms, artifacts }` | images to copy; the default tag is the source's; `platforms` may be `"all"`; `artifacts` also copies signatures |
//! | `[runtimes]` | `tag = "base"` or `{ base, entry_point, platforms, enabled, build_args, epoch, dockerfile, context, target, base_argument, entry_point_argument }` | runtimes to build into the repository `lambda` ([docs/dockerfiles.md](../../../docs/dockerfiles.md)) |
//! | `[pull_through]` | `prefix = "registry"` or `{ upstream, credential_arn, custom_role_arn, upstream_repository_prefix }` | ECR's pull-through cache rules |
//! | `[creation_template]` | `role_arn` | the role with which ECR gives the grid's key, `keep_builds` and tags to the repositories that it creates for the cache |
//! | `[repositories]` | `extra`, `scan_on_push`, `force_delete`, `protect_build_tags`, `keep_builds`, `pull_accounts` | repositories that other parts of HTC-Grid push to, and options for all |
//! | `[kms]` | `deletion_window`, `admin_roles` | the key of the repositories |
//! | `[registry]` | `replicate_to`, `blob_mounting`, `sign_runtimes` | settings of the whole registry; without a value they stay unchanged |
//! | `[upstream."host"]` | `url`, `counts_pulls`, `blob_hosts` | the address at which a source registry is reached |
//! | `[trust]` | `"source/*" = { signed_by = { key } }`, `{ signed_by = { identity, issuer, root } }` or `{ unsigned = true }` | the signature that an image or base must have ([docs/trust.md](../../../docs/trust.md)) |
//! | `[tags]` | `name = "value"` | tags on everything that terraform creates |
//!
//! Unknown keys are errors, and all errors are reported at once.

pub mod atomic;
pub mod cache;
pub mod cached_registries;
pub mod import;
pub mod lock;
mod manifests;
mod min_age;
mod names;
mod parse;
mod pattern;
pub mod problem;
mod reader;
mod redact_logins;
mod sources;
pub mod support;
pub mod tfvars;
pub mod timings;
mod trusted;
pub mod values;
pub mod versions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use registry::{Platform, Reference};

pub use min_age::MinAge;
pub use problem::Problems;
pub use redact_logins::without_logins;
pub use registry::mirror::Platforms;
pub use sources::{Sources, top_of};
pub use trusted::Trusted;

/// The newest format of images.toml and images.lock that this program reads, and the one that it writes.
pub const SCHEMA_VERSION: u64 = 1;

/// The repository of the Lambda runtimes.
pub const RUNTIMES_REPOSITORY: &str = "lambda";

/// The entry point of a runtime that sets none.
pub const DEFAULT_ENTRY_POINT: &str = "lambda_entry_point.sh";

/// The content of images.toml.
#[derive(Clone, Debug)]
pub struct Config {
    /// The only account to write to.
    pub account: Option<String>,
    /// Images to copy, sorted by destination.
    pub images: Vec<Image>,
    /// Every repository that the grid needs, of images, runtimes and the extra ones; sorted, without duplicates.
    pub repositories: Vec<String>,
    /// Pull-through cache rules, by prefix.
    pub pull_through: Vec<PullThrough>,
    /// The role with which ECR applies the grid's key and tags to the repositories that it creates for the cache.
    pub creation_role: Option<String>,
    /// Lambda runtimes in the order of the file, including disabled ones.
    pub runtimes: Vec<Runtime>,
    /// Whether built runtimes get an SBOM and a provenance.
    pub attestations: bool,
    /// Images to pull through the cache before they are used.
    pub prime: Vec<Prime>,
    /// The addresses of registries: host to URL, without a slash at the end.
    pub upstreams: BTreeMap<String, String>,
    /// Other settings of these addresses.
    pub mirrors: BTreeMap<String, Mirror>,
    /// The trusted signers, by source.
    pub trust: Vec<Trusted>,
    /// How long a digest must be known before it is used.
    pub min_ages: Vec<MinAge>,
    /// Options for all repositories.
    pub options: Repositories,
    /// The key that encrypts the repositories.
    pub kms: Kms,
    /// Settings of the whole registry.
    pub registry: RegistrySettings,
    /// Tags on everything that terraform creates.
    pub tags: BTreeMap<String, String>,
}

/// The settings of a mirror, besides its URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Whether its `RateLimit-*` headers are Docker Hub's own.
    pub counts_pulls: bool,
    /// Hosts that may send its blobs over plain http.
    pub blob_hosts: Vec<String>,
}

/// An image to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its source, with a tag or a digest.
    pub source: Reference,
    /// Its repository at the target.
    pub repository: String,
    /// Its tag at the target.
    pub tag: String,
    /// The platforms to copy.
    pub platforms: Platforms,
    /// Whether to copy its signatures and other referrers.
    pub artifacts: bool,
    /// Its line in images.toml.
    pub line: usize,
}

/// A Lambda runtime to build into [`RUNTIMES_REPOSITORY`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name, which is also its tag.
    pub name: String,
    /// Its base image, with a tag or a digest.
    pub base: Reference,
    /// The build argument for the base. `None` if the Dockerfile names its base itself.
    pub base_argument: Option<String>,
    /// Its entry point, if the Dockerfile takes one.
    pub entry_point: Option<EntryPoint>,
    /// The build context.
    pub context: PathBuf,
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// The stage to build. `None` for the last one.
    pub target: Option<String>,
    /// The platforms to build for; never empty.
    pub platforms: Vec<Platform>,
    /// Whether to build it.
    pub enabled: bool,
    /// Additional build arguments.
    pub build_args: BTreeMap<String, String>,
    /// A text. Changing it causes a new build.
    pub epoch: Option<String>,
    /// Its line in images.toml.
    pub line: usize,
}

/// An entry point in a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// Its file in the context.
    pub file: String,
    /// The build argument for the file's name.
    pub argument: String,
}

/// A pull-through cache rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullThrough {
    /// The prefix of the cache's repositories.
    pub prefix: String,
    /// The registry, by ECR's name.
    pub upstream: String,
    /// The secret with the login, for registries that require one.
    pub credential_arn: Option<String>,
    /// The role for reading another account's ECR.
    pub custom_role_arn: Option<String>,
    /// The prefix of the repository names in the registry.
    pub upstream_repository_prefix: Option<String>,
    /// Its line in images.toml.
    pub line: usize,
}

impl PullThrough {
    /// The registry as in image names: for ECR's `registry-1.docker.io` this is `docker.io`.
    pub fn registry(&self) -> &str {
        if self.upstream == "registry-1.docker.io" { "docker.io" } else { &self.upstream }
    }

    /// An image's repository name below the prefix. `None` if the rule does not lead there.
    pub fn below<'a>(&self, image: &'a Reference) -> Option<&'a str> {
        let same = |names: [&str; 2]| names.contains(&image.registry()) && names.contains(&self.registry());
        if image.registry() != self.registry() && !same(["public.ecr.aws", "ecr-public.aws.com"]) {
            return None;
        }
        match &self.upstream_repository_prefix {
            Some(part) => image.repository().strip_prefix(part.as_str())?.strip_prefix('/'),
            None => Some(image.repository()),
        }
    }
}

/// An image to pull through the cache before it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prime {
    /// The repository of the cache, prefix included.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The image in the upstream registry.
    pub upstream: Reference,
}

/// Options for all repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repositories {
    /// Whether ECR scans pushed images.
    pub scan_on_push: bool,
    /// Whether a repository with images can be deleted.
    pub force_delete: bool,
    /// Whether ECR refuses to move the tags of runtime builds.
    pub protect_build_tags: bool,
    /// How many builds of each runtime ECR keeps. `None` for all.
    pub keep_builds: Option<u32>,
    /// Other accounts that may pull.
    pub pull_accounts: Vec<String>,
}

impl Default for Repositories {
    fn default() -> Self {
        Self {
            scan_on_push: true,
            force_delete: true,
            protect_build_tags: false,
            keep_builds: None,
            pull_accounts: Vec::new(),
        }
    }
}

/// The key that encrypts the repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kms {
    /// Days between the key's scheduled deletion and its final deletion.
    pub deletion_window: u8,
    /// Names of IAM roles that administer it, besides those that the account's IAM policies allow.
    pub admin_roles: Vec<String>,
}

impl Default for Kms {
    fn default() -> Self {
        Self { deletion_window: 7, admin_roles: Vec::new() }
    }
}

/// Settings shared by everyone in the account. Those without a value stay unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Regions that ECR copies pushed images to.
    pub replicate_to: Vec<String>,
    /// Their line in images.toml.
    pub replicate_line: usize,
    /// Whether layers are shared between repositories.
    pub blob_mounting: Option<bool>,
    /// The profile with which ECR signs images pushed to [`RUNTIMES_REPOSITORY`].
    pub sign_runtimes: Option<SigningProfile>,
}

/// A signing profile of AWS Signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningProfile {
    /// Its ARN.
    pub arn: String,
    /// Its line in images.toml.
    pub line: usize,
}

impl SigningProfile {
    /// Its partition and region.
    pub fn place(&self) -> (&str, &str) {
        let mut fields = self.arn.split(':').skip(1);
        (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default())
    }
}

impl Config {
    /// Reads and checks images.toml and the files of `sources` that it names. `shown` is its name in errors.
    ///
    /// # Errors
    /// The file cannot be read, or all its errors.
    pub fn load(path: &Path, shown: &Path, sources: &Sources) -> Result<Self, Problems> {
        let text = read_text(path, shown)?;
        Self::parse(&text, shown, Some(sources))
    }

    /// Checks the text of images.toml. Without `sources` the files that it names are not read.
    ///
    /// # Errors
    /// All its errors.
    pub fn parse(text: &str, shown: &Path, sources: Option<&Sources>) -> Result<Self, Problems> {
        let sink = problem::Sink::new(text);
        let config = reader::document(text, &sink)
            .and_then(|document| parse::config(reader::Fields::root(&document, &sink), sources));
        sink.finish(shown, config)
    }

    /// The enabled runtimes.
    pub fn enabled_runtimes(&self) -> impl Iterator<Item = &Runtime> {
        self.runtimes.iter().filter(|runtime| runtime.enabled)
    }
}

/// The default platform of images and runtimes.
pub fn default_platform() -> Platform {
    Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
}

fn read_text(path: &Path, shown: &Path) -> Result<String, Problems> {
    let bytes =
        std::fs::read(path).map_err(|why| Problems::of_file(shown, format!("cannot be read: {why}")))?;
    String::from_utf8(bytes).map_err(|why| {
        Problems::of_file(shown, format!("is not UTF-8 text at byte {}", why.utf8_error().valid_up_to()))
    })
}

#[cfg(test)]
mod check_table;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
