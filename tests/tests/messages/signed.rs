//! Images that are not signed as images.toml requires.

use e2e::{DebianRegistry, Images, KeyHolder, Sigstore, TestRepository, World, of_rekor_2};
use serde_json::{Value, json};

use super::{TRANSFER, reads_at};

#[test]
fn an_image_without_the_required_signature() {
    let Some(world) = World::new(Images::Small) else { return };
    let (Some(source), Some(target)) = (DebianRegistry::start(), DebianRegistry::start()) else { return };
    let shelf = TestRepository::new(source.host(), "team/x");
    let image = shelf.image(Some("1"), b"one");
    let image = image["digest"].as_str().unwrap();
    let (holder, sigstore) = (KeyHolder::new(), Sigstore::new());
    world.write("cosign.pub", &holder.public());
    world.write("root.json", &sigstore.root());
    let by_key = "{ key = \"cosign.pub\" }";
    let by_job = "{ identity = \"https://ci.example/job.yml@refs/tags/*\", issuer = \"https://token.example\", \
                  root = \"root.json\" }";
    let (job, issuer) = ("https://ci.example/job.yml@refs/tags/v1", "https://token.example");
    let keyless = |job, issuer, logged| Some(sigstore.sign(image, job, issuer, logged));
    for (name, rule, signature) in [
        ("unsigned", by_key, None),
        ("another-key", by_key, Some(KeyHolder::new().sign(image))),
        ("another-digest", by_key, Some(holder.sign(&format!("sha256:{}", "5".repeat(64))))),
        ("no-certificate", by_job, Some(holder.sign(image))),
        ("certificate-ended", by_job, keyless(job, issuer, Some(601))),
        ("not-logged", by_job, keyless(job, issuer, None)),
        ("another-log", by_job, Some(Sigstore::new().sign(image, job, issuer, Some(60)))),
        ("another-signer", by_job, keyless("https://ci.example/other.yml@refs/tags/v1", issuer, Some(60))),
        ("another-issuer", by_job, keyless(job, "https://elsewhere.example", Some(60))),
    ] {
        let host = source.host();
        let list = format!(
            "schema_version = 1\n[images]\nimg = {{ source = \"{host}/team/x:1\", platforms = \"all\" }}\n\
             [trust]\n\"{host}/*\" = {{ signed_by = {rule} }}\n"
        );
        world.write("images.toml", &list);
        if let Some(signature) = signature {
            shelf.tag(image, &signature);
        }
        let run = world.sourced().arg("--registry").arg(target.host()).args(TRANSFER);
        reads_at(&world, &format!("trust-{name}"), &run.end(), host);
    }
    assert_eq!(target.files(), Vec::<String>::new(), "something was written to the target");
}

/// As created by cosign 3: without a time of the log.
#[test]
fn an_image_with_an_invalid_bundle() {
    let Some(world) = World::new(Images::Small) else { return };
    let (Some(source), Some(target)) = (DebianRegistry::start(), DebianRegistry::start()) else { return };
    let (shelf, host) = (TestRepository::new(source.host(), "team/x"), source.host());
    let image = shelf.image(Some("1"), b"one");
    let (bundle, root, job) = of_rekor_2();
    world.write("root.json", &root);
    let list = format!(
        "schema_version = 1\n[images]\nimg = {{ source = \"{host}/team/x:1\", platforms = \"all\" }}\n\
         [trust]\n\"{host}/*\" = {{ signed_by = {{ identity = \"{job}\", issuer = \"https://token.example\", root = \"root.json\" }} }}\n"
    );
    world.write("images.toml", &list);
    let stamps = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
    let proof = "/verificationMaterial/tlogEntries/0/inclusionProof";
    // openssl's reply for other content.
    let other =
        std::fs::read_to_string(e2e::root().join("crates/trust/testdata/timestamp-p256.tsr")).unwrap();
    let other: String = other.split_whitespace().collect();
    for (name, place, value) in [
        ("no-time", stamps.to_owned(), json!([])),
        ("timestamp", format!("{stamps}/0/signedTimestamp"), other.into()),
        ("no-proof", proof.to_owned(), Value::Null),
        ("proof", format!("{proof}/logIndex"), "5".into()),
        ("checkpoint", format!("{proof}/checkpoint/envelope"), "log.example\n11\nAAAA\n\n".into()),
    ] {
        let mut changed = bundle.clone();
        *changed.pointer_mut(&place).unwrap() = value;
        shelf.attach(&image, &changed);
        let run = world.sourced().arg("--registry").arg(target.host()).args(TRANSFER);
        reads_at(&world, &format!("trust-{name}"), &run.end(), host);
    }
    assert_eq!(target.files(), Vec::<String>::new(), "something was written to the target");
}
