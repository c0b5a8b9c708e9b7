//! skopeo with the registry: copies in both directions and inspects, with equal bytes.

use crate::common::programs::{command, find, text};
use crate::common::{DOCKER_MANIFEST, Local, OCI_INDEX, digest, manifest};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn copy_and_inspect_keep_every_byte() {
    let Some(skopeo) = find("skopeo") else { return };
    let local = Local::start();
    let caller = local.caller();
    for name in ["source", "target"] {
        caller.repository(name).await;
    }
    let registry = caller.registry().await;
    let mut children = Vec::new();
    for (architecture, layer) in [("amd64", vec![1_u8; 700_000]), ("arm64", vec![2_u8; 70_000])] {
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        })
        .to_string();
        registry.blob("source", config.as_bytes()).await;
        registry.blob("source", &layer).await;
        let mut image: Value = serde_json::from_slice(&manifest(&layer)).unwrap();
        image["config"]["digest"] = json!(digest(config.as_bytes()));
        image["config"]["size"] = json!(config.len());
        let bytes = image.to_string().into_bytes();
        registry.put_manifest("source", &digest(&bytes), DOCKER_MANIFEST, &bytes).await;
        children.push(json!({
            "mediaType": DOCKER_MANIFEST, "digest": digest(&bytes), "size": bytes.len(),
            "platform": { "architecture": architecture, "os": "linux" },
        }));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children }).to_string();
    assert_eq!(registry.put_manifest("source", "1", OCI_INDEX, index.as_bytes()).await.status(), 201);

    let credentials = {
        use base64::Engine as _;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(&registry.token).unwrap()).unwrap()
    };
    let host = local.server.registry_host();
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        command(&skopeo, &[("XDG_RUNTIME_DIR", home.path().to_str().unwrap())])
            .args(arguments)
            .output()
            .unwrap()
    };
    let source = format!("docker://{host}/source:1");
    let target = format!("docker://{host}/target:1");
    let copied = run(&[
        "copy",
        "--all",
        "--preserve-digests",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--src-creds",
        &credentials,
        "--dest-creds",
        &credentials,
        &source,
        &target,
    ]);
    assert!(copied.status.success(), "{}", text(&copied));
    let raw = run(&["inspect", "--raw", "--tls-verify=false", "--creds", &credentials, &target]);
    assert_eq!(digest(&raw.stdout), digest(index.as_bytes()), "{}", text(&raw));
    let inspected = run(&["inspect", "--tls-verify=false", "--creds", &credentials, &target]);
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["RepoTags"], json!(["1"]));

    let directory = home.path().join("image");
    let there = format!("dir:{}", directory.display());
    let pulled = run(&["copy", "--src-tls-verify=false", "--src-creds", &credentials, &target, &there]);
    assert!(pulled.status.success(), "{}", text(&pulled));
    let layer = std::fs::read(directory.join(&digest(&[1_u8; 700_000])["sha256:".len()..])).unwrap();
    assert_eq!(layer.len(), 700_000);

    let absent = format!("docker://{host}/absent:1");
    let refused = run(&["copy", "--dest-tls-verify=false", "--dest-creds", &credentials, &there, &absent]);
    assert!(!refused.status.success());
    assert!(
        text(&refused).contains("The repository with name 'absent' does not exist in the registry"),
        "{}",
        text(&refused)
    );
}
