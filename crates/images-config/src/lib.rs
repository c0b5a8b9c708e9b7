//! images.toml and images.lock, parsed and then validated: what the grid runs on, and which digests those names mean.
//!
//! # The keys of images.toml
//! The file in deployment/image_repository/ shows every one of them; this is the reference.
//!
//! | key | value | meaning |
//! |---|---|---|
//! | `schema_version` | 1 | the form of the file; a later one is refused with the reason |
//! | `account` | "123456789012" | any other account stops before the first write |
//! | `platforms` | list, default `["linux/amd64"]` | for images and runtimes that name none |
//! | `attestations` | true or false, default true | an SBOM and a provenance beside each runtime that is built ([docs/attestations.md](../../../docs/attestations.md)) |
//! | `prime` | list of `prefix/name:tag` | pulled through ECR's cache by transfer-images |
//! | `min_age` | `"3d"`, or a table of `"source/*" = "3d"` | how long a digest has to be known before it is locked, copied or built upon ([docs/min-age.md](../../../docs/min-age.md)) |
//! | `[images]` | `"repository[:tag]" = "source"` or `{ source, platforms, artifacts }` | what is copied; the tag is the source's unless given; `platforms` may be `"all"`; `artifacts` brings signatures along |
//! | `[runtimes]` | `tag = "base"` or `{ base, entry_point, platforms, enabled, build_args, epoch, dockerfile, context, target, base_argument, entry_point_argument }` | what is built into the repository `lambda` ([docs/dockerfiles.md](../../../docs/dockerfiles.md)) |
//! | `[pull_through]` | `prefix = "registry"` or `{ upstream, credential_arn, custom_role_arn, upstream_repository_prefix }` | ECR's pull-through cache rules |
//! | `[creation_template]` | `role_arn` | ECR's own repositories of the cache get the grid's key, `keep_builds` and tags, by this role |
//! | `[repositories]` | `extra`, `scan_on_push`, `force_delete`, `protect_build_tags`, `keep_builds`, `pull_accounts` | repositories that other parts of HTC-Grid push to, and options for all |
//! | `[kms]` | `deletion_window`, `admin_roles` | the key of the repositories |
//! | `[registry]` | `replicate_to`, `blob_mounting`, `sign_runtimes` | settings that the whole registry shares; absent means left alone |
//! | `[upstream."host"]` | `url`, `counts_pulls`, `blob_hosts` | where a source registry is really reached |
//! | `[trust]` | `"source/*" = { signed_by = { key } }`, `{ signed_by = { identity, issuer, root } }` or `{ unsigned = true }` | whose signature an image or base has to have ([docs/trust.md](../../../docs/trust.md)) |
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

/// The newest form of images.toml and images.lock that this program reads, and the one that it writes.
pub const SCHEMA_VERSION: u64 = 1;

/// The repository of the Lambda runtimes.
pub const RUNTIMES_REPOSITORY: &str = "lambda";

/// The entry point of a runtime that names none.
pub const DEFAULT_ENTRY_POINT: &str = "lambda_entry_point.sh";

/// The whole of images.toml.
#[derive(Clone, Debug)]
pub struct Config {
    /// The one account that may be written to.
    pub account: Option<String>,
    /// What is copied, by destination.
    pub images: Vec<Image>,
    /// Every repository that the grid needs: those of images and runtimes and the extra ones; sorted, each once.
    pub repositories: Vec<String>,
    /// Pull-through cache rules, by prefix.
    pub pull_through: Vec<PullThrough>,
    /// The role by which ECR gives the grid's key and tags to the repositories that it makes for the cache.
    pub creation_role: Option<String>,
    /// Lambda runtimes in the order of the file, the switched off ones among them.
    pub runtimes: Vec<Runtime>,
    /// Whether an SBOM and a provenance go beside each runtime that is built.
    pub attestations: bool,
    /// What is pulled through the cache ahead of its use.
    pub prime: Vec<Prime>,
    /// Where a registry is really reached: host to URL, without a slash at the end.
    pub upstreams: BTreeMap<String, String>,
    /// What else is said of these mirrors.
    pub mirrors: BTreeMap<String, Mirror>,
    /// Whose signatures count.
    pub trust: Vec<Trusted>,
    /// How long a digest has to be known before it is taken.
    pub min_ages: Vec<MinAge>,
    /// Options of all repositories.
    pub options: Repositories,
    /// The key of the repositories.
    pub kms: Kms,
    /// Settings that the whole registry shares.
    pub registry: RegistrySettings,
    /// Tags on everything that terraform creates.
    pub tags: BTreeMap<String, String>,
}

/// What is said of a mirror, beside where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// Its `RateLimit-*` headers are Docker Hub's own.
    pub counts_pulls: bool,
    /// Hosts that may send its blobs by plain http.
    pub blob_hosts: Vec<String>,
}

/// An image that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Where it comes from; has a tag or a digest.
    pub source: Reference,
    /// The repository that it goes to.
    pub repository: String,
    /// The tag that it gets there.
    pub tag: String,
    /// What of it is wanted.
    pub platforms: Platforms,
    /// Whether its signatures and other referrers come along.
    pub artifacts: bool,
    /// Its line in images.toml.
    pub line: usize,
}

/// A Lambda runtime that is built into [`RUNTIMES_REPOSITORY`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name, which is its tag.
    pub name: String,
    /// What it is built from; has a tag or a digest.
    pub base: Reference,
    /// The build argument that takes the base; none where the Dockerfile names its base itself.
    pub base_argument: Option<String>,
    /// What becomes its entry point, where the Dockerfile takes one.
    pub entry_point: Option<EntryPoint>,
    /// The folder that it is built from.
    pub context: PathBuf,
    /// What it is built by.
    pub dockerfile: PathBuf,
    /// The stage that is built; the last one where none is named.
    pub target: Option<String>,
    /// What it is built for; never empty.
    pub platforms: Vec<Platform>,
    /// Whether it is built at all.
    pub enabled: bool,
    /// Build arguments beside the tool's own.
    pub build_args: BTreeMap<String, String>,
    /// A word whose change means another build.
    pub epoch: Option<String>,
    /// Its line in images.toml.
    pub line: usize,
}

/// An entry point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPoint {
    /// Its file in the context.
    pub file: String,
    /// The build argument that takes the file's name.
    pub argument: String,
}

/// A pull-through cache rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullThrough {
    /// What the repositories of the cache begin with.
    pub prefix: String,
    /// The registry, as ECR calls it.
    pub upstream: String,
    /// The secret that holds the login, for registries that want one.
    pub credential_arn: Option<String>,
    /// The role by which another account's ECR is read.
    pub custom_role_arn: Option<String>,
    /// What the names of the repositories there begin with.
    pub upstream_repository_prefix: Option<String>,
    /// Its line in images.toml.
    pub line: usize,
}

impl PullThrough {
    /// The registry as image names call it: ECR's `registry-1.docker.io` is `docker.io`.
    pub fn registry(&self) -> &str {
        if self.upstream == "registry-1.docker.io" { "docker.io" } else { &self.upstream }
    }

    /// What an image's repository is called below the prefix; none where the rule does not lead there.
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

/// An image that is pulled through the cache ahead of its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prime {
    /// The repository of the cache, prefix included.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The image behind it.
    pub upstream: Reference,
}

/// Options of all repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repositories {
    /// ECR scans what is pushed.
    pub scan_on_push: bool,
    /// A repository that holds images can be destroyed.
    pub force_delete: bool,
    /// ECR refuses to move the tag of a runtime's build.
    pub protect_build_tags: bool,
    /// How many builds of each runtime ECR keeps; all, where nothing is said.
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

/// The key that the repositories are encrypted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kms {
    /// Days between the key's destruction and the moment when it cannot be had back.
    pub deletion_window: u8,
    /// Names of IAM roles that administer it, beside whom the account's IAM policies let.
    pub admin_roles: Vec<String>,
}

impl Default for Kms {
    fn default() -> Self {
        Self { deletion_window: 7, admin_roles: Vec::new() }
    }
}

/// Settings that everybody in the account shares; what is not given is left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Regions that ECR copies pushed images to.
    pub replicate_to: Vec<String>,
    /// Their line in images.toml.
    pub replicate_line: usize,
    /// Whether layers are shared between repositories.
    pub blob_mounting: Option<bool>,
    /// By what ECR signs the images that are pushed to [`RUNTIMES_REPOSITORY`].
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
    /// The partition and the region that it is in.
    pub fn place(&self) -> (&str, &str) {
        let mut fields = self.arn.split(':').skip(1);
        (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default())
    }
}

impl Config {
    /// Reads and checks images.toml and what it says of the files of `sources`; `shown` is its name in errors.
    ///
    /// # Errors
    /// The file cannot be read, or everything that is wrong with it.
    pub fn load(path: &Path, shown: &Path, sources: &Sources) -> Result<Self, Problems> {
        let text = read_text(path, shown)?;
        Self::parse(&text, shown, Some(sources))
    }

    /// Checks the text of images.toml; without `sources` the files that it names are not looked at.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, shown: &Path, sources: Option<&Sources>) -> Result<Self, Problems> {
        let sink = problem::Sink::new(text);
        let config = reader::document(text, &sink)
            .and_then(|document| parse::config(reader::Fields::root(&document, &sink), sources));
        sink.finish(shown, config)
    }

    /// The runtimes that are built.
    pub fn enabled_runtimes(&self) -> impl Iterator<Item = &Runtime> {
        self.runtimes.iter().filter(|runtime| runtime.enabled)
    }
}

/// What an image or runtime is for when nothing says otherwise.
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
