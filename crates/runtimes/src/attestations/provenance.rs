//! What a build was built from, as SLSA provenance in an in-toto statement (<https://slsa.dev/spec/v1.0/provenance>).

use std::collections::BTreeMap;

use registry::{Digest, Manifest};
use serde_json::{Value, json};

use super::{VERSION, purl};
use crate::LOCAL_REPOSITORY;
use crate::key::Mode;
use crate::planned::Planned;
use crate::push::Packed;

/// The media type of the document and of its artifact: an unsigned statement
/// (<https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>).
pub(super) const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
/// The type of the statement's predicate.
pub(super) const PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// Defines how the predicate's fields are to be read.
const BUILD_TYPE: &str =
    "https://github.com/finos/htc-grid/blob/main/docs/attestations.md#build-of-a-runtime-version-1";
/// The builder's ID: this tool, on whatever machine it runs.
const BUILDER: &str = "https://github.com/finos/htc-grid/tree/main/xtask";

/// The statement about a build: its manifest and, of an index, those of its platforms.
pub(super) fn document(planned: &Planned, manifest: &Manifest, images: &[Packed]) -> Value {
    let subject =
        |name: String, digest: Digest| json!({ "name": name, "digest": { "sha256": digest.hex() } });
    let name = format!("{LOCAL_REPOSITORY}:{}", planned.name);
    let mut subjects = vec![subject(name.clone(), manifest.digest())];
    let children = images.iter().filter(|image| image.manifest.digest() != manifest.digest());
    subjects
        .extend(children.map(|image| subject(format!("{name} {}", image.platform), image.manifest.digest())));
    let inputs = &planned.inputs;
    let mut parameters = json!({
        "runtime": planned.name,
        "dockerfile": planned.runtime.dockerfile,
        "arguments": inputs.args,
        "platforms": inputs.platforms,
    });
    if let Some(target) = &inputs.target {
        parameters["target"] = json!(target);
    }
    if let Some(epoch) = &inputs.epoch {
        parameters["epoch"] = json!(epoch);
    }
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "internalParameters": { "buildKey": format!("k{}-{}", inputs.version, planned.key), "flags": inputs.flags },
                "resolvedDependencies": dependencies(planned, images),
            },
            // No time and no run number: two builds of the same inputs give the same document.
            "runDetails": { "builder": { "id": BUILDER, "version": { "xtask": VERSION } } },
        },
    })
}

/// Everything that went into the build, each with its digest.
fn dependencies(planned: &Planned, images: &[Packed]) -> Vec<Value> {
    let inputs = &planned.inputs;
    let mut all = Vec::new();
    if let Some(base) = &planned.base {
        all.push(json!({
            "name": "base", "uri": purl::image(&base.name, &base.digest), "digest": { "sha256": base.digest.hex() },
        }));
    }
    for stage in &planned.needs.stages {
        let Some(digest) = stage.digest() else { continue };
        all.push(json!({
            "name": "stage", "uri": purl::image(stage, &digest), "digest": { "sha256": digest.hex() },
        }));
    }
    // The commit from the image's own label: an image that was built earlier is pushed unchanged.
    let labels = images.first().map(labels).unwrap_or_default();
    let label = |name: &str| labels.get(name).filter(|value| !value.is_empty());
    let (source, commit) =
        (label("org.opencontainers.image.source"), label("org.opencontainers.image.revision"));
    if let (Some(source), Some(commit)) = (source, commit) {
        all.push(
            json!({ "name": "source", "uri": format!("git+{source}"), "digest": { "gitCommit": commit } }),
        );
    }
    all.push(json!({ "name": "dockerfile", "digest": { "sha256": inputs.dockerfile } }));
    let files = inputs.files.iter().flatten().map(|file| {
        let mode = match file.mode {
            // A symlink's digest is that of its target.
            Mode::Symlink => "120000 (symlink)",
            mode => mode.as_str(),
        };
        json!({
            "name": format!("context/{}", file.path),
            "digest": { "sha256": file.sha256 },
            "annotations": { "mode": mode },
        })
    });
    all.extend(files);
    all
}

fn labels(image: &Packed) -> BTreeMap<String, String> {
    let config: Value = serde_json::from_slice(image.config()).unwrap_or_default();
    serde_json::from_value(config["config"]["Labels"].clone()).unwrap_or_default()
}
