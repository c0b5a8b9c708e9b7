//! Saved images, written for the tests.

use std::io::Write as _;

use super::*;

/// A tar file of files and symlinks.
pub(crate) fn tar(entries: &[(&str, &[u8])], links: &[(&str, &str)]) -> tempfile::NamedTempFile {
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut tar = tar::Builder::new(out.as_file());
    for (name, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, name, target).unwrap();
    }
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.finish().unwrap();
    drop(tar);
    out
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A configuration with these layers.
pub(crate) fn config(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    serde_json::json!({ "rootfs": { "type": "layers", "diff_ids": ids } }).to_string().into_bytes()
}

#[test]
fn dockers_layout_with_a_layer_that_links_to_another() {
    let config = config(&[b"one", b"two", b"one"]);
    let manifest = br#"[{"Config":"c.json","Layers":["a/layer.tar","b/layer.tar","c/layer.tar"]}]"#;
    let file = tar(
        &[("a/layer.tar", b"one"), ("b/layer.tar", b"two"), ("c.json", &config), ("manifest.json", manifest)],
        &[("c/layer.tar", "../a/layer.tar")],
    );
    let scratch = tempfile::tempdir().unwrap();
    let archive = Archive::open(file.path()).unwrap();
    for (number, content) in ["one", "two", "one"].into_iter().enumerate() {
        let mut text = String::new();
        archive.plain(number, scratch.path()).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, content);
    }
}

#[test]
fn a_compressed_layer_is_unpacked() {
    let blob = gzip(b"content");
    let name = format!("blobs/sha256/{}", Digest::of(&blob).hex());
    let config = config(&[b"content"]);
    let manifest = format!(r#"[{{"Config":"c","Layers":["{name}"]}}]"#);
    let file = tar(&[(&name, &blob), ("c", &config), ("manifest.json", manifest.as_bytes())], &[]);
    let archive = Archive::open(file.path()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut read = [Vec::new(), Vec::new()];
    archive.plain(0, scratch.path()).unwrap().read_to_end(&mut read[0]).unwrap();
    archive.bytes(0).unwrap().unwrap().read_to_end(&mut read[1]).unwrap();
    assert_eq!(read, [b"content", b"content"]);
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_layer_with_another_diff_id_is_refused() {
    for layer in [b"other".to_vec(), gzip(b"other")] {
        let config = config(&[b"content"]);
        let manifest = br#"[{"Config":"c","Layers":["l"]}]"#;
        let file = tar(&[("l", &layer), ("c", &config), ("manifest.json", manifest)], &[]);
        let scratch = tempfile::tempdir().unwrap();
        let error = Archive::open(file.path()).unwrap().plain(0, scratch.path()).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Layer { found, .. } if found == Digest::of(b"other")),
            "{error}"
        );
    }
}

#[test]
fn a_missing_part_is_named() {
    let manifest: &[u8] = br#"[{"Config":"c","Layers":["l"]}]"#;
    let one = config(&[b"1"]);
    let two = config(&[b"1", b"2"]);
    for (entries, what) in [
        (vec![("c", &b"{}"[..])], "manifest.json"),
        (vec![("manifest.json", b"[]")], "image"),
        (vec![("manifest.json", manifest)], "c"),
        (vec![("manifest.json", manifest), ("c", &one)], "l"),
        (vec![("manifest.json", manifest), ("c", &two), ("l", b"1")], "2 layers but 1"),
    ] {
        let error = Archive::open(tar(&entries, &[]).path()).unwrap_err().to_string();
        assert_eq!(error, format!("the saved image has no {what}"));
    }
}

/// An OCI layout as docker 29 saves it with containerd's store: gzip layers and no `manifest.json`.
struct Layout {
    blobs: Vec<(String, Vec<u8>)>,
}

impl Layout {
    /// Adds a blob and returns its descriptor.
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = Digest::of(bytes);
        self.blobs.push((format!("blobs/sha256/{}", digest.hex()), bytes.to_vec()));
        serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": digest.to_string(), "size": bytes.len(),
        })
    }

    /// Adds an image of one layer and returns its manifest's descriptor.
    fn image(&mut self, content: &[u8]) -> serde_json::Value {
        let config = self.blob("config.v1+json", &config(&[content]));
        let layer = self.blob("layer.v1.tar+gzip", &gzip(content));
        let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        self.blob("manifest.v1+json", manifest.to_string().as_bytes())
    }

    fn index(&mut self, manifests: &[serde_json::Value]) -> serde_json::Value {
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        self.blob("index.v1+json", index.to_string().as_bytes())
    }

    fn open(&self, manifests: &[serde_json::Value]) -> Result<Vec<Digest>, ArchiveError> {
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        let marker = br#"{"imageLayoutVersion":"1.0.0"}"#;
        let mut entries: Vec<(&str, &[u8])> =
            self.blobs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        entries.extend([("index.json", index.as_bytes()), ("oci-layout", &marker[..])]);
        let file = tar(&entries, &[]);
        let archive = Archive::open(file.path())?;
        let layers = 0..archive.diff_ids.len();
        layers.map(|n| hash(&mut archive.bytes(n)?.unwrap(), |_| Ok(()))).collect()
    }
}

#[test]
fn a_nested_index_without_dockers_list_leads_to_its_only_image() {
    let mut layout = Layout { blobs: Vec::new() };
    let image = layout.image(b"content");
    let content = vec![Digest::of(b"content")];
    assert_eq!(layout.open(std::slice::from_ref(&image)).unwrap(), content);

    // Of another platform's image only the manifest's digest was saved; an attestation is not an image.
    let elsewhere = Layout { blobs: Vec::new() }.image(b"another platform's");
    let mut attestation = layout.image(b"{}");
    attestation["platform"] = serde_json::json!({ "os": "unknown", "architecture": "unknown" });
    attestation["annotations"] = serde_json::json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let nested = layout.index(&[image.clone(), elsewhere, attestation]);
    assert_eq!(layout.open(std::slice::from_ref(&nested)).unwrap(), content);
    // Two names of the same image.
    assert_eq!(layout.open(&[nested, image.clone()]).unwrap(), content);

    let other = layout.image(b"other");
    let error = layout.open(&[image, other]).unwrap_err();
    assert_eq!(error.to_string(), "the container client saved 2 images instead of one");
    let error = layout.open(&[]).unwrap_err();
    assert_eq!(error.to_string(), "the saved image has no image");
}

#[test]
fn a_blob_with_another_digest_is_refused() {
    for part in ["manifest", "configuration"] {
        let mut layout = Layout { blobs: Vec::new() };
        let image = layout.image(b"content");
        // (configuration, layer, manifest)
        let at = if part == "manifest" { 2 } else { 0 };
        layout.blobs[at].1.push(b' ');
        let error = layout.open(&[image]).unwrap_err();
        assert!(matches!(error, ArchiveError::Blob { .. }), "{part}: {error}");
    }
}

#[test]
fn a_missing_entry_of_an_index_is_named() {
    let mut layout = Layout { blobs: Vec::new() };
    let image = layout.image(b"content");
    let layer = layout.blobs.remove(1).0;
    let error = layout.open(&[image]).unwrap_err();
    assert_eq!(error.to_string(), format!("the saved image has no {layer}"));
}
