//! The network between the mirror and the servers: it delays, breaks, and changes bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode};
use registry::{Body, BoxFuture, Digest, ErrorKind, NoConnection, Request, Response, Transport};
use tokio::time::sleep;

use crate::asked::{Answer, Asked, kind, parts};
use crate::load::{Held, PIECE};
use crate::plan::{Fault, Op};
use crate::world::{Shared, World, lock, reads};

/// One process's connection to all servers.
pub struct Net {
    pub world: Shared,
    pub process: usize,
}

/// A request that needs a slot, until it ends or is dropped.
struct UnderWay(Shared, usize, Option<bool>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(is_large) = self.2 {
            lock(&self.0).load.ended(self.1, is_large);
        }
    }
}

#[derive(Debug)]
struct Broken(&'static str);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

fn broken(what: &'static str) -> ErrorKind {
    ErrorKind::Network { source: Arc::new(Broken(what)) }
}

impl Transport for Net {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ErrorKind>> {
        Box::pin(async move {
            let Request { method, url, headers, body } = request;
            let mut asked = Asked { method, url, headers, body: Bytes::new() };
            let (fault, there, _under_way) = {
                let mut world = lock(&self.world);
                let fault = world.sent(self.process, &asked);
                let World { load, journal, .. } = &mut *world;
                let counted = load.began(self.process, &asked, journal);
                (fault, world.delay(), UnderWay(Arc::clone(&self.world), self.process, counted))
            };
            sleep(there).await;
            if lock(&self.world).is_down(&asked) {
                let why = NoConnection::Refused;
                return Err(ErrorKind::NoConnection {
                    why,
                    source: Some(Arc::new(Broken("nobody listens"))),
                });
            }
            asked.body = self.read(&asked, body, fault.as_ref()).await?;
            match fault {
                Some(Fault::Hang) => {
                    sleep(Duration::from_secs(86_400)).await;
                    return Err(broken("no answer"));
                }
                Some(Fault::Delay(time)) => sleep(time).await,
                _ => {}
            }
            let mut answer = self.answer(&asked, fault.as_ref());
            let back = lock(&self.world).delay();
            sleep(back).await;
            if matches!(fault, Some(Fault::LoseReply)) {
                return Err(broken("the reply was lost"));
            }
            self.spoil(&asked, &mut answer, fault.as_ref());
            lock(&self.world).received(self.process, &asked, &answer);
            Ok(self.response(&asked, answer, fault))
        })
    }
}

impl Net {
    /// The request's body, as it arrives.
    async fn read(&self, asked: &Asked, mut body: Body, fault: Option<&Fault>) -> Result<Bytes, ErrorKind> {
        let length =
            asked.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        let cut = match fault {
            Some(Fault::CutRequest(at)) => Some(at % length.unwrap_or(1_usize).max(1)),
            _ => None,
        };
        let mut bytes = Vec::new();
        while let Some(piece) = body.chunk().await? {
            let time = {
                let mut world = lock(&self.world);
                if kind(asked).1 == Op::UploadFinish {
                    world.uploaded(asked, bytes.len(), &piece);
                }
                world.delay() / 4
            };
            sleep(time).await;
            bytes.extend_from_slice(&piece);
            if cut.is_some_and(|cut| bytes.len() > cut) {
                return Err(broken("the upload was cut"));
            }
        }
        if length.is_some_and(|length| length != bytes.len()) {
            return Err(broken("the upload has another length than its headers say"));
        }
        Ok(bytes.into())
    }

    /// The reply of the server, or of something on the way.
    fn answer(&self, asked: &Asked, fault: Option<&Fault>) -> Answer {
        match fault {
            Some(Fault::TooMany(wait)) => {
                let answer = Answer::error(429, "TOOMANYREQUESTS", "Rate exceeded");
                match wait {
                    Some(wait) => answer.with("retry-after", wait),
                    None => answer,
                }
            }
            Some(Fault::Status(status)) => Answer::new(*status),
            Some(Fault::LoseSession) => Answer::error(404, "BLOB_UPLOAD_UNKNOWN", ""),
            _ => lock(&self.world).answer(asked),
        }
    }

    fn spoil(&self, asked: &Asked, answer: &mut Answer, fault: Option<&Fault>) {
        match fault {
            Some(Fault::Corrupt(at)) if !answer.body.is_empty() => {
                let mut bytes = answer.body.to_vec();
                let at = at % bytes.len();
                bytes[at] ^= 0x41;
                answer.body = bytes.into();
                if answer.status == 403 {
                    // Only the body shows whether a login has expired or was never sufficient: this is now a refusal like any
                    // other.
                    lock(&self.world).fired.push(Fault::Status(403));
                }
                if let Ok(digest) = parts(asked.url.path()).2.parse::<Digest>() {
                    lock(&self.world).spoiled.push(digest);
                }
            }
            Some(Fault::WrongRange) if answer.status == 206 => {
                answer.headers.retain(|(name, _)| *name != "content-range");
                answer.headers.push(("content-range", "bytes 7-9/10".to_owned()));
            }
            // A 206 is sent although no range was requested.
            Some(Fault::WrongRange) if answer.status == 200 => {
                answer.status = 206;
                answer.headers.push(("content-range", "bytes 1-9/10".to_owned()));
            }
            _ => {}
        }
    }

    fn response(&self, asked: &Asked, answer: Answer, fault: Option<Fault>) -> Response {
        let Answer { status, headers, body } = answer;
        let mut response = Response::default();
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        *response.headers_mut() = map;
        if asked.method == http::Method::HEAD || body.is_empty() {
            return response;
        }
        if status >= 400 {
            *response.body_mut() = body.into();
            return response;
        }
        let length = body.len();
        let (end, is_cut) = match fault {
            Some(Fault::CutReply(at)) => (at % length, true),
            Some(Fault::Truncate(at)) => (at % length, false),
            _ => (length, false),
        };
        let is_blob = reads(&asked.method) && kind(asked).1 == Op::BlobGet;
        let announced = (!matches!(fault, Some(Fault::Truncate(_)))).then_some(length as u64);
        let way = Way {
            world: Arc::clone(&self.world),
            rest: body.slice(..end),
            is_cut,
            is_slow: matches!(fault, Some(Fault::Trickle)),
            is_counted: is_blob,
        };
        *response.body_mut() = Body::stream(stream::unfold(way, Way::next), announced);
        response
    }
}

/// A reply's body in transit.
struct Way {
    world: Shared,
    rest: Bytes,
    is_cut: bool,
    is_slow: bool,
    is_counted: bool,
}

impl Way {
    async fn next(mut self) -> Option<(Result<Bytes, Broken>, Self)> {
        if self.rest.is_empty() {
            let is_cut = std::mem::take(&mut self.is_cut);
            return is_cut.then(|| (Err(Broken("the connection broke")), self));
        }
        let (time, most) = {
            let mut world = lock(&self.world);
            (world.delay() / 4, world.random.usize(1_000..PIECE))
        };
        sleep(if self.is_slow { Duration::from_secs(5) } else { time }).await;
        let piece = self.rest.split_to(self.rest.len().min(if self.is_slow { 20 } else { most }));
        if !self.is_counted {
            return Some((Ok(piece), self));
        }
        let held = {
            let mut world = lock(&self.world);
            let World { load, journal, .. } = &mut *world;
            load.handed_out(piece.len(), journal);
            Arc::clone(&load.held)
        };
        Some((Ok(Bytes::from_owner(Counted { piece, held })), self))
    }
}

/// Bytes of a layer, counted as long as they are in memory.
struct Counted {
    piece: Bytes,
    held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.held.fetch_sub(self.piece.len() as i64, Ordering::Relaxed);
    }
}
