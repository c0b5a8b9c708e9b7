//! The setup that `demo` writes: one file in the local directory, used by every `--local` command until `local down`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use images_config::atomic;
use serde::{Deserialize, Serialize};

use failure::{FailWith as _, Kind};

/// The variables that name a docker client's engine.
const ENGINE: [&str; 2] = ["DOCKER_HOST", "DOCKER_CONTEXT"];

/// The settings of a `--local` command, unless the user sets others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LocalSetup {
    /// Registries that the sample upstreams replace.
    pub samples: Vec<String>,
    /// Other source registries, with their addresses.
    pub upstreams: BTreeMap<String, String>,
    /// The variables that name the engine. Empty if a docker client finds it itself.
    pub engine: BTreeMap<String, String>,
}

impl LocalSetup {
    fn path(local: &Path) -> PathBuf {
        local.join("setup.json")
    }

    /// Reads the setup. Empty if no demo has run, or after `local down`.
    ///
    /// # Errors
    /// The file cannot be read, or has another format.
    pub fn load(local: &Path) -> anyhow::Result<Self> {
        let path = Self::path(local);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(|| format!("could not read {}", path.display()))?,
        };
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what `demo` writes", path.display()))
            .hint(Kind::Config, "remove it; `cargo xtask demo` writes a new one")
    }

    /// Writes it atomically.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn save(&self, local: &Path) -> anyhow::Result<()> {
        let path = Self::path(local);
        let text = serde_json::to_vec_pretty(self)?;
        atomic::write(&path, &text).with_context(|| format!("could not write {}", path.display()))
    }

    /// Deletes it.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget(local: &Path) -> anyhow::Result<()> {
        let path = Self::path(local);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("could not remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The engine in use: the one found at `host`, otherwise the one named in the environment.
    pub fn engine_in_use(
        host: Option<String>,
        env: impl Fn(&str) -> Option<String>,
    ) -> BTreeMap<String, String> {
        match host {
            Some(host) => BTreeMap::from([(ENGINE[0].to_owned(), host)]),
            None => ENGINE.iter().filter_map(|name| Some(((*name).to_owned(), env(name)?))).collect(),
        }
    }

    /// The variables for started programs. Empty if the user's environment names an engine, or if the engine's socket no longer
    /// exists.
    pub fn engine_variables(&self, env: impl Fn(&str) -> Option<String>) -> BTreeMap<String, String> {
        let gone =
            |host: &String| host.strip_prefix("unix://").is_some_and(|socket| !Path::new(socket).exists());
        if ENGINE.iter().any(|name| env(name).is_some()) || self.engine.get(ENGINE[0]).is_some_and(gone) {
            return BTreeMap::new();
        }
        self.engine.clone()
    }

    /// The address of each source registry, with the sample upstreams at `samples`; addresses in `given` by the user override
    /// these.
    pub fn routes(&self, samples: Option<&str>, given: &[(String, String)]) -> Vec<(String, String)> {
        let mut routes: BTreeMap<String, String> = BTreeMap::new();
        if let Some(url) = samples {
            routes.extend(self.samples.iter().map(|host| (host.clone(), format!("{url}/{host}"))));
        }
        routes.extend(self.upstreams.clone());
        routes.extend(given.iter().cloned());
        routes.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(host: &str, url: &str) -> (String, String) {
        (host.to_owned(), url.to_owned())
    }

    #[test]
    fn a_setup_is_read_back_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LocalSetup::load(dir.path()).unwrap(), LocalSetup::default());
        let engine = LocalSetup::engine_in_use(Some("unix:///a.sock".into()), |_| None);
        let setup = LocalSetup { samples: vec!["docker.io".into()], engine, ..LocalSetup::default() };
        setup.save(dir.path()).unwrap();
        assert_eq!(LocalSetup::load(dir.path()).unwrap(), setup);
        LocalSetup::forget(dir.path()).unwrap();
        LocalSetup::forget(dir.path()).unwrap();
        assert_eq!(LocalSetup::load(dir.path()).unwrap(), LocalSetup::default());
        std::fs::write(dir.path().join("setup.json"), "[").unwrap();
        assert!(LocalSetup::load(dir.path()).unwrap_err().to_string().contains("setup.json"));
    }

    #[test]
    fn the_users_options_have_precedence() {
        let setup = LocalSetup {
            samples: vec!["docker.io".into(), "ghcr.io".into()],
            upstreams: BTreeMap::from([pair("quay.io", "https://mirror.example/quay")]),
            engine: BTreeMap::from([pair("DOCKER_HOST", "tcp://engine.example:2375")]),
        };
        let routes = setup.routes(Some("http://127.0.0.1:1"), &[pair("ghcr.io", "https://mine.example")]);
        let expected = [
            pair("docker.io", "http://127.0.0.1:1/docker.io"),
            pair("ghcr.io", "https://mine.example"),
            pair("quay.io", "https://mirror.example/quay"),
        ];
        assert_eq!(routes, expected);
        assert_eq!(setup.engine_variables(|_| None), setup.engine);
        let own = |name: &str| (name == "DOCKER_CONTEXT").then(|| "mine".to_owned());
        assert_eq!(setup.engine_variables(own), BTreeMap::new());
        assert_eq!(LocalSetup::engine_in_use(None, own), BTreeMap::from([pair("DOCKER_CONTEXT", "mine")]));
    }

    #[test]
    fn an_engine_without_its_socket_is_not_used() {
        let engine = LocalSetup::engine_in_use(Some("unix:///nonexistent/docker.sock".into()), |_| None);
        let setup = LocalSetup { engine, ..LocalSetup::default() };
        assert_eq!(setup.engine_variables(|_| None), BTreeMap::new());
    }
}
