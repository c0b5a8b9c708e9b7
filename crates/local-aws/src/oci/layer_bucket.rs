//! The bucket where ECR stores layers and to which it redirects downloads: another origin; only the query grants access.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::app::App;
use crate::digest;
use crate::ecr::layer_url::signature;
use crate::fault::Fault;
use crate::http::{Answer, Body, byte_range, header, query, set, value, with_body};
use crate::request::Recorder;
use crate::store::content;
use crate::time::now_millis;
use crate::xml::element;

const READ: usize = 256 * 1024;

pub(crate) async fn answer(app: Arc<App>, request: Request<Incoming>) -> Answer {
    let (parts, _) = request.into_parts();
    let mut recorder = Recorder::new(&app, &parts);
    "layers".clone_into(&mut recorder.entry.service);
    recorder.entry.action = format!("{} layer", parts.method);
    let answer = match outcome(&app, &parts).await {
        Ok(answer) => answer,
        Err(fault) => {
            recorder.entry.error.clone_from(&fault.code);
            let document = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>{}{}{}</Error>",
                element("Code", &fault.code),
                element("Message", &fault.message),
                element("RequestId", &crate::store::new_id())
            );
            with_body(fault.status, "application/xml", document)
        }
    };
    recorder.entry.status = answer.status().as_u16();
    answer
}

async fn outcome(app: &App, parts: &http::request::Parts) -> Result<Answer, Fault> {
    if parts.headers.contains_key("authorization") {
        return Err(Fault::client(
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the \
             Authorization header should be specified",
        ));
    }
    let pairs = query(parts);
    let path = parts.uri.path();
    let expiry = value(&pairs, "x-local-expiry").and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let forbidden = |code: &str, message: &str| Fault::new(StatusCode::FORBIDDEN, code, message);
    // The signature is for GET: S3 rejects HEAD with it.
    if value(&pairs, "X-Amz-Signature") != Some(&signature(path, expiry)) || parts.method != Method::GET {
        return Err(forbidden(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
        ));
    }
    if expiry * 1000 < now_millis() {
        return Err(forbidden("AccessDenied", "Request has expired"));
    }
    let wanted = format!("sha256:{}", path.rsplit('/').next().unwrap_or_default());
    let opened =
        digest::is_valid(&wanted).then(|| content::open(&app.store.contents.path(&wanted)).ok()).flatten();
    let (file, size) =
        opened.ok_or_else(|| Fault::not_found("NoSuchKey", "The specified key does not exist."))?;
    let range = byte_range(header(parts, "range"), size).map_err(|()| {
        Fault::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "InvalidRange",
            "The requested range is not satisfiable",
        )
    })?;
    let (first, last) = range.unwrap_or((0, size.saturating_sub(1)));
    let length = if size == 0 { 0 } else { last - first + 1 };
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(READ);
    if first > 0 {
        file.seek(std::io::SeekFrom::Start(first)).await?;
    }
    let mut answer = Response::new(stream_file(file, length));
    set(&mut answer, "content-type", "application/octet-stream");
    set(&mut answer, "content-length", length.to_string());
    set(&mut answer, "accept-ranges", "bytes");
    set(&mut answer, "etag", format!("\"{}\"", &wanted["sha256:".len().."sha256:".len() + 32]));
    if range.is_some() {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        set(&mut answer, "content-range", format!("bytes {first}-{last}/{size}"));
    }
    Ok(answer)
}

/// `length` bytes of a file, read as fast as the client receives them.
fn stream_file(file: tokio::fs::File, length: u64) -> Body {
    let chunks = stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let want = usize::try_from(left).unwrap_or(READ).min(READ);
        let mut buffer = BytesMut::with_capacity(want);
        let read = (&mut file).take(left).read_buf(&mut buffer).await?;
        if read == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the layer's file is too short",
            ));
        }
        Ok(Some((Frame::data(buffer.freeze()), (file, left - read as u64))))
    });
    StreamBody::new(chunks).boxed_unsync()
}
