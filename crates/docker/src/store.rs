//! Names in the client's local store.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;

use super::{Docker, DockerError};

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

impl Docker {
    /// The names that are wanted of the images that carry a label. Nothing else is looked at: another image may be gone in the
    /// next moment.
    ///
    /// # Errors
    /// The engine is down, or the client knows no filter by label.
    pub async fn names_with(
        &self,
        label: &str,
        is_wanted: impl Fn(&str) -> bool,
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
        let listed = self.read(self.command().args(list)).await?;
        let named = listed.lines().filter_map(|line| line.split_once(' '));
        let ids: BTreeSet<&str> = named.filter(|(_, name)| is_wanted(name)).map(|(id, _)| id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let text = self.read(self.command().args(["image", "inspect"]).args(ids)).await?;
        let images: Vec<Raw> = serde_json::from_str(&text)
            .map_err(|source| DockerError::Answer { program: self.name(), source })?;
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
        let found = self.read(self.command().args(["ps", "--all", "--quiet", "--filter", &filter])).await?;
        Ok(!found.is_empty())
    }
}
