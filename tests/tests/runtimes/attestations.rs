//! The SBOM and the provenance of a build, read back as any client finds them.

use std::os::unix::fs::symlink;

use e2e::{Builder, Project, command, digest, get, programs, read, request, root};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::gate;

e2e::on_each_builder!(a_builds_attestations_are_its_referrers_and_equal_for_two_forced_builds);

const LIST: &str = "application/vnd.oci.image.index.v1+json";
const ARTIFACT: &str = "application/vnd.oci.image.manifest.v1+json";

/// A runtime whose image has a package database, and whose build has the same result each time.
fn with_packages(project: &Project) {
    project.write(
        "Dockerfile",
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY status /var/lib/dpkg/status\nCOPY os-release /etc/os-release\n\
         ARG ENTRY_POINT\nCOPY ${ENTRY_POINT} /start\n",
    );
    project.write(
        "status",
        "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2+b7\n",
    );
    project.write("os-release", "ID=debian\nVERSION_ID=\"12\"\n");
}

fn by_digest(host: &str, digest: &str) -> Value {
    let url = format!("http://{host}/v2/lambda/manifests/{digest}");
    request("GET", &url, &[("accept", ARTIFACT)], b"").json()
}

/// The document of an artifact, and the artifact's manifest.
fn document(host: &str, artifact: &str) -> (Value, Value) {
    let manifest = by_digest(host, artifact);
    let blob = manifest["layers"][0]["digest"].as_str().unwrap();
    let body = get(&format!("http://{host}/v2/lambda/blobs/{blob}")).body;
    assert_eq!(digest(&body), blob);
    (serde_json::from_slice(&body).unwrap(), manifest)
}

fn names(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
}

fn a_builds_attestations_are_its_referrers_and_equal_for_two_forced_builds(builder: Builder) {
    if !programs(&["skopeo"]) {
        return;
    }
    let Some(project) = Project::with(builder) else { return };
    let (name, host) = (&project.name, project.registry.host());
    with_packages(&project);
    project.transfer(host, "").ok();
    let tags = project.tags();
    let image = &tags[name];
    // The image has the form that docker's own clients use: nothing in it refers to the artifacts.
    let mut skopeo = command("skopeo");
    skopeo
        .args(["inspect", "--raw", "--no-creds", "--tls-verify=false"])
        .arg(format!("docker://{host}/lambda:{name}"));
    assert_eq!(digest(&read(&mut skopeo)), *image);

    // A registry without the referrers API: the list has a tag.
    let tag = image.replace(':', "-");
    let url = format!("http://{host}/v2/lambda/manifests/{tag}");
    let list = request("GET", &url, &[("accept", LIST)], b"").json();
    assert_eq!(
        names(&list["manifests"], "artifactType"),
        ["application/spdx+json", "application/vnd.in-toto+json"]
    );
    let [sbom, provenance] = &names(&list["manifests"], "digest")[..] else { panic!("{list}") };
    for artifact in [sbom, provenance] {
        let mut skopeo = command("skopeo");
        skopeo
            .args(["inspect", "--raw", "--no-creds", "--tls-verify=false"])
            .arg(format!("docker://{host}/lambda@{artifact}"));
        let raw = read(&mut skopeo);
        let manifest: Value = serde_json::from_slice(&raw).unwrap();
        assert_eq!((&digest(&raw), &manifest["subject"]["digest"]), (artifact, &json!(image)));
    }
    let (sbom, manifest) = document(host, sbom);
    assert_eq!(manifest["artifactType"], "application/spdx+json");
    let packages = sbom["packages"].as_array().unwrap();
    let bash = packages.iter().find(|package| package["name"] == "bash").unwrap();
    let purl = "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12";
    assert_eq!(bash["externalRefs"][0]["referenceLocator"], purl);
    let (provenance, manifest) = document(host, provenance);
    assert_eq!(
        manifest["layers"][0]["annotations"]["in-toto.io/predicate-type"],
        provenance["predicateType"]
    );
    assert_eq!(provenance["subject"][0]["digest"]["sha256"], image["sha256:".len()..]);
    let inputs = provenance["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let status = inputs.iter().find(|input| input["name"] == "context/status").unwrap();
    let wanted = digest(&std::fs::read(project.world.path("project/runtimes/status")).unwrap());
    assert_eq!(status["digest"]["sha256"], wanted["sha256:".len()..]);

    // Another build of the same inputs: the same image, with the same documents.
    project.transfer(host, "REBUILD_RUNTIMES=true").ok();
    assert_eq!(project.tags(), tags);

    let listed = project.xtask("").arg("--registry").arg(host).args("list-images --format json").ok();
    assert_eq!(listed.json()["images"][0]["referrers"], 2, "{listed}");
    let listed = project.xtask("").arg("--registry").arg(host).args("list-images").ok();
    assert!(listed.stdout.contains("built here, 2 referrers"), "{listed}");
    let verified = project.xtask("").arg("--registry").arg(host).args("verify --format json").ok();
    assert_eq!(verified.json()["images"][0]["manifests"], 3, "the image and both: {verified}");
}

#[test]
fn no_attestations_if_images_toml_disables_them() {
    let Some(project) = Project::new() else { return };
    let (name, host) = (&project.name, project.registry.host());
    let text = format!("schema_version = 1\nattestations = false\n[runtimes]\n{}\n", project.line(""));
    project.world.write("images.toml", &text);
    project.transfer(host, "").ok();
    let tags = project.tags();
    assert!(tags.contains_key(name) && !tags.contains_key(&tags[name].replace(':', "-")), "{tags:?}");
    let listed = project.xtask("").arg("--registry").arg(host).args("list-images --format json").ok();
    assert_eq!(listed.json()["images"][0]["referrers"], 0, "{listed}");
}

#[test]
fn the_tag_does_not_move_before_the_attestations() {
    let Some(project) = Project::new() else { return };
    let (gate, held) = gate(&project);
    let name = &project.name;
    // The documents come after the image, and the request is held.
    *held.lock().unwrap() = "PUT /v2/lambda/manifests/sha256:".to_owned();
    let run = project.transfer(gate.host(), "").start();
    gate.wait();
    let tags: Vec<String> = project.tags().into_keys().collect();
    assert!(matches!(&tags[..], [only] if only.starts_with(&format!("{name}-sha256-"))), "{tags:?}");
    held.lock().unwrap().clear();
    run.signal(Signal::KILL);
    run.end();
    // The next run continues: the existing build is pushed, and both documents exist.
    project.transfer(project.registry.host(), "").ok();
    let tags = project.tags();
    assert!(tags.contains_key(&tags[name].replace(':', "-")), "{tags:?}");
}

#[test]
fn ecr_lists_attestations_as_referrers_without_a_tag() {
    if !programs(&["terraform"]) {
        return;
    }
    let Some(project) = Project::new() else { return };
    let (world, name) = (&project.world, &project.name);
    let module = "deployment/image_repository/terraform";
    symlink(root().join(module), world.path("project").join(module)).unwrap();
    with_packages(&project);
    let run = |line: &str| project.xtask("--local --local-dir").arg(world.path("local")).args(line);
    run("init-images --create-state-bucket").ok();
    run("transfer-images --auto-approve").ok();
    let aws = world.aws();
    assert_eq!(aws.whole_tags().len(), 4, "{:?}", aws.whole_tags());
    let listed = run("list-images --format json").ok().json();
    let image =
        listed["images"].as_array().unwrap().iter().find(|image| image["tag"] == name.as_str()).unwrap();
    assert_eq!(image["referrers"], 2, "{image}");
    let subject = json!({ "repositoryName": "lambda", "subjectId": { "imageDigest": image["digest"] } });
    let mut kinds = names(&aws.ecr("ListImageReferrers", &subject)["referrers"], "artifactType");
    kinds.sort_unstable();
    assert_eq!(kinds, ["application/spdx+json", "application/vnd.in-toto+json"]);
    // A run with nothing to do sends no request for them.
    aws.emulator.forget();
    let run = run("transfer-images --auto-approve --format json").ok();
    assert_eq!(run.json()["changed"], false, "{run}");
    let log = aws.emulator.log();
    assert!(log.iter().all(|entry| !entry["action"].as_str().unwrap().contains("eferrers")), "{log:?}");
}
