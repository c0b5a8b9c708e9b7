//! `bench floor`: uploads only, without reading from the network or checking anything: the cost of the target itself.
//!
//! The concurrency is the mirror's default: a number of large blobs, and separately a number of small ones and requests without content.
//! Every blob is sent once (POST, PUT), mounted in other repositories (POST), and every manifest is one PUT.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Client, Response, StatusCode, Url, header};

use crate::catalog::{Catalog, Image, Variant};
use crate::content::Blob;
use crate::store::Store;

/// Concurrent small blobs and requests without content, and the size limit of a small blob in bytes: the mirror's own limits.
const REQUESTS: usize = 64;
const SMALL: u64 = 256 << 10;
/// Read size, in bytes.
const PART: usize = 1 << 18;

/// Uploads the catalogue in the file from the store at `root` to `target`, with `jobs` large blobs in parallel.
///
/// # Errors
/// The target rejects a request.
pub fn run(catalog: &Path, root: &Path, target: &str, variant: Variant, jobs: usize) -> Result<()> {
    // An error only means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let catalog: Catalog = serde_json::from_slice(&std::fs::read(catalog)?)?;
    let store = Store::new(root.to_owned());
    let base = Url::parse(target).context("the target is not a URL")?;
    let client = Client::builder().no_proxy().build()?;
    let floor = Floor { client, base, store };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(floor.upload(&catalog, variant, jobs))
}

struct Floor {
    client: Client,
    base: Url,
    store: Store,
}

impl Floor {
    async fn upload(&self, catalog: &Catalog, variant: Variant, jobs: usize) -> Result<()> {
        let mut homes: HashMap<&str, &str> = HashMap::new();
        let (mut sends, mut mounts) = (Vec::new(), Vec::new());
        for image in &catalog.images {
            for blob in image.blobs() {
                match homes.get(blob.digest.as_str()) {
                    Some(home) => mounts.push((image.repository.as_str(), *home, blob)),
                    None => {
                        homes.insert(&blob.digest, &image.repository);
                        sends.push((image.repository.as_str(), blob));
                    }
                }
            }
        }
        // The largest first, as the last one to end determines the time.
        sends.sort_by_key(|(_, blob)| std::cmp::Reverse(blob.size));
        let (large, small): (Vec<_>, Vec<_>) = sends.into_iter().partition(|(_, blob)| blob.size > SMALL);
        let large = stream::iter(large.into_iter().map(|(to, blob)| self.send(to, blob)));
        let small = stream::iter(small.into_iter().map(|(to, blob)| self.send(to, blob)));
        tokio::try_join!(
            large.buffer_unordered(jobs).try_collect::<()>(),
            small.buffer_unordered(REQUESTS).try_collect::<()>()
        )?;
        let mounts = stream::iter(mounts.into_iter().map(|(to, from, blob)| self.mount(to, from, blob)));
        mounts.buffer_unordered(REQUESTS).try_collect::<()>().await?;
        let manifests = stream::iter(catalog.images.iter().map(|image| self.manifest(image, variant)));
        manifests.buffer_unordered(REQUESTS).try_collect::<()>().await
    }

    async fn send(&self, repository: &str, blob: &Blob) -> Result<()> {
        let url = self.base.join(&format!("/v2/{repository}/blobs/uploads/"))?;
        let opened = expect(self.client.post(url).send().await?, StatusCode::ACCEPTED)?;
        let location = opened.headers().get(header::LOCATION).context("an upload without Location")?;
        let mut url = self.base.join(location.to_str()?)?;
        url.query_pairs_mut().append_pair("digest", &blob.digest);
        let file = File::open(self.store.blob_path(&blob.digest))?;
        // Reads come from the page cache: the file was written or read recently.
        let body = stream::try_unfold(file, |mut file| async move {
            let mut part = vec![0; PART];
            let count = file.read(&mut part)?;
            part.truncate(count);
            Ok::<_, std::io::Error>((count > 0).then(|| (Bytes::from(part), file)))
        });
        let sent = self
            .client
            .put(url)
            .header(header::CONTENT_LENGTH, blob.size)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(reqwest::Body::wrap_stream(body));
        expect(sent.send().await?, StatusCode::CREATED).map(drop)
    }

    async fn mount(&self, to: &str, from: &str, blob: &Blob) -> Result<()> {
        let mut url = self.base.join(&format!("/v2/{to}/blobs/uploads/"))?;
        url.query_pairs_mut().append_pair("mount", &blob.digest).append_pair("from", from);
        expect(self.client.post(url).send().await?, StatusCode::CREATED).map(drop)
    }

    async fn manifest(&self, image: &Image, variant: Variant) -> Result<()> {
        let (repository, tag) = (&image.repository, image.tag(variant));
        let url = self.base.join(&format!("/v2/{repository}/manifests/{tag}"))?;
        let bytes = std::fs::read(self.store.blob_path(&image.manifest.digest))?;
        let put = self
            .client
            .put(url)
            .header(header::CONTENT_TYPE, "application/vnd.oci.image.manifest.v1+json")
            .body(bytes);
        expect(put.send().await?, StatusCode::CREATED).map(drop)
    }
}

fn expect(response: Response, wanted: StatusCode) -> Result<Response> {
    if response.status() != wanted {
        bail!("{} answered {}", response.url().path(), response.status());
    }
    Ok(response)
}
