//! Logs the requests to AWS's own services and their complete answers: the tests compare them with AWS's published models.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde_json::{Value, json};

use crate::http::{Answer, full, no_body};

/// The log, if enabled: one JSON document per line.
#[derive(Default)]
pub(crate) struct Traffic(Option<Mutex<File>>);

/// The received part of a request's body.
pub(crate) type ReceivedBody = Arc<Mutex<Vec<u8>>>;

impl Traffic {
    /// A log to which is appended.
    pub(crate) fn to(path: Option<&Path>) -> io::Result<Self> {
        let file = path.map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        Ok(Self(file.map(Mutex::new)))
    }

    /// A buffer for a request's body, if the log is enabled.
    pub(crate) fn seen(&self) -> Option<ReceivedBody> {
        self.0.as_ref().map(|_| ReceivedBody::default())
    }

    /// Logs a request and its answer. The content of objects is left out, because it has no defined format.
    pub(crate) async fn note(
        &self,
        parts: &Parts,
        seen: &ReceivedBody,
        action: &str,
        answer: Answer,
    ) -> Answer {
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default();
        let asked = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fetched = action == "GetObject" && head.status.is_success();
        let line = json!({
            "method": parts.method.as_str(),
            "target": parts.uri.path_and_query().map(|target| target.as_str()),
            "headers": fields(&parts.headers),
            "body": text(&asked, action != "PutObject"),
            "status": head.status.as_u16(),
            "answer_headers": fields(&head.headers),
            "answer_body": text(&bytes, !fetched),
        });
        if let Some(file) = &self.0 {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
                tracing::error!(%error, "the log of the traffic cannot be written");
            }
        }
        let body =
            if bytes.is_empty() || head.status == StatusCode::NO_CONTENT { no_body() } else { full(bytes) };
        Answer::from_parts(head, body)
    }
}

fn fields(headers: &HeaderMap) -> Vec<(&str, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

fn text(bytes: &[u8], kept: bool) -> Value {
    if kept { String::from_utf8_lossy(bytes).into() } else { Value::Null }
}

/// A request's body, copied if the log is enabled.
pub(crate) struct RequestBody {
    body: Incoming,
    seen: Option<ReceivedBody>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, seen: Option<ReceivedBody>) -> Self {
        Self { body, seen }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Ok(frame))), Some(seen)) = (&polled, &self.seen)
            && let Some(data) = frame.data_ref()
        {
            seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
