//! What was just written, read back. Some registries show what they accepted only a moment later, so a difference is looked at
//! again, as often and with the same pauses as a transient failure.

use std::future::Future;

use super::Check;
use crate::client::Client;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::reference::Reference;

/// Reads back what was written under `written`, a tag or a digest: it itself, each manifest below it, and of each blob whether
/// it is there and how long it is. `client` reports the retries.
///
/// # Errors
/// [`ErrorKind::ReadBack`], if something still differs after the last look; or the registry cannot be reached or refuses.
pub async fn read_back(
    client: &Client,
    check: &Check<'_>,
    image: usize,
    written: &Reference,
    digest: Digest,
) -> Result<(), Error> {
    let look = || async {
        let checked = match written.tag() {
            Some(_) => check.image(image, written, digest).await?,
            None => check.manifest(image, written, digest).await?,
        };
        match checked.differences.first() {
            None => Ok(()),
            Some(difference) => Err(differs(written, difference)),
        }
    };
    look_again(client, look).await
}

/// Repeats `look` as long as it says that what was written [differs], as often as a request is retried.
///
/// # Errors
/// Those of `look`.
pub async fn look_again<T, F, Fut>(client: &Client, look: F) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let differs = |error: &Error| matches!(error.kind(), ErrorKind::ReadBack { .. });
    client.connection.retry_if(differs, look).await
}

/// The error that what is under `written` is not what was written.
pub fn differs(written: &Reference, difference: impl std::fmt::Display) -> Error {
    Error::of(written, ErrorKind::ReadBack { difference: difference.to_string() })
}
