//! Finds the configuration and the layers in an archive that a container client saved.
//!
//! Three layouts are in use: docker's own (`<id>/layer.tar`; a layer that occurs twice is a symlink), the OCI layout of docker 25 and later
//! (`blobs/sha256/<hex>`), both with docker's `manifest.json`, and the OCI layout alone: `index.json`, which refers to a manifest or, on
//! containerd's image store, to an index of manifests (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use registry::Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ArchiveError;

/// Largest configuration or manifest that is read, in bytes. A registry does not accept more than 4 MiB either.
const JSON_LIMIT: u64 = 4 * 1024 * 1024;
/// Longest chain of symlinks; a longer one is treated as a cycle.
const LINK_LIMIT: usize = 8;
/// Deepest nesting of indexes. docker writes one index in `index.json`.
const DEPTH: usize = 4;

/// The annotation by which docker marks an attestation. It is listed next to an image in its index and is not an image
/// (<https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>).
const ATTESTATION: (&str, &str) = ("vnd.docker.reference.type", "attestation-manifest");

/// An image's parts.
pub(super) struct Found {
    /// The configuration's bytes.
    pub(super) config: Vec<u8>,
    /// Offset and size of each layer, lowest first.
    pub(super) layers: Vec<(u64, u64)>,
}

/// An image as listed in docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    layers: Vec<String>,
}

/// The fields that `index.json` and a nested index share.
#[derive(Deserialize)]
struct ImageIndex {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Descriptor {
    fn is_index(&self) -> bool {
        self.media_type.ends_with(".image.index.v1+json")
            || self.media_type.ends_with(".manifest.list.v2+json")
    }

    fn is_attestation(&self) -> bool {
        self.annotations.get(ATTESTATION.0).is_some_and(|kind| kind == ATTESTATION.1)
    }

    fn digest(&self) -> Result<Digest, ArchiveError> {
        let missing = |_| ArchiveError::Missing { what: format!("digest instead of `{}`", self.digest) };
        self.digest.parse().map_err(missing)
    }

    /// Its path in the layout.
    fn path(&self) -> Result<String, ArchiveError> {
        Ok(format!("blobs/sha256/{}", self.digest()?.hex()))
    }
}

/// Finds the only image of an archive.
pub(super) fn find(file: &mut File) -> Result<Found, ArchiveError> {
    let index = Index::read(file)?;
    if index.has("manifest.json") || !index.has("index.json") {
        return listed(&index, file);
    }
    let top: ImageIndex = json(&index.bytes(file, "index.json")?, "index.json")?;
    let mut manifests = BTreeMap::new();
    images(&index, file, top, &mut manifests, DEPTH)?;
    let count = manifests.len();
    let mut manifests = manifests.into_values();
    match (manifests.next(), count) {
        (Some(manifest), 1) => Ok(Found {
            config: blob(&index, file, &manifest.config)?,
            layers: manifest
                .layers
                .iter()
                .map(|layer| index.place(&layer.path()?))
                .collect::<Result<_, _>>()?,
        }),
        (None, _) => Err(ArchiveError::Missing { what: "image".to_owned() }),
        _ => Err(ArchiveError::Several { count }),
    }
}

/// The first image in docker's `manifest.json`.
fn listed(index: &Index, file: &mut File) -> Result<Found, ArchiveError> {
    let all: Vec<Listed> = json(&index.bytes(file, "manifest.json")?, "manifest.json")?;
    let first = all.into_iter().next().ok_or_else(|| ArchiveError::Missing { what: "image".to_owned() })?;
    Ok(Found {
        config: index.bytes(file, &first.config)?,
        layers: first.layers.iter().map(|name| index.place(name)).collect::<Result<_, _>>()?,
    })
}

/// The manifests that an index refers to, by digest: two names may refer to one. An index of several platforms lists more than the client
/// has saved, and attestations next to the images.
fn images(
    index: &Index,
    file: &mut File,
    top: ImageIndex,
    found: &mut BTreeMap<String, Manifest>,
    depth: usize,
) -> Result<(), ArchiveError> {
    for descriptor in top.manifests {
        if descriptor.is_attestation() || !index.has(&descriptor.path()?) {
            continue;
        }
        let bytes = blob(index, file, &descriptor)?;
        if !descriptor.is_index() {
            found.insert(descriptor.digest, json(&bytes, "manifest")?);
        } else if depth > 0 {
            images(index, file, json(&bytes, "index")?, found, depth - 1)?;
        }
    }
    Ok(())
}

/// A blob's bytes, checked against the digest in its name.
fn blob(index: &Index, file: &mut File, descriptor: &Descriptor) -> Result<Vec<u8>, ArchiveError> {
    let bytes = index.bytes(file, &descriptor.path()?)?;
    let (expected, found) = (descriptor.digest()?, Digest::of(&bytes));
    if found == expected { Ok(bytes) } else { Err(ArchiveError::Blob { expected, found }) }
}

fn json<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, ArchiveError> {
    serde_json::from_slice(bytes).map_err(|source| ArchiveError::Json { what, source })
}

/// The position of each entry of a tar file.
#[derive(Default)]
struct Index {
    files: BTreeMap<String, (u64, u64)>,
    links: BTreeMap<String, String>,
}

impl Index {
    fn read(file: &mut File) -> Result<Self, ArchiveError> {
        let mut index = Self::default();
        let mut archive = tar::Archive::new(file);
        for entry in archive.entries_with_seek().map_err(ArchiveError::Read)? {
            let entry = entry.map_err(ArchiveError::Read)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                if let Some(target) = entry.link_name_bytes() {
                    let target = String::from_utf8_lossy(&target).into_owned();
                    index.links.insert(
                        name.clone(),
                        if kind.is_symlink() { sidecar(&name, &target) } else { target },
                    );
                }
            } else if kind.is_file() {
                index.files.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(index)
    }

    fn has(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    fn place(&self, name: &str) -> Result<(u64, u64), ArchiveError> {
        let mut at = name;
        for _ in 0..LINK_LIMIT {
            if let Some(place) = self.files.get(at) {
                return Ok(*place);
            }
            match self.links.get(at) {
                Some(target) => at = target,
                None => break,
            }
        }
        Err(ArchiveError::Missing { what: name.to_owned() })
    }

    fn bytes(&self, file: &mut File, name: &str) -> Result<Vec<u8>, ArchiveError> {
        let (offset, size) = self.place(name)?;
        if size > JSON_LIMIT {
            return Err(ArchiveError::Missing { what: format!("{name} of less than {JSON_LIMIT} bytes") });
        }
        file.seek(SeekFrom::Start(offset)).map_err(ArchiveError::Read)?;
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        Ok(bytes)
    }
}

/// A symlink's target as a path from the archive's root.
fn sidecar(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
