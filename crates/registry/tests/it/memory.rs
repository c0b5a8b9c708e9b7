//! Memory while a huge layer is copied: in a separate process, so that no other test's memory is measured.
//!
//! Half a GiB by default, 8 GiB with `SOAK=1`. The fake registries generate and discard the bytes, so only the transfer is
//! measured.

use registry::mirror::{Job, Mirror};
use registry::{Descriptor, Digest, Manifest};
use sha2::Digest as _;

use crate::support::{Fake, Quirks, client, copy, images, run};

/// This process's peak memory, in KiB.
fn high_water() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn digest_of_zeros(length: u64) -> Digest {
    let mut hasher = sha2::Sha256::new();
    let block = vec![0; 1 << 20];
    for _ in 0..length >> 20 {
        hasher.update(&block);
    }
    format!("sha256:{}", hex::encode(hasher.finalize())).parse().unwrap()
}

/// Set in the measured process.
const ALONE: &str = "REGISTRY_TEST_ALONE";

#[test]
#[expect(clippy::disallowed_methods, reason = "the test starts itself; the crate starts nothing")]
fn memory_is_bounded_whatever_a_layers_size() {
    if std::env::var_os(ALONE).is_some() {
        return pass_a_huge_layer();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::memory_is_bounded_whatever_a_layers_size", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("MiB passed") || text.contains("SKIPPED"), "nothing was measured");
}

fn pass_a_huge_layer() {
    let Some(before) = high_water() else {
        println!("SKIPPED: /proc/self/status is not there");
        return;
    };
    let length: u64 = if std::env::var_os("SOAK").is_some() { 8 << 30 } else { 512 << 20 };
    let layer = digest_of_zeros(length);
    run(async {
        let source = Fake::plain().await;
        let target = Fake::start(Quirks { discard_over: Some(1 << 20), ..Quirks::default() }).await;
        let mut image = images::image("huge", &[]);
        let config = image.manifest.image().unwrap().config.unwrap();
        let layers = [Descriptor::new("application/vnd.oci.image.layer.v1.tar", layer, length)];
        let json = serde_json::json!({
            "schemaVersion": 2, "mediaType": images::OCI_IMAGE, "config": config, "layers": layers
        });
        image.manifest = Manifest::new(images::OCI_IMAGE, json.to_string());
        source.store(|store| store.seed("r", "1", &image));
        source.zeros("r", layer, length);
        let copied =
            copy(&Mirror::new(client()), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(copied.bytes, length + config.size);
    });
    let after = high_water().unwrap();
    println!("{} MiB passed; {before} KiB before, {after} KiB at most", length >> 20);
    assert!(after - before < 40 << 10, "{before} KiB before, {after} KiB at most");
}
