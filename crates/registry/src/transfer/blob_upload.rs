//! One blob to one repository: from the question whether it is there to the last byte.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use url::Url;

use super::source::{self, Meter, Transfer};
use crate::client::uploads::{self, Finished, Started};
use crate::client::{Connection, Timeouts, blobs};
use crate::error::{Error, ErrorKind};
use crate::manifest::Blob;
use crate::net::http::Body;
use crate::reference::Reference;
use crate::size_limits;

/// Sends the blob to `session`: the source's reply is the body.
pub(crate) async fn stream(transfer: &Transfer, target: &Reference, session: Url) -> Result<(), Error> {
    let body = |meter: &Arc<Meter>| {
        Body::stream(source::body(transfer.clone(), Arc::clone(meter)), Some(transfer.blob.size))
    };
    send(&transfer.connection, target, session, transfer.blob, body).await
}

/// Sends a body to `session`, and to wherever that sends it on. `open` makes the body anew each time.
pub(crate) async fn send(
    connection: &Connection,
    target: &Reference,
    mut session: Url,
    blob: Blob,
    open: impl Fn(&Arc<Meter>) -> Body,
) -> Result<(), Error> {
    for _ in 0..=size_limits::REDIRECTS {
        let meter = Arc::new(Meter::default());
        match send_once(connection, target, session, blob, (open(&meter), &meter)).await? {
            Finished::Stored => return Ok(()),
            Finished::SentOn(there) => session = there,
        }
    }
    Err(Error::of(target, ErrorKind::Protocol(format!("more than {} redirects", size_limits::REDIRECTS))))
}

/// Sends a body, which counts into its meter, to `session`, as long as something moves.
async fn send_once(
    connection: &Connection,
    target: &Reference,
    session: Url,
    blob: Blob,
    (body, meter): (Body, &Meter),
) -> Result<Finished, Error> {
    if blob.size == 0 {
        // No bytes can show progress: only the reply is waited for.
        meter.add(0, 0);
    }
    let result = tokio::select! {
        biased;
        result = uploads::finish(connection, target, session, blob, body) => result,
        after = stalled(meter, connection.timeouts()) => {
            Err(Error::of(target, ErrorKind::Stalled { what: "the upload", after }))
        }
    };
    // The upload only sees that its body broke; the reason is in the meter.
    match (result, meter.failure()) {
        (Err(_), Some(failure)) => Err(failure),
        (result, _) => result,
    }
}

/// Ends when the target has accepted too little for too long. The source has its own timeout.
async fn stalled(meter: &Meter, timeouts: Timeouts) -> Duration {
    let tick = (timeouts.idle / 8).max(Duration::from_millis(1));
    let mut seen = 0;
    let mut idle = Duration::ZERO;
    loop {
        tokio::time::sleep(tick).await;
        let sent = meter.sent.load(Ordering::Relaxed);
        let moved = sent >= seen + Timeouts::MIN_BYTES || !meter.at_target.load(Ordering::Relaxed);
        idle = if moved { Duration::ZERO } else { idle + tick };
        seen = if moved { sent } else { seen };
        let complete = meter.complete.load(Ordering::Relaxed);
        let limit = if complete { timeouts.reply.max(timeouts.idle) } else { timeouts.idle };
        if idle >= limit {
            return limit;
        }
    }
}

/// How the blob came to the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// The target had it.
    Skipped,
    /// The target mounted it from another repository.
    Mounted,
    /// It was sent.
    Sent,
}

/// How the first try begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The blob is known not to be there.
    Absent,
    /// Ask by HEAD first.
    Head,
    /// Ask for a mount from the blob's own repository: 201 says that it is there, 202 opens the upload; one request for both
    /// ([notes on docker-registry](https://github.com/distribution/distribution/blob/v2.8.2/registry/storage/linkedblobstore.go)).
    Probe,
    /// Ask for a mount from this repository.
    Mount(String),
}

/// The result of opening an upload.
pub(crate) enum Opened {
    Placed(Placed),
    Session(Url),
}

/// Asks the target for an upload, as `opening` says. `mount_answered` is called with the answer to a mount or a probe.
pub(crate) async fn open(
    connection: &Connection,
    target: &Reference,
    blob: Blob,
    opening: &Opening,
    mount_answered: impl Fn(MountAnswer),
) -> Result<Opened, Error> {
    let (from, placed) = match opening {
        Opening::Head if blobs::need_not_be_sent(connection, target, blob.digest).await? => {
            return Ok(Opened::Placed(Placed::Skipped));
        }
        Opening::Head | Opening::Absent => (None, Placed::Skipped),
        Opening::Probe => (Some(target.repository()), Placed::Skipped),
        Opening::Mount(from) => (Some(from.as_str()), Placed::Mounted),
    };
    match uploads::start(connection, target, blob.digest, from).await {
        Ok(Started::Mounted) => {
            mount_answered(MountAnswer::Taken);
            Ok(Opened::Placed(placed))
        }
        Ok(Started::Session(session)) => {
            mount_answered(MountAnswer::Refused);
            Ok(Opened::Session(session))
        }
        // Registries without mounts answer in many ways; all understand a start without one (ggcr#1404, #1679).
        Err(error) if from.is_some() && !error.is_transient() => {
            mount_answered(MountAnswer::NotUnderstood);
            without_mount(connection, target, blob, opening).await
        }
        Err(error) => Err(error),
    }
}

async fn without_mount(
    connection: &Connection,
    target: &Reference,
    blob: Blob,
    opening: &Opening,
) -> Result<Opened, Error> {
    if *opening == Opening::Probe && blobs::is_at_target(connection, target, blob.digest).await? {
        return Ok(Opened::Placed(Placed::Skipped));
    }
    match uploads::start(connection, target, blob.digest, None).await? {
        Started::Session(session) => Ok(Opened::Session(session)),
        Started::Mounted => Ok(Opened::Placed(Placed::Skipped)),
    }
}

/// How a registry answered a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountAnswer {
    Taken,
    Refused,
    NotUnderstood,
}
