//! How many calls a look at a repository of many tags takes, by the emulated AWS's own log: nothing here was seen at a real ECR.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use e2e::{Aws, INIT, World};
use serde_json::json;

/// So many tags of one image in one repository.
fn images(tags: usize) -> String {
    let mut text = "schema_version = 1\n[images]\n".to_owned();
    for tag in 0..tags {
        writeln!(text, "\"many:t{tag}\" = \"ghcr.io/kedacore/keda:2.11.2\"").unwrap();
    }
    text + "\"one\" = \"ghcr.io/kedacore/keda:2.11.2\"\n"
}

/// Calls about what tags mean since the log began, by action.
fn calls(aws: &Aws) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for entry in aws.emulator.log() {
        let (action, path) = (entry["action"].as_str().unwrap(), entry["path"].as_str().unwrap());
        if ["ListImages", "BatchGetImage"].contains(&action) && !path.starts_with("/v2/") {
            *calls.entry(action.to_owned()).or_default() += 1;
        } else if path.contains("/manifests/") && entry["status"] != 401 {
            // The first one is told how to say who it is.
            *calls.entry("HEAD".to_owned()).or_default() += 1;
        }
    }
    calls
}

fn counted<const N: usize>(calls: [(&str, usize); N]) -> BTreeMap<String, usize> {
    calls.into_iter().map(|(action, count)| (action.to_owned(), count)).collect()
}

#[test]
fn many_tags_of_a_repository_cost_a_call_or_two() {
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
    // One list in the place of 150 HEADs; a single tag is a HEAD, as before.
    assert_eq!(nothing(), counted([("HEAD", 1), ("ListImages", 1)]));

    // What is gone is seen in the list, and comes back.
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

    // More tags than a page has, most of them not ours: the rest is asked for by name, a hundred a call.
    let manifest = aws.registry("GET", "many/manifests/t0");
    let text = String::from_utf8(manifest.body).unwrap();
    for other in 0..1_200 {
        let put =
            json!({ "repositoryName": "many", "imageManifest": text, "imageTag": format!("a{other:04}") });
        aws.ecr("PutImage", &put);
    }
    // The page has the 1,000 first of them.
    assert_eq!(nothing(), counted([("BatchGetImage", 2), ("HEAD", 1), ("ListImages", 1)]));

    // A caller who may not list asks tag by tag.
    aws.emulator.quirks(&["deny:ecr:ListImages"]);
    assert_eq!(nothing(), counted([("HEAD", 1 + TAGS), ("ListImages", 1)]));
}
