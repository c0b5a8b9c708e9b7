//! Bodies changed by faults.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::fake::{Body, Cut, Shared};
use super::faults::Fault;
use super::protocol::full;

/// The last bytes that were sent on a connection.
pub type Tail = watch::Sender<Vec<u8>>;

/// This number of them is kept.
const TAIL: usize = 64;

/// A connection, and the bytes that the server sent on it.
pub struct Watched {
    pub socket: TcpStream,
    pub tail: Tail,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, buf))?;
        self.tail.send_modify(|tail| {
            tail.extend_from_slice(&buf[..written]);
            tail.drain(..tail.len().saturating_sub(TAIL));
        });
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Another form of a real reply.
pub async fn spoil(reply: Response<Body>, fault: &Fault, tail: &Tail) -> Response<Body> {
    let (parts, body) = reply.into_parts();
    let mut bytes = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
    let mut length = bytes.len();
    let body = match *fault {
        Fault::CorruptReply(at) => {
            if let Some(byte) = bytes.get_mut(at % length.max(1)) {
                *byte ^= 0x40;
            }
            full(bytes)
        }
        Fault::Pack => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut encoder, &bytes).unwrap();
            bytes = encoder.finish().unwrap();
            length = bytes.len();
            full(bytes)
        }
        Fault::Truncate(by) => {
            bytes.truncate(length.saturating_sub(by));
            full(bytes)
        }
        Fault::CutReply(after) => {
            let begin = Bytes::from(bytes).slice(..after % length.max(1));
            // The head and these: bytes that the server has not sent at the cut are never sent.
            let mut last = [b"\r\n\r\n", &begin[begin.len().saturating_sub(TAIL)..]].concat();
            last.drain(..last.len().saturating_sub(TAIL));
            let tail = tail.subscribe();
            let frames = stream::unfold(Some(begin), move |begin| {
                let (last, mut tail) = (last.clone(), tail.clone());
                async move {
                    let mut begin = begin?;
                    if begin.is_empty() {
                        let _ = tail.wait_for(|tail| tail.ends_with(&last)).await;
                        return Some((Err(io::Error::other("cut")), None));
                    }
                    tokio::task::yield_now().await;
                    let piece = begin.split_to(begin.len().min(16 << 10));
                    Some((Ok(Frame::data(piece)), Some(begin)))
                }
            });
            BodyExt::boxed_unsync(StreamBody::new(frames))
        }
        Fault::Trickle => {
            let bytes = Bytes::from(bytes);
            let frames = stream::unfold(0, move |at| {
                let byte = (at < bytes.len()).then(|| bytes.slice(at..=at));
                async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    byte.map(|byte| (Ok(Frame::data(byte)), at + 1))
                }
            });
            BodyExt::boxed_unsync(StreamBody::new(frames))
        }
        _ => full(bytes),
    };
    let mut response = Response::from_parts(parts, body);
    let announced = match fault {
        Fault::Truncate(by) => length.saturating_sub(*by),
        _ => length,
    };
    response.headers_mut().insert("content-length", announced.into());
    match fault {
        Fault::Pack => drop(response.headers_mut().insert("content-encoding", "gzip".parse().unwrap())),
        Fault::Label => drop(response.headers_mut().insert("content-encoding", "x-gzip".parse().unwrap())),
        _ => {}
    }
    response
}

/// A request's body: its bytes, or length and digest of a huge one.
pub enum Received {
    Bytes(Bytes),
    Huge(u64),
}

pub async fn read(mut body: Incoming, shared: &Shared, corrupt: Option<usize>) -> Result<Received, Cut> {
    let limit = shared.state.lock().unwrap().quirks.discard_over.unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Cut)?.into_data() else { continue };
        length += data.len() as u64;
        if length <= limit {
            bytes.extend_from_slice(&data);
        }
    }
    if length > limit {
        return Ok(Received::Huge(length));
    }
    if let Some(at) = corrupt {
        let length = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at % length) {
            *byte ^= 0x40;
        }
    }
    Ok(Received::Bytes(bytes.into()))
}

pub async fn read_some(mut body: Incoming, after: usize) {
    let mut length = 0;
    while length < after {
        match body.frame().await {
            Some(Ok(frame)) => length += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}
