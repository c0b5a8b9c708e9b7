//! `verify`: the target is read back, and damage there is named.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use e2e::{DebianRegistry, Ended, Images, MANIFESTS, Project, World, get, request};
use serde_json::Value;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
"#;

fn run(world: &World, registry: &DebianRegistry, line: &str) -> Ended {
    world.sourced().arg("--registry").arg(registry.host()).args(line).end()
}

fn done(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{ended}");
}

fn images(ended: &Ended) -> Vec<(String, String, usize)> {
    let images = ended.json()["images"].clone();
    let text = |image: &Value, key: &str| image[key].as_str().unwrap().to_owned();
    let one = |image: &Value| {
        (text(image, "name"), text(image, "against"), image["differences"].as_array().unwrap().len())
    };
    images.as_array().unwrap().iter().map(one).collect()
}

fn is(name: &str, against: &str, differences: usize) -> (String, String, usize) {
    (name.to_owned(), against.to_owned(), differences)
}

#[test]
fn a_lost_or_changed_byte_at_the_registry_is_found() {
    let (Some(world), Some(registry)) = (World::new(Images::Small), DebianRegistry::start()) else { return };
    world.write("images.toml", IMAGES);
    let absent = run(&world, &registry, "verify curl");
    absent.failed(8, &["1 of 1 image is not as expected", "curl:7.85.0: the tag is absent, sha256:"]);
    done(&run(&world, &registry, "transfer-images --auto-approve"));

    let (curl, keda) = ("curl:7.85.0", "kedacore/keda:2.11.2");
    let whole = run(&world, &registry, "verify --format json");
    assert_eq!(whole.code, Some(0), "{whole}");
    assert_eq!(images(&whole), [is(curl, "last run", 0), is(keda, "last run", 0)]);
    let again = run(&world, &registry, "verify");
    assert!(again.stderr.contains("2 images as expected (contents not read; --deep does)"), "{again}");
    // The same with only a lock, and with only the sources.
    done(&run(&world, &registry, "lock"));
    let locked = run(&world, &registry, "verify --deep --format json");
    assert_eq!(images(&locked), [is(curl, "images.lock", 0), is(keda, "images.lock", 0)], "{locked}");
    std::fs::remove_file(world.path("images.lock")).unwrap();
    std::fs::remove_file(world.path("target/xtask/mapping.json")).unwrap();
    let asked = run(&world, &registry, "verify --format json");
    assert_eq!(images(&asked), [is(curl, "source", 0), is(keda, "source", 0)], "{asked}");

    // A changed byte: the length is the same, so only the content shows it.
    let manifest = get_manifest(&registry, curl);
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let file = registry.blob(layer);
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&file, &bad).unwrap();
    assert_eq!(run(&world, &registry, "verify curl").code, Some(0));
    let deep = run(&world, &registry, "verify curl --deep");
    deep.failed(8, &[&format!("blob {layer} has the content of sha256:"), "delete its tag"]);
    std::fs::write(&file, &good[1..]).unwrap();
    let cut = run(&world, &registry, "verify");
    cut.failed(
        8,
        &[
            "1 of 2 images is not as expected",
            &format!("blob {layer} has {} bytes, not {}", good.len() - 1, good.len()),
        ],
    );
    std::fs::remove_file(&file).unwrap();
    let gone = run(&world, &registry, "verify curl:7.85.0 --format json");
    gone.failed(8, &[&format!("blob {layer} is missing")]);
    assert_eq!(
        (images(&gone), &gone.json()["different"]),
        (vec![is(curl, "last run", 1)], &1.into()),
        "{gone}"
    );
    std::fs::write(&file, &good).unwrap();

    // Another user pushes another image.
    let child = get_manifest(&registry, keda)["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let url = |reference: &str| format!("http://{}/v2/kedacore/keda/manifests/{reference}", registry.host());
    let bytes = request("GET", &url(&child), &[MANIFESTS], b"");
    let kind = bytes.header("content-type").unwrap().to_owned();
    assert_eq!(request("PUT", &url("2.11.2"), &[("content-type", &kind)], &bytes.body).status, 201);
    let moved = run(&world, &registry, "verify kedacore/keda");
    moved.failed(8, &[&format!("the tag names {child}, not sha256:"), "transfer-images"]);

    let unknown = run(&world, &registry, "verify nothing");
    unknown.failed(2, &["nothing: images.toml has no such image or runtime", "hint: it has curl"]);
}

fn get_manifest(registry: &DebianRegistry, name: &str) -> Value {
    let (repository, tag) = name.rsplit_once(':').unwrap();
    let url = format!("http://{}/v2/{repository}/manifests/{tag}", registry.host());
    serde_json::from_slice(&request("GET", &url, &[MANIFESTS], b"").body).unwrap()
}

#[test]
fn the_accounts_images_are_read_in_bulk() {
    let Some(world) = World::small_grid() else { return };
    world.xtask("init-images --create-state-bucket").ok();
    world.xtask("transfer-images --auto-approve").ok();
    world.aws().emulator.forget();
    let quick = world.xtask("verify --format json").ok();
    assert_eq!(quick.json()["different"], 0, "{quick}");
    let calls: Vec<String> = world.aws().emulator.log().iter().map(ToString::to_string).collect();
    let of = |name: &str| calls.iter().filter(|call| call.contains(name)).count();
    assert!(of("BatchCheckLayerAvailability") > 0, "{calls:?}");
    assert_eq!(of("/blobs/"), 0, "{calls:?}");
    world.xtask("verify --deep").ok();
}

#[test]
fn a_runtimes_labels_are_compared_with_its_tags() {
    let Some(project) = Project::new() else { return };
    let host = project.registry.host().to_owned();
    project.transfer(&host, "").ok();
    let first = project.tags();
    let verify = |line: &str| project.xtask("").arg("--registry").arg(&host).args("verify").args(line).end();
    let whole = verify("--deep --format json");
    assert_eq!(images(&whole), [is(&format!("lambda:{}", project.name), "labels", 0)], "{whole}");

    project.write("start", "#!/bin/sh\necho other\n");
    project.transfer(&host, "").ok();
    let name = &project.name;
    let key =
        project.tags().into_keys().find(|tag| tag.contains("-k2-") && !first.contains_key(tag)).unwrap();
    let url = |reference: &str| format!("http://{host}/v2/lambda/manifests/{reference}");
    let old = request("GET", &url(&first[name]), &[MANIFESTS], b"");
    let kind = old.header("content-type").unwrap().to_owned();
    assert_eq!(request("PUT", &url(&key), &[("content-type", &kind)], &old.body).status, 201);
    let forged = verify("");
    forged.failed(8, &[&format!("its tag {key} names {}", first[name]), "REBUILD_RUNTIMES=true --only"]);
    assert_eq!(get(&format!("http://{host}/v2/")).status, 200);
}
