//! `bench serve`: serves images from the source's store with as little CPU as possible.
//!
//! docker-registry needs milliseconds of CPU to send a blob of 2 KiB. With ten thousand of them, such a source on the client's own cores
//! would take a large part of the measured time (docs/scale.md). Real sources run on other machines.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::store::Store;

/// Serves manifests and blobs of the store below `root` on `addr`, and logs each request in docker-registry's format. Does not return.
///
/// # Errors
/// The address cannot be used.
pub fn run(addr: SocketAddr, root: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = Store::new(root.to_owned());
    runtime.block_on(tokio::task::LocalSet::new().run_until(async move {
        let listener =
            TcpListener::bind(addr).await.with_context(|| format!("could not listen on {addr}"))?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let store = store.clone();
            let service = service_fn(move |request| {
                let response = respond(&store, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client that closes its connection does not affect the others.
            tokio::task::spawn_local(async move { drop(connection.await) });
        }
    }))
}

fn respond(store: &Store, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let found = found(store, request.method(), request.uri().path());
    let (status, content) = found.map_or((StatusCode::NOT_FOUND, None), |content| (StatusCode::OK, content));
    let length = content.as_ref().map_or(0, |content| content.bytes.len());
    crate::say(&format!(
        "- - - [] \"{} {} HTTP/1.1\" {} {length}",
        request.method(),
        request.uri(),
        status.as_u16()
    ));
    let mut response = Response::builder().status(status);
    let mut body = Bytes::new();
    if let Some(content) = content {
        response = response
            .header(header::CONTENT_TYPE, content.media_type)
            .header("Docker-Content-Digest", content.digest);
        body = content.bytes;
    }
    let response = response.body(Full::new(body));
    // Only an invalid header value could fail; a store has none.
    response.unwrap_or_else(|_| Response::new(Full::new(Bytes::new())))
}

struct Content {
    bytes: Bytes,
    digest: String,
    media_type: String,
}

/// The requested content: `None` if it does not exist, `Some(None)` for `/v2/`.
fn found(store: &Store, method: &Method, path: &str) -> Option<Option<Content>> {
    let path = path.strip_prefix("/v2/")?;
    if path.is_empty() {
        return Some(None);
    }
    if ![Method::GET, Method::HEAD].contains(method) {
        return None;
    }
    if let Some((_, digest)) = path.split_once("/blobs/") {
        let bytes = Bytes::from(std::fs::read(store.blob_path(digest)).ok()?);
        return Some(Some(Content {
            bytes,
            digest: digest.to_owned(),
            media_type: "application/octet-stream".to_owned(),
        }));
    }
    let (repository, reference) = path.split_once("/manifests/")?;
    let digest =
        if reference.contains(':') { reference.to_owned() } else { store.tagged(repository, reference)? };
    let bytes = std::fs::read(store.blob_path(&digest)).ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let media_type = manifest["mediaType"].as_str()?.to_owned();
    Some(Some(Content { bytes: bytes.into(), digest, media_type }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Set;
    use crate::content::Blob;

    #[test]
    fn a_set_is_served_by_tag_and_by_digest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"));
        let catalog = crate::sets::make(Set::Smoke, &store, dir.path()).unwrap();
        let image = &catalog.images[0];
        let get = |path: String| found(&store, &Method::GET, &path).map(Option::unwrap);
        let tagged = get(format!("/v2/{}/manifests/1.0", image.repository)).unwrap();
        assert_eq!(Blob::of(&tagged.bytes), image.manifest);
        assert_eq!(tagged.digest, image.manifest.digest);
        assert_eq!(tagged.media_type, "application/vnd.oci.image.manifest.v1+json");
        let by_digest = get(format!("/v2/{}/manifests/{}", image.repository, tagged.digest)).unwrap();
        assert_eq!(by_digest.bytes, tagged.bytes);
        let layer = &image.layers[0];
        let blob = get(format!("/v2/{}/blobs/{}", image.repository, layer.digest)).unwrap();
        assert_eq!(Blob::of(&blob.bytes), *layer);
        assert!(get(format!("/v2/{}/manifests/2.0", image.repository)).is_none());
        assert!(found(&store, &Method::PUT, &format!("/v2/{}/manifests/1.0", image.repository)).is_none());
        assert!(found(&store, &Method::GET, "/v2/").is_some());
    }
}
