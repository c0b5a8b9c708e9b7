//! Images made, pushed and read back here: programs for that would be started hundreds of times.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::{Shelf, digest, get};

/// What docker gives an image that begins with nothing.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The types that `docker push` writes.
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A shell and more in one program, which needs no libraries.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// An image's files, in layers. A layer that two images share is lost to an engine where one of them is built on while the other is
/// removed, so each needs files that are its own, or a time.
pub struct Base {
    layers: Vec<Builder<GzEncoder<Vec<u8>>>>,
    time: u64,
}

impl Base {
    /// Without files, all of which are of this time.
    pub fn new(time: u64) -> Self {
        Self { layers: vec![layer()], time }
    }

    /// With a shell in which something runs, and this file `/content`, in layers that no image with another content has.
    pub fn with_shell(content: &str) -> Self {
        let time = u64::from_str_radix(&digest(content.as_bytes())["sha256:".len()..][..7], 16).unwrap();
        let base = Self::new(time).file("content", content.as_bytes()).next_layer().directory("bin");
        base.program("bin/sh", Path::new(BUSYBOX)).next_layer().links(["bin/cat", "bin/sleep"], "sh")
    }

    /// What follows is in another layer.
    #[must_use]
    pub fn next_layer(mut self) -> Self {
        self.layers.push(layer());
        self
    }

    fn header(&self, entry: EntryType, mode: u32, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.time);
        header.set_size(size.try_into().unwrap());
        header
    }

    fn entry(&mut self, path: &str, entry: EntryType, mode: u32, content: &[u8]) {
        let mut header = self.header(entry, mode, content.len());
        self.layers.last_mut().unwrap().append_data(&mut header, path, content).unwrap();
    }

    /// With this directory, whose parents come first.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.entry(path, EntryType::Directory, 0o755, b"");
        self
    }

    /// With a file of this content.
    #[must_use]
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, 0o644, content);
        self
    }

    /// With a program of this machine.
    #[must_use]
    pub fn program(mut self, path: &str, program: &Path) -> Self {
        self.entry(path, EntryType::Regular, 0o755, &std::fs::read(program).unwrap());
        self
    }

    /// With symbolic links to `target`.
    #[must_use]
    pub fn links<'a>(mut self, paths: impl IntoIterator<Item = &'a str>, target: &str) -> Self {
        for path in paths {
            let mut header = self.header(EntryType::Symlink, 0o777, 0);
            self.layers.last_mut().unwrap().append_link(&mut header, path, target).unwrap();
        }
        self
    }

    /// Pushes the image, for this machine, with what its configuration has in addition to docker's PATH; gives its descriptor.
    pub fn push(self, image: &str, config: &Value) -> Value {
        self.push_for(architecture(), image, config)
    }

    /// The same for machines of this architecture.
    pub fn push_for(self, architecture: &str, image: &str, config: &Value) -> Value {
        let finished = |layer: Builder<GzEncoder<Vec<u8>>>| layer.into_inner().unwrap().finish().unwrap();
        let layers: Vec<Vec<u8>> = self.layers.into_iter().map(finished).collect();
        let contents: Vec<String> = layers.iter().map(|layer| digest(&unzipped(layer))).collect();
        let mut own = json!({ "Env": [PATH] });
        let fields = own.as_object_mut().unwrap();
        fields.extend(config.as_object().cloned().unwrap_or_default());
        let created = "2026-01-01T00:00:00Z";
        let image_config = json!({
            "architecture": architecture, "os": "linux", "created": created, "config": own,
            "rootfs": { "type": "layers", "diff_ids": contents },
            "history": vec![json!({ "created": created, "created_by": "COPY / /" }); layers.len()],
        });
        let (host, name) = image.split_once('/').unwrap();
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let shelf = Shelf::new(host, repository);
        let layers: Vec<Value> = layers.iter().map(|layer| shelf.blob(LAYER, layer)).collect();
        let image_config = shelf.blob(CONFIG, image_config.to_string().as_bytes());
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": image_config, "layers": layers });
        shelf.manifest(Some(tag), &manifest)
    }
}

/// This machine's architecture in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn layer() -> Builder<GzEncoder<Vec<u8>>> {
    Builder::new(GzEncoder::new(Vec::new(), Compression::fast()))
}

fn unzipped(layer: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(layer).read_to_end(&mut content).unwrap();
    content
}

/// A file of an image: its mode and content, or that of a symbolic link and its target.
pub type File = (u32, Vec<u8>);

/// The files of the image under a tag of a registry, layer upon layer, each blob held against its digest. What a layer takes away is still
/// there, and directories are no part of it.
pub fn files(image: &str) -> BTreeMap<String, File> {
    let (host, name) = image.split_once('/').unwrap();
    let (repository, tag) = name.rsplit_once(':').unwrap();
    let manifest = Shelf::new(host, repository).read(tag).unwrap_or_else(|| panic!("no {image}"));
    let mut files = BTreeMap::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let wanted = layer["digest"].as_str().unwrap();
        let blob = get(&format!("http://{host}/v2/{repository}/blobs/{wanted}")).body;
        assert_eq!(digest(&blob), wanted, "{image}");
        let content = if blob.starts_with(&[0x1f, 0x8b]) { unzipped(&blob) } else { blob };
        for entry in tar::Archive::new(&content[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().trim_start_matches("./").to_owned();
            let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
            let file = match (entry.header().entry_type(), target) {
                (EntryType::Symlink, Some(target)) => (0o120_000, target),
                (EntryType::Regular, _) => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).unwrap();
                    (entry.header().mode().unwrap() & 0o777, content)
                }
                (EntryType::Directory, _) => continue,
                (other, _) => panic!("{image} has a {other:?}: {path}"),
            };
            files.insert(path, file);
        }
    }
    files
}
