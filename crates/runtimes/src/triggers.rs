//! The `ONBUILD` triggers of a build's base images: they run with the build, and are not visible in the Dockerfile.
//!
//! Their text is pinned with the image. What they take from elsewhere is not, so it is checked before the build starts.

use dockerfile::check_triggers;
use registry::names::{self, Fields};
use registry::{Kind, Manifest, Reference};
use serde::Deserialize;

use super::{Context, RuntimeError};

/// The part of an image's configuration with the triggers (<https://github.com/moby/docker-image-spec/blob/main/spec.md>; OCI has no such
/// field).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    config: Option<Process>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Process {
    on_build: Option<Vec<String>>,
}

/// The path to the field.
const TRIGGERS: Fields = Fields(&[("config", Some(&Fields(&[("OnBuild", None)])))]);

/// Checks the triggers of a pinned image, for all its platforms.
///
/// # Errors
/// The image cannot be read, or a trigger uses something from elsewhere that is not pinned.
pub(super) async fn check(context: &Context, image: &Reference) -> Result<(), RuntimeError> {
    let unreadable = |reason: String| RuntimeError::Unreadable { image: image.to_string(), reason };
    let get = async |reference: &Reference| {
        let found = context.client.manifest(reference).await?;
        found.ok_or_else(|| unreadable("it is not there".to_owned()))
    };
    let mut manifests: Vec<Manifest> = vec![get(image).await?];
    if manifests[0].kind() == Kind::Index {
        let index = manifests[0].index().map_err(|error| unreadable(error.to_string()))?;
        manifests.clear();
        for child in index.manifests.iter().filter(|child| child.attests().is_none()) {
            manifests.push(get(&image.with_digest(child.digest)).await?);
        }
    }
    for manifest in &manifests {
        let found = manifest.image().map_err(|error| unreadable(error.to_string()))?;
        let Some(config) = found.config else { continue };
        let bytes = registry::blobs::bytes(&context.client, image, &config).await?;
        // Docker ignores the case of the field's name.
        names::check(&bytes, &TRIGGERS).map_err(|why| unreadable(why.to_string()))?;
        let config: Config = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        let triggers = config.config.and_then(|process| process.on_build).unwrap_or_default();
        check_triggers(&image.to_string(), &triggers)?;
    }
    Ok(())
}
