//! Where logins are searched for, and in which order: `DOCKER_AUTH_CONFIG`, docker's config.json, podman's auth.json.

use std::path::{Path, PathBuf};

use process::Secret;

use crate::CredentialError;
use crate::config_json::DockerConfig;

/// The text of a config.json, which docker 28 and GitLab's runners read before any file
/// (<https://docs.docker.com/reference/cli/docker/#environment-variables>,
/// <https://docs.gitlab.com/ci/docker/using_docker_images/#access-an-image-from-a-private-container-registry>).
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// A place with logins.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its name in errors, without paths of this machine.
    pub(super) shown: String,
    pub(super) holds: Holds,
}

#[derive(Clone, Debug)]
pub(super) enum Holds {
    /// A file, and the command that writes it.
    File(PathBuf, &'static str),
    /// The text of a variable.
    Text(Secret),
}

impl Place {
    /// The place's content; `None` if there is none.
    pub(super) fn read(&self) -> Result<Option<DockerConfig>, CredentialError> {
        let text = match &self.holds {
            Holds::Text(text) => text.reveal().as_bytes().to_vec(),
            Holds::File(path, _) => match std::fs::read(path) {
                Ok(bytes) => bytes,
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(source) => {
                    return Err(CredentialError::Unreadable { shown: self.shown.clone(), source });
                }
            },
        };
        // Docker treats an empty file as a missing one.
        if text.is_empty() {
            return Ok(None);
        }
        DockerConfig::parse(&text).map(Some).map_err(|problem| {
            let remedy = match self.holds {
                Holds::File(_, login) => format!("`{login}` writes a new one"),
                Holds::Text(_) => "it has the form of docker's config.json".to_owned(),
            };
            CredentialError::Malformed { shown: self.shown.clone(), problem, remedy }
        })
    }
}

/// All places in the order of precedence. `engine` is the container client that the user named.
pub(super) fn all(engine: Option<&str>) -> Vec<Place> {
    let podman = podman(variable, std::env::home_dir());
    let mut files: Vec<Place> = docker().into_iter().chain(podman).collect();
    let name = engine.map(Path::new).and_then(Path::file_name).unwrap_or_default();
    if name.to_string_lossy().starts_with("podman") {
        files.reverse();
    }
    let text = std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty());
    text.map(in_variable).into_iter().chain(files).collect()
}

pub(super) fn in_variable(text: String) -> Place {
    Place { shown: format!("${VARIABLE}"), holds: Holds::Text(Secret::new(text)) }
}

pub(super) fn in_file(path: PathBuf, shown: &str, login: &'static str) -> Place {
    Place { shown: shown.to_owned(), holds: Holds::File(path, login) }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn docker() -> Option<Place> {
    let (dir, shown) = match variable("DOCKER_CONFIG") {
        Some(dir) => (dir, "$DOCKER_CONFIG/config.json"),
        None => (std::env::home_dir()?.join(".docker"), "~/.docker/config.json"),
    };
    Some(in_file(dir.join("config.json"), shown, "docker login"))
}

/// Podman's file of logins: the configured file, else the one of the session, else the permanent one.
fn podman(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Option<Place> {
    let file = |path, shown: &str| in_file(path, shown, "podman login");
    if let Some(named) = variable("REGISTRY_AUTH_FILE") {
        return Some(file(named, "$REGISTRY_AUTH_FILE"));
    }
    let of_session = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    if let Some(path) = of_session.filter(|path| path.exists()) {
        return Some(file(path, "$XDG_RUNTIME_DIR/containers/auth.json"));
    }
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(home?.join(".config")))?;
    Some(file(config.join("containers/auth.json"), "~/.config/containers/auth.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_file_is_found_where_podman_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        let found = |names: &[(&str, &str)]| {
            let variable =
                |name: &str| names.iter().find(|(known, _)| *known == name).map(|(_, path)| place(path));
            match podman(variable, Some(place("home"))).unwrap().holds {
                Holds::File(path, _) => path,
                Holds::Text(_) => PathBuf::new(),
            }
        };
        let (named, session, config) =
            (("REGISTRY_AUTH_FILE", "named"), ("XDG_RUNTIME_DIR", "session"), ("XDG_CONFIG_HOME", "config"));
        assert_eq!(found(&[]), place("home/.config/containers/auth.json"));
        assert_eq!(found(&[config]), place("config/containers/auth.json"));
        // If the session has none, as after `podman login --authfile` or a login of an earlier day.
        assert_eq!(found(&[session]), place("home/.config/containers/auth.json"));
        std::fs::create_dir_all(place("session/containers")).unwrap();
        std::fs::write(place("session/containers/auth.json"), "{}").unwrap();
        assert_eq!(found(&[session, config]), place("session/containers/auth.json"));
        assert_eq!(found(&[session, config, named]), place("named"));
        assert!(podman(|_| None, None).is_none());
    }
}
