//! The private configuration of the container client.
//!
//! A build pulls its base, so its client needs credentials, but these must not be written to the user's own file: only the login commands
//! do that. Each run gets a directory that no other user can read and that is removed afterwards. Everything else (contexts, builders,
//! plugins, proxies) is the user's.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use process::Secret;
use serde_json::{Map, Value, json};

use super::DockerError;

/// The parts of the user's directory that are linked into the private one. `buildx` has the builders.
const LINKED: [&str; 4] = ["contexts", "buildx", "cli-plugins", "scan"];

/// The keys that are copied from the user's `config.json`: how to reach an engine and a network, never logins.
const KEPT: [&str; 5] = ["currentContext", "proxies", "cliPluginsExtraDirs", "HttpHeaders", "features"];

/// Logins with precedence over those in the file: docker 28 reads the variable, older clients do not.
pub(super) const AUTH_VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// Prefix of private directories, followed by the process ID. The next run thereby finds and removes the directories of killed runs, which
/// contain credentials.
const PREFIX: &str = "xtask-docker-config-";

/// A credential for one registry.
#[derive(Clone, Debug)]
pub struct RegistryAuth {
    /// The registry's host and port, and the namespace if the login is not for the whole registry.
    pub registry: String,
    /// The user's name; empty for an identity token.
    pub username: String,
    /// The password or the identity token.
    pub password: Secret,
}

/// A configuration directory (0700) that is removed when this value is dropped.
#[derive(Debug)]
pub struct PrivateConfig(tempfile::TempDir);

impl PrivateConfig {
    /// Writes a directory with these credentials and the plain-text ones of the user's file and variable.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(auths: &[RegistryAuth]) -> Result<Self, DockerError> {
        let variable = std::env::var(AUTH_VARIABLE).unwrap_or_default();
        Self::create_beside(user_directory().as_deref(), &variable, auths)
    }

    fn create_beside(
        user: Option<&Path>,
        variable: &str,
        auths: &[RegistryAuth],
    ) -> Result<Self, DockerError> {
        let failed = |path: &Path, source| DockerError::Config { path: path.display().to_string(), source };
        let room = room();
        sweep(&room, PREFIX);
        // Private from the start, whatever the umask is.
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&room)
            .map_err(|source| failed(&room, source))?;
        let path = directory.path();

        let mut config = Map::new();
        let mut entries = Map::new();
        if let Some(user) = user {
            let text = std::fs::read(user.join("config.json")).unwrap_or_default();
            // If docker cannot read the file either, docker reports it.
            let theirs: Map<String, Value> = serde_json::from_slice(&text).unwrap_or_default();
            for name in KEPT {
                if let Some(value) = theirs.get(name) {
                    config.insert(name.to_owned(), value.clone());
                }
            }
            entries.extend(plain(&theirs));
            for name in LINKED {
                let theirs = user.join(name);
                if theirs.exists() {
                    let link = path.join(name);
                    std::os::unix::fs::symlink(&theirs, &link).map_err(|source| failed(&link, source))?;
                }
            }
        }
        entries.extend(plain(&serde_json::from_str(variable).unwrap_or_default()));
        for auth in auths {
            let host = match auth.registry.as_str() {
                "docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/".to_owned(),
                host => host.replacen("registry-1.docker.io/", "docker.io/", 1),
            };
            let entry = match auth.username.as_str() {
                "" => json!({ "identitytoken": auth.password.reveal() }),
                name => {
                    let both = format!("{name}:{}", auth.password.reveal());
                    json!({ "auth": base64::engine::general_purpose::STANDARD.encode(both) })
                }
            };
            entries.insert(host, entry);
        }
        config.insert("auths".to_owned(), Value::Object(entries));

        let file = path.join("config.json");
        let mut out = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .map_err(|source| failed(&file, source))?;
        out.write_all(Value::Object(config).to_string().as_bytes())
            .map_err(|source| failed(&file, source))?;
        Ok(Self(directory))
    }

    /// The value for `DOCKER_CONFIG`.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The logins in a configuration's text for whole registries. The entry of a login in a credential store is empty, and the caller queries
/// the store; docker would send a namespace's login to the whole registry.
fn plain(config: &Map<String, Value>) -> Vec<(String, Value)> {
    let is_plain = |entry: &Value| entry.as_object().is_some_and(|entry| !entry.is_empty());
    let is_whole = |host: &str| {
        let path = host.split_once('/').map_or("", |(_, path)| path.trim_end_matches('/'));
        host.contains("://") || matches!(path, "" | "v1" | "v2")
    };
    let all = config.get("auths").and_then(Value::as_object).into_iter().flatten();
    let plain = all.filter(|(host, entry)| is_plain(entry) && is_whole(host));
    plain.map(|(host, entry)| (host.clone(), entry.clone())).collect()
}

/// The parent of private directories: in memory and only for this user, if the system has such a place.
fn room() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    own.unwrap_or_else(std::env::temp_dir)
}

/// Removes the directories `<prefix><process ID>-...` of killed runs.
pub fn sweep(room: &Path, prefix: &str) {
    let me = rustix::process::geteuid().as_raw();
    for entry in std::fs::read_dir(room).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix)?.split('-').next()?.parse().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { continue };
        let gone = rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        let mine = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == me);
        if gone && mine {
            // Another run may remove it at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The user's own configuration directory.
pub fn user_directory() -> Option<PathBuf> {
    match std::env::var_os("DOCKER_CONFIG") {
        Some(directory) if !directory.is_empty() => Some(directory.into()),
        _ => Some(Path::new(&std::env::var_os("HOME")?).join(".docker")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_plugins_and_contexts_are_used_and_only_our_configuration_is_written() {
        let user = tempfile::tempdir().unwrap();
        let theirs = r#"{"auths":{"a.example":{"auth":"eA=="},"stored.example":{},"u.example":{"username":"u"},"ecr":{"auth":"old"},
            "quay.io":{"auth":"old"},"quay.io/team":{"auth":"eA=="},"https://b.example/v1/":{"auth":"eA=="}},
            "credsStore":"desktop","credHelpers":{"ecr":"ecr-login"},"currentContext":"remote","proxies":{"default":{}}}"#;
        std::fs::write(user.path().join("config.json"), theirs).unwrap();
        std::fs::create_dir_all(user.path().join("contexts/meta")).unwrap();
        std::fs::create_dir(user.path().join("cli-plugins")).unwrap();
        let auths = [
            RegistryAuth { registry: "ecr".into(), username: "AWS".into(), password: Secret::new("t") },
            RegistryAuth {
                registry: "docker.io".into(),
                username: String::new(),
                password: Secret::new("i"),
            },
        ];
        let variable =
            r#"{"auths":{"ecr":{"auth":"old"},"quay.io":{"auth":"new"},"t.example":{"registrytoken":"t"}}}"#;
        let config = PrivateConfig::create_beside(Some(user.path()), variable, &auths).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(config.path()), 0o700);
        assert_eq!(mode(&config.path().join("config.json")), 0o600);
        let ours: Value =
            serde_json::from_slice(&std::fs::read(config.path().join("config.json")).unwrap()).unwrap();
        assert_eq!(
            ours,
            json!({
                "auths": {
                    "a.example": {"auth": "eA=="},
                    "u.example": {"username": "u"},
                    "https://b.example/v1/": {"auth": "eA=="},
                    "quay.io": {"auth": "new"},
                    "t.example": {"registrytoken": "t"},
                    "ecr": {"auth": "QVdTOnQ="},
                    "https://index.docker.io/v1/": {"identitytoken": "i"},
                },
                "currentContext": "remote",
                "proxies": {"default": {}},
            })
        );
        assert!(config.path().join("contexts/meta").is_dir() && config.path().join("cli-plugins").is_dir());
        assert!(!config.path().join("buildx").exists());
        assert!(!format!("{auths:?}").contains("\"t\""));
        let path = config.path().to_owned();
        drop(config);
        assert!(!path.exists());
        assert_eq!(std::fs::read_to_string(user.path().join("config.json")).unwrap(), theirs);
        assert!(user.path().join("contexts/meta").is_dir(), "a link was followed on removal");
    }

    #[test]
    fn only_the_remains_of_a_killed_run_are_removed() {
        let room = tempfile::tempdir().unwrap();
        // Larger than any process ID of Linux or macOS.
        let dead = room.path().join(format!("{PREFIX}{}-x", i32::MAX));
        let kept = [
            room.path().join(format!("{PREFIX}{}-x", std::process::id())),
            room.path().join(format!("{PREFIX}none-x")),
            room.path().join(format!("other-{}-x", i32::MAX)),
        ];
        for path in kept.iter().chain([&dead]) {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("config.json"), "{}").unwrap();
        }
        sweep(room.path(), PREFIX);
        assert!(!dead.exists() && kept.iter().all(|path| path.exists()));
    }
}
