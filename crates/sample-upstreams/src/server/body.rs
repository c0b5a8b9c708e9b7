//! Bodies of answers: bytes, or a part of a file that is read as fast as the client receives it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

/// Read size of a file, in bytes.
const CHUNK: u64 = 256 * 1024;

/// How many chunks are buffered for a slow client.
const WAITING: usize = 4;

#[derive(Debug)]
pub(super) enum Body {
    Full(Full<Bytes>),
    File { chunks: mpsc::Receiver<std::io::Result<Bytes>>, left: u64 },
}

impl Body {
    pub(super) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub(super) fn full(bytes: Bytes) -> Self {
        Self::Full(Full::new(bytes))
    }

    /// `length` bytes of `file` from `start`.
    pub(super) fn file(mut file: File, start: u64, length: u64) -> Self {
        let (sender, chunks) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            let mut left = length;
            let mut read = || -> std::io::Result<Option<Bytes>> {
                if left == length {
                    file.seek(SeekFrom::Start(start))?;
                }
                if left == 0 {
                    return Ok(None);
                }
                let mut chunk = vec![0; usize::try_from(left.min(CHUNK)).unwrap_or_default()];
                file.read_exact(&mut chunk)?;
                left -= chunk.len() as u64;
                Ok(Some(chunk.into()))
            };
            while let Some(chunk) = read().transpose() {
                let failed = chunk.is_err();
                // Fails if the client has gone.
                if sender.blocking_send(chunk).is_err() || failed {
                    break;
                }
            }
        });
        Self::File { chunks, left: length }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Self::Full(full) => match Pin::new(full).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            },
            Self::File { chunks, left } => chunks.poll_recv(context).map(|chunk| {
                let chunk = chunk?;
                Some(chunk.map(|bytes| {
                    *left -= bytes.len() as u64;
                    Frame::data(bytes)
                }))
            }),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::File { left, .. } => SizeHint::with_exact(*left),
        }
    }
}
