//! Images in the client's local store, and their names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use process::{Cmd, Killer};
use serde::Deserialize;

use super::{Docker, DockerError, Kind, is_loopback};

/// A name in the local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalName {
    /// `repository:tag`.
    pub name: String,
    /// The ID of the image that it means.
    pub id: String,
    /// When it was given, where the engine tells that, else when the image was made.
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
    pub async fn save(&self, image: &str, file: &Path, killer: Killer) -> Result<(), DockerError> {
        let mut command = self.0.command().arg("save");
        if self.0.kind == Kind::Podman {
            command = command.args(["--format", "docker-archive"]);
        }
        let command = command.arg("--output").arg(file).arg(image);
        command.stream(killer, |_| {}).await.map_err(|error| DockerError::from_process(self.0, error))
    }

    /// Looks an image up in the local store, by a name or its ID.
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
        // Without a template: all four print a list then, and podman's `json` gives one with it too.
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

    /// Gives an image of the local store one more name.
    ///
    /// # Errors
    /// There is no such image, or the engine is down.
    pub async fn tag(&self, image: &str, name: &str) -> Result<(), DockerError> {
        self.0.read(self.0.command().args(["tag", image, name])).await.map(drop)
    }

    /// Takes a name away from an image of the local store; without any name the image goes. Intermediate images of docker's first
    /// builder stay: another build may be using them as its cache. Not a future, so that it can be done where nobody waits any
    /// more.
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

    /// Removes an image that has no name, by its ID, and those intermediate images below it that nothing else is built on.
    ///
    /// # Errors
    /// A container uses it, or the engine is down.
    pub async fn remove(&self, id: &str) -> Result<(), DockerError> {
        self.0.read(self.0.command().args(["image", "rm", id])).await.map(drop)
    }

    /// Pulls an image into the local store, line by line.
    ///
    /// # Errors
    /// The engine is down, or the registry refuses.
    pub async fn pull(
        &self,
        image: &str,
        killer: Killer,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<(), DockerError> {
        let command = insecure(self.0, self.0.command().arg("pull"), image).arg(image);
        command.stream(killer, on_line).await.map_err(|error| DockerError::from_process(self.0, error))
    }

    /// The names that are wanted of the images that carry a label, where they are `enough` to be looked at closer, else none. Nothing
    /// else is looked at: another image may be gone in the next moment.
    ///
    /// # Errors
    /// The engine is down, or the client knows no filter by label.
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

    /// Whether a container, running or not, was made of an image or of one that is built on it.
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

/// podman and nerdctl want to be told that a loopback registry speaks plain http; docker knows.
fn insecure(docker: &Docker, command: Cmd, image: &str) -> Cmd {
    match docker.kind {
        Kind::Podman if is_loopback(image) => command.arg("--tls-verify=false"),
        _ => command,
    }
}
