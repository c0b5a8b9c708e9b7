//! The distribution specification's errors, with ECR's codes and messages.

use http::StatusCode;

use crate::fault::Fault;
use crate::http::{Answer, set, with_body};

/// The API's errors as registry errors. All others answer 500: they should not occur here.
const CODES: &[(&str, StatusCode, &str)] = &[
    ("AccessDeniedException", StatusCode::FORBIDDEN, "DENIED"),
    ("EmptyUploadException", StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
    ("ExpiredTokenException", StatusCode::FORBIDDEN, "DENIED"),
    ("ImageDigestDoesNotMatchException", StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
    ("ImageNotFoundException", StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
    ("ImageTagAlreadyExistsException", StatusCode::BAD_REQUEST, "TAG_INVALID"),
    ("EntityTooLarge", StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
    ("IncompleteBody", StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
    ("InvalidLayerException", StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
    ("InvalidLayerPartException", StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
    ("InvalidParameterException", StatusCode::BAD_REQUEST, "INVALID_PARAMETER"),
    ("KmsException", StatusCode::BAD_REQUEST, "KMS_ERROR"),
    ("LayerPartTooSmallException", StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
    ("LayersNotFoundException", StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
    ("ReferencedImagesNotFoundException", StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN"),
    ("RepositoryNotFoundException", StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
    ("ThrottlingException", StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
    ("UnableToGetUpstreamImageException", StatusCode::BAD_GATEWAY, "UPSTREAM_UNAVAILABLE"),
    ("Unsupported", StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
    ("UnsupportedImageTypeException", StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
    ("UploadNotFoundException", StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
];

/// The error in the registry's format.
pub(super) fn answer(fault: &Fault) -> Answer {
    let (status, code) = CODES
        .iter()
        .find(|(name, _, _)| *name == fault.code)
        .map_or((StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"), |(_, status, code)| (*status, *code));
    let document = serde_json::json!({ "errors": [{ "code": code, "message": fault.message }] });
    with_body(status, "application/json; charset=utf-8", document.to_string())
}

/// 401 with ECR's challenge. It is Basic: ECR has no token server.
pub(super) fn challenge(host: &str) -> Answer {
    let mut answer = with_body(StatusCode::UNAUTHORIZED, "text/plain; charset=utf-8", "Not Authorized\n");
    set(
        &mut answer,
        "www-authenticate",
        format!("Basic realm=\"http://{host}/\",service=\"ecr.amazonaws.com\""),
    );
    answer
}
