mod claims;
mod late;
mod platforms;
mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use dockerfile::Dockerfile;
use failure::Kind;
use registry::{Anonymous, Client, Digest, Transport, lists};
use serde_json::{Value, json};
use store::Store;

use super::artifact::Artifact;
use super::*;
use crate::archive::Archive;
use crate::archive::tests as saved;
use crate::context::{BuildContext, Reads};
use crate::key::Inputs;
use crate::packages::{self, Manager, Package, System};
use crate::planned::Base;
use crate::push::{self, BaseLayers};
use crate::{Action, GridSettings, Hold, Progress, Runtime, State};

fn package(manager: Manager, name: &str, version: &str) -> Package {
    Package {
        manager,
        name: name.to_owned(),
        version: version.to_owned(),
        epoch: None,
        arch: Some("x86_64".to_owned()),
        source: None,
    }
}

fn system(id: &str, version: Option<&str>) -> System {
    System { id: id.to_owned(), version: version.map(str::to_owned) }
}

#[test]
fn packages_have_the_urls_that_scanners_look_for() {
    let epoch = Package {
        epoch: Some(1),
        source: Some("openssl-3.0.8-1.src.rpm".to_owned()),
        ..package(Manager::Rpm, "openssl-libs", "3.0.8-1.amzn2023")
    };
    for (package, system, wanted) in [
        (
            package(Manager::Dpkg, "g++", "1:12.2.0-3+deb12u1"),
            system("debian", Some("12")),
            "pkg:deb/debian/g%2B%2B@1:12.2.0-3%2Bdeb12u1?arch=x86_64&distro=debian-12",
        ),
        (
            epoch,
            system("amzn", Some("2023")),
            "pkg:rpm/amzn/openssl-libs@3.0.8-1.amzn2023?arch=x86_64&distro=amzn-2023&epoch=1&upstream=openssl-3.0.8-1.src.rpm",
        ),
        (
            package(Manager::Apk, "musl", "1.2.5-r0"),
            system("alpine", None),
            "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine",
        ),
    ] {
        assert_eq!(purl::package(&package, Some(&system)).as_deref(), Some(wanted));
    }
    assert_eq!(
        purl::package(&package(Manager::Dpkg, "a", "1"), None),
        None,
        "nobody says of which system it is"
    );
    let digest = Digest::of(b"x");
    assert_eq!(
        purl::image(&"public.ecr.aws/lambda/python:3.12".parse().unwrap(), &digest),
        format!("pkg:oci/python@{digest}?repository_url=public.ecr.aws%2Flambda%2Fpython&tag=3.12")
    );
}

#[test]
fn an_artifact_names_its_image_and_has_no_time() {
    let image = Manifest::new("application/vnd.docker.distribution.manifest.v2+json", "{}");
    let artifact = Artifact::new("application/x", &json!({ "b": 1, "a": 2 }), &[("k", "v")], &image);
    let manifest: Value = serde_json::from_slice(artifact.manifest.bytes()).unwrap();
    let document = json!({
        "mediaType": "application/x", "digest": Digest::of(br#"{"a":2,"b":1}"#), "size": 13, "annotations": { "k": "v" },
    });
    assert_eq!(
        manifest,
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/x",
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of(b"{}"), "size": 2 },
            "layers": [document],
            "subject": { "mediaType": image.media_type(), "digest": image.digest(), "size": 2 },
        })
    );
    assert_eq!(artifact.bytes, br#"{"a":2,"b":1}"#);
}

const STATUS: &[u8] = b"Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n";
const OS: &[u8] = b"ID=debian\nVERSION_ID=12\n";

/// A build of one platform, before it is pushed.
struct Build {
    planned: Planned,
    image: Packed,
    _files: tempfile::TempDir,
}

impl Build {
    /// A build whose image has these files.
    fn with(files: &[(&str, &[u8])]) -> Self {
        let room = tempfile::tempdir().unwrap();
        let text = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY run.sh /\n";
        std::fs::write(room.path().join("Dockerfile"), text).unwrap();
        std::fs::write(room.path().join("run.sh"), "#!/bin/sh\n").unwrap();
        std::os::unix::fs::symlink("run.sh", room.path().join("link")).unwrap();
        let runtime = Runtime {
            name: "python3.12".to_owned(),
            base: Some("public.ecr.aws/lambda/python:3.12".parse().unwrap()),
            base_argument: Some("BASE_IMAGE".to_owned()),
            entry_point: None,
            context: room.path().to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            leave_out: [].into(),
            args: [("A".to_owned(), "1".to_owned())].into(),
            target: None,
            platforms: vec!["linux/amd64".parse().unwrap()],
            epoch: Some("2026".to_owned()),
        };
        let context = BuildContext::read(room.path(), "Dockerfile", &Reads::default()).unwrap();
        let dockerfile = Dockerfile::parse("Dockerfile", &context.dockerfile).unwrap();
        let base = Base { name: runtime.base.clone().unwrap(), digest: Digest::of(b"base"), locked: true };
        let inputs = Inputs {
            args: runtime.args.clone(),
            platforms: vec!["linux/amd64".to_owned()],
            base: Some(base.digest.to_string()),
            epoch: runtime.epoch.clone(),
            ..Inputs::new(&context.dockerfile, context.files())
        };
        let planned = Planned {
            name: runtime.name.clone(),
            action: Action::Build { forced: false },
            reason: String::new(),
            key: inputs.key(),
            inputs,
            base: Some(base),
            seen: None,
            held: None,
            unanswered: None,
            base_moved: None,
            needs: dockerfile.needs(&runtime.given()).unwrap(),
            dockerfile: Arc::new(dockerfile),
            context,
            runtime,
        };
        Self { image: image(files, room.path()), planned, _files: room }
    }
}

/// An image with these files as a builder saves it, prepared for the registry. Its layer is in `scratch`.
fn image(files: &[(&str, &[u8])], scratch: &Path) -> Packed {
    let layer = std::fs::read(saved::tar(files, &[]).path()).unwrap();
    let labels = json!({
        "org.opencontainers.image.source": "https://example.com/grid",
        "org.opencontainers.image.revision": "c0ffee",
    });
    let config = json!({
        "os": "linux", "architecture": "amd64", "created": "2026-11-28T03:04:05.678Z", "config": { "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
    });
    let manifest = br#"[{"Config":"c","Layers":["l"]}]"#;
    let config = config.to_string();
    let file = saved::tar(&[("l", &layer), ("c", config.as_bytes()), ("manifest.json", manifest)], &[]);
    let platform = "linux/amd64".parse().unwrap();
    let mut packed = push::pack(file.path(), &BaseLayers::default(), &platform, &[], scratch).unwrap();
    packed.installed = Some(packages::read(&Archive::open(file.path()).unwrap()).unwrap());
    packed
}

#[test]
fn an_sbom_has_the_installed_packages_and_the_images_origin() {
    let build = Build::with(&[("var/lib/dpkg/status", STATUS), ("etc/os-release", OS)]);
    let document = sbom::document(&build.planned, &build.image, build.image.installed.as_ref().unwrap());
    let digest = build.image.manifest.digest();
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    // The image's own time, independent of the clock: there is no base with another one.
    assert_eq!(document["creationInfo"]["created"], "2015-01-01T00:00:00Z");
    let namespace = format!("https://spdx.org/spdxdocs/lambda-python3.12-{}", digest.hex());
    assert_eq!(document["documentNamespace"], namespace.as_str());
    let packages: Vec<(&str, &str, &str)> = document["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let purl = package["externalRefs"][0]["referenceLocator"].as_str().unwrap_or_default();
            (package["name"].as_str().unwrap(), package["versionInfo"].as_str().unwrap(), purl)
        })
        .collect();
    let (own, base) = (digest.to_string(), Digest::of(b"base").to_string());
    let own_url = format!("pkg:oci/lambda@{own}?arch=amd64&tag=python3.12");
    let base_url = format!("pkg:oci/python@{base}?repository_url=public.ecr.aws%2Flambda%2Fpython&tag=3.12");
    assert_eq!(
        packages,
        [
            ("lambda:python3.12", own.as_str(), own_url.as_str()),
            ("public.ecr.aws/lambda/python:3.12", base.as_str(), base_url.as_str()),
            ("debian", "12", ""),
            ("bash", "5.2-1", "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12"),
        ]
    );
    let relationships: Vec<String> = document["relationships"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            format!("{} {} {}", one["spdxElementId"], one["relationshipType"], one["relatedSpdxElement"])
        })
        .map(|line| line.replace("SPDXRef-", "").replace('"', ""))
        .collect();
    assert_eq!(
        relationships,
        [
            "DOCUMENT DESCRIBES Image",
            "Image DESCENDANT_OF Base",
            "Image CONTAINS OperatingSystem",
            "Image CONTAINS Package-1",
        ]
    );
}

#[test]
fn an_sbom_states_what_it_does_not_cover() {
    let comment = |files: &[(&str, &[u8])]| {
        let build = Build::with(files);
        let document = sbom::document(&build.planned, &build.image, build.image.installed.as_ref().unwrap());
        let last =
            document["relationships"].as_array().unwrap().last().unwrap()["relatedSpdxElement"].clone();
        (document["comment"].as_str().unwrap().to_owned(), last)
    };
    let (said, last) = comment(&[("var/lib/rpm/Packages.db", b"RpmP")]);
    let why = "NOT COMPLETE: /var/lib/rpm/Packages.db is not listed: databases of rpm's own form (ndb) are not read.";
    assert!(said.ends_with(why), "{said}");
    assert_eq!(last, "NOASSERTION");
    let (said, _) = comment(&[("start", b"")]);
    assert!(said.ends_with("The image has no database of any of these."), "{said}");
    let (said, last) = comment(&[("var/lib/dpkg/status", STATUS)]);
    assert!(said.ends_with("npm and the like) is not listed."), "{said}");
    assert_eq!(last, "SPDXRef-Package-1");
}

#[test]
fn a_provenance_has_each_input_of_the_build_key() {
    let build = Build::with(&[("start", b"")]);
    let manifest = build.image.manifest.clone();
    let document = provenance::document(&build.planned, &manifest, std::slice::from_ref(&build.image));
    assert_eq!(document["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(document["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(
        document["subject"],
        json!([{ "name": "lambda:python3.12", "digest": { "sha256": manifest.digest().hex() } }])
    );
    let definition = &document["predicate"]["buildDefinition"];
    assert_eq!(
        definition["externalParameters"],
        json!({
            "runtime": "python3.12", "dockerfile": "Dockerfile", "arguments": { "A": "1" },
            "platforms": ["linux/amd64"], "epoch": "2026",
        })
    );
    let key = format!("k2-{}", build.planned.inputs.key());
    assert_eq!(definition["internalParameters"], json!({ "buildKey": key, "flags": [] }));
    let sha256 = |bytes: &[u8]| json!({ "sha256": Digest::of(bytes).hex() });
    let named: BTreeMap<String, Value> = definition["resolvedDependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["digest"].clone()))
        .collect();
    let text = &build.planned.context.dockerfile;
    let wanted = [
        ("base", sha256(b"base")),
        ("context/Dockerfile", sha256(text)),
        ("context/link", sha256(b"run.sh")),
        ("context/run.sh", sha256(b"#!/bin/sh\n")),
        ("dockerfile", sha256(text)),
        ("source", json!({ "gitCommit": "c0ffee" })),
    ];
    assert_eq!(named, wanted.map(|(name, digest)| (name.to_owned(), digest)).into());
    assert!(document["predicate"]["runDetails"]["builder"]["id"].as_str().unwrap().starts_with("https://"));
    let text = document.to_string();
    assert!(!text.contains("2026-11-28") && !text.contains("/tmp"), "no time and no place: {text}");
}

/// No lock and no cache; collects the warnings.
#[derive(Default)]
struct Plain {
    warnings: Mutex<Vec<String>>,
}

impl GridSettings for Plain {
    fn locked_base(&self, _: &Reference) -> Option<Digest> {
        None
    }

    fn hold(&self, _: &str) -> Option<Hold> {
        None
    }

    fn cached(&self, _: &Reference) -> Option<Reference> {
        None
    }

    fn engine_name(&self, image: &Reference) -> String {
        image.to_string()
    }
}

impl Progress for Plain {
    fn line(&self, _: &str, _: &str) {}

    fn output(&self, _: &str, _: &str) {}

    fn warn(&self, _: &str, line: &str) {
        self.warnings.lock().unwrap().push(line.to_owned());
    }

    fn state(&self, _: &str, _: &State) {}
}

fn context(store: &Arc<Store>, plain: &Arc<Plain>) -> Context {
    let served = Arc::clone(store) as Arc<dyn Transport>;
    Context::new(
        Client::builder().serve("registry.example", served).build().unwrap(),
        Arc::new(Anonymous),
        Arc::clone(plain) as Arc<dyn GridSettings>,
        Arc::clone(plain) as Arc<dyn Progress>,
        std::env::temp_dir().join("scratch"),
    )
}

#[tokio::test]
async fn both_documents_are_referrers_at_any_registry_and_a_second_push_changes_nothing() {
    for lists in [true, false] {
        let build = Build::with(&[("var/lib/dpkg/status", STATUS), ("var/lib/rpm/Packages.db", b"")]);
        let (store, plain) = (Arc::new(Store { lists, ..Store::default() }), Arc::new(Plain::default()));
        let context = context(&store, &plain);
        let repository: Reference = "registry.example/lambda".parse().unwrap();
        let manifest = build.image.manifest.clone();
        let attach = async || {
            attach(&context, &build.planned, &repository, &manifest, std::slice::from_ref(&build.image))
                .await
                .unwrap();
            store.manifests.lock().unwrap().clone()
        };
        let first = attach().await;
        let listed = lists::referrers(&context.client, &repository, manifest.digest()).await.unwrap();
        let mut kinds: Vec<&str> = listed.iter().map(|one| one.artifact_type.as_deref().unwrap()).collect();
        kinds.sort_unstable();
        assert_eq!(kinds, ["application/spdx+json", "application/vnd.in-toto+json"], "{lists}");
        let tags: Vec<&String> = first.keys().filter(|name| !name.starts_with("sha256:")).collect();
        let list = format!("sha256-{}", manifest.digest().hex());
        assert_eq!(tags, if lists { vec![] } else { vec![&list] });
        for artifact in &listed {
            let found = context.client.manifest(&repository.with_digest(artifact.digest)).await.unwrap();
            let blobs = found.unwrap().image().unwrap();
            for blob in blobs.blobs() {
                registry::blobs::bytes(&context.client, &repository, blob).await.unwrap();
            }
        }
        assert_eq!(attach().await, first, "{lists}");
        let warning = "its SBOM is not complete: /var/lib/rpm/Packages.db is not listed: databases of rpm's own form (ndb) are not read";
        assert_eq!(*plain.warnings.lock().unwrap(), [warning; 2]);
    }
}

#[tokio::test]
async fn a_registry_that_refuses_attestations_is_an_error_with_a_hint() {
    let build = Build::with(&[("start", b"")]);
    let (store, plain) = (Arc::new(Store { refuses: true, ..Store::default() }), Arc::new(Plain::default()));
    let repository: Reference = "registry.example/lambda".parse().unwrap();
    let manifest = build.image.manifest.clone();
    let mut images = [build.image];
    let context = context(&store, &plain);
    let error = attach(&context, &build.planned, &repository, &manifest, &images).await.unwrap_err();
    assert!(
        error.to_string().starts_with("the SBOM and the provenance of registry.example/lambda@sha256:"),
        "{error}"
    );
    assert_eq!(error.kind(), Kind::Registry);
    assert!(error.hint().unwrap().contains("`attestations = false` in images.toml"));
    // If it is switched off, nothing is read and nothing is sent.
    images[0].installed = None;
    attach(&context, &build.planned, &repository, &manifest, &images).await.unwrap();
}
