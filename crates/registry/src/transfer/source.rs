//! A blob's bytes from its source: hashed, counted, compared with its digest, and resumed after a broken connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use http::StatusCode;
use tokio::time::Instant;

use super::progress::Progress;
use crate::bugs::{self, Bug};
use crate::client::{Connection, Timeouts, Tries, blobs};
use crate::digest::Hasher;
use crate::error::{Error, ErrorKind, waited};
use crate::manifest::Blob;
use crate::net::http::Response;
use crate::net::wait_span::waiting;
use crate::net::{encoding, response};
use crate::reference::Reference;
use crate::size_limits;

/// How much is passed to the upload at once: so little that a slow link shows progress within the idle time.
const PIECE: usize = 128 << 10;

/// A connection that brought this much before it broke was good: the count of failures starts again.
const GOOD_PROGRESS: u64 = 1 << 20;

/// What is seen of a transfer from outside.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Bytes passed to the upload.
    pub(crate) sent: AtomicU64,
    /// Whether the target has the bytes that it asked for, so that only it is waited for. Otherwise the request waits for its
    /// turn, or for the source.
    pub(crate) at_target: AtomicBool,
    /// Whether all bytes were passed on.
    pub(crate) complete: AtomicBool,
    /// Why the source ended early. The upload knows only that its body broke.
    failure: Mutex<Option<Error>>,
}

impl Transfer {
    /// A blob that is read from `source`, without reports of progress.
    pub(crate) fn new(connection: &Connection, source: &Reference, blob: Blob) -> Self {
        Self {
            connection: connection.clone(),
            source: source.clone(),
            blob,
            progress: Arc::default(),
            keep: None,
        }
    }
}

impl Meter {
    /// Counts bytes of a body of `size`, and returns their sum.
    pub(crate) fn add(&self, bytes: u64, size: u64) -> u64 {
        let sent = self.sent.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.complete.store(sent == size, Ordering::Relaxed);
        self.at_target.store(true, Ordering::Relaxed);
        sent
    }

    /// Notes why the body ends early.
    pub(crate) fn fail(&self, error: Error) {
        if let Ok(mut failure) = self.failure.lock() {
            *failure = Some(error);
        }
    }

    /// Why the body ended early, if it did.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().ok().and_then(|mut failure| failure.take())
    }
}

/// The settings of a transfer.
#[derive(Clone)]
pub(crate) struct Transfer {
    pub(crate) connection: Connection,
    pub(crate) source: Reference,
    pub(crate) blob: Blob,
    pub(crate) progress: Arc<Progress>,
    /// Where the bytes are kept, if they are needed afterwards.
    pub(crate) keep: Option<Kept>,
}

/// A small blob's bytes, verified, from when it passed.
pub(crate) type Kept = Arc<OnceLock<Vec<u8>>>;

struct Reader {
    transfer: Transfer,
    meter: Arc<Meter>,
    response: Option<Response>,
    /// A blob that the server compressed, decompressed.
    unpacked: Option<Bytes>,
    /// Whether a range was refused, or another one came: then the whole blob is requested.
    knows_no_ranges: bool,
    /// The known bytes at the beginning of a reply that ignored the range.
    to_skip: u64,
    rest: Bytes,
    hasher: Hasher,
    offset: u64,
    tries: Tries,
    /// Waited without success since the last good connection.
    waited: Duration,
    resumed_at: u64,
    verified: bool,
    kept: Vec<u8>,
}

/// The bytes as an upload's body. It ends with an error instead of the last piece if the digest is wrong, so that no target
/// ever gets a complete blob with another digest.
pub(crate) fn body(transfer: Transfer, meter: Arc<Meter>) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    let reader = Reader {
        transfer,
        meter,
        response: None,
        unpacked: None,
        knows_no_ranges: false,
        to_skip: 0,
        rest: Bytes::new(),
        hasher: Hasher::default(),
        offset: 0,
        tries: Tries::default(),
        waited: Duration::ZERO,
        resumed_at: 0,
        verified: false,
        kept: Vec::new(),
    };
    stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(reader))),
            Ok(None) => None,
            Err(error) => {
                reader.meter.fail(error.clone());
                Some((Err(error), None))
            }
        }
    })
}

impl Reader {
    /// The next piece, `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.rest.is_empty() {
            self.meter.at_target.store(false, Ordering::Relaxed);
            let chunk = self.chunk().await;
            self.meter.at_target.store(true, Ordering::Relaxed);
            match chunk? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(None),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        self.count(piece.len() as u64);
        Ok(Some(piece))
    }

    fn count(&self, bytes: u64) {
        let sent = self.meter.add(bytes, self.transfer.blob.size);
        self.transfer.progress.advance(sent);
    }

    /// The next bytes from the source, over as many connections as necessary.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.offset == self.transfer.blob.size {
                self.verify()?;
                return Ok(None);
            }
            match self.receive().await {
                Ok(Some(bytes)) => {
                    if let Some(bytes) = self.accept(bytes)? {
                        return Ok(Some(bytes));
                    }
                }
                // The reply was shorter than the blob: the rest is requested as after any other break.
                Ok(None) => self.broken(self.error(self.truncated())).await?,
                Err(error) => self.broken(error).await?,
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        if self.response.is_none() {
            self.open().await?;
        }
        if let Some(bytes) = self.unpacked.take() {
            return Ok(Some(bytes));
        }
        let after = self.transfer.connection.timeouts().idle;
        let stalled = self.error(ErrorKind::Stalled { what: "the download", after });
        let Some(response) = self.response.as_mut() else { return Err(stalled) };
        let began = Instant::now();
        let mut collected: Option<bytes::BytesMut> = None;
        // Small chunks are collected until they are worth a piece or have been too little for too long.
        loop {
            let left = after.saturating_sub(began.elapsed());
            let chunk = match tokio::time::timeout(left, response.body_mut().chunk()).await {
                Ok(chunk) => chunk.map_err(|kind| fail(&self.transfer, kind))?,
                Err(_) => return Err(stalled),
            };
            let have = collected.as_ref().map_or(0, bytes::BytesMut::len) as u64;
            match (chunk, &mut collected) {
                (None, None) => return Ok(None),
                (None, Some(_)) => return Ok(collected.map(bytes::BytesMut::freeze)),
                (Some(chunk), None) if is_enough(chunk.len() as u64, self.offset, self.transfer.blob) => {
                    return Ok(Some(chunk));
                }
                (Some(chunk), _) => {
                    collected.get_or_insert_default().extend_from_slice(&chunk);
                    if is_enough(have + chunk.len() as u64, self.offset, self.transfer.blob) {
                        return Ok(collected.map(bytes::BytesMut::freeze));
                    }
                }
            }
        }
    }

    async fn open(&mut self) -> Result<(), Error> {
        let Transfer { connection, source, blob, .. } = &self.transfer;
        let part = match self.offset {
            0 => None,
            _ if self.knows_no_ranges => None,
            at => the_right_part(blobs::open(connection, source, blob.digest, at).await, at)?,
        };
        let is_part = part.as_ref().is_some_and(|part| part.status() == StatusCode::PARTIAL_CONTENT);
        self.to_skip = if is_part { 0 } else { self.offset };
        self.knows_no_ranges = self.to_skip > 0;
        let response = match part {
            Some(part) => part,
            None => blobs::open(connection, source, blob.digest, 0).await?,
        };
        let whole = |length| whole_length(length, self.offset, self.to_skip);
        let announced = response.body().length().map(whole);
        let is_small = blob.size <= size_limits::BLOB_IN_MEMORY;
        if announced != Some(blob.size) && is_small && encoding::is_compressed(response.headers()) {
            drop(response);
            self.unpacked = Some(blobs::read(connection, source, *blob).await?.into());
            self.to_skip = self.offset;
            return Ok(());
        }
        let is_wrong = |actual: &u64| *actual != blob.size && !bugs::is_in(Bug::WrongResume);
        if let Some(actual) = announced.filter(is_wrong) {
            return Err(self.error(ErrorKind::SizeMismatch { expected: blob.size, actual }));
        }
        self.response = Some(response);
        Ok(())
    }

    /// Counts and hashes bytes; `None` if all of them were known. The last ones are only returned if the digest is right.
    fn accept(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>, Error> {
        let known = self.to_skip.min(bytes.len() as u64);
        self.to_skip -= known;
        drop(bytes.split_to(known as usize));
        if bytes.is_empty() {
            return Ok(None);
        }
        let size = self.transfer.blob.size;
        if bytes.len() as u64 > size - self.offset {
            return Err(self.error(ErrorKind::SizeMismatch {
                expected: size,
                actual: self.offset + bytes.len() as u64,
            }));
        }
        self.hasher.update(&bytes);
        if self.transfer.keep.is_some() {
            self.kept.extend_from_slice(&bytes);
        }
        self.offset += bytes.len() as u64;
        if self.offset == size {
            self.verify()?;
        }
        Ok(Some(bytes))
    }

    fn verify(&mut self) -> Result<(), Error> {
        if self.verified {
            return Ok(());
        }
        self.verified = true;
        let (expected, actual) = (self.transfer.blob.digest, std::mem::take(&mut self.hasher).finish());
        if expected == actual || bugs::is_in(Bug::Unverified) {
            if let Some(keep) = &self.transfer.keep {
                // If it is set already, it is the same.
                let _ = keep.set(std::mem::take(&mut self.kept));
            }
            Ok(())
        } else {
            Err(self.error(ErrorKind::DigestMismatch { expected, actual }))
        }
    }

    /// The connection broke: pause and resume, or give up.
    async fn broken(&mut self, error: Error) -> Result<(), Error> {
        self.response = None;
        if self.offset - self.resumed_at >= GOOD_PROGRESS {
            (self.tries, self.waited) = (Tries::default(), Duration::ZERO);
        }
        self.resumed_at = self.offset;
        self.waited += waited::waited(&error);
        let tries = self.tries.count(&error);
        let connection = &self.transfer.connection;
        let pause = connection.pause(tries, &error);
        if error.is_brief() {
            return Err(error);
        }
        // Passed bytes are wrong, or too many or too few: another range does not help.
        let is_content = error.kind().is_mismatch();
        let is_worth_it = |pause: &Duration| {
            error.is_transient() && !is_content && self.waited + *pause <= connection.give_up_after()
        };
        let Some(pause) = pause.filter(is_worth_it) else { return Err(waited::after(error, self.waited)) };
        if let Some(watcher) = connection.watcher() {
            watcher(&error, pause);
        }
        let _wait = waiting(error.registry(), &format!("to try again ({})", error.kind()), pause);
        tokio::time::sleep(pause).await;
        self.waited += pause;
        Ok(())
    }

    fn truncated(&self) -> ErrorKind {
        ErrorKind::Truncated { expected: self.transfer.blob.size, actual: self.offset }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        fail(&self.transfer, kind)
    }
}

fn fail(transfer: &Transfer, kind: ErrorKind) -> Error {
    Error::of(&transfer.source.with_digest(transfer.blob.digest), kind)
}

/// Whether this many bytes are progress: enough of them, or all that is left.
fn is_enough(bytes: u64, offset: u64, blob: Blob) -> bool {
    bytes >= Timeouts::MIN_BYTES || offset + bytes >= blob.size
}

/// The reply to a range, or the whole; `None` if it cannot be used. Crane's own registry accepts no range without an end (416),
/// CDNs have answered 400 ([registry.k8s.io#333](https://github.com/kubernetes/registry.k8s.io/issues/333)).
fn the_right_part(asked: Result<Response, Error>, offset: u64) -> Result<Option<Response>, Error> {
    let start = |part: &Response| response::header(part.headers(), "content-range").and_then(range_start);
    let is_other = |part: &Response| start(part) != Some(offset) && !bugs::is_in(Bug::WrongResume);
    match asked {
        Ok(part) if part.status() == StatusCode::PARTIAL_CONTENT && is_other(&part) => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::UploadLost { .. } | ErrorKind::Refused { .. }) => {
            Ok(None)
        }
        asked => asked.map(Some),
    }
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(text: &str) -> Option<u64> {
    text.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// The length of the whole blob, from the length of a reply that begins at `offset - to_skip`.
fn whole_length(length: u64, offset: u64, to_skip: u64) -> u64 {
    length.saturating_add(offset).saturating_sub(to_skip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_identified_by_its_first_byte() {
        assert_eq!(range_start("bytes 5-9/10"), Some(5));
        assert_eq!(range_start("bytes 18446744073709551615-9/*"), Some(u64::MAX));
        for text in
            ["", "bytes", "bytes -5", "items 5-9/10", "bytes x-9/10", "bytes 18446744073709551616-9/10"]
        {
            assert_eq!(range_start(text), None, "{text}");
        }
    }

    #[test]
    fn an_impossible_length_is_a_different_length() {
        assert_eq!(whole_length(5, 5, 0), 10);
        assert_eq!(whole_length(10, 5, 5), 10);
        assert_eq!(whole_length(u64::MAX - 2, 5, 0), u64::MAX);
    }

    #[test]
    fn fuzz_any_content_range_has_a_start_or_none() {
        crate::fuzz::each("ranges", |input| {
            let Some(start) = std::str::from_utf8(input).ok().and_then(range_start) else { return false };
            assert!(whole_length(u64::MAX, start, start) >= u64::MAX - start);
            true
        });
    }
}
