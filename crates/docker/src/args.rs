//! The arguments of a build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use process::Cmd;

use super::{Builder, Docker, DockerError, Kind, is_loopback};

/// A build cache in a registry, for builders without a cache of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// The image reference under which the cache is kept.
    pub reference: String,
    /// Whether this build may write it.
    pub write: bool,
}

/// The source of a build's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildContext {
    /// A directory.
    Directory(PathBuf),
    /// A tar file, on the client's standard input.
    Tar(PathBuf),
}

/// One build of one platform.
#[derive(Clone, Debug)]
pub struct Build {
    /// The context.
    pub context: BuildContext,
    /// The Dockerfile; with a tar file, its name in it.
    pub dockerfile: PathBuf,
    /// An ignore file to use instead of the context's own, for clients that support this.
    pub ignore: PathBuf,
    /// The local names that the image gets.
    pub tags: Vec<String>,
    /// `os/architecture`; `None` leaves it to the engine.
    pub platform: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to build.
    pub target: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Whether the builder ignores its own cache.
    pub no_cache: bool,
    /// Whether the base is pulled again.
    pub pull: bool,
    /// The pinned base, as the engine pulls it.
    pub base: Option<String>,
    /// A remote or Kubernetes builder (buildx).
    pub builder: Option<String>,
    /// A cache in a registry.
    pub cache: Option<Cache>,
}

impl Build {
    /// The command line.
    ///
    /// # Errors
    /// The client does not support a requested flag.
    pub(super) fn command(&self, docker: &Docker) -> Result<Cmd, DockerError> {
        let wants = |what, flag: &'static str| match docker.has_flag(flag) {
            true => Ok(flag),
            false => Err(DockerError::Feature { program: docker.name(), what, flag }),
        };
        let mut command = docker.command();
        match docker.builder {
            // Attestations contain times, so the same build would have another digest each time. Clients that do not know the variable
            // ignore it; the flags would be an error.
            Builder::Buildx | Builder::BuildKit => {
                command = command.env("DOCKER_BUILDKIT", "1").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
            }
            Builder::Legacy => command = command.env("DOCKER_BUILDKIT", "0"),
            Builder::Own => {}
        }
        if matches!(docker.kind, Kind::Nerdctl | Kind::Finch) && self.base.as_deref().is_some_and(is_loopback)
        {
            command = command.arg("--insecure-registry");
        }
        command = command.arg("build");
        if docker.kind == Kind::Podman {
            // OCI, podman's default, does not support a Dockerfile's SHELL and HEALTHCHECK.
            command = command.args(["--format", "docker"]);
            if self.base.as_deref().is_some_and(is_loopback) {
                command = command.arg("--tls-verify=false");
            }
        }
        if let Some(builder) = &self.builder {
            command = command.arg(wants("use a named builder", "--builder")?).arg(builder);
        }
        for flag in ["--provenance", "--sbom"] {
            if docker.has_flag(flag) {
                command = command.arg(format!("{flag}=false"));
            }
        }
        if docker.has_flag("--progress") {
            command = command.args(["--progress", if docker.raw_json { "rawjson" } else { "plain" }]);
        }
        if docker.has_flag("--load") {
            command = command.arg("--load");
        }
        if let Some(cache) = &self.cache {
            let from = wants("use a cache in a registry", "--cache-from")?;
            command = command.arg(from).arg(format!("type=registry,ref={}", cache.reference));
            if cache.write {
                let to = wants("write a cache to a registry", "--cache-to")?;
                // The form that ECR accepts: an image manifest instead of an index.
                // https://aws.amazon.com/blogs/containers/announcing-remote-cache-support-in-amazon-ecr-for-buildkit-clients/
                command = command.arg(to).arg(format!(
                    "type=registry,ref={},mode=max,image-manifest=true,oci-mediatypes=true",
                    cache.reference
                ));
            }
        }
        // The legacy builder would keep the container of a failed step, and with it the image.
        if docker.builder == Builder::Legacy && docker.has_flag("--force-rm") {
            command = command.arg("--force-rm");
        }
        if self.no_cache {
            command = command.arg("--no-cache");
        }
        if self.pull {
            command = command.arg("--pull");
        }
        command = command.arg("--file").arg(&self.dockerfile);
        // podman's flag: the others find the file by its name, next to the Dockerfile.
        if docker.has_flag("--ignorefile") {
            command = command.arg("--ignorefile").arg(&self.ignore);
        }
        if let Some(platform) = &self.platform {
            command = command.arg(wants("build for a platform", "--platform")?).arg(platform);
        }
        if let Some(target) = &self.target {
            command = command.args(["--target", target]);
        }
        for (name, value) in &self.args {
            command = command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        for (name, value) in &self.labels {
            command = command.arg("--label").arg(format!("{name}={value}"));
        }
        for tag in &self.tags {
            command = command.args(["--tag", tag]);
        }
        Ok(match &self.context {
            BuildContext::Directory(directory) => command.arg(directory),
            BuildContext::Tar(file) => command.arg("-").stdin_file(file),
        })
    }
}
