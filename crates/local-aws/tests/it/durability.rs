//! What the server has confirmed exists after a SIGKILL at any moment; what it has not confirmed exists completely or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::programs::Process;
use crate::common::{
    Caller, DOCKER_MANIFEST, REGION, Registry, client, create_bucket, digest, manifest, rounds,
};
use reqwest::Method;
use serde_json::{Value, json};

fn caller(url: &str) -> Caller {
    Caller { client: client(), url: url.to_owned(), region: REGION.to_owned(), key: "local".to_owned() }
}

/// The requests that the server has confirmed.
#[derive(Default)]
struct Promised {
    images: BTreeMap<String, (String, Vec<u8>)>,
    objects: BTreeMap<String, String>,
    keys: BTreeSet<String>,
}

async fn push(registry: &Registry, repository: &str, tag: &str, layer: &[u8]) -> Option<String> {
    for bytes in [&b"{}"[..], layer] {
        let start =
            registry.request(Method::POST, &format!("{repository}/blobs/uploads/")).send().await.ok()?;
        let location = start.headers().get("location")?.to_str().ok()?.to_owned();
        let url = format!("{location}?digest={}", digest(bytes));
        let put = registry.request(Method::PUT, &url).body(bytes.to_vec()).send().await.ok()?;
        (put.status() == 201).then_some(())?;
    }
    let put = registry
        .request(Method::PUT, &format!("{repository}/manifests/{tag}"))
        .header("content-type", DOCKER_MANIFEST)
        .body(manifest(layer))
        .send()
        .await
        .ok()?;
    (put.status() == 201).then(|| digest(&manifest(layer)))
}

/// Pushes, puts and creates until the server has ended.
async fn write(
    worker: usize,
    round: usize,
    url: String,
    promised: Arc<Mutex<Promised>>,
    done: Arc<AtomicUsize>,
) {
    let caller = caller(&url);
    let registry = caller.registry().await;
    for n in 0.. {
        let name = format!("{round}-{worker}-{n}");
        let layer: Vec<u8> = name.bytes().cycle().take(200_000).collect();
        let Some(image) = push(&registry, "curl", &name, &layer).await else { return };
        promised.lock().unwrap().images.insert(name.clone(), (image, layer));
        done.fetch_add(1, Ordering::SeqCst);
        let put = caller.s3(Method::PUT, &format!("state/{}", n % 3)).body(name.clone()).send().await;
        let Some(version) = put.ok().and_then(|put| put.headers().get("x-amz-version-id").cloned()) else {
            return;
        };
        promised
            .lock()
            .unwrap()
            .objects
            .insert(format!("{}?versionId={}", n % 3, version.to_str().unwrap()), name.clone());
        done.fetch_add(1, Ordering::SeqCst);
        let key = caller
            .client
            .post(&url)
            .header("authorization", crate::common::signed("kms", REGION, "local"))
            .header("x-amz-target", "TrentService.CreateKey")
            .body("{}")
            .send()
            .await;
        let Ok(key) = key else { return };
        let Ok(bytes) = key.bytes().await else { return };
        let key: Value = serde_json::from_slice(&bytes).unwrap();
        promised.lock().unwrap().keys.insert(key["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned());
        done.fetch_add(1, Ordering::SeqCst);
    }
}

async fn check(url: &str, promised: &Promised) {
    let caller = caller(url);
    let registry = caller.registry().await;
    for (tag, (image, layer)) in &promised.images {
        let got = registry.get(&format!("curl/manifests/{tag}")).await;
        assert_eq!(got.status(), 200, "{tag} was promised");
        assert_eq!(digest(&got.bytes().await.unwrap()), *image);
        let redirect = registry.get(&format!("curl/blobs/{}", digest(layer))).await;
        assert_eq!(redirect.status(), 307, "the layer of {tag} was promised");
        let url = redirect.headers()["location"].to_str().unwrap().to_owned();
        let bytes = caller.client.get(url).send().await.unwrap().bytes().await.unwrap();
        assert_eq!(digest(&bytes), digest(layer), "the layer of {tag}");
    }
    // No tag is incomplete, whether it was confirmed or not.
    let mut token = Value::Null;
    loop {
        let page = caller.ecr("ListImages", json!({ "repositoryName": "curl", "nextToken": token })).await;
        for id in page["imageIds"].as_array().unwrap() {
            let got = registry.get(&format!("curl/manifests/{}", id["imageDigest"].as_str().unwrap())).await;
            let bytes = got.bytes().await.unwrap();
            assert_eq!(digest(&bytes), id["imageDigest"].as_str().unwrap());
            let manifest: Value = serde_json::from_slice(&bytes).unwrap();
            let layer = manifest["layers"][0]["digest"].as_str().unwrap();
            assert_eq!(registry.head(&format!("curl/blobs/{layer}")).await.status(), 200);
        }
        match page.get("nextToken") {
            Some(next) => token = next.clone(),
            None => break,
        }
    }
    for (path, body) in &promised.objects {
        let got = caller.s3(Method::GET, &format!("state/{path}")).send().await.unwrap();
        assert_eq!((got.status().as_u16(), &got.text().await.unwrap()), (200, body), "{path} was promised");
    }
    let keys = caller.kms("ListKeys", json!({ "Limit": 1000 })).await;
    let keys: BTreeSet<&str> =
        keys["Keys"].as_array().unwrap().iter().map(|key| key["KeyId"].as_str().unwrap()).collect();
    assert!(promised.keys.iter().all(|key| keys.contains(key.as_str())));
}

/// The files in a directory and below it.
fn files(directory: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_keeps_what_it_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let seed =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let promised: Arc<Mutex<Promised>> = Arc::default();
    let mut server = Process::start(dir.path());
    caller(&server.url).repository("curl").await;
    create_bucket(&caller(&server.url), "state").await;
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    caller(&server.url).s3(Method::PUT, "state?versioning").body(enabled).send().await.unwrap();
    for round in 0..rounds(4, 40) {
        let done = Arc::new(AtomicUsize::new(0));
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                tokio::spawn(write(
                    worker,
                    round,
                    server.url.clone(),
                    Arc::clone(&promised),
                    Arc::clone(&done),
                ))
            })
            .collect();
        // The moment: after a number of answers, and then some more steps of the machine.
        let moment = random.usize(5..60);
        while done.load(Ordering::SeqCst) < moment {
            tokio::task::yield_now().await;
        }
        for _ in 0..random.usize(0..2000) {
            std::hint::spin_loop();
        }
        server.kill();
        for worker in workers {
            worker.await.unwrap();
        }
        server = Process::start(dir.path());
        let held = std::mem::take(&mut *promised.lock().unwrap());
        check(&server.url, &held).await;
        *promised.lock().unwrap() = held;
    }
    let held = promised.lock().unwrap();
    eprintln!(
        "{} images, {} objects, {} keys; ready after {:?}",
        held.images.len(),
        held.objects.len(),
        held.keys.len(),
        server.ready_after
    );
    assert!(held.images.len() > 10);
    // Partial files of killed writers are removed: the store only has what a repository contains.
    assert_eq!(files(&dir.path().join("incoming")), Vec::<String>::new());
    assert!(!files(dir.path()).iter().any(|name| name.starts_with(".new-")));
    server.kill();
}

#[tokio::test]
async fn one_data_directory_has_one_server_and_sigterm_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = Process::start(dir.path());
    let second = local_aws::Server::start(local_aws::Config::new(dir.path()));
    let message =
        second.err().map(|error| format!("{error}: {:?}", std::error::Error::source(&error))).unwrap();
    assert!(message.contains("in use"), "{message}");
    let kill = crate::common::programs::find("kill").unwrap();
    let id = first.id().to_string();
    assert!(crate::common::programs::command(&kill, &[]).args(["-TERM", &id]).status().unwrap().success());
    assert!(first.wait().success());
    Process::start(dir.path()).kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_some_hundreds_of_images_is_quick() {
    let dir = tempfile::tempdir().unwrap();
    let server = Process::start(dir.path());
    let caller = caller(&server.url);
    let registry = caller.registry().await;
    let repositories: Vec<_> = (0..10)
        .map(|name| {
            let (caller, registry) = (caller.clone(), registry.clone());
            tokio::spawn(async move {
                let repository = format!("team/r{name}");
                caller.repository(&repository).await;
                registry.image(&repository, "first", b"layer").await;
                for tag in 0..29 {
                    let mut image: Value = serde_json::from_slice(&manifest(b"layer")).unwrap();
                    image["annotations"] = json!({ "number": tag.to_string() });
                    let bytes = image.to_string().into_bytes();
                    let put =
                        registry.put_manifest(&repository, &tag.to_string(), DOCKER_MANIFEST, &bytes).await;
                    assert_eq!(put.status(), 201);
                }
            })
        })
        .collect();
    for repository in repositories {
        repository.await.unwrap();
    }
    server.kill();
    let times: Vec<_> = (0..5)
        .map(|_| {
            let server = Process::start(dir.path());
            let ready = server.ready_after;
            server.kill();
            ready
        })
        .collect();
    let best = times.iter().min().unwrap();
    eprintln!("300 images: ready after {times:?}");
    // The best of five: the machine may be busy.
    assert!(best.as_millis() < 200, "{times:?}");
}
