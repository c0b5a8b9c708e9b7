//! Sends an image's blobs and manifests. Several runtimes are sent at the same time.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use registry::mirror::Mirror;
use registry::resend::{doubting, put_or_resend};
use registry::{Client, Descriptor, Digest, Manifest, Reference};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{BaseLayers, Packed};
use crate::{Context, RuntimeError, State};

/// How many blobs are sent in parallel, over all runtimes.
const AT_ONCE: usize = 8;

/// Coordinates the sending: several runtimes share layers, and each layer is sent once.
#[derive(Debug)]
pub(crate) struct Transfers {
    blobs: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    at_once: Semaphore,
}

impl Default for Transfers {
    fn default() -> Self {
        Self { blobs: Mutex::default(), at_once: Semaphore::new(AT_ONCE) }
    }
}

/// The permission to send a blob: its lock, and one of the parallel places.
type Turn<'a> = (tokio::sync::OwnedMutexGuard<()>, Option<SemaphorePermit<'a>>);

impl Transfers {
    /// Waits until no other runtime sends this blob. The second one then finds it at the registry.
    async fn turn(&self, digest: Digest) -> Turn<'_> {
        let blob = {
            let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(blobs.entry(digest).or_default())
        };
        let blob = blob.lock_owned().await;
        // Never closed, so a permit always becomes available.
        (blob, self.at_once.acquire().await.ok())
    }
}

/// An image on its way to a repository.
pub(crate) struct Push<'a> {
    pub(crate) context: &'a Context,
    pub(crate) runtime: &'a str,
    pub(crate) repository: &'a Reference,
    /// One for each platform.
    pub(crate) images: &'a [Packed],
    /// Their bases.
    pub(crate) bases: &'a [BaseLayers],
}

/// How the blobs of an image came to its repository.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    /// The bytes that were sent.
    pub(crate) sent: u64,
    /// The blobs that the registry claims to have.
    claimed: HashSet<Digest>,
}

impl Push<'_> {
    /// Pushes everything that the images refer to.
    pub(crate) async fn blobs(&self) -> Result<Pushed, RuntimeError> {
        let bytes = self.images.iter().map(Packed::bytes).sum();
        let (pushed, done) = (Mutex::new(Pushed::default()), AtomicU64::new(0));
        let tell = |done| self.context.progress.state(self.runtime, &State::Pushing { done, bytes });
        tell(0);
        let count = |blob: &Descriptor, went: u64| {
            pushed.lock().unwrap_or_else(PoisonError::into_inner).add(blob, went);
            tell(done.fetch_add(blob.size, Ordering::Relaxed) + blob.size);
        };
        self.send(&self.context.client, &|_| true, &count).await?;
        Ok(pushed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts `manifest` under `name`, and before that the manifests of several platforms by digest. Blobs that the registry claimed
    /// to have and then misses are sent.
    pub(crate) async fn manifests(
        &self,
        name: &Reference,
        manifest: &Manifest,
        pushed: &mut Pushed,
    ) -> Result<(), RuntimeError> {
        let client = &self.context.client;
        let put = || async {
            let children = self.images.iter().filter(|_| self.images.len() > 1);
            for image in children {
                let child = self.repository.with_digest(image.manifest.digest());
                client.put_manifest(&child, &image.manifest).await?;
            }
            client.put_manifest(name, manifest).await
        };
        let resend = async {
            let (sent, any) = (AtomicU64::new(0), !pushed.claimed.is_empty());
            let count = |_: &Descriptor, went| {
                sent.fetch_add(went, Ordering::Relaxed);
            };
            // Each once, although several platforms may share it.
            let claimed = Mutex::new(std::mem::take(&mut pushed.claimed));
            let wanted = |blob| claimed.lock().unwrap_or_else(PoisonError::into_inner).remove(&blob);
            self.send(&doubting(client), &wanted, &count).await?;
            pushed.sent += sent.into_inner();
            Ok::<_, RuntimeError>(any)
        };
        put_or_resend(put, resend).await
    }

    /// Pushes those blobs that are `wanted`, and counts the bytes that were sent of each.
    async fn send(
        &self,
        client: &Client,
        wanted: &(dyn Fn(Digest) -> bool + Sync),
        count: &(dyn Fn(&Descriptor, u64) + Sync),
    ) -> Result<(), RuntimeError> {
        let Self { context, repository, .. } = self;
        let mirror = &Mirror::new(client.clone());
        for (image, base) in self.images.iter().zip(self.bases) {
            let own = image.own.iter().filter(|(layer, _)| wanted(layer.digest));
            let own = own.map(|(layer, blob)| async move {
                let _turn = context.transfers.turn(layer.digest).await;
                count(layer, registry::blobs::push_file(client, repository, layer, &blob.path, 0).await?);
                Ok::<_, registry::Error>(())
            });
            let inherited = image.inherited.iter().filter(|layer| wanted(layer.digest));
            let inherited = inherited.map(|layer| async move {
                let Some(from) = &base.from else { return Ok(()) };
                let _turn = context.transfers.turn(layer.digest).await;
                count(layer, registry::mirror::copy_blob(mirror, from, repository, layer).await?);
                Ok(())
            });
            futures_util::future::try_join(
                futures_util::future::try_join_all(own),
                futures_util::future::try_join_all(inherited),
            )
            .await?;
            let (config, content) = &image.config;
            if wanted(config.digest) {
                count(
                    config,
                    registry::blobs::push_bytes(client, repository, config, content.clone()).await?,
                );
            }
        }
        Ok(())
    }
}

impl Pushed {
    fn add(&mut self, blob: &Descriptor, went: u64) {
        self.sent += went;
        if went == 0 {
            self.claimed.insert(blob.digest);
        }
    }
}
