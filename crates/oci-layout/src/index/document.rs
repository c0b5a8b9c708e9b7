//! Reads and writes the file `index.json`.

use std::collections::BTreeMap;

use registry::{Digest, names};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Index, OCI_INDEX};

/// A manifest's name: often only a tag, or a name with a tag
/// ([annotations](https://github.com/opencontainers/image-spec/blob/main/annotations.md#pre-defined-annotation-keys)).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The full name if containerd or docker wrote the layout
/// ([containerd](https://github.com/containerd/containerd/blob/main/core/images/annotations.go)).
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Marks our layouts: their names are `repository:tag` without a registry.
const OURS: &str = "io.htc-grid.export";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    /// Fields of other tools.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    #[serde(default = "oci_index")]
    media_type: String,
    manifests: Vec<Entry>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn oci_index() -> String {
    OCI_INDEX.to_owned()
}

/// Parses the entries.
///
/// # Errors
/// The text is not an index.
pub(crate) fn parse(text: &[u8]) -> Result<Index, serde_json::Error> {
    names::check(text, &names::MANIFEST).map_err(serde::de::Error::custom)?;
    let document: Document = serde_json::from_slice(text)?;
    let ours = document.annotations.contains_key(OURS);
    let mut index = Index::default();
    for entry in document.manifests {
        index.types.note(entry.digest, &entry.media_type);
        let name = name_of(&entry, ours);
        index.entries.push(entry);
        if let Some(name) = name {
            // If two have one name the last one counts, as in skopeo.
            index.names.insert(name, index.entries.len() - 1);
        }
    }
    Ok(index)
}

/// The text of the file.
pub(crate) fn text(index: &Index) -> String {
    let document = Document {
        schema_version: 2,
        media_type: oci_index(),
        manifests: index.entries.clone(),
        annotations: BTreeMap::from([(OURS.to_owned(), "1".to_owned())]),
    };
    serde_json::to_string(&document).unwrap_or_default()
}

/// The repository and tag of an entry; `None` if it has no name, or only a tag.
fn name_of(entry: &Entry, ours: bool) -> Option<(String, String)> {
    let annotation = |name: &str| entry.annotations.get(name).map(String::as_str);
    let name = [CONTAINERD_NAME, REF_NAME].into_iter().filter_map(annotation).find(|name| {
        // A tag alone does not name the repository.
        name.rsplit('/').next().is_some_and(|last| last.contains(':'))
    })?;
    let (repository, tag) = name.split('@').next()?.rsplit_once(':')?;
    let repository = match repository.split_once('/') {
        Some((host, rest)) if !ours && is_host(host) => rest.strip_prefix("library/").unwrap_or(rest),
        _ => repository,
    };
    Some((repository.to_owned(), tag.to_owned()))
}

/// Whether the first part of a name is a registry, by docker's rule.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost"
}
