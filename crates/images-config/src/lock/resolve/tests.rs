//! Tests with a small registry that counts its requests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

mod fresh;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Paths to media type and body.
#[derive(Default)]
struct Registry {
    content: HashMap<String, (&'static str, String)>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn manifest(&mut self, kind: &'static str, body: String, tag: Option<&str>) -> Digest {
        let digest = Digest::of(body.as_bytes());
        for name in [Some(digest.to_string().as_str()), tag].into_iter().flatten() {
            self.content.insert(format!("/v2/x/y/manifests/{name}"), (kind, body.clone()));
        }
        digest
    }

    /// An image with one layer of 1000 bytes.
    fn image(&mut self, architecture: &str, tag: Option<&str>) -> (Digest, u64) {
        let config = format!(r#"{{"os":"linux","architecture":"{architecture}","rootfs":{{}}}}"#);
        let (digest, size) = (Digest::of(config.as_bytes()), config.len());
        self.content.insert(format!("/v2/x/y/blobs/{digest}"), ("application/octet-stream", config));
        let layer = Digest::of(architecture.as_bytes());
        let body = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":{size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":1000}}]}}"#
        );
        let whole = body.len() + size + 1000;
        (self.manifest(MANIFEST, body, tag), u64::try_from(whole).unwrap())
    }

    /// An index of these architectures, with an attestation.
    fn index(&mut self, architectures: &[&str], tag: &str) -> (Digest, Vec<(Digest, u64)>) {
        let images: Vec<(Digest, u64)> =
            architectures.iter().map(|architecture| self.image(architecture, None)).collect();
        let mut entries: Vec<String> = architectures
            .iter()
            .zip(&images)
            .map(|(architecture, (digest, _))| {
                format!(
                    r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
                )
            })
            .collect();
        let subject = images[0].0;
        entries.push(format!(
            r#"{{"mediaType":"{MANIFEST}","digest":"{}","size":1,"annotations":{{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"{subject}"}},"platform":{{"os":"unknown","architecture":"unknown"}}}}"#,
            Digest::of(b"attestation")
        ));
        let body =
            format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
        (self.manifest(INDEX, body, Some(tag)), images)
    }

    async fn start(self) -> (Client, Arc<Mutex<Vec<String>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::clone(&self.asked);
        let registry = Arc::new(self);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let registry = Arc::clone(&registry);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    let mut piece = [0; 4096];
                    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                        match stream.read(&mut piece).await {
                            Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                            _ => return,
                        }
                    }
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let mut words = text.split_whitespace();
                    let (method, path) = (words.next().unwrap(), words.next().unwrap());
                    stream.write_all(registry.reply(method, path).as_bytes()).await.unwrap();
                });
            }
        });
        (Client::builder().route("docker.io", &url).build().unwrap(), asked)
    }

    fn reply(&self, method: &str, path: &str) -> String {
        let known = self.content.get(path);
        let kind = if path.contains("/blobs/") { "blob" } else { "manifest" };
        self.asked.lock().unwrap().push(format!("{method} {kind}"));
        let (status, media_type, body) = match known {
            Some((media_type, body)) => ("200 OK", *media_type, body.as_str()),
            None => ("404 Not Found", "text/plain", ""),
        };
        let shown = if method == "HEAD" { "" } else { body };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nConnection: close\r\n\r\n{shown}",
            body.len(),
            Digest::of(body.as_bytes())
        )
    }
}

fn want(copies: &[Platforms], platforms: &[&str]) -> Want {
    let source: Reference = "x/y:1".parse().unwrap();
    Want {
        names: std::collections::BTreeSet::from([source.to_string()]),
        source,
        targets: copies.iter().map(PlatformSet::from).collect(),
        copies: copies.to_vec(),
        platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
        min_age: None,
        allow_fresh: false,
    }
}

/// Resolves a source without a `min_age`.
async fn resolve(
    client: &Client,
    want: &Want,
    known: Option<&Locked>,
    now: jiff::Timestamp,
) -> Result<Locked, ResolveError> {
    let sources = known.into_iter().map(|known| (want.source.clone(), known.clone())).collect();
    let meaning = super::resolve(client, want, &Lock { sources, ..Lock::default() }, now).await?;
    assert_eq!(meaning.waiting, None);
    Ok(meaning.locked.unwrap())
}

fn only(platforms: &[&str]) -> Platforms {
    Platforms::Only(platforms.iter().map(|platform| platform.parse().unwrap()).collect())
}

fn now() -> jiff::Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn count(asked: &Mutex<Vec<String>>, what: &str) -> usize {
    asked.lock().unwrap().iter().filter(|request| *request == what).count()
}

#[tokio::test]
async fn an_index_is_read_once_and_then_only_checked_by_head() {
    let mut registry = Registry::default();
    let (index, images) = registry.index(&["amd64", "arm64", "s390x"], "1");
    let (client, asked) = registry.start().await;
    let want = want(&[only(&["linux/amd64"])], &[]);
    let locked = resolve(&client, &want, None, now()).await.unwrap();
    assert_eq!((locked.digest, locked.media_type.as_str()), (index, INDEX));
    assert_eq!(locked.resolved_at, now());
    assert_eq!(locked.targets[&PlatformSet::from(&only(&["linux/amd64"]))], images[0].0);
    assert_eq!(
        locked.platforms,
        [LockedPlatform { platform: "linux/amd64".parse().unwrap(), digest: images[0].0, size: images[0].1 }],
        "what is not wanted is not read"
    );
    assert_eq!((count(&asked, "HEAD manifest"), count(&asked, "GET manifest")), (1, 2));

    let later = "2026-12-22T12:00:00Z".parse().unwrap();
    assert_eq!(resolve(&client, &want, Some(&locked), later).await.unwrap(), locked);
    assert_eq!((count(&asked, "HEAD manifest"), count(&asked, "GET manifest")), (2, 2), "free of pulls");
}

#[tokio::test]
async fn several_platforms_and_all_of_them() {
    let mut registry = Registry::default();
    let (index, images) = registry.index(&["amd64", "arm64", "s390x"], "1");
    let (client, _) = registry.start().await;
    let two = only(&["linux/arm64/v8", "linux/amd64"]);
    let locked =
        resolve(&client, &want(&[two.clone(), Platforms::All], &["linux/arm64"]), None, now()).await.unwrap();
    assert_eq!(locked.targets[&PlatformSet::from(&Platforms::All)], index);
    let trimmed = locked.targets[&PlatformSet::from(&two)];
    assert!(trimmed != index && images.iter().all(|(digest, _)| *digest != trimmed));
    assert_eq!(locked.platforms.len(), 3, "no attestation");
    assert_eq!(
        locked
            .platforms
            .iter()
            .find(|image| image.platform == "linux/arm64".parse().unwrap())
            .map(|image| image.digest),
        Some(images[1].0)
    );
}

#[tokio::test]
async fn an_image_without_a_platform_in_the_index_has_it_in_its_configuration() {
    let mut registry = Registry::default();
    let images = ["amd64", "arm64"].map(|architecture| registry.image(architecture, None));
    let entries =
        images.map(|(digest, _)| format!(r#"{{"mediaType":"{MANIFEST}","digest":"{digest}","size":1}}"#));
    let body = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(","));
    let index = registry.manifest(INDEX, body, Some("1"));
    let (client, _) = registry.start().await;
    let (one, both) = (only(&["linux/arm64"]), only(&["linux/arm64", "linux/amd64"]));
    let locked = resolve(&client, &want(&[one.clone(), both.clone()], &[]), None, now()).await.unwrap();
    assert_eq!(locked.targets[&PlatformSet::from(&one)], images[1].0);
    assert_eq!(locked.targets[&PlatformSet::from(&both)], index, "nothing is left out");
    let platforms: Vec<String> = locked.platforms.iter().map(|image| image.platform.to_string()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let error = resolve(&client, &want(&[only(&["linux/s390x"])], &[]), None, now()).await.unwrap_err();
    assert_eq!(error.to_string(), "docker.io/x/y:1 cannot be used");
}

#[tokio::test]
async fn a_base_needs_its_platforms() {
    let mut registry = Registry::default();
    registry.index(&["amd64"], "1");
    let (client, _) = registry.start().await;
    assert!(resolve(&client, &want(&[], &["linux/amd64"]), None, now()).await.is_ok());
    let error = resolve(&client, &want(&[], &["linux/arm64"]), None, now()).await.unwrap_err();
    assert_eq!(error.to_string(), "docker.io/x/y:1 cannot be used");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("linux/arm64") && cause.contains("linux/amd64"), "{cause}");
}

#[tokio::test]
async fn a_single_image_has_its_platform_in_its_configuration() {
    let mut registry = Registry::default();
    let (digest, size) = registry.image("arm64", Some("1"));
    let (client, asked) = registry.start().await;
    let copy = only(&["linux/arm64/v8"]);
    let locked = resolve(&client, &want(std::slice::from_ref(&copy), &[]), None, now()).await.unwrap();
    assert_eq!((locked.digest, locked.media_type.as_str()), (digest, MANIFEST));
    assert_eq!(locked.targets[&PlatformSet::from(&copy)], digest);
    assert_eq!(locked.platforms, [LockedPlatform { platform: "linux/arm64".parse().unwrap(), digest, size }]);
    assert_eq!((count(&asked, "GET manifest"), count(&asked, "GET blob")), (1, 1));
    let error = resolve(&client, &want(&[only(&["linux/amd64"])], &[]), None, now()).await.unwrap_err();
    assert_eq!(error.to_string(), "docker.io/x/y:1 is for linux/arm64 alone, linux/amd64 is wanted");
}

#[tokio::test]
async fn a_primed_image_only_needs_its_digest() {
    let mut registry = Registry::default();
    let (index, _) = registry.index(&["amd64"], "1");
    let (client, _) = registry.start().await;
    let locked = resolve(&client, &want(&[], &[]), None, now()).await.unwrap();
    assert_eq!((locked.digest, locked.platforms.len(), locked.targets.len()), (index, 0, 0));
}

#[tokio::test]
async fn a_missing_image_is_named() {
    let (client, _) = Registry::default().start().await;
    let error = resolve(&client, &want(&[], &[]), None, now()).await.unwrap_err();
    assert_eq!(error.to_string(), "docker.io/x/y:1 does not exist");
}

#[tokio::test]
async fn one_failure_does_not_stop_the_others() {
    let mut registry = Registry::default();
    let (index, _) = registry.index(&["amd64"], "1");
    let (client, _) = registry.start().await;
    let good = want(&[], &[]);
    let bad = Want { source: "x/y:2".parse().unwrap(), ..good.clone() };
    let Answers { locked, failed, .. } =
        resolve_all(&client, &[bad, good.clone()], &Lock::default(), now()).await;
    assert_eq!(locked.len(), 1);
    assert_eq!((&locked[0].0, locked[0].1.digest), (&good.source, index));
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].to_string(), "docker.io/x/y:2 does not exist");
}

/// ECR's cache answers for a tag before it answers for the tag's digest.
#[tokio::test]
async fn a_cache_that_knows_only_the_tag_is_enough() {
    let mut registry = Registry::default();
    let (digest, _) = registry.image("amd64", Some("1"));
    registry.content.remove(&format!("/v2/x/y/manifests/{digest}"));
    let (client, _) = registry.start().await;
    let locked = resolve(&client, &want(&[], &["linux/amd64"]), None, now()).await.unwrap();
    assert_eq!(locked.digest, digest);
}
