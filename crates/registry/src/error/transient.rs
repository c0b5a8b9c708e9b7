//! Which errors are transient, and how long the server asks to wait. How often and how long they are retried:
//! `client/retry.rs`.

use std::time::Duration;

use super::{Error, ErrorKind, NoConnection};

impl Error {
    /// Whether the same request may succeed in a moment. An error that is not known to be transient is reported at once.
    pub fn is_transient(&self) -> bool {
        match self.kind() {
            // Docker Hub's pulls come back over hours, its other limits within a minute.
            ErrorKind::TooManyRequests { retry_after: None, message } => {
                !message.to_ascii_lowercase().contains("pull rate limit")
            }
            ErrorKind::TooManyRequests { .. }
            | ErrorKind::Unavailable { .. }
            | ErrorKind::Expired { .. }
            | ErrorKind::UploadLost { .. }
            | ErrorKind::Stalled { .. }
            | ErrorKind::Truncated { .. }
            // A corrupted transfer is repaired by another one; bytes that are wrong at their source fail each time.
            | ErrorKind::DigestMismatch { .. }
            | ErrorKind::SizeMismatch { .. }
            // Another request is in the way.
            | ErrorKind::Refused { status: 409, .. } => true,
            ErrorKind::Network { .. } => true,
            ErrorKind::NoConnection { .. } => self.is_brief(),
            _ => false,
        }
    }

    /// Whether it is retried for a moment only: if a server does not exist, its name is more likely to be wrong than the server
    /// to be about to start, and a reply that is not HTTP is rarely transient.
    pub(crate) fn is_brief(&self) -> bool {
        use NoConnection::{NotHttp, Refused, UnknownName};
        matches!(self.kind(), ErrorKind::NoConnection { why: NotHttp | Refused | UnknownName, .. })
    }

    /// Whether the registry is out of reach, or does not work at the moment: it neither answered nor refused.
    pub fn is_out_of_reach(&self) -> bool {
        match self.kind() {
            ErrorKind::Unavailable { .. } | ErrorKind::Stalled { .. } | ErrorKind::TooManyRequests { .. } => {
                true
            }
            ErrorKind::Network { .. } => true,
            ErrorKind::NoConnection { .. } => self.is_brief(),
            _ => false,
        }
    }

    /// How long the registry asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.kind() {
            ErrorKind::TooManyRequests { retry_after, .. } | ErrorKind::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }
}
