//! Whatever a registry or a user writes: parsing ends, does not panic, and what is taken is taken the same way twice.

use registry::{Digest, Manifest, Platform, Reference};

use crate::support::images::{self, OCI_INDEX};

const SEED: u64 = 20_261_122;
const ROUNDS: usize = 20_000;

fn mix(random: &mut fastrand::Rng, pieces: &[&str]) -> String {
    (0..random.usize(0..9)).map(|_| *random.choice(pieces).unwrap()).collect()
}

#[test]
fn references_are_refused_or_mean_the_same_in_their_canonical_form() {
    let digest = format!("@{}", Digest::of(b"x"));
    let pieces = [
        "a",
        "Z",
        "0",
        "/",
        ":",
        "@",
        ".",
        "-",
        "_",
        "__",
        "localhost",
        "docker.io",
        "host:5000",
        "[::1]",
        "library",
        "..",
        "é",
        " ",
        "%2f",
        "?",
        "#",
        "\\",
        "sha256:",
        digest.as_str(),
        ":latest",
        "\u{0}",
    ];
    let random = &mut fastrand::Rng::with_seed(SEED);
    let mut taken = 0;
    for _ in 0..ROUNDS {
        let text = mix(random, &pieces);
        let Ok(reference) = text.parse::<Reference>() else { continue };
        taken += 1;
        let canonical = reference.to_string();
        assert_eq!(canonical.parse::<Reference>().as_ref(), Ok(&reference), "{text:?}");
        // It is put into a URL's path as it is.
        let path = format!("{}/{}", reference.repository(), reference.identifier());
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"%?#\\".contains(&byte)), "{text:?}");
        assert!(path.split('/').all(|part| !part.is_empty() && part != ".." && part != "."), "{text:?}");
    }
    assert!(taken > ROUNDS / 100, "only {taken} were valid: the test looks at nothing");
}

#[test]
fn manifests_are_refused_or_bounded() {
    let whole = images::index(&[
        (Some("linux/amd64"), images::image("a", &[])),
        (None, images::image("b", &[])),
        (Some("linux/arm64"), images::image("c", &[])),
    ]);
    let original = whole.manifest.bytes().to_vec();
    let platforms: [Platform; 1] = ["linux/arm64".parse().unwrap()];
    let random = &mut fastrand::Rng::with_seed(SEED);
    let mut trimmed = 0;
    for _ in 0..ROUNDS / 4 {
        let mut bytes = original.clone();
        for _ in 0..random.usize(0..4) {
            let at = random.usize(0..bytes.len());
            match random.u8(0..3) {
                0 => bytes[at] = *random.choice(b"{}[]\",:0aA-\\ \xff").unwrap(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, *random.choice(b"{}[]\",:09\\").unwrap()),
            }
        }
        let manifest = Manifest::new(OCI_INDEX, bytes);
        let Ok(result) = manifest.trim(&platforms) else { continue };
        trimmed += 1;
        // What came out is an index of what went in.
        let before = manifest.index().unwrap().manifests;
        let after = result.index().unwrap_or_else(|error| panic!("{error}: {:?}", result.bytes())).manifests;
        assert!(after.iter().all(|kept| before.contains(kept)));
    }
    assert!(trimmed > 100, "only {trimmed} could be trimmed");
}

#[test]
fn a_deep_or_long_manifest_is_an_error() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Manifest::new(OCI_INDEX, deep).index().is_err());
    let entry = serde_json::to_string(&images::image("a", &[]).manifest.descriptor()).unwrap();
    let long = vec![entry; 10_001].join(",");
    let error = Manifest::new(OCI_INDEX, format!(r#"{{"manifests":[{long}]}}"#)).index().unwrap_err();
    assert!(error.to_string().contains("10001"), "{error}");
}
