//! Creates, pushes and reads images without other programs, which would have to be started hundreds of times.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::{TestRepository, digest, get};

/// docker's PATH for an image from scratch.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The media types of `docker push`.
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A shell and other tools in one static program.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

/// An image's files, in layers. An engine loses a layer that two images share if one image is built on while the other is removed, so each
/// image needs unique files or a unique time.
pub struct Base {
    layers: Vec<Builder<GzEncoder<Vec<u8>>>>,
    time: u64,
}

impl Base {
    /// An image without files; all files get this time.
    pub fn new(time: u64) -> Self {
        Self { layers: vec![layer()], time }
    }

    /// An image with a shell and a file `/content`, in layers that no image with other content has.
    pub fn with_shell(content: &str) -> Self {
        let time = u64::from_str_radix(&digest(content.as_bytes())["sha256:".len()..][..7], 16).unwrap();
        let base = Self::new(time).file("content", content.as_bytes()).next_layer().directory("bin");
        base.program("bin/sh", Path::new(BUSYBOX)).next_layer().links(["bin/cat", "bin/sleep"], "sh")
    }

    /// Starts a new layer.
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

    /// Adds a directory; its parents must exist.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.entry(path, EntryType::Directory, 0o755, b"");
        self
    }

    /// Adds a file with this content.
    #[must_use]
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, 0o644, content);
        self
    }

    /// Adds a program of this machine.
    #[must_use]
    pub fn program(mut self, path: &str, program: &Path) -> Self {
        self.entry(path, EntryType::Regular, 0o755, &std::fs::read(program).unwrap());
        self
    }

    /// Adds symbolic links to `target`.
    #[must_use]
    pub fn links<'a>(mut self, paths: impl IntoIterator<Item = &'a str>, target: &str) -> Self {
        for path in paths {
            let mut header = self.header(EntryType::Symlink, 0o777, 0);
            self.layers.last_mut().unwrap().append_link(&mut header, path, target).unwrap();
        }
        self
    }

    /// Pushes the image for this machine, with `config` in addition to docker's PATH; returns its descriptor.
    pub fn push(self, image: &str, config: &Value) -> Value {
        self.push_for(architecture(), image, config)
    }

    /// Pushes the image for this architecture.
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
        let shelf = TestRepository::new(host, repository);
        let layers: Vec<Value> = layers.iter().map(|layer| shelf.blob(LAYER, layer)).collect();
        let image_config = shelf.blob(CONFIG, image_config.to_string().as_bytes());
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": image_config, "layers": layers });
        shelf.manifest(Some(tag), &manifest)
    }
}

/// This machine's architecture in the OCI spelling.
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

/// A file of an image: its mode and content, or a symbolic link's mode and target.
pub type File = (u32, Vec<u8>);

/// The files of the image with this tag, from all layers; each blob is checked against its digest. Whiteouts are not applied, and
/// directories are left out.
pub fn files(image: &str) -> BTreeMap<String, File> {
    let (host, name) = image.split_once('/').unwrap();
    let (repository, tag) = name.rsplit_once(':').unwrap();
    let manifest = TestRepository::new(host, repository).read(tag).unwrap_or_else(|| panic!("no {image}"));
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
