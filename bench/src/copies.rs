//! Writes and checks a catalogue's copy in a store.

use std::fs;

use anyhow::Result;

use crate::catalog::{Catalog, Variant};
use crate::store::{Store, parent};

/// Copies from `source` what a finished copy of `catalog` contains, without a client.
///
/// # Errors
/// A file cannot be written.
pub fn fill(target: &Store, source: &Store, catalog: &Catalog, variant: Variant) -> Result<()> {
    for image in &catalog.images {
        for blob in image.blobs() {
            let path = target.blob_path(&blob.digest);
            fs::create_dir_all(parent(&path))?;
            fs::copy(source.blob_path(&blob.digest), &path)?;
            target.link(&image.repository, &blob.digest)?;
        }
        target.put_manifest(&image.repository, &fs::read(source.blob_path(&image.manifest.digest))?)?;
        target.tag(&image.repository, image.tag(variant), &image.manifest.digest)?;
    }
    Ok(())
}

/// Why `store` does not contain a copy of `catalog`; with `exact`, the manifests must be identical.
pub fn fault(store: &Store, catalog: &Catalog, variant: Variant, exact: bool) -> Option<String> {
    for image in &catalog.images {
        let name = format!("{}:{}", image.repository, image.tag(variant));
        let Some(digest) = store.tagged(&image.repository, image.tag(variant)) else {
            return Some(format!("{name} is not there"));
        };
        if !exact {
            continue;
        }
        if digest != image.manifest.digest {
            return Some(format!("{name} is {digest}, not {}", image.manifest.digest));
        }
        for blob in image.blobs() {
            let link = store.repository(&image.repository).join("_layers");
            let size = fs::metadata(store.blob_path(&blob.digest)).map(|file| file.len()).ok();
            if size != Some(blob.size) || !link.join(blob.digest.replace(':', "/")).join("link").is_file() {
                return Some(format!("{name} lacks {}", blob.digest));
            }
        }
    }
    None
}
