//! Errors of a container client.

use process::ProcessError;

use super::Docker;
use super::build_output::BuildFailure;

/// Messages of clients whose engine cannot be reached (docker 20 to 29, podman's remote client, nerdctl, finch).
const DOWN: [&str; 7] = [
    "cannot connect to the docker daemon",
    "is the docker daemon running",
    "failed to connect to the docker api",
    "error during connect",
    "cannot connect to podman",
    "cannot access containerd socket",
    "virtual machine instance",
];

/// Messages of clients whose user has no permission for the engine.
const DENIED: [&str; 2] =
    ["permission denied while trying to connect", "got permission denied while trying to connect"];

/// Docker's messages if client and engine have no API version in common (engine 29 accepts 1.44 and newer).
const TOO_OLD: &str = "is too old. minimum supported api version is";
const TOO_NEW: &str = "is too new. maximum supported api version is";

/// An engine's message if it uses https for a registry that uses plain http.
const PLAIN_HTTP: &str = "server gave http response to https client";

/// A builder's messages, in two parts of a line, if a part of its store has disappeared.
///
/// BuildKit on containerd's store, sometimes, if another build of the same step ends or is killed at that moment: `failed to stat lower
/// snapshot X: snapshot X does not exist: not found` (<https://github.com/moby/buildkit/issues/6977>,
/// <https://github.com/moby/buildkit/issues/6521>).
///
/// The legacy builder, if an image is removed while it searches those of the same parent for its cache
/// (<https://github.com/moby/moby/blob/v20.10.24/image/cache/cache.go#L165>), or while it builds on it.
const LOST: [(&str, &str); 4] = [
    ("snapshot ", " does not exist: not found"),
    ("unable to find image \"sha256:", "\""),
    ("unknown parent image ID ", "sha256:"),
    ("failed to get layer ", "layer does not exist"),
];

/// Why a call of the container client failed.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// No client is installed.
    #[error("no container client in PATH (looked for {looked_for})")]
    NotInstalled {
        /// The names that were tried.
        looked_for: String,
    },
    /// The program is not one of the four clients.
    #[error("{program} is not docker, podman, finch or nerdctl")]
    UnknownClient {
        /// Its name.
        program: String,
    },
    /// The engine does not answer.
    #[error("the engine behind {program} does not answer: {said}")]
    EngineDown {
        /// The client.
        program: String,
        /// The client's message.
        said: String,
    },
    /// The user has no permission for the engine.
    #[error("this user may not use the engine behind {program}: {said}")]
    EngineDenied {
        /// The client.
        program: String,
        /// The client's message.
        said: String,
    },
    /// The client supports no API version that the engine accepts.
    #[error("{program} and its engine support different API versions: {said}")]
    ApiVersion {
        /// The client.
        program: String,
        /// The engine's message.
        said: String,
        /// Whether the client is the older of the two.
        old_client: bool,
    },
    /// The engine uses only https for a registry that uses plain http.
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
    /// The builder lost a part of its store; repeating the build succeeds.
    #[error(transparent)]
    LostCache(Box<BuildFailure>),
    /// The client does not support something that was requested.
    #[error("{program} cannot {what}: its `build` has no {flag}")]
    Feature {
        /// The client.
        program: String,
        /// What was requested.
        what: &'static str,
        /// The flag that is missing in its help.
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
        /// The requested platform.
        platform: String,
        /// Its architecture.
        architecture: String,
    },
    /// The private configuration cannot be written.
    #[error("could not write the private configuration of the container client at {path}")]
    Config {
        /// The file or directory.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The client's output does not have the documented format.
    #[error("the output of {program} cannot be read")]
    Answer {
        /// The client.
        program: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The client ran and failed, or could not be started.
    #[error(transparent)]
    Process(ProcessError),
}

impl DockerError {
    /// Distinguishes an engine that is down from a command that failed.
    pub(super) fn from_process(docker: &Docker, error: ProcessError) -> Self {
        Self::of_words(docker, error.tail()).unwrap_or(Self::Process(error))
    }

    /// The error for known messages of the client and its engine.
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

    /// The error of a failed build: `words` are the builder's lines, without any program's output.
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
