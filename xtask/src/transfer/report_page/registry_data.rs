//! What the registry has for images after the run: layers, artifacts that refer to them, findings of its scans.

use std::collections::BTreeMap;
use std::time::Duration;

use aws::scans::ScanError;
use failure::error_parts;
use futures_util::stream::{self, StreamExt as _};
use images_config::RUNTIMES_REPOSITORY;
use registry::{Client, Descriptor, Digest, Reference, lists};
use report::{Layer, Referrers, Scan};

use super::whole;
use crate::transfer::scans::scan;
use crate::transfer::show::Report;
use crate::transfer::{Done, Plan, Run};

/// Maximum number of images to read. Reading more would take longer than the run.
const MOST: usize = 500;
/// Images read in parallel.
const AT_ONCE: usize = 16;
/// The time limit for all of them.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// The registry's data about an image.
#[derive(Debug, Default)]
pub struct RegistryData {
    pub(super) layers: Option<Vec<Layer>>,
    pub(super) referrers: Option<Referrers>,
    pub(super) scan: Scan,
}

/// An image to read.
struct Wanted {
    name: String,
    /// The image, with its digest.
    image: Reference,
    /// Whether its layers are known already.
    has_layers: bool,
    /// Whether artifacts may refer to it.
    has_beside: bool,
}

/// The registry's data about the images at the target, by name, and what could not be read, one line each. The run has ended, so
/// errors here do not fail it.
pub async fn read_registry_data(
    run: &Run<'_>,
    plan: &Plan<'_>,
    done: Option<&Done>,
    report: &Report,
) -> (BTreeMap<String, RegistryData>, Vec<String>) {
    let all = wanted(run, plan, done, report);
    let (count, mut notes) = (all.len(), Vec::new());
    if count > MOST {
        notes.push(format!(
            "the registry was asked about {MOST} of {count} images: layers and findings of the others are not known here"
        ));
    }
    let looks = all.iter().take(MOST).map(|wanted| one(run, wanted));
    let enough = async {
        tokio::select! {
            () = tokio::time::sleep(TIME_LIMIT) => {}
            () = run.interrupt.comes() => {}
        }
    };
    let _lane = run.printer.progress().lane("reading layers and findings for the report");
    let found: Vec<_> =
        stream::iter(looks).buffer_unordered(AT_ONCE).take_until(Box::pin(enough)).collect().await;
    let asked = count.min(MOST);
    if found.len() < asked {
        notes.push(format!(
            "the registry's answers about {} of {asked} images did not come in time",
            asked - found.len()
        ));
    }
    let mut unread: BTreeMap<String, usize> = BTreeMap::new();
    let mut looked = BTreeMap::new();
    for (name, known, errors) in found {
        looked.insert(name, known);
        for error in errors {
            *unread.entry(error).or_default() += 1;
        }
    }
    notes.extend(unread.into_iter().map(|(error, count)| match count {
        1 => error,
        _ => format!("{error} (and {} more)", count - 1),
    }));
    (looked, notes)
}

/// The images at the target. Runtimes and transferred images come first, because only the beginning of a long list is read.
fn wanted(run: &Run<'_>, plan: &Plan<'_>, done: Option<&Done>, report: &Report) -> Vec<Wanted> {
    let digest = |text: &Option<String>| text.as_ref()?.parse::<Digest>().ok();
    let runtimes = report.runtimes.iter().filter_map(|runtime| {
        let repository = run.target.repository(RUNTIMES_REPOSITORY).ok()?;
        let image = repository.with_digest(digest(&runtime.digest)?);
        Some((false, Wanted { name: runtime.name.clone(), image, has_layers: false, has_beside: true }))
    });
    let images = plan.images.images.iter().zip(&report.images).filter_map(|(planned, image)| {
        // Before the copy, only the source has it.
        let is_there = planned.content().is_none() || done.is_some();
        let at = planned.job.target.with_digest(digest(&image.digest).filter(|_| is_there)?);
        let has_layers = whole(planned).is_some();
        let has_beside = planned.job.artifacts;
        Some((!planned.has_work(), Wanted { name: image.name.clone(), image: at, has_layers, has_beside }))
    });
    let mut all: Vec<(bool, Wanted)> = runtimes.chain(images).collect();
    all.sort_by_key(|(is_old, _)| *is_old);
    all.into_iter().map(|(_, wanted)| wanted).collect()
}

/// The registry's data about one image, and what could not be read.
async fn one(run: &Run<'_>, wanted: &Wanted) -> (String, RegistryData, Vec<String>) {
    let (client, image, mut errors) = (run.mirror.client(), &wanted.image, Vec::new());
    let mut read =
        |what: &str, error: registry::Error| errors.push(format!("could not read {what}: {error}"));
    let layers = match wanted.has_layers {
        true => None,
        false => layers(client, image).await.map_err(|error| read("layers", error)).ok(),
    };
    let referrers = match wanted.has_beside {
        true => referrers(client, image).await.map_err(|error| read("an image's referrers", error)).ok(),
        false => None,
    };
    let scan = match &run.target.account {
        Some(account) => match scan(&account.aws, client, image).await {
            Ok(Some(found)) => Scan::Found(found.counts),
            Ok(None) => Scan::NotScanned,
            Err(error) => Scan::Unread(unread(&error)),
        },
        None => Scan::NotAsked,
    };
    (wanted.name.clone(), RegistryData { layers, referrers, scan }, errors)
}

/// Why findings could not be read. AWS's denial names the repository; this text does not, so that the page shows it only once.
fn unread(error: &anyhow::Error) -> String {
    match error.downcast_ref() {
        Some(ScanError::Denied { action, .. }) => format!("{action} is not allowed"),
        _ => in_a_line(error),
    }
}

/// The error with its causes, without hints: the user of a page did not request the findings.
fn in_a_line(error: &anyhow::Error) -> String {
    let parts = error_parts(error);
    std::iter::once(parts.message).chain(parts.causes).collect::<Vec<_>>().join(": ")
}

/// Layers and configurations of an image; for an index, of all its images.
async fn layers(client: &Client, image: &Reference) -> Result<Vec<Layer>, registry::Error> {
    let Some(manifest) = client.manifest(image).await? else { return Ok(Vec::new()) };
    let children = match manifest.index() {
        Ok(index) => index.manifests,
        Err(_) => return Ok(of_manifest(&manifest)),
    };
    let mut layers = Vec::new();
    // Attestations too: they are copied like the rest.
    for child in &children {
        let manifest = client.manifest(&image.with_digest(child.digest)).await?;
        layers.extend(manifest.iter().flat_map(of_manifest));
    }
    Ok(layers)
}

fn of_manifest(manifest: &registry::Manifest) -> Vec<Layer> {
    let Ok(image) = manifest.image() else { return Vec::new() };
    let blobs = image.blobs();
    blobs.into_iter().map(|blob| Layer { digest: blob.digest.to_string(), size: blob.size }).collect()
}

/// Artifacts of an image: those with it as their subject, and the signature that cosign stores under a tag.
async fn referrers(client: &Client, image: &Reference) -> Result<Referrers, registry::Error> {
    let mut referrers = Referrers::default();
    let Some(digest) = image.digest() else { return Ok(referrers) };
    for artifact in lists::referrers_of_all(client, image, digest).await? {
        *kind(&artifact, &mut referrers) += 1;
    }
    if lists::cosign_tagged(client, image, digest, "sig").await?.is_some() {
        referrers.signatures += 1;
    }
    Ok(referrers)
}

/// The counter for an artifact, by its type and annotations.
fn kind<'a>(artifact: &Descriptor, referrers: &'a mut Referrers) -> &'a mut usize {
    let kind = artifact.artifact_type.as_deref().unwrap_or(&artifact.media_type);
    let annotations = artifact.annotations.iter().flatten();
    let predicate =
        annotations.filter(|(name, _)| name.to_lowercase().contains("predicate")).map(|(_, value)| value);
    let says =
        |word: &str| kind.contains(word) || predicate.clone().any(|predicate| predicate.contains(word));
    if says("spdx") || says("cyclonedx") {
        &mut referrers.sboms
    } else if says("slsa.dev/provenance") || kind == "application/vnd.in-toto+json" {
        &mut referrers.provenances
    } else if says("sigstore.bundle") || says("cosign") || says("notary") {
        &mut referrers.signatures
    } else {
        &mut referrers.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referrers_of_an_image_are_counted_by_kind() {
        let mut counted = Referrers::default();
        for (artifact_type, annotation) in [
            ("application/spdx+json", None),
            ("application/vnd.cyclonedx+json", None),
            (
                "application/vnd.in-toto+json",
                Some(("in-toto.io/predicate-type", "https://slsa.dev/provenance/v1")),
            ),
            (
                "application/vnd.in-toto+json",
                Some(("in-toto.io/predicate-type", "https://spdx.dev/Document")),
            ),
            ("application/vnd.dev.sigstore.bundle.v0.3+json", None),
            (
                "application/vnd.dev.sigstore.bundle.v0.3+json",
                Some(("dev.sigstore.bundle.predicateType", "https://slsa.dev/provenance/v1")),
            ),
            ("application/x-readme", None),
        ] {
            let mut artifact =
                Descriptor::new("application/vnd.oci.image.manifest.v1+json", Digest::of(b""), 1);
            artifact.artifact_type = Some(artifact_type.to_owned());
            artifact.annotations =
                annotation.map(|(name, value)| [(name.to_owned(), value.to_owned())].into());
            *kind(&artifact, &mut counted) += 1;
        }
        assert_eq!(counted, Referrers { signatures: 1, sboms: 3, provenances: 2, others: 1 });
    }
}
