//! Errors that every operation may end with and no model lists.

use crate::model::{Operation, Service};

/// A code and the statuses that it comes with.
type Common = (&'static str, &'static [u16]);

/// Of the services that speak JSON (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html>,
/// <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html>). Those about the caller are documented with 403
/// and sent with 400.
const JSON: &[Common] = &[
    ("AccessDeniedException", &[400, 403]),
    ("ExpiredTokenException", &[400, 403]),
    ("IncompleteSignatureException", &[400, 403]),
    ("InternalFailure", &[500]),
    ("InvalidSignatureException", &[400, 403]),
    ("MissingAuthenticationTokenException", &[400, 403]),
    ("OptInRequired", &[400, 403]),
    ("RequestExpired", &[400]),
    ("SerializationException", &[400]),
    ("ServiceUnavailable", &[503]),
    ("ThrottlingException", &[400]),
    ("UnknownOperationException", &[400, 404]),
    ("UnrecognizedClientException", &[400, 403]),
    ("ValidationException", &[400]),
];

/// Of the services that take forms (<https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>).
const QUERY: &[Common] = &[
    ("AccessDenied", &[403]),
    ("ExpiredToken", &[403]),
    ("IncompleteSignature", &[400, 403]),
    ("InternalFailure", &[500]),
    ("InvalidAction", &[400]),
    ("InvalidClientTokenId", &[403]),
    ("MissingAuthenticationToken", &[403]),
    ("OptInRequired", &[403]),
    ("RequestExpired", &[400]),
    ("ServiceUnavailable", &[503]),
    ("SignatureDoesNotMatch", &[403]),
    ("Throttling", &[400]),
    ("ValidationError", &[400]),
];

/// S3's list (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>): its model has hardly any.
const S3: &[Common] = &[
    ("AccessDenied", &[403]),
    ("AuthorizationHeaderMalformed", &[400]),
    ("BadDigest", &[400]),
    ("BucketAlreadyExists", &[409]),
    ("BucketAlreadyOwnedByYou", &[409]),
    ("BucketNotEmpty", &[409]),
    ("ConditionalRequestConflict", &[409]),
    ("EntityTooLarge", &[400]),
    ("ExpiredToken", &[400]),
    ("IllegalLocationConstraintException", &[400]),
    ("IncompleteBody", &[400]),
    ("InternalError", &[500]),
    ("InvalidAccessKeyId", &[403]),
    ("InvalidArgument", &[400]),
    ("InvalidBucketName", &[400]),
    ("InvalidDigest", &[400]),
    ("InvalidLocationConstraint", &[400]),
    ("InvalidRange", &[416]),
    ("InvalidRequest", &[400]),
    ("MalformedPolicy", &[400]),
    ("MalformedXML", &[400]),
    ("MethodNotAllowed", &[405]),
    ("NoSuchBucket", &[404]),
    ("NoSuchBucketPolicy", &[404]),
    ("NoSuchKey", &[404]),
    ("NoSuchPublicAccessBlockConfiguration", &[404]),
    ("NoSuchTagSet", &[404]),
    ("NoSuchVersion", &[404]),
    ("OperationAborted", &[409]),
    ("OwnershipControlsNotFoundError", &[404]),
    ("PermanentRedirect", &[301]),
    ("PreconditionFailed", &[412]),
    ("RequestTimeTooSkewed", &[403]),
    ("ServerSideEncryptionConfigurationNotFoundError", &[404]),
    ("ServiceUnavailable", &[503]),
    ("SignatureDoesNotMatch", &[403]),
    ("SlowDown", &[503]),
    ("TemporaryRedirect", &[307]),
    ("XAmzContentSHA256Mismatch", &[400]),
];

fn table(service: &Service) -> &'static [Common] {
    match service.metadata.protocol.as_str() {
        "json" => JSON,
        "query" => QUERY,
        _ => S3,
    }
}

/// What a code is among those that an operation may end with.
pub(crate) struct Known {
    /// The name of its shape, where the model has one.
    pub(crate) shape: Option<String>,
    /// The statuses that it may come with.
    pub(crate) statuses: Vec<u16>,
}

/// The error of this code, if the operation, or any, may end with it.
pub(crate) fn error(service: &Service, operation: &Operation, code: &str) -> Option<Known> {
    for of in &operation.errors {
        let shape = service.shape(&of.shape);
        let traits = shape.error.as_ref();
        let own = traits.and_then(|traits| traits.code.as_deref()).unwrap_or(&of.shape);
        if own == code {
            let status = traits.and_then(|traits| traits.http_status_code);
            let status = status.unwrap_or(if shape.fault { 500 } else { 400 });
            return Some(Known { shape: Some(of.shape.clone()), statuses: vec![status] });
        }
    }
    let common = table(service).iter().find(|(known, _)| *known == code)?;
    Some(Known { shape: None, statuses: common.1.to_vec() })
}

/// Whether some error has this status: all that a HEAD says.
pub(crate) fn has_status(service: &Service, status: u16) -> bool {
    table(service).iter().any(|(_, statuses)| statuses.contains(&status))
}
