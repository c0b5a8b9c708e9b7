//! A source that is a function, for replies that the fake registry never sends.

use std::sync::Arc;

use bytes::Bytes;
use registry::mirror::{Job, Mirror};
use registry::{BoxFuture, Builder, Digest, Error, ErrorKind, Request, Response, Transport};

use super::{Fake, TestImage, builder, copy};

/// A source without a server: a function returns its replies.
struct Odd<F>(F);

impl<F: Fn(&Request) -> Response + Send + Sync> Transport for Odd<F> {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, ErrorKind>> {
        Box::pin(std::future::ready(Ok((self.0)(&request))))
    }
}

pub const ODD: &str = "odd.example";

pub fn odd(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Builder {
    builder().serve(ODD, Arc::new(Odd(answer)))
}

pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response {
    let body = body.into();
    let mut response = http::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value.as_bytes());
    }
    response.body(body.into()).unwrap()
}

pub fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    request.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// The reply of a registry that has the image and sends no other information.
pub fn plainly(image: &TestImage, request: &Request) -> Response {
    let path = request.url.path();
    if path.contains("/manifests/") {
        let digest = image.digest().to_string();
        let headers = [("content-type", image.manifest.media_type()), ("docker-content-digest", &digest)];
        return answer(200, &headers, image.manifest.bytes().clone());
    }
    let blob = image.blobs.iter().find(|blob| path.ends_with(&Digest::of(blob).to_string()));
    blob.map_or_else(|| answer(404, &[], ""), |blob| answer(200, &[], blob.clone()))
}

/// Copies `r:1` of the odd source, and returns its digest at the target.
pub async fn copied_by(builder: Builder, target: &Fake) -> Result<Digest, Error> {
    let job = Job::new(format!("{ODD}/r:1").parse().unwrap(), target.name("r:1"));
    copy(&Mirror::new(builder.build().unwrap()), job).await.map(|copied| copied.digest)
}
