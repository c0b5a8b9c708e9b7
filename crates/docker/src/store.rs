//! Images in the client's local store, and their names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use process::{Cmd, KillHandle};
use serde::Deserialize;

use super::{Docker, DockerError, Kind, is_loopback};

/// A name in the local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalName {
    /// `repository:tag`.
    pub name: String,
    /// The ID of its image.
    pub id: String,
    /// When the name was set, if the engine stores that, else when the image was created.
    pub since: Timestamp,
}

/// An image in the client's local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// The image's ID.
    pub id: String,
    /// `os/architecture`.
    pub platform: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its names.
    pub names: Vec<String>,
}

/// The local images of a client: those that it has built or pulled.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a>(pub(super) &'a Docker);

impl Store<'_> {
    /// Writes an image of the local store to a file, as `docker save` does.
    ///
    /// # Errors
    /// There is no such image, the engine is down, or the file cannot be written.
    pub async fn save(&self, image: &str, file: &Path, kill_handle: KillHandle) -> Result<(), DockerError> {
        let mut command = self.0.command().arg("save");
        if self.0.kind == Kind::Podman {
            command = command.args(["--format", "docker-archive"]);
        }
        let command = command.arg("--output").arg(file).arg(image);
        command.stream(kill_handle, |_| {}).await.map_err(|error| DockerError::from_process(self.0, error))
    }

    /// Finds an image in the local store, by a name or its ID.
    ///
    /// # Errors
    /// The engine is down.
    pub async fn image(&self, image: &str) -> Result<Option<LocalImage>, DockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Raw {
            id: String,
            os: String,
            architecture: String,
            config: Option<Config>,
            repo_tags: Option<Vec<String>>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            labels: Option<BTreeMap<String, String>>,
        }
        // Without a template all four print a list; with podman's `json` also with one.
        match self.0.read(self.0.command().args(["image", "inspect", image])).await {
            Ok(text) => {
                let found: Vec<Raw> = serde_json::from_str(&text)
                    .map_err(|source| DockerError::Answer { program: self.0.name(), source })?;
                Ok(found.into_iter().next().map(|raw| LocalImage {
                    id: raw.id,
                    platform: format!("{}/{}", raw.os, raw.architecture),
                    labels: raw.config.and_then(|config| config.labels).unwrap_or_default(),
                    names: raw.repo_tags.unwrap_or_default(),
                }))
            }
            Err(error) if error.is_no_such_image() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a name to an image of the local store.
    ///
    /// # Errors
    /// There is no such image, or the engine is down.
    pub async fn tag(&self, image: &str, name: &str) -> Result<(), DockerError> {
        self.0.read(self.0.command().args(["tag", image, name])).await.map(drop)
    }

    /// Removes a name from an image of the local store, and the image with its last name. Intermediate images of the legacy builder are
    /// kept: another build may be using them as its cache. Not async, so that it can be used in `Drop`.
    ///
    /// # Errors
    /// There is no such image, a container uses it, or the engine is down.
    pub fn untag(&self, image: &str) -> Result<(), DockerError> {
        let mut command = self.0.command().args(["image", "rm"]);
        if matches!(self.0.kind, Kind::Docker | Kind::Podman) {
            command = command.arg("--no-prune");
        }
        let removed = command.arg(image).read();
        removed.map(drop).map_err(|error| DockerError::from_process(self.0, error))
    }

    /// Removes an image without a name, by its ID, and the intermediate images below it that no other image is built on.
    ///
    /// # Errors
    /// A container uses it, or the engine is down.
    pub async fn remove(&self, id: &str) -> Result<(), DockerError> {
        self.0.read(self.0.command().args(["image", "rm", id])).await.map(drop)
    }

    /// Pulls an image into the local store; `on_line` gets each line of output.
    ///
    /// # Errors
    /// The engine is down, or the registry refuses.
    pub async fn pull(
        &self,
        image: &str,
        kill_handle: KillHandle,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), DockerError> {
        let command = insecure(self.0, self.0.command().arg("pull"), image).arg(image);
        command.stream(kill_handle, on_line).await.map_err(|error| DockerError::from_process(self.0, error))
    }

    /// The wanted names of images that have a label, or an empty list if these names are not `enough`. Other images are not inspected: they
    /// may be removed at any time.
    ///
    /// # Errors
    /// The engine is down, or the client cannot filter by label.
    pub async fn names_with(
        &self,
        label: &str,
        is_wanted: impl Fn(&str) -> bool,
        enough: impl Fn(&[&str]) -> bool,
    ) -> Result<Vec<LocalName>, DockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Raw {
            id: String,
            created: Option<Timestamp>,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
            metadata: Option<Metadata>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Metadata {
            last_tag_time: Option<Timestamp>,
        }
        let filter = format!("label={label}");
        let format = "{{.ID}} {{.Repository}}:{{.Tag}}";
        let list = ["image", "ls", "--no-trunc", "--filter", &filter, "--format", format];
        let listed = self.0.read(self.0.command().args(list)).await?;
        let named = listed.lines().filter_map(|line| line.split_once(' '));
        let (ids, found): (BTreeSet<&str>, Vec<&str>) = named.filter(|(_, name)| is_wanted(name)).unzip();
        if ids.is_empty() || !enough(&found) {
            return Ok(Vec::new());
        }
        let text = self.0.read(self.0.command().args(["image", "inspect"]).args(ids)).await?;
        let images: Vec<Raw> = serde_json::from_str(&text)
            .map_err(|source| DockerError::Answer { program: self.0.name(), source })?;
        let names = images.into_iter().flat_map(|image| {
            let tagged = image.metadata.and_then(|metadata| metadata.last_tag_time);
            let since = tagged.max(image.created).unwrap_or(Timestamp::MIN);
            let id = image.id;
            let names = image.repo_tags.unwrap_or_default().into_iter();
            names.filter(|name| is_wanted(name)).map(move |name| LocalName { name, id: id.clone(), since })
        });
        Ok(names.collect())
    }

    /// Whether a container, running or not, uses an image or one that is built on it.
    ///
    /// # Errors
    /// The engine is down, or the client has no such filter.
    pub async fn has_container(&self, image: &str) -> Result<bool, DockerError> {
        let filter = format!("ancestor={image}");
        let found =
            self.0.read(self.0.command().args(["ps", "--all", "--quiet", "--filter", &filter])).await?;
        Ok(!found.is_empty())
    }
}

/// podman and nerdctl need a flag for plain http on loopback; docker does not.
fn insecure(docker: &Docker, command: Cmd, image: &str) -> Cmd {
    match docker.kind {
        Kind::Podman if is_loopback(image) => command.arg("--tls-verify=false"),
        _ => command,
    }
}
