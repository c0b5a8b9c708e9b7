use std::path::Path;
use std::sync::Arc;

use registry::mirror::{Check, Checked, Job, Mirror};
use registry::{Client, Descriptor, Digest, Manifest, Reference, RetryPolicy};

use super::*;

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

/// A client for layouts as registries with these hosts.
fn client(layouts: &[(&str, &Arc<Layout>)]) -> Client {
    // No retries: an error would only be repeated.
    let begin = Client::builder().retry(RetryPolicy { attempts: 1, ..RetryPolicy::default() });
    let add = |builder: registry::Builder, (host, layout): &(&str, &Arc<Layout>)| {
        builder.serve(host, Arc::clone(*layout) as Arc<dyn registry::Transport>)
    };
    layouts.iter().fold(begin, add).build().unwrap()
}

fn name(host: &str, name: &str) -> Reference {
    format!("{host}/{name}").parse().unwrap()
}

async fn push(
    client: &Client,
    to: &Reference,
    kind: &str,
    layers: &[&[u8]],
    subject: Option<&Manifest>,
) -> Manifest {
    let mut blobs = vec![b"{}".to_vec()];
    blobs.extend(layers.iter().map(|layer| layer.to_vec()));
    let of =
        |bytes: &Vec<u8>| Descriptor::new("application/octet-stream", Digest::of(bytes), bytes.len() as u64);
    let descriptors: Vec<Descriptor> = blobs.iter().map(of).collect();
    for (blob, bytes) in descriptors.iter().zip(blobs) {
        registry::blobs::push_bytes(client, to, blob, bytes).await.unwrap();
    }
    let mut json = serde_json::json!({
        "schemaVersion": 2, "mediaType": kind, "config": descriptors[0], "layers": descriptors[1..],
    });
    if let Some(subject) = subject {
        json["subject"] = serde_json::to_value(subject.descriptor()).unwrap();
        json["artifactType"] = "application/vnd.example.signature".into();
    }
    let manifest = Manifest::new(kind, json.to_string());
    client.put_manifest(&to.with_digest(manifest.digest()), &manifest).await.unwrap();
    manifest
}

/// An index of two images that share a layer, with a signature, as `a/b:1`; and one image as `c:2`.
async fn fill(layout: &Arc<Layout>) -> [Digest; 2] {
    let client = client(&[(HOST, layout)]);
    let to = name(HOST, "a/b:1");
    let large = vec![7; 700_000];
    let one = push(&client, &to, IMAGE, &[&large, b"common"], None).await;
    let two = push(&client, &to, IMAGE, &[b"other", b"common"], None).await;
    let children = [("amd64", &one), ("arm64", &two)].map(|(architecture, child)| {
        let mut entry = serde_json::to_value(child.descriptor()).unwrap();
        entry["platform"] = serde_json::json!({ "os": "linux", "architecture": architecture });
        entry
    });
    let json = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
    let top = Manifest::new(OCI_INDEX, json.to_string());
    client.put_manifest(&to, &top).await.unwrap();
    push(&client, &to, IMAGE, &[b"signature"], Some(&top)).await;
    let single = push(&client, &name(HOST, "c"), IMAGE, &[b"single"], None).await;
    client.put_manifest(&name(HOST, "c:2"), &single).await.unwrap();
    [top.digest(), single.digest()]
}

fn jobs() -> Vec<Job> {
    ["a/b:1", "c:2"]
        .map(|image| Job { artifacts: true, ..Job::new(name("from.example", image), name(HOST, image)) })
        .to_vec()
}

/// Copies everything from `from` to `to`; returns the bytes sent.
async fn copy(from: &Arc<Layout>, to: &Arc<Layout>) -> u64 {
    let mirror = Mirror::new(client(&[("from.example", from), (HOST, to)]));
    let plan = mirror.plan(jobs()).await;
    let outcomes = mirror.apply(&plan).await;
    outcomes.into_iter().map(|outcome| outcome.result.unwrap().bytes).sum()
}

/// Reads every byte of a layout.
async fn check(layout: &Arc<Layout>, digests: [Digest; 2]) -> Vec<Checked> {
    let client = client(&[(HOST, layout)]);
    let mirror = Mirror::new(client.clone());
    let check = Check::new(&mirror, true);
    let mut all = Vec::new();
    for (image, digest) in ["a/b:1", "c:2"].into_iter().zip(digests) {
        let target = name(HOST, image);
        all.push(check.image(0, &target, digest).await.unwrap());
        for referrer in registry::lists::referrers(&client, &target, digest).await.unwrap() {
            assert_eq!(referrer.artifact_type.as_deref(), Some("application/vnd.example.signature"));
            all.push(check.manifest(0, &target, referrer.digest).await.unwrap());
        }
    }
    assert!(all.iter().all(|checked| checked.differences.is_empty()), "{all:?}");
    all
}

fn shown(layout: &Layout) -> Vec<String> {
    layout.images().iter().map(|image| format!("{}:{}", image.repository, image.tag)).collect()
}

#[test]
fn a_directory_and_a_tar_file_hold_the_same_images() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("layout");
        let layout = Arc::new(Layout::create(&source).unwrap());
        let digests = fill(&layout).await;
        assert_eq!(check(&layout, digests).await.len(), 3);
        layout.finish().unwrap();
        assert_eq!(std::fs::read_to_string(source.join("oci-layout")).unwrap(), MARK_TEXT);
        assert!(!source.join(".incoming").exists());

        let layout = Arc::new(Layout::open(&source).unwrap());
        assert_eq!(shown(&layout), ["a/b:1", "c:2"]);
        assert_eq!(check(&layout, digests).await.len(), 3, "the signature is known again");
        let file = dir.path().join("layout.tar");
        let archive = Arc::new(Layout::create(&file).unwrap());
        assert!(copy(&layout, &archive).await > 700_000);
        archive.finish().unwrap();
        assert!(!dir.path().join("layout.tar.partial").exists());
        assert!(!dir.path().join("layout.tar.incoming").exists());

        let archive = Arc::new(Layout::open(&file).unwrap());
        assert_eq!(shown(&archive), ["a/b:1", "c:2"]);
        assert_eq!((archive.bytes(), archive.unnamed()), (layout.bytes(), Vec::new()));
        assert_eq!(check(&archive, digests).await, check(&layout, digests).await);
        assert!(matches!(Layout::create(&file), Err(LayoutError::Exists { .. })));
    });
}

#[test]
fn a_killed_export_continues_wherever_it_was_cut() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let source = Arc::new(Layout::create(&dir.path().join("layout")).unwrap());
        let digests = fill(&source).await;
        let file = dir.path().join("x.tar");
        let partial = dir.path().join("x.tar.partial");
        let archive = Arc::new(Layout::create(&file).unwrap());
        let all = copy(&source, &archive).await;
        drop(archive);
        let whole = std::fs::read(&partial).unwrap();
        let mut resumed = Vec::new();
        for cut in [0, 1, 511, 512, 700, 2_000, whole.len() / 2, whole.len() - 513, whole.len()] {
            std::fs::write(&partial, &whole[..cut]).unwrap();
            // An incomplete blob, and no index.
            let incoming = dir.path().join("x.tar.incoming");
            std::fs::write(incoming.join("0.part"), b"half").unwrap();
            let _ = std::fs::remove_file(incoming.join("index.json"));
            let archive = Arc::new(Layout::create(&file).unwrap());
            assert!(!incoming.join("0.part").exists());
            resumed.push(copy(&source, &archive).await);
            assert_eq!(check(&archive, digests).await.len(), 3, "cut at {cut}");
        }
        assert_eq!((resumed[0], *resumed.last().unwrap()), (all, 0), "{resumed:?}");
        assert!(resumed.is_sorted_by(|one, next| one >= next), "{resumed:?}");
        let archive = Arc::new(Layout::create(&file).unwrap());
        assert_eq!(copy(&source, &archive).await, 0);
        archive.finish().unwrap();
        check(&Arc::new(Layout::open(&file).unwrap()), digests).await;
    });
}

#[test]
fn a_second_file_adds_the_signature_that_the_first_one_lacked() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let [target, signed] =
            ["target", "signed"].map(|name| Arc::new(Layout::create(&dir.path().join(name)).unwrap()));
        let digests = fill(&signed).await;
        let unsigned = Arc::new(Layout::create(&dir.path().join("unsigned")).unwrap());
        let from_signed = Mirror::new(client(&[("from.example", &signed), (HOST, &unsigned)]));
        let without = jobs().into_iter().map(|job| Job { artifacts: false, ..job });
        let plan = from_signed.plan(without).await;
        assert!(from_signed.apply(&plan).await.iter().all(|outcome| outcome.result.is_ok()));
        assert_eq!(check(&unsigned, digests).await.len(), 2);
        // One memory for both: it stores no names of files.
        let mapping = Arc::new(registry::mirror::MemoryMapping::default());
        for (from, all) in [(&unsigned, 2), (&signed, 3), (&signed, 3)] {
            let mirror = Mirror::new(client(&[("from.example", from), (HOST, &target)]));
            let mirror = mirror.mapping(Arc::clone(&mapping) as Arc<_>);
            let plan = mirror.plan(jobs()).await;
            assert!(mirror.apply(&plan).await.iter().all(|outcome| outcome.result.is_ok()));
            assert_eq!(check(&target, digests).await.len(), all);
            assert!(mirror.plan(jobs()).await.is_up_to_date());
        }
    });
}

#[test]
fn a_damaged_blob_is_copied_again() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let source = Arc::new(Layout::create(&dir.path().join("from")).unwrap());
        let digests = fill(&source).await;
        let path = dir.path().join("to");
        let target = Arc::new(Layout::create(&path).unwrap());
        copy(&source, &target).await;
        drop(target);
        let blob = path.join("blobs/sha256").join(Digest::of(&vec![7; 700_000]).hex());
        std::fs::write(&blob, vec![8; 700_000]).unwrap();
        let target = Arc::new(Layout::create(&path).unwrap());
        assert!(!blob.exists());
        // What refers to it is named again once it exists; the other blobs are unchanged.
        assert!(!shown(&target).contains(&"a/b:1".to_owned()));
        assert_eq!(copy(&source, &target).await, 700_000);
        check(&target, digests).await;
    });
}

#[test]
fn other_files_in_the_way_are_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    std::fs::create_dir(place("photos")).unwrap();
    std::fs::write(place("photos/one"), "1").unwrap();
    assert!(matches!(Layout::create(&place("photos")), Err(LayoutError::Foreign { .. })));
    let first = Layout::create(&place("new")).unwrap();
    assert!(matches!(Layout::create(&place("new")), Err(LayoutError::Busy { .. })));
    drop(first);
    assert!(Layout::create(&place("new")).is_ok());
    std::fs::write(place("text.tar"), "no tar file").unwrap();
    let error = Layout::open(&place("text.tar")).err().unwrap().to_string();
    assert!(error.contains("text.tar is not an OCI image layout: "), "{error}");
    std::fs::create_dir(place("empty")).unwrap();
    let error = Layout::open(&place("empty")).err().unwrap().to_string();
    assert!(error.ends_with("it has no index.json"), "{error}");
    assert!(matches!(Layout::open(Path::new("/nowhere")), Err(LayoutError::Io { .. })));
}

#[test]
fn bytes_with_another_digest_are_not_stored() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let layout = Arc::new(Layout::create(dir.path()).unwrap());
        let client = client(&[(HOST, &layout)]);
        let file = dir.path().join(".incoming/bytes");
        std::fs::write(&file, b"right").unwrap();
        let blob = Descriptor::new("x", Digest::of(b"wrong"), 5);
        let error = registry::blobs::push_file(&client, &name(HOST, "a"), &blob, &file, 0).await.unwrap_err();
        assert!(error.to_string().contains("another digest"), "{error}");
        assert_eq!(layout.bytes(), 0);
        assert_eq!(std::fs::read_dir(dir.path().join("blobs/sha256")).unwrap().count(), 0);
    });
}
