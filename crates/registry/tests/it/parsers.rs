//! Manifests that are nested too deeply or are too long. Other input from outside is tested next to its parser (`fuzz_` in the
//! crate's own tests).

use registry::Manifest;

use crate::support::images::{self, OCI_INDEX};

#[test]
fn a_deep_or_long_manifest_is_an_error() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Manifest::new(OCI_INDEX, deep).index().is_err());
    let entry = serde_json::to_string(&images::image("a", &[]).manifest.descriptor()).unwrap();
    let long = vec![entry; 10_001].join(",");
    let error = Manifest::new(OCI_INDEX, format!(r#"{{"manifests":[{long}]}}"#)).index().unwrap_err();
    assert!(error.to_string().contains("10001"), "{error}");
}
