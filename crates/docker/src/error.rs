//! What can go wrong with a container client.

use process::ProcessError;

use super::Docker;
use super::build_output::BuildFailure;

/// What an engine that cannot be reached makes its client say (docker 20 to 29, podman's remote client, nerdctl, finch).
const DOWN: [&str; 7] = [
    "cannot connect to the docker daemon",
    "is the docker daemon running",
    "failed to connect to the docker api",
    "error during connect",
    "cannot connect to podman",
    "cannot access containerd socket",
    "virtual machine instance",
];

/// What an engine that may not be reached makes its client say.
const DENIED: [&str; 2] =
    ["permission denied while trying to connect", "got permission denied while trying to connect"];

/// What docker says where client and engine speak no common version of the API (engine 29 takes 1.44 and newer).
const TOO_OLD: &str = "is too old. minimum supported api version is";
const TOO_NEW: &str = "is too new. maximum supported api version is";

/// What an engine says that asks by https at a registry that speaks plain http.
const PLAIN_HTTP: &str = "server gave http response to https client";

/// What a builder says, in two parts of a line, that has lost what it had found in its store.
///
/// BuildKit on containerd's store, now and then, where another build of the same step has ended or been killed in this moment:
/// `failed to stat lower snapshot X: snapshot X does not exist: not found`
/// (<https://github.com/moby/buildkit/issues/6977>, <https://github.com/moby/buildkit/issues/6521>).
///
/// Docker's first builder, where somebody removes an image while it looks through those of the same parent for one to use again
/// (<https://github.com/moby/moby/blob/v20.10.24/image/cache/cache.go#L165>), or while it builds upon it.
const LOST: [(&str, &str); 4] = [
    ("snapshot ", " does not exist: not found"),
    ("unable to find image \"sha256:", "\""),
    ("unknown parent image ID ", "sha256:"),
    ("failed to get layer ", "layer does not exist"),
];

/// Why the container client did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// No client is installed.
    #[error("no container client in PATH (looked for {looked_for})")]
    NotInstalled {
        /// The names that were tried.
        looked_for: String,
    },
    /// A program that is none of the four.
    #[error("{program} is not docker, podman, finch or nerdctl")]
    UnknownClient {
        /// As it was given.
        program: String,
    },
    /// The engine does not answer.
    #[error("the engine behind {program} does not answer: {said}")]
    EngineDown {
        /// The client.
        program: String,
        /// What the client said.
        said: String,
    },
    /// The engine may not be used by this user.
    #[error("this user may not use the engine behind {program}: {said}")]
    EngineDenied {
        /// The client.
        program: String,
        /// What the client said.
        said: String,
    },
    /// The client speaks no version of the API that the engine takes.
    #[error("{program} and its engine support different API versions: {said}")]
    ApiVersion {
        /// The client.
        program: String,
        /// What the engine said.
        said: String,
        /// Whether the client is the older of the two.
        old_client: bool,
    },
    /// The engine speaks https only to a registry that speaks plain http.
    #[error("the engine behind {program} speaks only https to {registry}, which speaks plain http")]
    PlainHttp {
        /// The client.
        program: String,
        /// The registry's host and port.
        registry: String,
    },
    /// A build failed.
    #[error(transparent)]
    Build(Box<BuildFailure>),
    /// The builder has lost what an earlier build had left in its store; the same build once more succeeds.
    #[error(transparent)]
    LostCache(Box<BuildFailure>),
    /// The client cannot do something that was asked for.
    #[error("{program} cannot {what}: its `build` has no {flag}")]
    Feature {
        /// The client.
        program: String,
        /// What was asked for.
        what: &'static str,
        /// The flag that its help does not list.
        flag: &'static str,
    },
    /// The machine cannot run programs of a platform.
    #[error(
        "{program} cannot run programs for {platform} here: no emulator is registered (binfmt_misc has no qemu for it). \
         Register one with `docker run --privileged --rm tonistiigi/binfmt --install {architecture}`, or install \
         qemu-user-static"
    )]
    NoEmulator {
        /// The client.
        program: String,
        /// The platform that is wanted.
        platform: String,
        /// Its architecture.
        architecture: String,
    },
    /// The private configuration cannot be written.
    #[error("could not write the private configuration of the container client at {path}")]
    Config {
        /// What could not be written.
        path: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The client's answer is not what it documents.
    #[error("the output of {program} cannot be read")]
    Answer {
        /// The client.
        program: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It ran and failed, or could not be started.
    #[error(transparent)]
    Process(ProcessError),
}

impl DockerError {
    /// Tells an engine that is down from a command that failed.
    pub(super) fn from_process(docker: &Docker, error: ProcessError) -> Self {
        Self::of_words(docker, error.tail()).unwrap_or(Self::Process(error))
    }

    /// What the words of the client and its engine are known to mean.
    pub(super) fn of_words(docker: &Docker, words: &[String]) -> Option<Self> {
        let program = docker.name();
        let find = |signs: &[&str]| {
            let is_sign = |line: &&String| signs.iter().any(|sign| line.to_lowercase().contains(sign));
            words.iter().find(is_sign).map(|line| line.trim().to_owned())
        };
        if let Some(said) = find(&DENIED) {
            return Some(Self::EngineDenied { program, said });
        }
        if let Some(said) = find(&[TOO_OLD, TOO_NEW]) {
            let old_client = said.to_lowercase().contains(TOO_OLD);
            return Some(Self::ApiVersion { program, said, old_client });
        }
        if let Some(said) = find(&[PLAIN_HTTP]) {
            // `Get "https://127.0.0.1:5000/v2/": http: server gave HTTP response to HTTPS client`
            let host = said.split_once("https://").and_then(|(_, rest)| rest.split(['/', '"']).next());
            return Some(Self::PlainHttp { program, registry: host.unwrap_or("a registry").to_owned() });
        }
        find(&DOWN).map(|said| Self::EngineDown { program, said })
    }

    /// What a build that failed is: `words` are those of the builder, without any program's.
    pub(super) fn of_build(docker: &Docker, words: &[String], failure: BuildFailure) -> Self {
        let is_lost = |line: &String| {
            let found = |(begin, end): &(&str, &str)| {
                line.split_once(begin).is_some_and(|(_, rest)| rest.contains(end))
            };
            LOST.iter().any(found)
        };
        Self::of_words(docker, words).unwrap_or_else(|| match words.iter().any(is_lost) {
            true => Self::LostCache(Box::new(failure)),
            false => Self::Build(Box::new(failure)),
        })
    }

    /// Whether the local store has no such image.
    pub(super) fn is_no_such_image(&self) -> bool {
        let Self::Process(ProcessError::Failed { tail, .. }) = self else { return false };
        let signs = ["no such image", "image not known", "no such object"];
        tail.iter().any(|line| signs.iter().any(|sign| line.to_lowercase().contains(sign)))
    }
}
