//! The documents about a build: which packages its image contains ([`sbom`]), and what it was built from ([`provenance`]).
//!
//! Both are artifacts whose `subject` is a manifest of the build (the SBOM's is that of its platform); they change no manifest
//! (<https://github.com/opencontainers/image-spec/blob/main/manifest.md#guidelines-for-artifact-usage>). They depend only on the build, so
//! two builds with the same digest have the same two documents. `docs/attestations.md` describes them.

mod artifact;
mod provenance;
mod purl;
mod sbom;

use artifact::Artifact;
use registry::{Manifest, Reference};

use super::planned::Planned;
use super::push::Packed;
use super::{Context, RuntimeError};

/// Pushes the documents of a build that is already at the registry, and reads them back.
pub(super) async fn attach(
    context: &Context,
    planned: &Planned,
    repository: &Reference,
    manifest: &Manifest,
    images: &[Packed],
) -> Result<(), RuntimeError> {
    let mut artifacts = Vec::new();
    for image in images {
        let Some(installed) = &image.installed else { return Ok(()) };
        for line in &installed.unread {
            context.progress.warn(&planned.name, &format!("its SBOM is not complete: {line}"));
        }
        let document = sbom::document(planned, image, installed);
        artifacts.push(Artifact::new(sbom::MEDIA_TYPE, &document, &[], &image.manifest));
    }
    let document = provenance::document(planned, manifest, images);
    let annotations = [("in-toto.io/predicate-type", provenance::PREDICATE)];
    artifacts.push(Artifact::new(provenance::MEDIA_TYPE, &document, &annotations, manifest));
    let image = repository.with_digest(manifest.digest());
    let attached = async {
        // In sequence: they share the empty configuration.
        for artifact in &artifacts {
            artifact.push(context, &image).await?;
        }
        artifact::list(&context.client, repository, &artifacts).await
    };
    attached.await.map_err(|error| match error {
        RuntimeError::Registry(source) => RuntimeError::Attestations { image: image.to_string(), source },
        other => other,
    })
}

/// The version of this tool.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests;
