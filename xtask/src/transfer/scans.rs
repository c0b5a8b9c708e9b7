//! ECR's scan findings in an image or an index.

use aws::Aws;
use aws::scans::{Scan, findings};
use failure::Kind;
use registry::{Client, Reference};

use super::registry_hints::registry_failure;

/// The findings in `image`, which must have a digest. `None` if it was not scanned. ECR does not scan an index, only its images:
/// their findings are added up.
///
/// # Errors
/// AWS or the registry refuses or does not answer.
pub async fn scan(aws: &Aws, client: &Client, image: &Reference) -> anyhow::Result<Option<Scan>> {
    let repository = image.repository();
    if let Some(scan) = findings(aws, repository, &image.identifier()).await? {
        return Ok(Some(scan));
    }
    let manifest = client.manifest(image).await;
    let manifest = manifest.map_err(|error| registry_failure(error, Kind::Registry))?;
    let Some(Ok(index)) = manifest.map(|manifest| manifest.index()) else { return Ok(None) };
    let mut all: Option<Scan> = None;
    for child in index.manifests.iter().filter(|child| child.attests().is_none()) {
        let Some(found) = findings(aws, repository, &child.digest.to_string()).await? else { continue };
        let all = all.get_or_insert_default();
        for (severity, count) in found.counts {
            *all.counts.entry(severity).or_default() += count;
        }
    }
    Ok(all)
}
