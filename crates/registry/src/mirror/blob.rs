//! Bringing an image's blobs to its repository, by the cheapest way that each of them allows.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::event::Event;
use super::mapping::BlobIndex;
use super::shared_blobs::{BlobTask, SharedBlobs};
use super::{Limits, Mirror};
use crate::bugs::{self, Bug};
use crate::client::Client;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Blob, Descriptor};
use crate::reference::Reference;
use crate::transfer::source::{Kept, Progress, Transfer};
use crate::transfer::upload::{self, MountAnswer, Opened, Opening, Placed};

/// An image's way from a source repository to a target repository.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) image: usize,
    pub(super) client: &'a Client,
    pub(super) source: &'a Reference,
    pub(super) target: &'a Reference,
    pub(super) shared_blobs: &'a SharedBlobs,
    /// The blob whose bytes are wanted, and where.
    pub(super) keep: Option<(Digest, &'a Kept)>,
}

/// How many blobs went which way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) sent: (usize, u64),
    pub(super) mounted: (usize, u64),
    pub(super) skipped: (usize, u64),
}

impl Totals {
    fn add(mut self, placed: Placed, size: u64) -> Self {
        let (count, bytes) = match placed {
            Placed::Sent => &mut self.sent,
            Placed::Mounted => &mut self.mounted,
            Placed::Skipped => &mut self.skipped,
        };
        *count += 1;
        *bytes = bytes.saturating_add(size);
        self
    }
}

impl Mirror {
    /// Copies a blob from one repository to another, unless it is there: mounted where both are at one registry and it mounts, else
    /// streamed. Gives the bytes that were sent.
    ///
    /// # Errors
    /// When one of the registries cannot be reached or refuses, or the source's bytes are not what the descriptor says.
    pub async fn copy_blob(&self, from: &Reference, to: &Reference, blob: &Descriptor) -> Result<u64, Error> {
        if self.client.retry(|| self.client.shows_blob(to, blob.digest)).await? {
            return Ok(0);
        }
        let opening = if from.registry() == to.registry() {
            Opening::Mount(from.repository().to_owned())
        } else {
            Opening::Absent
        };
        let shared_blobs = SharedBlobs::default();
        let way = Way {
            image: 0,
            client: &self.client,
            source: from,
            target: to,
            shared_blobs: &shared_blobs,
            keep: None,
        };
        let placed = self.bring(way, blob.into(), &opening).await?;
        Ok(if placed == Placed::Sent { blob.size } else { 0 })
    }

    /// Brings all `blobs` to the target, and says how.
    pub(super) async fn place_blobs(&self, way: Way<'_>, blobs: &[Blob]) -> Result<Totals, Error> {
        let known = self.known_blobs(way.target, blobs).await?;
        let is_there = |blob: Blob| known.as_ref().map(|known| known.contains(&blob.digest));
        let all: Vec<_> = blobs.iter().map(|blob| self.place_and_note(way, *blob, is_there(*blob))).collect();
        // What is transferred at once is limited by slots; here it only has to be bounded.
        let all = stream::iter(all).buffer_unordered(256);
        all.try_fold(Totals::default(), |totals, (placed, size)| async move { Ok(totals.add(placed, size)) })
            .await
    }

    async fn place_and_note(
        &self,
        way: Way<'_>,
        blob: Blob,
        is_there: Option<bool>,
    ) -> Result<(Placed, u64), Error> {
        let placed = self.place_blob(way, blob, is_there).await?;
        way.shared_blobs.present(way.target.registry(), way.target.repository(), blob.digest);
        Ok((placed, blob.size))
    }

    /// The blobs that the target has, where it can be asked in bulk.
    pub(super) async fn known_blobs(
        &self,
        target: &Reference,
        blobs: &[Blob],
    ) -> Result<Option<HashSet<Digest>>, Error> {
        let Some(blob_index) = &self.blob_index else { return Ok(None) };
        let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
        let mut known = HashSet::new();
        for batch in digests.chunks(<dyn BlobIndex>::BATCH) {
            match blob_index.present(target, batch).await {
                Ok(Some(present)) => known.extend(present),
                Ok(None) => return Ok(None),
                Err(error) => {
                    let kind = ErrorKind::Helper { what: "asking for blobs in bulk", source: error.into() };
                    return Err(Error::of(target, kind));
                }
            }
        }
        Ok(Some(known))
    }

    async fn place_blob(&self, way: Way<'_>, blob: Blob, is_there: Option<bool>) -> Result<Placed, Error> {
        let Way { image, target, .. } = way;
        let (digest, size) = (blob.digest, blob.size);
        if is_there == Some(true) {
            self.events.tell(&Event::BlobSkipped { image, digest, size });
            return Ok(Placed::Skipped);
        }
        let opening = match way.shared_blobs.task(image, target.registry(), target.repository(), digest).await
        {
            BlobTask::Present => {
                self.events.tell(&Event::BlobSkipped { image, digest, size });
                return Ok(Placed::Skipped);
            }
            BlobTask::Mount(from) => Opening::Mount(from),
            BlobTask::Bring => self.opening(way, is_there),
        };
        let placed = self.bring(way, blob, &opening).await?;
        match (placed, opening) {
            (Placed::Sent, _) => self.events.tell(&Event::BlobDone { image, digest, size }),
            (Placed::Mounted, Opening::Mount(from)) => {
                self.events.tell(&Event::BlobMounted { image, digest, size, from });
            }
            _ => self.events.tell(&Event::BlobSkipped { image, digest, size }),
        }
        Ok(placed)
    }

    /// The cheapest question whether the blob is there.
    fn opening(&self, way: Way<'_>, is_there: Option<bool>) -> Opening {
        let registry = way.target.registry();
        match is_there {
            Some(_) => Opening::Absent,
            None if !self.client.profile(registry).answers_probes
                || !way.shared_blobs.probes_by_mount(registry) =>
            {
                Opening::Head
            }
            None => Opening::Probe,
        }
    }

    /// Opens an upload and sends the blob, as often as it takes. The first try begins as `opening` says; a later one asks by HEAD,
    /// because what got lost may have been the reply alone.
    async fn bring(&self, way: Way<'_>, blob: Blob, opening: &Opening) -> Result<Placed, Error> {
        let transfer = Transfer {
            client: way.client.clone(),
            source: way.source.clone(),
            blob,
            progress: self.progress(way.image, blob.digest),
            keep: way.keep.filter(|(digest, _)| *digest == blob.digest).map(|(_, kept)| Arc::clone(kept)),
        };
        let first = AtomicBool::new(true);
        let last = Mutex::new(None);
        let attempt = || async {
            let opening = if first.swap(false, Ordering::Relaxed) { opening } else { &Opening::Head };
            let before = last.lock().ok().and_then(|last| last.clone());
            if let Some(session) = before {
                return self.transfer(way.image, &transfer, way.target, session).await;
            }
            match self.open(way, blob, opening).await? {
                Opened::Placed(placed) => Ok(placed),
                Opened::Session(session) => {
                    if bugs::is_in(Bug::SameSession)
                        && let Ok(mut last) = last.lock()
                    {
                        *last = Some(session.clone());
                    }
                    self.transfer(way.image, &transfer, way.target, session).await
                }
            }
        };
        way.client.retry(attempt).await
    }

    /// Tells of a blob's bytes as they pass.
    pub(super) fn progress(&self, image: usize, digest: Digest) -> Arc<Progress> {
        let events = self.events.clone();
        Arc::new(Progress::told(move |bytes| events.tell(&Event::BlobProgress { image, digest, bytes })))
    }

    async fn open(&self, way: Way<'_>, blob: Blob, opening: &Opening) -> Result<Opened, Error> {
        let registry = way.target.registry();
        let answered = |answer| match (opening, answer) {
            (Opening::Mount(_), answer) => {
                way.shared_blobs.mount_answered(registry, answer == MountAnswer::Taken);
            }
            (Opening::Probe, MountAnswer::NotUnderstood) => way.shared_blobs.probe_failed(registry),
            _ => {}
        };
        // A 429 is answered here: what is asked for by the way is not asked for again with it.
        way.client
            .retry_throttled(|| async {
                let _permit = self.small.take(&[registry]).await;
                upload::open(way.client, way.target, blob, opening, &answered).await
            })
            .await
    }

    async fn transfer(
        &self,
        image: usize,
        transfer: &Transfer,
        target: &Reference,
        session: url::Url,
    ) -> Result<Placed, Error> {
        let Blob { digest, size } = transfer.blob;
        if size == 0 && !self.client.profile(target.registry()).takes_empty_blobs {
            return Err(Error::of(target, ErrorKind::EmptyBlob { digest }));
        }
        let slots = if size <= Limits::SMALL { &self.small } else { &self.large };
        let permit = slots.take(&[transfer.source.registry(), target.registry()]).await;
        let _permit = (!bugs::is_in(Bug::NoSlots)).then_some(permit);
        self.events.tell(&Event::BlobStarted { image, digest, size });
        upload::stream(transfer, target, session).await?;
        Ok(Placed::Sent)
    }
}
