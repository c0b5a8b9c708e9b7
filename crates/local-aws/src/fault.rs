//! Errors of requests, independent of the protocol of the answer.

use http::StatusCode;

/// An error with AWS's code and message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// 400: the status of nearly every error of the JSON services, including "not found".
    pub(crate) fn client(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::client("InvalidParameterException", message)
    }

    /// 501 with the action's name: no unimplemented action returns success.
    pub(crate) fn not_implemented(service: &str, action: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!("local-aws does not implement {service}:{action}"),
        )
    }
}

/// A disk error is an internal failure in AWS's terms. The cause is logged for the server's user.
impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(%error, "the data directory cannot be used");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ServerException",
            format!("the data directory cannot be used: {error}"),
        )
    }
}
