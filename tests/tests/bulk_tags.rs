//! The number of calls to read a repository with many tags, by the emulated AWS's own log: this was not observed at a real ECR.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use e2e::{Aws, INIT, World};
use serde_json::json;

/// The number of tags of one image in one repository.
fn images(tags: usize) -> String {
    let mut text = "schema_version = 1\n[images]\n".to_owned();
    for tag in 0..tags {
        writeln!(text, "\"many:t{tag}\" = \"ghcr.io/kedacore/keda:2.11.2\"").unwrap();
    }
    text + "\"one\" = \"ghcr.io/kedacore/keda:2.11.2\"\n"
}

/// Calls that read tags since the log was cleared, by action.
fn calls(aws: &Aws) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for entry in aws.emulator.log() {
        let (action, path) = (entry["action"].as_str().unwrap(), entry["path"].as_str().unwrap());
        if ["ListImages", "BatchGetImage"].contains(&action) && !path.starts_with("/v2/") {
            *calls.entry(action.to_owned()).or_default() += 1;
        } else if path.contains("/manifests/") && entry["status"] != 401 {
            // The first one gets the challenge.
            *calls.entry("HEAD".to_owned()).or_default() += 1;
        }
    }
    calls
}

fn counted<const N: usize>(calls: [(&str, usize); N]) -> BTreeMap<String, usize> {
    calls.into_iter().map(|(action, count)| (action.to_owned(), count)).collect()
}

#[test]
fn many_tags_of_a_repository_cost_one_or_two_calls() {
    const TAGS: usize = 150;
    let Some(world) = World::grid(&images(TAGS)) else { return };
    world.xtask(INIT).ok();
    world.xtask("transfer-images --auto-approve").ok();
    let aws = world.aws();
    let nothing = || {
        aws.emulator.forget();
        let run = world.xtask("transfer-images --auto-approve --format json").ok();
        assert_eq!(run.json()["changed"], false, "{run}");
        calls(&aws)
    };
    // One list instead of 150 HEADs; a single tag is a HEAD, as before.
    assert_eq!(nothing(), counted([("HEAD", 1), ("ListImages", 1)]));

    // The list shows a deleted tag, and it is put again.
    let id = json!({ "repositoryName": "many", "imageIds": [{ "imageTag": "t7" }] });
    aws.ecr("BatchDeleteImage", &id);
    let run = world.xtask("transfer-images --auto-approve --format json").ok();
    let images = run.json()["images"].as_array().unwrap().clone();
    let copied: Vec<&str> = images
        .iter()
        .filter(|image| image["action"] != "up to date")
        .map(|image| image["name"].as_str().unwrap())
        .collect();
    assert_eq!(copied, ["many:t7"], "{run}");

    // More tags than a page has, most of them of others: the rest is read by name, a hundred per call.
    let manifest = aws.registry("GET", "many/manifests/t0");
    let text = String::from_utf8(manifest.body).unwrap();
    for other in 0..1_200 {
        let put =
            json!({ "repositoryName": "many", "imageManifest": text, "imageTag": format!("a{other:04}") });
        aws.ecr("PutImage", &put);
    }
    // The page has the first 1,000 of them.
    assert_eq!(nothing(), counted([("BatchGetImage", 2), ("HEAD", 1), ("ListImages", 1)]));

    // A caller that may not list reads tag by tag.
    aws.emulator.quirks(&["deny:ecr:ListImages"]);
    assert_eq!(nothing(), counted([("HEAD", 1 + TAGS), ("ListImages", 1)]));
}
