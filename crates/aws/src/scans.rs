//! What ECR's scans found in images.

use std::collections::BTreeMap;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{ImageIdentifier, ScanStatus};

use super::{Aws, errors::explain};

/// What the last scan of an image found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Findings by severity, as ECR writes it: `CRITICAL`, `HIGH` and so on.
    pub counts: BTreeMap<String, u64>,
}

/// What ECR found in an image; none where it was not scanned, or the scan has not ended well. An index is never scanned: its images are.
///
/// It is asked here because `DescribeImages` does not tell the findings of ECR's own scanner
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-basic.html>).
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn findings(aws: &Aws, repository: &str, digest: &str) -> anyhow::Result<Option<Scan>> {
    let image = ImageIdentifier::builder().image_digest(digest).build();
    let client = Client::new(aws.config());
    // The counts are whole on each page.
    let asked = client.describe_image_scan_findings().repository_name(repository).image_id(image);
    let answer = match asked.max_results(1).send().await {
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|e| e.is_scan_not_found_exception() || e.is_image_not_found_exception()) =>
        {
            return Ok(None);
        }
        other => other.map_err(|e| explain(e, "ecr:DescribeImageScanFindings"))?,
    };
    let status = answer.image_scan_status.and_then(|status| status.status);
    // ACTIVE: enhanced scanning, which goes on.
    if !matches!(status, Some(ScanStatus::Complete | ScanStatus::Active)) {
        return Ok(None);
    }
    let counts = answer.image_scan_findings.and_then(|findings| findings.finding_severity_counts);
    let counts = counts.unwrap_or_default().into_iter();
    let counts =
        counts.map(|(severity, count)| (severity.as_str().to_owned(), u64::try_from(count).unwrap_or(0)));
    Ok(Some(Scan { counts: counts.collect() }))
}
