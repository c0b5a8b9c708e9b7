//! Copies an image's blobs to its repository, each by the cheapest way. Their bytes are verified in `transfer/source.rs`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::event::Event;
use super::mapping::BlobIndex;
use super::shared_blobs::{BlobTask, SharedBlobs};
use super::{Limits, Mirror};
use crate::bugs::{self, Bug};
use crate::client::{Client, blobs};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::manifest::{Blob, Descriptor};
use crate::reference::Reference;
use crate::resend::doubting;
use crate::transfer::blob_upload::{self, MountAnswer, Opened, Opening, Placed};
use crate::transfer::source::{Kept, Transfer};

/// One image that is being copied from a source repository to a target repository.
#[derive(Clone, Copy)]
pub(super) struct ImageCopy<'a> {
    pub(super) mirror: &'a Mirror,
    pub(super) image: usize,
    /// It reports its retries as this image's.
    pub(super) client: &'a Client,
    pub(super) source: &'a Reference,
    pub(super) target: &'a Reference,
    pub(super) shared_blobs: &'a SharedBlobs,
    /// The blob whose bytes are kept, and where.
    pub(super) keep: Option<(Digest, &'a Kept)>,
}

/// How many blobs went which way.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) sent: (usize, u64),
    pub(super) mounted: (usize, u64),
    pub(super) skipped: (usize, u64),
    /// Those that the target only claims to have, and how they seemed to come there.
    claimed: Vec<(Placed, Blob)>,
}

impl Totals {
    fn add(mut self, placed: Placed, blob: Blob) -> Self {
        let (count, bytes) = self.of(placed);
        *count += 1;
        *bytes = bytes.saturating_add(blob.size);
        if placed != Placed::Sent {
            self.claimed.push((placed, blob));
        }
        self
    }

    fn of(&mut self, placed: Placed) -> &mut (usize, u64) {
        match placed {
            Placed::Sent => &mut self.sent,
            Placed::Mounted => &mut self.mounted,
            Placed::Skipped => &mut self.skipped,
        }
    }

    /// Adds those of more blobs.
    pub(super) fn extend(&mut self, more: Self) {
        for (all, more) in [
            (&mut self.sent, more.sent),
            (&mut self.mounted, more.mounted),
            (&mut self.skipped, more.skipped),
        ] {
            *all = (all.0 + more.0, all.1.saturating_add(more.1));
        }
        self.claimed.extend(more.claimed);
    }

    /// Whether the target claims to have any of them.
    pub(super) fn has_claimed(&self) -> bool {
        !self.claimed.is_empty()
    }
}

/// Slots limit what is transferred at once; here it only has to be bounded.
async fn add_all<F>(totals: Totals, all: Vec<F>) -> Result<Totals, Error>
where
    F: Future<Output = Result<(Placed, Blob), Error>>,
{
    let all = stream::iter(all).buffer_unordered(256);
    all.try_fold(totals, |totals, (placed, blob)| async move { Ok(totals.add(placed, blob)) }).await
}

/// Copies a blob from one repository to another, unless it is there: mounted if both are at one registry that mounts, otherwise
/// streamed. Returns the number of bytes that were sent.
///
/// # Errors
/// When one of the registries cannot be reached or refuses, or the source's bytes are not what the descriptor says.
pub async fn copy_blob(
    mirror: &Mirror,
    from: &Reference,
    to: &Reference,
    blob: &Descriptor,
) -> Result<u64, Error> {
    let connection = &mirror.client.connection;
    if connection.retry(|| blobs::need_not_be_sent(connection, to, blob.digest)).await? {
        return Ok(0);
    }
    let opening = if from.registry() == to.registry() && !connection.doubts {
        Opening::Mount(from.repository().to_owned())
    } else {
        Opening::Absent
    };
    let shared_blobs = SharedBlobs::default();
    let image_copy = ImageCopy {
        mirror,
        image: 0,
        client: &mirror.client,
        source: from,
        target: to,
        shared_blobs: &shared_blobs,
        keep: None,
    };
    let placed = image_copy.bring(blob.into(), &opening).await?;
    Ok(if placed == Placed::Sent { blob.size } else { 0 })
}

/// The blobs that the target has, with their lengths if it says them; `None` if it cannot be asked in bulk.
pub(super) async fn sizes(
    mirror: &Mirror,
    target: &Reference,
    digests: impl Iterator<Item = Digest>,
) -> Result<Option<HashMap<Digest, Option<u64>>>, Error> {
    let Some(blob_index) = &mirror.blob_index else { return Ok(None) };
    let digests: Vec<Digest> = digests.collect();
    let mut sizes = HashMap::new();
    for batch in digests.chunks(<dyn BlobIndex>::BATCH) {
        match blob_index.sizes(target, batch).await {
            Ok(Some(known)) => sizes.extend(known),
            Ok(None) => return Ok(None),
            Err(error) => {
                let kind = ErrorKind::Helper { what: "asking for blobs in bulk", source: error.into() };
                return Err(Error::of(target, kind));
            }
        }
    }
    Ok(Some(sizes))
}

impl ImageCopy<'_> {
    /// Copies all `blobs` to the target, and counts how.
    pub(super) async fn place_blobs(&self, blobs: &[Blob]) -> Result<Totals, Error> {
        let known = sizes(self.mirror, self.target, blobs.iter().map(|blob| blob.digest)).await?;
        let is_there = |blob: Blob| known.as_ref().map(|known| known.contains_key(&blob.digest));
        let all = blobs.iter().map(|blob| self.place_and_note(*blob, is_there(*blob))).collect();
        add_all(Totals::default(), all).await
    }

    /// Sends blobs that the target claimed to have and then missed, if `opening` does not find them there, and corrects the
    /// counts.
    pub(super) async fn send_claimed(&self, totals: &mut Totals, opening: &Opening) -> Result<(), Error> {
        let Totals { sent, claimed, .. } = std::mem::take(totals);
        *totals = Totals { sent, ..Totals::default() };
        let send = |(seemed, blob): (Placed, Blob)| async move {
            let Blob { digest, size } = blob;
            let placed = self.bring(blob, opening).await?;
            if placed == Placed::Sent {
                self.mirror.events.tell(&Event::BlobDone { image: self.image, digest, size });
            }
            Ok((if placed == Placed::Sent { placed } else { seemed }, blob))
        };
        *totals = add_all(std::mem::take(totals), claimed.into_iter().map(send).collect()).await?;
        Ok(())
    }

    /// [`Self::send_claimed`], all of them, although the target may still claim to have them.
    pub(super) async fn send_all_claimed(&self, totals: &mut Totals) -> Result<(), Error> {
        let client = doubting(self.client);
        ImageCopy { client: &client, ..*self }.send_claimed(totals, &Opening::Absent).await
    }

    async fn place_and_note(&self, blob: Blob, is_there: Option<bool>) -> Result<(Placed, Blob), Error> {
        let placed = self.place_blob(blob, is_there).await?;
        self.shared_blobs.present(self.target.registry(), self.target.repository(), blob.digest);
        Ok((placed, blob))
    }

    async fn place_blob(&self, blob: Blob, is_there: Option<bool>) -> Result<Placed, Error> {
        let Self { image, target, .. } = *self;
        let (digest, size) = (blob.digest, blob.size);
        if is_there == Some(true) {
            self.mirror.events.tell(&Event::BlobSkipped { image, digest, size });
            return Ok(Placed::Skipped);
        }
        let opening =
            match self.shared_blobs.task(image, target.registry(), target.repository(), digest).await {
                BlobTask::Present => {
                    self.mirror.events.tell(&Event::BlobSkipped { image, digest, size });
                    return Ok(Placed::Skipped);
                }
                BlobTask::Mount(from) => Opening::Mount(from),
                BlobTask::Bring => self.opening(is_there),
            };
        let placed = self.bring(blob, &opening).await?;
        match (placed, opening) {
            (Placed::Sent, _) => self.mirror.events.tell(&Event::BlobDone { image, digest, size }),
            (Placed::Mounted, Opening::Mount(from)) => {
                self.mirror.events.tell(&Event::BlobMounted { image, digest, size, from });
            }
            _ => self.mirror.events.tell(&Event::BlobSkipped { image, digest, size }),
        }
        Ok(placed)
    }

    /// The cheapest way to ask whether the blob is there.
    fn opening(&self, is_there: Option<bool>) -> Opening {
        let registry = self.target.registry();
        match is_there {
            Some(_) => Opening::Absent,
            None if !self.mirror.client.connection.profile(registry).answers_probes
                || !self.shared_blobs.probes_by_mount(registry) =>
            {
                Opening::Head
            }
            None => Opening::Probe,
        }
    }

    /// Opens an upload and sends the blob, with retries. The first try begins as `opening` says; a later one asks by HEAD,
    /// because perhaps only the reply was lost.
    async fn bring(&self, blob: Blob, opening: &Opening) -> Result<Placed, Error> {
        let transfer = Transfer {
            connection: self.client.connection.clone(),
            source: self.source.clone(),
            blob,
            progress: self.mirror.events.progress(self.image, blob.digest),
            keep: self.keep.filter(|(digest, _)| *digest == blob.digest).map(|(_, kept)| Arc::clone(kept)),
        };
        let first = AtomicBool::new(true);
        let last = Mutex::new(None);
        let attempt = || async {
            let opening = if first.swap(false, Ordering::Relaxed) { opening } else { &Opening::Head };
            let before = last.lock().ok().and_then(|last| last.clone());
            if let Some(session) = before {
                return self.transfer(&transfer, session).await;
            }
            match self.open(blob, opening).await? {
                Opened::Placed(placed) => Ok(placed),
                Opened::Session(session) => {
                    if bugs::is_in(Bug::SameSession)
                        && let Ok(mut last) = last.lock()
                    {
                        *last = Some(session.clone());
                    }
                    self.transfer(&transfer, session).await
                }
            }
        };
        self.client.connection.retry(attempt).await
    }

    async fn open(&self, blob: Blob, opening: &Opening) -> Result<Opened, Error> {
        let registry = self.target.registry();
        let answered = |answer| match (opening, answer) {
            (Opening::Mount(_), answer) => {
                self.shared_blobs.mount_answered(registry, answer == MountAnswer::Taken);
            }
            (Opening::Probe, MountAnswer::NotUnderstood) => self.shared_blobs.probe_failed(registry),
            _ => {}
        };
        // A 429 is retried here, without what was asked before it.
        self.client
            .connection
            .retry_throttled(|| async {
                let _permit = self.mirror.small.take(&[registry]).await;
                blob_upload::open(&self.client.connection, self.target, blob, opening, &answered).await
            })
            .await
    }

    async fn transfer(&self, transfer: &Transfer, session: url::Url) -> Result<Placed, Error> {
        let target = self.target;
        let Blob { digest, size } = transfer.blob;
        if size == 0 && !self.mirror.client.connection.profile(target.registry()).takes_empty_blobs {
            return Err(Error::of(target, ErrorKind::EmptyBlob { digest }));
        }
        let slots = if size <= Limits::SMALL { &self.mirror.small } else { &self.mirror.large };
        let permit = slots.take(&[transfer.source.registry(), target.registry()]).await;
        let _permit = (!bugs::is_in(Bug::NoSlots)).then_some(permit);
        blob_upload::stream(transfer, target, session).await?;
        Ok(Placed::Sent)
    }
}
