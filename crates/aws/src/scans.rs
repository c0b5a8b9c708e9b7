//! Findings of ECR's image scans.

use std::collections::BTreeMap;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::error::ProvideErrorMetadata as _;
use aws_sdk_ecr::types::{ImageIdentifier, ScanStatus};

use super::{Aws, errors::explain, errors::is_denied};

/// The IAM action to read findings.
const ACTION: &str = "ecr:DescribeImageScanFindings";

/// The findings of an image's last scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Findings by severity, in ECR's spelling: `CRITICAL`, `HIGH` and so on.
    pub counts: BTreeMap<String, u64>,
}

/// Why ECR returns no findings.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The caller has no permission. This holds for all images, although AWS's message names the repository.
    #[error("{source}")]
    Denied {
        /// The denied IAM action.
        action: &'static str,
        /// AWS's message, with a hint.
        source: anyhow::Error,
    },
    /// Any other error.
    #[error(transparent)]
    Other(anyhow::Error),
}

/// ECR's findings in an image. `None` if it was not scanned or the scan failed. ECR never scans an index, only its images.
///
/// A separate request is needed because `DescribeImages` does not return the findings of ECR's own scanner
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-basic.html>).
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn findings(aws: &Aws, repository: &str, digest: &str) -> Result<Option<Scan>, ScanError> {
    let image = ImageIdentifier::builder().image_digest(digest).build();
    let client = Client::new(aws.config());
    // Every page has the complete counts.
    let asked = client.describe_image_scan_findings().repository_name(repository).image_id(image);
    let answer = match asked.max_results(1).send().await {
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|e| e.is_scan_not_found_exception() || e.is_image_not_found_exception()) =>
        {
            return Ok(None);
        }
        other => other.map_err(|error| {
            let is_denied = error.code().is_some_and(is_denied);
            let source = explain(error, ACTION);
            if is_denied { ScanError::Denied { action: ACTION, source } } else { ScanError::Other(source) }
        })?,
    };
    let status = answer.image_scan_status.and_then(|status| status.status);
    // ACTIVE: enhanced scanning, which continues.
    if !matches!(status, Some(ScanStatus::Complete | ScanStatus::Active)) {
        return Ok(None);
    }
    let counts = answer.image_scan_findings.and_then(|findings| findings.finding_severity_counts);
    let counts = counts.unwrap_or_default().into_iter();
    let counts =
        counts.map(|(severity, count)| (severity.as_str().to_owned(), u64::try_from(count).unwrap_or(0)));
    Ok(Some(Scan { counts: counts.collect() }))
}
