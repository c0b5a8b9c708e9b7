//! The listed images, and the existing ones.

use std::collections::BTreeMap;

use e2e::{DebianRegistry, Images, World, aws_cli, digest, root, text};
use serde_json::Value;

use super::{IMAGES, transferred};

fn by_name(listed: &Value) -> BTreeMap<String, Value> {
    let all = listed.as_array().unwrap().iter();
    let name = |image: &Value| match image["tag"].as_str() {
        Some(tag) => format!("{}:{tag}", image["repository"].as_str().unwrap()),
        None => image["repository"].as_str().unwrap().to_owned(),
    };
    all.map(|image| (name(image), image.clone())).collect()
}

#[test]
fn import_config_writes_a_working_images_toml_and_overwrites_nothing() {
    let Some(world) = World::new(Images::Small) else { return };
    let fixture = root().join("tests/tests/fixtures/images_config.json");
    let shown = world.bare().args("import-config").arg(&fixture).ok();
    let output = world.path("imported.toml");
    world.bare().args("import-config").arg(&fixture).arg("--output").arg(&output).ok();
    assert_eq!(std::fs::read_to_string(&output).unwrap(), shown.stdout);

    // Like the list of a run: the repositories are those that HTC-Grid uses.
    let uris = world
        .bare()
        .args("list-images --uris --registry registry.example:5000/htc --images")
        .arg(&output)
        .ok();
    let mut names: Vec<_> =
        uris.stdout.lines().map(|uri| uri.strip_prefix("registry.example:5000/htc/").unwrap()).collect();
    names.sort_unstable();
    let config: Value = serde_json::from_slice(&std::fs::read(&fixture).unwrap()).unwrap();
    let mut wanted: Vec<_> =
        config["repository"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);

    world.write("imported.toml", "mine");
    let again = world.bare().args("import-config").arg(&fixture).arg("--output").arg(&output).end();
    again.failed(3, &["imported.toml", "is there already", "hint: "]);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine");
    let broken = world.write("broken.json", "{\"image_to_copy\": [");
    world.bare().args("import-config").arg(&broken).end().failed(3, &["broken.json"]);
}

#[test]
fn list_images_shows_the_images_as_text_uris_and_json() {
    let Some(world) = transferred() else { return };
    let aws = world.aws();
    let listed = by_name(&world.xtask("list-images --format json").ok().json()["images"]);
    let whole: BTreeMap<_, _> = aws.whole_tags().into_iter().collect();
    for name in ["curl:7.85.0", "kedacore/keda:2.11.2"] {
        let image = &listed[name];
        assert_eq!(image["digest"], whole[name].as_str(), "{image}");
        assert_eq!(image["upstream"], "same", "{image}");
        assert!(image["size"].as_u64().unwrap() > 0 && image["age"].as_u64().unwrap() < 3600, "{image}");
    }
    assert_eq!(listed["awshpc"]["digest"], Value::Null);
    let table = world.xtask("list-images").ok();
    for (name, digest) in &whole {
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let line =
            table.stdout.lines().find(|line| line.contains(&format!("/{repository} ")) && line.contains(tag));
        assert!(line.is_some_and(|line| line.contains(digest)), "{name}: {table}");
    }

    world.sources.store.touch("docker.io/curlimages/curl:7.85.0").unwrap();
    let listed = by_name(&world.xtask("list-images --format json").ok().json()["images"]);
    assert_eq!(
        (&listed["curl:7.85.0"]["upstream"], &listed["kedacore/keda:2.11.2"]["upstream"]),
        (&"behind".into(), &"same".into())
    );

    let mut uris: Vec<_> = world.xtask("list-images --uris").ok().stdout.lines().map(str::to_owned).collect();
    uris.sort();
    if aws_cli().is_some() {
        let mut cli =
            aws.cli("ecr describe-repositories --output text --query repositories[*].repositoryUri");
        let mut known: Vec<_> = text(&mut cli).split_whitespace().map(str::to_owned).collect();
        known.sort();
        assert_eq!(uris, known);
        // When this world ends all requests, whatever the client, are checked against AWS's service models.
        if let Some(traffic) = world.traffic() {
            for caller in ["aws-sdk-rust/", "aws-cli/", "APN/", "provider-standin/"] {
                assert!(
                    traffic.callers.keys().any(|known| known.starts_with(caller)),
                    "{:?}",
                    traffic.callers
                );
            }
        }
    }
    assert!(uris.contains(&format!("{}/kedacore/keda", aws.host)), "{uris:?}");
}

#[test]
fn a_lock_holds_the_digests_until_it_is_updated() {
    let Some(world) = World::new(Images::Small) else { return };
    let Some(registry) = DebianRegistry::start() else { return };
    world.write("images.toml", IMAGES);
    let transfer = |line: &str| {
        world.sourced().arg("--registry").arg(registry.host()).args("transfer-images").args(line)
    };
    transfer("--locked --auto-approve").end().failed(3, &["no images.lock", "cargo xtask lock"]);

    let written = world.sourced().args("lock").ok();
    assert!(written.stdout.contains("curlimages/curl:7.85.0"), "{written}");
    transfer("--locked --auto-approve").ok();
    let curl = || {
        let accept = ("accept", "application/vnd.docker.distribution.manifest.v2+json");
        let url = format!("http://{}/v2/curl/manifests/7.85.0", registry.host());
        digest(&e2e::request("GET", &url, &[accept], b"").body)
    };
    let (locked, lock) = (curl(), std::fs::read(world.path("images.lock")).unwrap());

    let (old, new) = world.sources.store.touch("docker.io/curlimages/curl:7.85.0").unwrap();
    let moved = transfer("--locked --auto-approve").end();
    moved.failed(7, &["curlimages/curl:7.85.0", &old, &new, "hint: ", "lock --update"]);
    assert!(!moved.stderr.contains(": copied"), "{moved}");
    let held = transfer("--format json").ok();
    assert_eq!(held.json()["changed"], false, "{held}");
    assert!(held.stderr.contains("images.lock decides"), "{held}");
    assert_eq!(curl(), locked);

    let check = world.sourced().args("lock --update --check").end();
    check.failed(3, &["images.lock", "lock --update"]);
    assert_eq!(std::fs::read(world.path("images.lock")).unwrap(), lock, "a check writes nothing");
    let short = |digest: &str| digest.trim_start_matches("sha256:")[..12].to_owned();
    let update = world.sourced().args("lock --update curl").ok();
    assert!(update.stdout.contains(&short(&old)) && update.stdout.contains(&short(&new)), "{update}");
    assert!(!update.stdout.contains("keda"), "{update}");
    let taken = transfer("--locked --auto-approve").ok();
    assert_ne!(curl(), locked, "{taken}");
    assert_eq!(transfer("--locked --format json").ok().json()["changed"], false);
    world.sourced().args("lock --update nothing").end().failed(2, &["nothing"]);
}
