//! Errors of planning, building and moving runtimes.

use std::sync::Arc;

use docker::{DockerError, is_loopback};
use dockerfile::DockerfileError;
use failure::Kind;
use registry::Digest;

use super::archive::ArchiveError;
use super::compare::CompareError;
use super::context::ContextError;
use super::entry_point::EntryPointError;

/// Why a runtime could not be planned, built or moved.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The build context cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The Dockerfile cannot be used.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// The entry point cannot be started.
    #[error(transparent)]
    EntryPoint(#[from] EntryPointError),
    /// The container client or its engine failed.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// There is no engine. One runtime detected this for all of them.
    #[error(transparent)]
    Engine(Arc<Self>),
    /// A registry request failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The image that the container client saved cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An image does not have the files that it was to be built from.
    #[error("{image} was not built from its inputs")]
    NotItsInputs {
        /// The image.
        image: String,
        /// What differs.
        source: CompareError,
    },
    /// A name or tag that is not valid.
    #[error("runtime {runtime} gives a name that no registry takes")]
    Name {
        /// The runtime.
        runtime: String,
        /// What is wrong with the name.
        source: registry::ReferenceError,
    },
    /// The Dockerfile has here-documents, which the builder is too old to support.
    #[error(
        "{dockerfile}:{line}: {builder} knows no here-documents and would take their lines for instructions"
    )]
    Heredoc {
        /// The Dockerfile.
        dockerfile: String,
        /// The line of the first here-document, from 1.
        line: usize,
        /// The builder.
        builder: String,
    },
    /// The Dockerfile names its base itself and copies itself into the image.
    #[error(
        "{dockerfile} names its base itself and copies itself into the image: the legacy builder would copy the one with the pinned base"
    )]
    CopiesItself {
        /// The Dockerfile.
        dockerfile: String,
    },
    /// The Dockerfile names another base than when images.toml was read.
    #[error(
        "{dockerfile} now builds on {found}, but built on {expected} when this run started: run the command again"
    )]
    OtherBase {
        /// The Dockerfile.
        dockerfile: String,
        /// The base when this run started.
        expected: String,
        /// The base now.
        found: String,
    },
    /// The base's registry refuses or does not answer.
    #[error("the base {base} cannot be looked up")]
    Base {
        /// The base.
        base: String,
        /// The registry's error.
        source: registry::Error,
    },
    /// The upstream has no such base.
    #[error("the base {base} does not exist upstream")]
    BaseUnknown {
        /// The base.
        base: String,
    },
    /// The base exists, but not for this platform.
    #[error("the base {base} has no image for {platform}")]
    BasePlatform {
        /// The base.
        base: String,
        /// The wanted platform.
        platform: String,
    },
    /// The builder built the image for another platform than requested.
    #[error("the builder made {image} for {found} instead of {platform}")]
    OtherPlatform {
        /// The saved image's file.
        image: String,
        /// The requested platform.
        platform: String,
        /// The image's platform.
        found: String,
    },
    /// Something in the registry cannot be read.
    #[error("{image} cannot be read: {reason}")]
    Unreadable {
        /// Its name.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine reports an invalid platform.
    #[error("the container engine says that its platform is `{platform}`")]
    EnginePlatform {
        /// As reported.
        platform: String,
    },
    /// The runtime tag was moved by another user or run since the plan.
    #[error(
        "{image} was changed by another tool since the plan: it was {} and is now {}. Nothing was overwritten; run the command again",
        shown(expected),
        shown(found)
    )]
    Moved {
        /// The tag.
        image: String,
        /// The digest when the plan was made.
        expected: Option<Digest>,
        /// The digest now.
        found: Option<Digest>,
    },
    /// The registry does not accept the documents about a build.
    #[error("the SBOM and the provenance of {image} could not be attached to it")]
    Attestations {
        /// The build.
        image: String,
        /// The registry's error.
        source: registry::Error,
    },
    /// A build tag already refers to another build.
    #[error("{image} names another build, {found}, not the one to push, {pushed}: a build tag never moves")]
    BuildTag {
        /// The tag.
        image: String,
        /// The build that it refers to.
        found: Digest,
        /// The build that was to be pushed.
        pushed: Digest,
    },
    /// There is no such build.
    #[error("{runtime} has no build {wanted}; `rebuild-runtimes --builds {runtime}` lists what there is")]
    NoBuild {
        /// The runtime.
        runtime: String,
        /// The requested build.
        wanted: String,
    },
    /// No earlier build of the runtime is known.
    #[error("no earlier build of {runtime} is recorded")]
    NoEarlierBuild {
        /// The runtime.
        runtime: String,
    },
    /// A build that is held or keyed is no longer at the registry.
    #[error("{image} is no longer at the registry as {digest}")]
    Gone {
        /// The runtime's tag.
        image: String,
        /// The missing build.
        digest: Digest,
    },
    /// A directory for temporary images cannot be created.
    #[error("could not create a directory in {path}")]
    Scratch {
        /// Its parent directory.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The container did not answer as a runtime does.
    #[error("{image} did not pass: {reason}{}", tail.iter().map(|line| format!("\n    {line}")).collect::<String>())]
    Smoke {
        /// The image.
        image: String,
        /// What went wrong.
        reason: String,
        /// The container's last lines.
        tail: Vec<String>,
    },
}

impl RuntimeError {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Docker(DockerError::NotInstalled { .. }) => Kind::MissingTool,
            Self::Docker(DockerError::UnknownClient { .. }) => Kind::Usage,
            Self::Context(_)
            | Self::Dockerfile(_)
            | Self::EntryPoint(_)
            | Self::OtherBase { .. }
            | Self::Name { .. }
            | Self::BasePlatform { .. } => Kind::Config,
            Self::Base { .. } | Self::BaseUnknown { .. } => Kind::Upstream,
            Self::NoBuild { .. } => Kind::Usage,
            Self::Registry(_)
            | Self::Moved { .. }
            | Self::Attestations { .. }
            | Self::BuildTag { .. }
            | Self::NoEarlierBuild { .. }
            | Self::Gone { .. } => Kind::Registry,
            _ => Kind::Docker,
        }
    }

    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Engine(error) => return error.hint(),
            Self::Docker(DockerError::NotInstalled { .. }) => {
                "install docker (https://docs.docker.com/engine/install/), podman, finch or nerdctl; only builds of runtimes need it"
            }
            Self::Docker(DockerError::EngineDown { .. }) => {
                "start the engine, or point DOCKER_HOST at one that runs; only builds of runtimes need it"
            }
            Self::Docker(DockerError::EngineDenied { .. }) => {
                "add this user to the group docker (usermod -aG docker USER) and log in again"
            }
            Self::Docker(DockerError::NoEmulator { .. }) => {
                "`docker run --privileged --rm tonistiigi/binfmt --install all` brings the emulators, or name a --builder that has the platform"
            }
            Self::Docker(DockerError::ApiVersion { old_client: true, .. }) => {
                "the engine is newer than the client: install a newer client (engine 29 takes those of docker 25 and later), and unset DOCKER_API_VERSION if it is set"
            }
            Self::Docker(DockerError::ApiVersion { .. }) => {
                "the engine is older than the client: unset DOCKER_API_VERSION if it is set, or bring the engine up to date"
            }
            Self::Docker(DockerError::PlainHttp { registry, .. }) if is_loopback(registry) => {
                "docker's engine does this from 29.10 on, where its daemon.json has any `insecure-registries`: add \"127.0.0.0/8\" to that list and restart it (a builder of its own: `http = true` for the registry in its buildkitd.toml)"
            }
            Self::Docker(DockerError::PlainHttp { .. }) => {
                "add the registry to `insecure-registries` in the engine's daemon.json and restart it (podman: `insecure = true` in registries.conf)"
            }
            Self::Docker(DockerError::LostCache(_)) => {
                "run again when no other process removes images from this engine; if it happens again, `docker builder prune` empties the builder's store (https://github.com/moby/buildkit/issues/6977)"
            }
            Self::BaseUnknown { .. } => "correct the base in images.toml",
            Self::NotItsInputs { .. } => {
                "the builder used other files than it was given, without its cache too; nothing was pushed and the image is not used: restart the builder, or use another one, and run the command again"
            }
            Self::Context(ContextError::Changed { .. }) => {
                "run the command again when nothing changes it any more"
            }
            Self::CopiesItself { .. } => {
                "name the Dockerfile in .dockerignore, or install docker's buildx plugin"
            }
            Self::Heredoc { .. } => {
                "install docker's buildx plugin (docker 23 or newer), or write the lines as one RUN joined by `&&`"
            }
            Self::NoEarlierBuild { .. } => {
                "name the build: `rebuild-runtimes --builds NAME` lists those that the registry has, `--rollback NAME BUILD` takes one"
            }
            Self::Attestations { .. } => {
                "the runtime's tag was not moved; run the command again, or build without them: `attestations = false` in images.toml"
            }
            Self::Gone { .. } => {
                "deleted, or archived by ECR: `aws ecr describe-images --repository-name lambda --filter imageStatus=ARCHIVED` shows the \
                 archived ones, and `aws ecr update-image-storage-class` with --target-storage-class STANDARD restores one"
            }
            _ => return None,
        })
    }

    /// Whether an image has other files than its inputs.
    pub(crate) fn is_other_content(&self) -> bool {
        matches!(
            self,
            Self::NotItsInputs {
                source: CompareError::Other { .. }
                    | CompareError::Missing { .. }
                    | CompareError::Foreign { .. },
                ..
            }
        )
    }

    /// The registry's error, if that is the cause.
    pub fn registry(&self) -> Option<&registry::Error> {
        match self {
            Self::Registry(error)
            | Self::Base { source: error, .. }
            | Self::Attestations { source: error, .. } => Some(error),
            _ => None,
        }
    }

    /// The error with all its causes, ending with the last lines of a program that failed.
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(source) = cause {
            text += &format!(": {source}");
            cause = source.source();
        }
        text
    }
}

fn shown(digest: &Option<Digest>) -> String {
    digest.as_ref().map_or_else(|| "absent".to_owned(), Digest::to_string)
}
