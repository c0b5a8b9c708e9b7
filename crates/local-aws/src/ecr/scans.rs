//! Scans of images: every image in a repository that scans on push counts as scanned, with the findings set by `/_local/findings`, or none.

use serde_json::{Value, json};

use super::image_actions::Wanted;
use super::images::not_found;
use super::{ON_REPOSITORY, repositories};
use crate::fault::Fault;
use crate::input::Input;
use crate::resource::{Call, Resource};
use crate::time::epoch_seconds;

pub(super) const RESOURCE: Resource = Resource {
    actions: &[("DescribeImageScanFindings", ON_REPOSITORY, describe_findings)],
    existing: None,
    scenarios: &[],
};

fn describe_findings(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let id = input.value("imageId").cloned().unwrap_or_default();
    let want = Wanted { digest: id["imageDigest"].as_str(), tag: id["imageTag"].as_str() };
    let repository = repositories::find(call.app, &call.scope, name)?;
    let found = want.find(&repository);
    let (digest, image) = found.map_err(|_| not_found(&call.scope, name, want.digest, want.tag))?;
    // Indexes and artifacts are not scanned: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-basic.html
    if !(repository.scan_on_push && image.children.is_empty() && image.is_container_image()) {
        return Err(Fault::client(
            "ScanNotFoundException",
            format!(
                "Image scan does not exist for the image with '{{imageDigest:'{digest}'}}' in the repository with name '{name}' in \
                 the registry with id '{}'",
                call.scope.account
            ),
        ));
    }
    let mut image_id = json!({ "imageDigest": digest });
    if let Some(tag) = want.tag {
        image_id["imageTag"] = json!(tag);
    }
    Ok(json!({
        "registryId": call.scope.account,
        "repositoryName": name,
        "imageId": image_id,
        "imageScanStatus": { "status": "COMPLETE", "description": "The scan was completed successfully." },
        "imageScanFindings": {
            "imageScanCompletedAt": epoch_seconds(image.pushed),
            "vulnerabilitySourceUpdatedAt": epoch_seconds(image.pushed),
            "findings": [],
            "findingSeverityCounts": image.findings,
        },
    }))
}
