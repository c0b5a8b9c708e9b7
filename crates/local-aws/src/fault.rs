//! What a request is refused with, before it is known in which protocol the refusal is written.

use http::StatusCode;

/// A refusal with the code and the words AWS uses for it.
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

    /// 400: how the JSON services answer nearly every refusal, "not found" included.
    pub(crate) fn client(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn not_found(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::client("InvalidParameterException", message)
    }

    /// 501, by name: nothing is answered as if it had been done.
    pub(crate) fn not_implemented(service: &str, action: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "NotImplemented",
            format!("local-aws does not implement {service}:{action}"),
        )
    }
}

/// The disk refused: AWS calls that an internal failure. The cause goes to the log, where its owner looks.
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
