//! Creates the images of the catalogue, layer by layer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use flate2::Compression;
use serde_json::{Value, json};

use super::documents::{attestation, descriptor, put_index, put_manifest, read_json};
use super::{Contents, Repository, Scale, blob_path};
use crate::Error;
use crate::catalogue::{Content, Format, Image, PLATFORMS, images};
use crate::layer::{self, Layer, Noise};
use crate::root_fs;

/// The creation time in all images' configurations.
const CREATED: &str = "2023-09-01T00:00:00Z";

/// Divisor of the size for the other platforms, and for all platforms of small images.
const SMALLER: u64 = 256;

/// Least random data of a layer, in bytes.
const LEAST: u64 = 512;

type Platform = (&'static str, &'static str, Option<&'static str>);

/// A built layer's key: its content and platform.
type Key = (String, Option<&'static str>);

struct Maker<'a> {
    data: &'a Path,
    dir: &'a Path,
    scale: Scale,
    /// The architecture of this machine, for which the bases can run.
    native: &'static str,
    layers: HashMap<Key, Layer>,
}

/// Creates every image below `dir`.
pub(super) fn make(data: &Path, dir: &Path, scale: Scale) -> Result<Contents, Error> {
    let blobs = dir.join("blobs");
    std::fs::create_dir(&blobs).map_err(Error::file("create", blobs))?;
    let native = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "s390x" => "s390x",
        "arm" => "arm",
        _ => "amd64",
    };
    let mut maker = Maker { data, dir, scale, native, layers: HashMap::new() };
    let mut contents = Contents::default();
    for image in images() {
        let repository = contents.repositories.entry(image.path()).or_default();
        let digest = maker.image(image, repository)?;
        repository.tags.insert(image.tag.to_owned(), digest);
    }
    Ok(contents)
}

impl Maker<'_> {
    /// Creates one image and returns its index's digest.
    fn image(&mut self, image: &Image, repository: &mut Repository) -> Result<String, Error> {
        let types = image.format.media_types();
        let mut platforms = Vec::new();
        let mut attestations = Vec::new();
        for platform in PLATFORMS {
            let layers = image
                .layers
                .iter()
                .map(|content| self.layer(*content, platform))
                .collect::<Result<Vec<_>, _>>()?;
            let config = config(image, platform, &layers);
            let manifest = put_manifest(self.dir, repository, &types, &config, &layers)?;
            let (os, architecture, variant) = platform;
            let mut described = json!({ "architecture": architecture, "os": os });
            if let Some(variant) = variant {
                described["variant"] = variant.into();
            }
            if image.format == Format::Oci {
                attestations.push(attestation(self.dir, repository, &manifest)?);
            }
            platforms.push(descriptor(types.manifest, &manifest, Some(described)));
        }
        platforms.extend(attestations);
        put_index(self.dir, repository, image.format, platforms)
    }

    fn layer(&mut self, content: Content, platform: Platform) -> Result<Layer, Error> {
        let (_, architecture, _) = platform;
        let (name, specific) = match content {
            // Layers without machine code are the same on every platform.
            Content::Noise(name, kib) => (format!("noise {name}"), (kib > 8).then_some(architecture)),
            Content::RootFs => ("root file system".to_owned(), Some(architecture)),
            Content::Managed => ("managed".to_owned(), None),
            Content::Provided => ("provided".to_owned(), None),
        };
        let key = (name, specific);
        if let Some(layer) = self.layers.get(&key) {
            return Ok(layer.clone());
        }
        let layer = self.make_layer(content, specific)?;
        self.layers.insert(key, layer.clone());
        Ok(layer)
    }

    fn make_layer(&self, content: Content, architecture: Option<&str>) -> Result<Layer, Error> {
        match content {
            Content::Noise(name, kib) => {
                let full = self.scale == Scale::Full
                    && architecture.is_none_or(|architecture| architecture == "amd64");
                let bytes = kib * 1024 / if full { 1 } else { SMALLER };
                noise_layer(self.dir, &format!("{name} {}", architecture.unwrap_or("any")), bytes.max(LEAST))
            }
            Content::RootFs => match architecture {
                Some(architecture) if architecture == self.native && self.scale == Scale::Full => {
                    self.root_fs()
                }
                _ => noise_layer(self.dir, &format!("root {}", architecture.unwrap_or("any")), 64 * 1024),
            },
            Content::Managed => put_layer(self.dir, Compression::best(), |archive| {
                archive.directory("usr/local/bin")?;
                archive.file(
                    "usr/local/bin/aws-lambda-rie",
                    0o755,
                    include_bytes!("../../assets/aws-lambda-rie"),
                )?;
                archive.directory("var/runtime")?;
                archive.file("var/runtime/bootstrap", 0o755, include_bytes!("../../assets/bootstrap"))?;
                archive.file(
                    "lambda-entrypoint.sh",
                    0o755,
                    include_bytes!("../../assets/lambda-entrypoint.sh"),
                )?;
                archive.directory("var/task")?;
                archive.file("var/task/app", 0o755, include_bytes!("../../assets/app"))
            }),
            Content::Provided => put_layer(self.dir, Compression::best(), |archive| {
                archive.directory("usr/local/bin")?;
                archive.file(
                    "usr/local/bin/aws-lambda-rie",
                    0o755,
                    include_bytes!("../../assets/aws-lambda-rie"),
                )?;
                archive.directory("var/runtime")?;
                archive.file(
                    "lambda-entrypoint.sh",
                    0o755,
                    include_bytes!("../../assets/lambda-entrypoint.sh"),
                )?;
                archive.directory("var/task")?;
                archive.file("var/task/bootstrap.sh", 0o755, include_bytes!("../../assets/bootstrap"))?;
                archive.file("var/task/app", 0o755, include_bytes!("../../assets/app"))
            }),
        }
    }

    /// The real root file system, cached in the data directory because creating it takes long.
    fn root_fs(&self) -> Result<Layer, Error> {
        let cache = self.data.join(format!("root-fs-{}-3", self.native));
        let description = cache.join("layer.json");
        let archive = cache.join("layer.tar.gz");
        let layer = match std::fs::read(&description) {
            Ok(json) => serde_json::from_slice(&json)
                .map_err(|source| Error::Damaged { path: description.clone(), source })?,
            Err(_) => {
                let root = self.dir.join("root-fs");
                root_fs::make(&root)?;
                let made = self.dir.join("made");
                std::fs::create_dir(&made).map_err(Error::file("create", &made))?;
                let layer = layer::write(&made.join("layer.tar.gz"), Compression::default(), |archive| {
                    archive.tree(&root)
                })?;
                let json = json!(layer).to_string();
                std::fs::write(made.join("layer.json"), json).map_err(Error::file("write", &made))?;
                std::fs::remove_dir_all(&root).map_err(Error::file("remove", &root))?;
                // The rename makes the cache complete at once, with its description.
                std::fs::rename(&made, &cache).map_err(Error::file("rename", made))?;
                layer
            }
        };
        let blob = blob_path(self.dir, &layer.digest);
        if std::fs::hard_link(&archive, &blob).is_err() {
            std::fs::copy(&archive, &blob).map_err(Error::file("copy", archive))?;
        }
        Ok(layer)
    }
}

/// A changed version of the index `digest`: every platform gets a layer with the text `change`. Returns the new digest.
pub(super) fn changed(
    dir: &Path,
    repository: &mut Repository,
    digest: &str,
    change: &str,
) -> Result<String, Error> {
    let index = read_json(&blob_path(dir, digest))?;
    let format =
        if index["mediaType"] == Format::Oci.media_types().index { Format::Oci } else { Format::Docker };
    let types = format.media_types();
    let layer =
        put_layer(dir, Compression::best(), |archive| archive.file("CHANGED", 0o644, change.as_bytes()))?;
    let mut platforms = Vec::new();
    let mut attestations = Vec::new();
    for child in index["manifests"].as_array().into_iter().flatten() {
        if child["platform"]["os"] == "unknown" {
            continue;
        }
        let manifest = read_json(&blob_path(dir, child["digest"].as_str().unwrap_or_default()))?;
        let mut config =
            read_json(&blob_path(dir, manifest["config"]["digest"].as_str().unwrap_or_default()))?;
        push(&mut config["rootfs"]["diff_ids"], json!(layer.diff_id));
        push(&mut config["history"], json!({ "created": CREATED, "created_by": change }));
        let diff_ids = config["rootfs"]["diff_ids"].as_array().into_iter().flatten();
        let old = manifest["layers"].as_array().into_iter().flatten();
        let layers: Vec<Layer> = old
            .map(|layer| (layer["digest"].clone(), layer["size"].as_u64().unwrap_or_default()))
            .chain([(json!(layer.digest), layer.size)])
            .zip(diff_ids)
            .map(|((digest, size), diff_id)| Layer {
                digest: digest.as_str().unwrap_or_default().to_owned(),
                diff_id: diff_id.as_str().unwrap_or_default().to_owned(),
                size,
            })
            .collect();
        let manifest = put_manifest(dir, repository, &types, &config, &layers)?;
        if format == Format::Oci {
            attestations.push(attestation(dir, repository, &manifest)?);
        }
        platforms.push(descriptor(types.manifest, &manifest, Some(child["platform"].clone())));
    }
    platforms.extend(attestations);
    put_index(dir, repository, format, platforms)
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

fn config(image: &Image, (os, architecture, variant): Platform, layers: &[Layer]) -> Value {
    let mut env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    let mut process = json!({ "Labels": { "org.opencontainers.image.title": image.repository } });
    if image.is_lambda() {
        env.extend(["LAMBDA_TASK_ROOT=/var/task".to_owned(), "LAMBDA_RUNTIME_DIR=/var/runtime".to_owned()]);
        process["WorkingDir"] = "/var/task".into();
    }
    process["Env"] = json!(env);
    if !image.entry_point.is_empty() {
        process["Entrypoint"] = json!(image.entry_point);
    }
    let mut history: Vec<Value> =
        layers.iter().map(|_| json!({ "created": CREATED, "created_by": "sample-upstreams" })).collect();
    history.push(json!({ "created": CREATED, "created_by": "ENTRYPOINT", "empty_layer": true }));
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let mut config = json!({
        "created": CREATED,
        "architecture": architecture,
        "os": os,
        "config": process,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    });
    if let Some(variant) = variant {
        config["variant"] = variant.into();
    }
    config
}

fn noise_layer(dir: &Path, name: &str, bytes: u64) -> Result<Layer, Error> {
    // Random data cannot be compressed: stored blocks have the same size and are much faster.
    put_layer(dir, Compression::none(), |archive| {
        archive.directory("opt")?;
        archive.stream("opt/sample", 0o644, bytes, Noise::new(name, bytes))
    })
}

fn put_layer(
    dir: &Path,
    compression: Compression,
    fill: impl FnOnce(&mut layer::Archive) -> std::io::Result<()>,
) -> Result<Layer, Error> {
    let temporary: PathBuf = dir.join("layer");
    let layer = layer::write(&temporary, compression, fill)?;
    std::fs::rename(&temporary, blob_path(dir, &layer.digest)).map_err(Error::file("rename", temporary))?;
    Ok(layer)
}
