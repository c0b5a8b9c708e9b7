//! The supported builders, each with a client and an engine.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{command, docker, program, skip, target};

/// Set by `cargo xtask test`: the directory of a current client.
const CLIENT: &str = "HTC_GRID_TEST_DOCKER";
/// Set by `cargo xtask test`: its buildx plugin.
const BUILDX: &str = "HTC_GRID_TEST_BUILDX";

/// A builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builder {
    /// Docker's legacy builder, on the machine's own engine (docker 20.10 on Debian bookworm).
    Legacy,
    /// docker 28 with buildx, images in docker's own store.
    Buildx,
    /// docker 28 with buildx, images in containerd's store: docker 29's default.
    BuildxContainerd,
}

impl Builder {
    /// All builders.
    pub const ALL: [Self; 3] = [Self::Legacy, Self::Buildx, Self::BuildxContainerd];

    /// Its client and engine; `None` if the machine lacks them, which is reported.
    pub fn engine(self) -> Option<Engine> {
        let host = match self {
            Self::Legacy => return docker().then(Engine::legacy),
            Self::Buildx => "HTC_GRID_TEST_CLASSIC",
            Self::BuildxContainerd => "HTC_GRID_TEST_CONTAINERD",
        };
        let given = |name: &str| {
            let value = std::env::var_os(name);
            if value.is_none() {
                skip(&format!("no docker 28 with buildx: {name} is set by `cargo xtask test` only"));
            }
            value
        };
        let (client, plugin, host) = (given(CLIENT)?, given(BUILDX)?, given(host)?);
        Some(Engine { client: client.into(), plugin: Some(plugin.into()), host: Some(host) })
    }
}

/// Creates one test per builder for each of these functions, which take a [`Builder`], so that the tests have names and run in parallel.
#[macro_export]
macro_rules! on_each_builder {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn legacy() {
                super::$name($crate::Builder::Legacy);
            }
            #[test]
            fn buildx() {
                super::$name($crate::Builder::Buildx);
            }
            #[test]
            fn buildx_containerd() {
                super::$name($crate::Builder::BuildxContainerd);
            }
        }
    )+};
}

/// A docker client and its engine.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Its directory, for PATH; the program is named `docker`.
    client: PathBuf,
    plugin: Option<PathBuf>,
    host: Option<OsString>,
}

impl Engine {
    /// The machine's own client and engine, even if they do not exist.
    pub fn machine() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let client = std::env::split_paths(&path).find(|dir| dir.join("docker").is_file());
        Self { client: client.unwrap_or_default(), plugin: None, host: std::env::var_os("DOCKER_HOST") }
    }

    /// The machine's own engine with a client without BuildKit.
    fn legacy() -> Self {
        static CLIENT: OnceLock<PathBuf> = OnceLock::new();
        let client = CLIENT.get_or_init(|| {
            // The message of a client without the plugin. By default it uses the legacy builder.
            let script = format!(
                "#!/bin/sh\nif [ \"$DOCKER_BUILDKIT\" = 1 ]; then\n    \
                 echo 'ERROR: BuildKit is enabled but the buildx component is missing or broken.' >&2\n    exit 1\nfi\n\
                 export DOCKER_BUILDKIT=0\nexec '{}' \"$@\"\n",
                program("docker").unwrap().display()
            );
            let dir = target().join("legacy-client");
            std::fs::create_dir_all(&dir).unwrap();
            // Several tests write the same file: each one atomically, by a rename.
            let new = tempfile::NamedTempFile::new_in(&dir).unwrap();
            std::fs::write(new.path(), script).unwrap();
            std::fs::set_permissions(new.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            // Closed before it is started: a program that is open for writing cannot be started.
            new.into_temp_path().persist(dir.join("docker")).unwrap();
            dir
        });
        Self { client: client.clone(), ..Self::machine() }
    }

    /// The machine's own client for this engine, with this process's environment: docker 28's takes three times as long to start. It has no
    /// plugin, so it builds with the legacy builder.
    pub fn client(&self) -> Command {
        let machine = Self::machine().program();
        if machine.is_file() { self.reached_by(&machine) } else { self.own_client() }
    }

    /// The engine's own client.
    pub fn own_client(&self) -> Command {
        self.reached_by(&self.program())
    }

    fn reached_by(&self, program: &Path) -> Command {
        let mut client = command(program);
        client.env_remove("DOCKER_CONTEXT");
        if let Some(host) = &self.host {
            client.env("DOCKER_HOST", host);
        }
        client
    }

    /// The client's file.
    pub fn program(&self) -> PathBuf {
        self.client.join("docker")
    }

    /// `DOCKER_HOST` and `PATH` for a run of the real binary.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.client.clone()).chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path.filter(|dir| !dir.as_os_str().is_empty())).unwrap();
        let host = self.host.clone().map(|host| ("DOCKER_HOST", host));
        host.into_iter().chain([("PATH", path)]).collect()
    }

    /// The address of its own BuildKit for buildx's `remote` driver, as long as this process runs.
    pub fn buildkit(&self) -> String {
        let host = self.host.as_ref().expect("an engine at a socket of its own");
        let socket = PathBuf::from(host.to_str().unwrap().strip_prefix("unix://").unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut server = UnixStream::connect(&socket).unwrap();
                // https://docs.docker.com/reference/api/engine/version/v1.51/#tag/Session
                let upgrade =
                    b"POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
                server.write_all(upgrade).unwrap();
                // Read exactly the answer's head: what follows is BuildKit's.
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && server.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    // An error means that one end closed the connection.
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
                let mut client = client;
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut server, &mut client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        address
    }

    /// Prepares a `DOCKER_CONFIG` directory with this client's plugin, as if `docker build` had been run before: buildx gives each user a
    /// name for the contexts in the engine's cache.
    pub fn configure(&self, directory: &Path) {
        let Some(plugin) = &self.plugin else { return };
        for name in ["cli-plugins", "buildx"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        symlink(plugin, directory.join("cli-plugins/docker-buildx")).unwrap();
        std::fs::write(directory.join("buildx/.buildNodeID"), "0123456789abcdef").unwrap();
    }
}
