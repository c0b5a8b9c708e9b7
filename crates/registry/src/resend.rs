//! Registries that answer that they have a blob, and then refuse the manifest because it is missing: Harbor, Nexus and Artifactory
//! ([cc-utils#1761](https://github.com/gardener/cc-utils/pull/1761)). Others do so with manifests
//! ([oras-go#1213](https://github.com/oras-project/oras-go/pull/1213)). What they only claimed to have is sent after all, once.

use std::future::Future;

use crate::blobs;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Descriptor, Manifest};
use crate::reference::Reference;

/// Puts manifests by `put`. If the registry misses a part of one, `resend` sends what the registry only claimed to have, and `put`
/// is called once more. `resend` returns whether there was anything: what was sent before is not sent again, as that would not
/// help.
///
/// # Errors
/// Those of `put` and of `resend`.
pub async fn put_or_resend<T, E, P>(
    put: impl Fn() -> P,
    resend: impl Future<Output = Result<bool, E>>,
) -> Result<T, E>
where
    P: Future<Output = Result<T, Error>>,
    E: From<Error>,
{
    match put().await {
        Err(error) if matches!(error.kind(), ErrorKind::PartUnknown { .. }) => {
            if !resend.await? {
                return Err(error.into());
            }
            Ok(put().await?)
        }
        put => Ok(put?),
    }
}

/// The same client, which sends blobs although the target claims to have them: for those that it then misses.
pub fn doubting(client: &Client) -> Client {
    let mut client = client.clone();
    client.connection.doubts = true;
    client
}

/// Pushes `blobs` from memory, and puts the manifest that names them under `name`.
///
/// # Errors
/// When the registry cannot be reached or refuses, or bytes are not what their descriptor says.
pub async fn push(
    client: &Client,
    name: &Reference,
    manifest: &Manifest,
    blobs: &[(Descriptor, Vec<u8>)],
) -> Result<(), Error> {
    let mut claimed = Vec::new();
    for blob in blobs {
        if blobs::push_bytes(client, name, &blob.0, blob.1.clone()).await? == 0 {
            claimed.push(blob);
        }
    }
    let resend = async {
        for (blob, bytes) in &claimed {
            blobs::push_bytes(&doubting(client), name, blob, bytes.clone()).await?;
        }
        Ok::<_, Error>(!claimed.is_empty())
    };
    put_or_resend(|| client.put_manifest(name, manifest), resend).await
}
