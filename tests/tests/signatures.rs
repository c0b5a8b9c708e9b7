//! Signatures are copied with an image, and a run that is killed while it copies them leaves no tag without them.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use e2e::{DebianRegistry, Gate, Images, Run, World, digest, get, request};
use rustix::process::Signal;
use serde_json::{Value, json};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn blob(registry: &str, bytes: &[u8]) -> Value {
    let begin = request("POST", &format!("http://{registry}/v2/x/blobs/uploads/"), &[], b"");
    let session = begin.header("location").unwrap().to_owned();
    let done = request("PUT", &format!("{session}&digest={}", digest(bytes)), &[], bytes);
    assert_eq!(done.status, 201, "{}", done.head);
    json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(bytes), "size": bytes.len() })
}

/// Puts a manifest, and returns its descriptor.
fn put(registry: &str, name: Option<&str>, kind: &str, manifest: &Value) -> Value {
    let bytes = manifest.to_string();
    let digest = digest(bytes.as_bytes());
    let url = format!("http://{registry}/v2/x/manifests/{}", name.unwrap_or(&digest));
    let done = request("PUT", &url, &[("content-type", kind)], bytes.as_bytes());
    assert_eq!(done.status, 201, "{}", done.head);
    json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
}

/// An image `x:1` and a signature of it in a list under a tag: this registry does not have the referrers API. Returns both digests.
fn seed(registry: &str) -> [String; 2] {
    let config = blob(registry, br#"{"architecture":"amd64","os":"linux"}"#);
    let image = json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [] });
    let image = put(registry, Some("1"), IMAGE, &image);
    let config = blob(registry, b"{}");
    let signature =
        json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [], "subject": image });
    let signature = put(registry, None, IMAGE, &signature);
    let digests = [&image, &signature].map(|one| one["digest"].as_str().unwrap().to_owned());
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [signature] });
    put(registry, Some(&digests[0].replace(':', "-")), INDEX, &list);
    digests
}

fn has(registry: &DebianRegistry, name: &str) -> bool {
    let accept =
        [("accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json")];
    let url = format!("http://{}/v2/img/manifests/{name}", registry.host());
    request("GET", &url, &accept, b"").status == 200
}

#[test]
fn a_run_killed_while_copying_a_signature_leaves_no_tag_without_it() {
    let (Some(world), Some(source)) = (World::new(Images::Small), DebianRegistry::start()) else { return };
    let [image, signature] = seed(source.host());
    let text = format!(
        "schema_version = 1\n[images]\nimg = {{ source = \"{}/x:1\", platforms = \"all\", artifacts = true }}\n",
        source.host()
    );
    world.write("images.toml", &text);
    let layout = world.path("grid");
    let run = || world.bare().arg("--images").arg(world.path("images.toml"));
    run().args("export-images --from-sources").arg(&layout).ok();

    let transfer = |run: Run| run.args("transfer-images --auto-approve");
    let import = |run: Run| run.args("import-images --auto-approve").arg(&layout);
    let commands: [(&str, &dyn Fn(Run) -> Run); 2] = [("transfer", &transfer), ("import", &import)];
    for (what, command) in commands {
        let target = DebianRegistry::start().unwrap();
        let path = format!("/manifests/{signature}");
        let gate = Gate::before(target.host(), move |line| line.starts_with("PUT ") && line.contains(&path));
        let started = command(run().arg("--registry").arg(gate.host())).start();
        gate.wait();
        started.signal(Signal::KILL);
        assert_eq!(started.end().code, None);
        assert!(!has(&target, "1"), "{what}: the tag is there before its signature");
        gate.open();
        let list = image.replace(':', "-");
        let next = command(run().arg("--registry").arg(gate.host())).ok();
        assert!(has(&target, "1") && has(&target, &signature) && has(&target, &list), "{what}: {next}");
        // After that there is nothing to do.
        let after = command(run().arg("--registry").arg(gate.host())).ok();
        assert!(!after.stderr.contains("copied"), "{what}: {after}");
        assert_eq!(
            get(&format!("http://{}/v2/img/tags/list", target.host())).json()["tags"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }
}

#[test]
fn a_signature_requested_after_its_image_is_added() {
    let (Some(world), Some(source)) = (World::new(Images::Small), DebianRegistry::start()) else { return };
    let target = DebianRegistry::start().unwrap();
    let [_, signature] = seed(source.host());
    let list = |artifacts: bool| {
        let text = format!(
            "schema_version = 1\n[images]\nimg = {{ source = \"{}/x:1\", platforms = \"all\", artifacts = {artifacts} }}\n",
            source.host()
        );
        world.write("images.toml", &text);
    };
    let run = |args: &str| {
        let run = world.bare().arg("--images").arg(world.path("images.toml"));
        run.arg("--registry").arg(target.host()).args(args)
    };
    list(false);
    run("transfer-images --auto-approve").ok();
    assert!(has(&target, "1") && !has(&target, &signature));
    list(true);
    let dry = run("transfer-images --dry-run --exit-code").start().end();
    assert_eq!(dry.code, Some(11), "{dry}");
    assert!(
        dry.stderr.contains("add referrers to 1 image") && dry.stderr.contains("1 referrer missing"),
        "{dry}"
    );
    assert!(!has(&target, &signature));
    let added = run("transfer-images --auto-approve").ok();
    assert!(has(&target, &signature) && added.stdout.contains("completed"), "{added}");
    let after = run("transfer-images --dry-run --exit-code").ok();
    assert!(after.stderr.contains("nothing to do"), "{after}");
}
