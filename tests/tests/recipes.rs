//! Files of docs/ for other programs: Renovate's preset.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeSet;

use e2e::root;
use regex::Regex;
use serde_json::Value;

/// Every image that Renovate would find in this images.toml: name, tag and, if it is pinned, digest. It applies the expressions to
/// the whole file with only the flag `g`, so `^` only matches at the start of the file
/// (<https://github.com/renovatebot/renovate/blob/main/lib/modules/manager/custom/regex/strategies.ts>).
fn found(text: &str) -> Vec<String> {
    let preset = std::fs::read_to_string(root().join("docs/renovate.json")).unwrap();
    let preset: Value = serde_json::from_str(&preset).unwrap();
    let expressions = preset["customManagers"][0]["matchStrings"].as_array().unwrap();
    let mut all = Vec::new();
    for expression in expressions {
        for captures in Regex::new(expression.as_str().unwrap()).unwrap().captures_iter(text) {
            let digest = captures
                .name("currentDigest")
                .map_or(String::new(), |digest| format!("@{}", digest.as_str()));
            all.push(format!("{}:{}{digest}", &captures["depName"], &captures["currentValue"]));
        }
    }
    all
}

#[test]
fn renovate_finds_every_image_of_the_shipped_list_once() {
    let text = std::fs::read_to_string(root().join("deployment/image_repository/images.toml")).unwrap();
    let list: toml::Table = toml::from_str(&text).unwrap();
    let source =
        |key: &str, value: &toml::Value| value.get(key).unwrap_or(value).as_str().unwrap().to_owned();
    let images = list["images"].as_table().unwrap().values().map(|value| source("source", value));
    let bases = list["runtimes"].as_table().unwrap().values().map(|value| source("base", value));
    let wanted: Vec<String> = images.chain(bases).collect();
    let found = found(&text);
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    assert_eq!(found.iter().collect::<BTreeSet<_>>(), wanted.iter().collect());
}

#[test]
fn renovate_finds_nothing_that_is_not_an_image() {
    let digest = format!("sha256:{}", "0".repeat(64));
    for (line, wanted) in [
        ("curl = \"curlimages/curl:7.85.0\"", "curlimages/curl:7.85.0"),
        ("\"tools/curl\" = { source = \"host:5000/a/b:1\", platforms = \"all\" }", "host:5000/a/b:1"),
        (&format!("a = \"ghcr.io/x/y:1@{digest}\""), &format!("ghcr.io/x/y:1@{digest}")),
        ("# curl = \"curlimages/curl:7.85.0\"", ""),
        ("a = \"busybox\"", ""),
        ("url = \"http://mirror.example:5000\"", ""),
        ("url = \"https://artifactory.example.com/docker-remote\"", ""),
        ("role_arn = \"arn:aws:iam::123456789012:role/ecr-creation-template\"", ""),
    ] {
        let all = found(&format!("schema_version = 1\n{line}\n"));
        assert_eq!(all.join(" "), wanted, "{line}");
    }
}
