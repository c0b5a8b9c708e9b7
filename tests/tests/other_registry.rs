//! `--registry`: a registry other than ECR, here Debian's docker-registry, as the target and as the source.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use e2e::{DebianRegistry, Gate, Images, MANIFESTS, World, command, digest, programs, read, request};
use serde_json::Value;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
"kedacore/keda-metrics-apiserver" = { source = "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2", platforms = ["linux/amd64", "linux/arm64"] }
"#;

fn manifest(registry: &str, name: &str) -> Vec<u8> {
    let (repository, reference) = name
        .split_once([':', '@'])
        .map(|(repository, _)| (repository, &name[repository.len() + 1..]))
        .unwrap();
    let answer = request(
        "GET",
        &format!("http://{registry}/v2/{repository}/manifests/{reference}"),
        &[MANIFESTS],
        b"",
    );
    assert_eq!(answer.status, 200, "{name}: {}", String::from_utf8_lossy(&answer.body));
    answer.body
}

/// A manifest as read by skopeo, which can get a token.
fn raw(image: &str) -> Vec<u8> {
    read(
        command("skopeo")
            .args(["inspect", "--raw", "--no-creds", "--tls-verify=false"])
            .arg(format!("docker://{image}")),
    )
}

fn amd64(index: &[u8]) -> String {
    let index: Value = serde_json::from_slice(index).unwrap();
    let children = index["manifests"].as_array().unwrap();
    let child = children.iter().find(|child| child["platform"]["architecture"] == "amd64").unwrap();
    child["digest"].as_str().unwrap().to_owned()
}

fn transfer(world: &World, target: &str, line: &str) -> e2e::Run {
    world.sourced().arg("--registry").arg(target).args("transfer-images").args(line)
}

#[test]
fn debians_registry_as_the_target_gets_the_sources_bytes() {
    if !programs(&["skopeo"]) {
        return;
    }
    let (Some(world), Some(registry)) = (World::new(Images::Small), DebianRegistry::start()) else { return };
    world.write("images.toml", IMAGES);
    let target = format!("{}/htc", registry.host());
    let first = transfer(&world, &target, "--auto-approve --format json").ok();
    assert_eq!(first.json()["changed"], true, "{first}");
    assert_eq!(first.json()["account"], Value::Null, "neither AWS nor terraform has a part in this: {first}");
    assert!(!world.path("local/local-aws").exists());

    let samples = &world.sources.host;
    // One platform: its own manifest. All: the index, byte for byte. Some: an index of these.
    let curl = raw(&format!("{target}/curl:7.85.0"));
    assert_eq!(digest(&curl), amd64(&raw(&format!("{samples}/docker.io/curlimages/curl:7.85.0"))));
    let keda = raw(&format!("{target}/kedacore/keda:2.11.2"));
    assert_eq!(keda, raw(&format!("{samples}/ghcr.io/kedacore/keda:2.11.2")));
    let some: Value =
        serde_json::from_slice(&raw(&format!("{target}/kedacore/keda-metrics-apiserver:2.11.2"))).unwrap();
    let kept: Vec<_> = some["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|child| child["platform"]["architecture"].clone())
        .collect();
    assert!(
        kept.contains(&"amd64".into()) && kept.contains(&"arm64".into()) && !kept.contains(&"s390x".into()),
        "{some}"
    );

    // Everything that the index refers to exists: skopeo copies the whole of it into a directory.
    let copy = world.path("copy");
    let mut skopeo = command("skopeo");
    skopeo.args([
        "copy",
        "--quiet",
        "--all",
        "--src-no-creds",
        "--src-tls-verify=false",
        "--insecure-policy",
    ]);
    read(
        skopeo.arg(format!("docker://{target}/kedacore/keda:2.11.2")).arg(format!("dir:{}", copy.display())),
    );

    world.sources.forget();
    let second = transfer(&world, &target, "--format json").ok();
    assert_eq!(second.json()["changed"], false, "{second}");
    let asked = world.sources.requests();
    assert!(
        !asked.keys().any(|kind| kind.contains("GET manifest") || kind.contains("GET blob")),
        "{asked:?}"
    );

    // The results of earlier runs help, but are not needed.
    world.write("target/xtask/mapping.json", "{");
    let third = transfer(&world, &target, "--format json").ok();
    assert!(
        third.stderr.contains("warning: the cache mapping.json is unreadable and starts empty: "),
        "{third}"
    );
    assert_eq!(third.json()["changed"], false, "{third}");

    let listed = world.sourced().arg("--registry").arg(&target).args("list-images --format json").ok().json();
    let listed = listed["images"].as_array().unwrap();
    let curl_line = listed.iter().find(|image| image["repository"] == "curl").unwrap();
    assert_eq!((&curl_line["digest"], &curl_line["upstream"]), (&digest(&curl).into(), &"same".into()));
    assert_eq!(curl_line["uri"], format!("{target}/curl"));
}

#[test]
fn debians_registry_as_the_source_has_the_same_bytes() {
    let Some(mut world) = World::new(Images::Small) else { return };
    let (Some(source), Some(target)) = (DebianRegistry::start(), DebianRegistry::start()) else { return };
    // The first transfer fills the source under the upstreams' own names, like a company mirror.
    world.write(
        "images.toml",
        r#"schema_version = 1
[images]
"mirror/curlimages/curl" = { source = "curlimages/curl:7.85.0", platforms = "all" }
"mirror/kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
"mirror/kedacore/keda-metrics-apiserver" = { source = "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2", platforms = "all" }
"#,
    );
    transfer(&world, source.host(), "--auto-approve").ok();

    for registry in ["docker.io", "ghcr.io"] {
        world.sources.route(registry, format!("http://{}/mirror", source.host()));
    }
    world.write("images.toml", IMAGES);
    world.sources.forget();
    transfer(&world, &format!("{}/deep/er", target.host()), "--auto-approve").ok();
    assert!(
        world.sources.requests().is_empty(),
        "the upstream itself was asked: {:?}",
        world.sources.requests()
    );
    let keda = manifest(source.host(), "mirror/kedacore/keda:2.11.2");
    assert_eq!(manifest(target.host(), "deep/er/kedacore/keda:2.11.2"), keda);
    let curl = manifest(source.host(), "mirror/curlimages/curl:7.85.0");
    assert_eq!(digest(&manifest(target.host(), "deep/er/curl:7.85.0")), amd64(&curl));

    let second = transfer(&world, &format!("{}/deep/er", target.host()), "--format json").ok();
    assert_eq!(second.json()["changed"], false, "{second}");
}

#[test]
fn a_server_that_is_not_a_registry_is_named() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let run = transfer(&world, "Not/A/Registry", "--auto-approve").end();
    run.failed(2, &["Not/A/Registry", "HOST[/PREFIX]"]);
    let run = transfer(&world, "clerk:hush-hush@registry.test/m", "--auto-approve").end();
    run.failed(2, &["HOST[/PREFIX]", "docker login"]);
    assert!(!run.stderr.contains("hush-hush"), "{run}");
}

#[test]
fn a_registry_that_does_not_answer_is_named() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", "schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n");
    // A port that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let run = transfer(&world, &nobody, "--auto-approve").end();
    run.failed(8, &[&nobody, "hint: is the network up"]);
    assert!(!run.stderr.contains("nothing to do"), "{run}");
}

/// A server that answers every request with this; its address.
fn answering(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().filter_map(Result::ok) {
            let _ = client.read(&mut [0; 4096]);
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = client.write_all(format!("{head}{body}").as_bytes());
        }
    });
    format!("http://{host}")
}

#[test]
fn a_registry_without_space_is_not_a_login_failure() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", "schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n");
    let harbor = r#"{"errors":[{"code":"DENIED","message":"adding 29.0 MiB of storage resource, which [...] will exceed the configured upper limit of 10.0 MiB."}]}"#;
    let cases = [
        ("413 Request Entity Too Large", "<html>413</html>", "client_max_body_size"),
        ("403 Forbidden", harbor, "hint: the registry's storage quota is exhausted"),
    ];
    for (status, body, hint) in cases {
        let target = answering(status, body).replace("http://", "");
        let run = transfer(&world, &target, "--auto-approve").end();
        run.failed(8, &[hint]);
        assert!(!run.stderr.contains("docker login"), "{run}");
    }
}

#[test]
fn an_image_with_dockers_schema_1_is_named() {
    let Some(world) = World::new(Images::Small) else { return };
    let address = |url: String| url.replace("http://", "");
    let source = address(answering("200 OK", r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#));
    world.write("images.toml", &format!("schema_version = 1\n[images]\ncurl = \"{source}/curl:1\"\n"));
    let run = transfer(&world, &address(answering("404 Not Found", "")), "--auto-approve").end();
    run.failed(7, &["manifest.v1+json", "hint: docker's schema 1 is no longer read"]);
}

#[test]
fn an_unreachable_upstream_is_a_warning_if_the_target_has_the_locked_digest() {
    let (Some(mut world), Some(target)) = (World::new(Images::Small), DebianRegistry::start()) else {
        return;
    };
    world.write("images.toml", IMAGES);
    transfer(&world, target.host(), "--auto-approve").ok();
    let real = format!("http://{}/docker.io", world.sources.host);
    let silent = Gate::before(&world.sources.host, |_| true);
    // A port that was free a moment ago.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = format!("http://{nobody}");
    let cases = [
        ("", vec![refused.clone(), answering("503 Service Unavailable", "")]),
        (
            "--locked",
            vec![refused.clone(), format!("http://{}", silent.host()), "http://nobody.invalid".into()],
        ),
    ];
    let memory = world.path("target/xtask/mapping.json");
    // By the last run's results, then only by images.lock.
    for (locked, away) in cases {
        for url in away {
            world.sources.route("docker.io", url.clone());
            let run = transfer(&world, target.host(), &format!("{locked} --format json")).ok();
            assert_eq!(run.json()["changed"], false, "{url}: {run}");
            assert!(run.stderr.contains("docker.io does not answer"), "{url}: {run}");
            assert!(run.stderr.contains("not compared with upstream: curl:7.85.0\n"), "{url}: {run}");
            assert!(run.took < Duration::from_secs(20), "{url}: {run}");
        }
        world.sources.route("docker.io", real.clone());
        world.sourced().args("lock").ok();
        let _ = std::fs::remove_file(&memory);
    }

    // An answer is different from no answer, and an image that the target lacks is not available.
    for status in ["404 Not Found", "401 Unauthorized"] {
        world.sources.route("docker.io", answering(status, ""));
        let run = transfer(&world, target.host(), "").end();
        run.failed(7, &["docker.io/curlimages/curl:7.85.0"]);
    }
    world.sources.route("docker.io", refused);
    let run = transfer(&world, &format!("{}/elsewhere", target.host()), "--auto-approve").end();
    run.failed(7, &["docker.io/curlimages/curl:7.85.0", "hint: is the network up"]);
}

#[test]
fn too_few_pulls_are_reported_before_any_transfer_and_do_not_stop_other_images() {
    let (Some(mut world), Some(target)) = (World::new(Images::Small), DebianRegistry::start()) else {
        return;
    };
    // The limit that Docker Hub reports is used, and that of a mirror that is known to pass it on. `--upstream` gives its address.
    let mirror = "[upstream.\"docker.io\"]\nurl = \"http://127.0.0.1:1\"\ncounts_pulls = true\n";
    world.write("images.toml", &format!("{IMAGES}{mirror}"));
    // The index and the image of one platform.
    world.sources.pulls_left(1);
    let run = transfer(&world, target.host(), "--auto-approve").end();
    run.failed(7, &["docker.io: 2 pulls needed, 1 of 1 left", "docker login docker.io", "or wait up to"]);
    let tags = |repository: &str| {
        request("GET", &format!("http://{}/v2/{repository}/tags/list", target.host()), &[], b"").status
    };
    assert_eq!((tags("curl"), tags("kedacore/keda")), (404, 404), "{run}");
    let run = transfer(&world, target.host(), "--auto-approve --keep-going").end();
    run.failed(7, &["curl:7.85.0"]);
    assert_eq!((tags("curl"), tags("kedacore/keda")), (404, 200), "{run}");
    world.sources.pulls_left(2);
    // The plan counts both; no later plan or transfer reads again what it has read.
    transfer(&world, target.host(), "--dry-run").ok();
    transfer(&world, target.host(), "--dry-run").ok();
    transfer(&world, target.host(), "--auto-approve").ok();
    assert_eq!((tags("curl"), tags("kedacore/keda")), (200, 200));
}

#[test]
fn a_second_dry_run_costs_no_pull() {
    let (Some(mut world), Some(target)) = (World::new(Images::Small), DebianRegistry::start()) else {
        return;
    };
    let mirror = "[upstream.\"docker.io\"]\nurl = \"http://127.0.0.1:1\"\ncounts_pulls = true\n";
    world.write("images.toml", &format!("{IMAGES}{mirror}"));
    // The index and the image of one platform, once.
    world.sources.pulls_left(2);
    let first = transfer(&world, target.host(), "--dry-run").ok();
    assert!(first.stderr.contains("docker.io: 2 pulls needed, 2 of 2 left"), "{first}");
    for line in ["--dry-run", "--dry-run", "--auto-approve", "--dry-run"] {
        let later = transfer(&world, target.host(), line).ok();
        assert!(!later.stderr.contains("needed"), "{line}: {later}");
    }
}
