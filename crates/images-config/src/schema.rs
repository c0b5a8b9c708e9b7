//! Tests that docs/schema/images.toml.json, which editors read, has exactly the keys that the reader knows.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::Config;

const SCHEMA: &str = include_str!("../../../docs/schema/images.toml.json");

/// A table of images.toml with an unknown key, and the table's location in the schema.
const TABLES: [(&str, &str); 11] = [
    ("%", ""),
    ("[images]\na = { source = \"x/y:1\", % }", "/properties/images/additionalProperties/anyOf/1"),
    ("[runtimes]\na = { base = \"x/y:1\", % }", "/properties/runtimes/additionalProperties/anyOf/1"),
    (
        "[pull_through]\na = { upstream = \"quay.io\", % }",
        "/properties/pull_through/additionalProperties/anyOf/1",
    ),
    ("[repositories]\n%", "/properties/repositories"),
    ("[trust]\n\"*\" = { unsigned = true, % }", "/properties/trust/additionalProperties"),
    (
        "[trust]\n\"*\" = { signed_by = { identity = \"a\", issuer = \"b\", % } }",
        "/properties/trust/additionalProperties/properties/signed_by/anyOf/0",
    ),
    ("[creation_template]\n%", "/properties/creation_template"),
    ("[kms]\n%", "/properties/kms"),
    ("[registry]\n%", "/properties/registry"),
    ("[upstream.\"docker.io\"]\nurl = \"https://x.example\"\n%", "/properties/upstream/additionalProperties"),
];

#[test]
fn the_schema_has_exactly_the_keys_that_the_parser_accepts() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    for (table, pointer) in TABLES {
        // The key must not be similar to a known key, otherwise the message would suggest that one.
        let text = format!("schema_version = 1\n{}\n", table.replace('%', "qqqqqqqqqqqq = 1"));
        let wrong = Config::parse(&text, Path::new("images.toml"), None).unwrap_err().to_string();
        let known = wrong.split("known here: ").nth(1).unwrap_or_else(|| panic!("{text}{wrong}"));
        let known: BTreeSet<&str> = known.lines().next().unwrap().trim_end_matches(')').split(", ").collect();
        let found = schema.pointer(pointer).unwrap()["properties"].as_object().unwrap();
        let found: BTreeSet<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(found, known, "{pointer}: {wrong}");
    }
}
