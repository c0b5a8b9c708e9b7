//! Valid signatures, and all kinds of invalid ones.

mod rekor_2;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::ExtendedKeyUsagePurpose;
use registry::{Digest, Manifest};
use serde_json::{Value, json};

use crate::candidate::Candidate;
use crate::testing::{Authority, IssuedCertificate, Key, at, fixture};
use crate::{PublicKey, Refusal, Signer, bundle};

const JOB: &str = "https://ci.example/job@refs/tags/v1";
const TOKEN: &str = "https://token.example";

/// Long after the end of every certificate.
fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn digest() -> Digest {
    Digest::of(b"an image")
}

fn payload(digest: Digest) -> Vec<u8> {
    let critical = json!({
        "identity": { "docker-reference": "h/x" }, "image": { "docker-manifest-digest": digest },
        "type": "cosign container image signature",
    });
    json!({ "critical": critical, "optional": null }).to_string().into_bytes()
}

fn layer(payload: Vec<u8>, annotations: &[(&str, String)]) -> Candidate {
    let annotations: BTreeMap<String, String> =
        annotations.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Candidate::of_layer(payload, &annotations).unwrap()
}

/// A signature by a key.
fn by_key(key: &Key, digest: Digest) -> Candidate {
    let payload = payload(digest);
    let signature = STANDARD.encode(key.sign(&payload));
    layer(payload, &[("dev.cosignproject.cosign/signature", signature)])
}

/// A keyless signature with this log entry.
fn keyless(given: &IssuedCertificate, signature: &[u8], entry: Option<&Value>) -> Candidate {
    let mut annotations = vec![
        ("dev.cosignproject.cosign/signature", STANDARD.encode(signature)),
        ("dev.sigstore.cosign/certificate", given.pem.clone()),
    ];
    annotations.extend(entry.map(|entry| ("dev.sigstore.cosign/bundle", entry.to_string())));
    layer(payload(digest()), &annotations)
}

/// The result for a keyless signature that was logged `seconds` after its certificate's start.
fn logged(
    authority: &Authority,
    signer: &Signer,
    given: &IssuedCertificate,
    seconds: i64,
) -> Result<(), Refusal> {
    let signature = given.sign(&payload(digest()));
    let entry = authority.entry(&payload(digest()), &signature, &given.pem, at(seconds));
    signer.check(&keyless(given, &signature, Some(&entry)), digest(), now())
}

#[test]
fn a_signature_is_only_valid_for_its_digest_and_key() {
    let (key, other) = (Key::new(), Key::new());
    let signer = Signer::Key { name: "cosign.pub".to_owned(), key: key.public() };
    assert_eq!(signer.check(&by_key(&key, digest()), digest(), now()), Ok(()));
    let moved = signer.check(&by_key(&key, Digest::of(b"another")), digest(), now()).unwrap_err();
    assert_eq!(moved, Refusal::OtherDigest { signed: Digest::of(b"another") });
    let foreign = signer.check(&by_key(&other, digest()), digest(), now()).unwrap_err();
    assert_eq!(foreign, Refusal::OtherKey { key: "cosign.pub".to_owned() });
    // The digest in the payload was changed afterwards.
    let mut changed = by_key(&key, Digest::of(b"another"));
    changed.message = payload(digest());
    changed.subjects = vec![digest()];
    assert_eq!(signer.check(&changed, digest(), now()), Err(foreign));
}

#[test]
fn signatures_of_cosign_2_and_3_are_valid() {
    let key = PublicKey::from_pem(&fixture("cosign.pub")).unwrap();
    let signer = Signer::Key { name: "cosign.pub".to_owned(), key };
    let signed: Digest =
        "sha256:c8934703e37f171a8a25cf522615fc6ca5185a6de720cf02607be31c7d9e01ee".parse().unwrap();
    let manifest =
        Manifest::new("application/vnd.oci.image.manifest.v1+json", fixture("cosign-2.manifest.json"));
    let annotations = manifest.image().unwrap().layers.remove(0).annotations.unwrap();
    let tagged = Candidate::of_layer(fixture("cosign-2.payload.json"), &annotations).unwrap();
    let attached = bundle::read(&fixture("cosign-3.bundle.json")).unwrap().unwrap();
    for candidate in [tagged, attached] {
        assert_eq!(signer.check(&candidate, signed, now()), Ok(()));
        let moved = signer.check(&candidate, digest(), now()).unwrap_err();
        assert_eq!(moved, Refusal::OtherDigest { signed });
        let mut changed = candidate.clone();
        *changed.message.last_mut().unwrap() ^= 1;
        let changed = signer.check(&changed, signed, now()).unwrap_err();
        assert_eq!(changed, Refusal::OtherKey { key: "cosign.pub".to_owned() });
    }
}

#[test]
fn an_attestation_is_not_a_signature() {
    let text = String::from_utf8(fixture("cosign-3.bundle.json")).unwrap();
    let mut bundle: Value = serde_json::from_str(&text).unwrap();
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let payload = String::from_utf8(payload).unwrap().replace("cosign/sign/v1", "cosign/sbom/v1");
    bundle["dsseEnvelope"]["payload"] = STANDARD.encode(payload).into();
    assert!(bundle::read(bundle.to_string().as_bytes()).unwrap().is_none());
}

#[test]
fn a_keyless_signature_is_valid_if_logged_while_its_certificate_was_valid() {
    let authority = Authority::new();
    let signer = authority.signer("https://ci.example/job@refs/tags/*", TOKEN, true);
    let given = authority.give(&format!("URI:{JOB}"), TOKEN);
    for seconds in [0, 300, 600] {
        assert_eq!(logged(&authority, &signer, &given, seconds), Ok(()), "{seconds}");
    }
    let late = logged(&authority, &signer, &given, 601).unwrap_err();
    assert_eq!(
        late.to_string(),
        "the certificate of its signature ended 2026-03-01T00:10:00Z, and the transparency log took it \
         2026-03-01T00:10:01Z"
    );
    let early = logged(&authority, &signer, &given, -1).unwrap_err();
    assert!(matches!(early, Refusal::NotValidThen { began: false, .. }), "{early}");
}

#[test]
fn an_expired_certificate_without_a_log_entry_is_refused() {
    let authority = Authority::new();
    let given = authority.give(&format!("URI:{JOB}"), TOKEN);
    let found = keyless(&given, &given.sign(&payload(digest())), None);
    let refused = authority.signer(JOB, TOKEN, true).check(&found, digest(), now()).unwrap_err();
    assert_eq!(refused, Refusal::NotLogged { root: "root.json".to_owned() });
    // A root without logs: the certificate has to be valid now.
    let signer = authority.signer(JOB, TOKEN, false);
    let refused = signer.check(&found, digest(), now()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the certificate of its signature ended 2026-03-01T00:10:00Z, and no transparency log says that it was made before"
    );
    let then = Timestamp::from_second(at(60)).unwrap();
    assert_eq!(signer.check(&found, digest(), then), Ok(()));
}

#[test]
fn an_entry_of_another_log_or_for_other_content_is_refused() {
    let authority = Authority::new();
    let signer = authority.signer(JOB, TOKEN, true);
    let given = authority.give(&format!("URI:{JOB}"), TOKEN);
    let signature = given.sign(&payload(digest()));
    let right = authority.entry(&payload(digest()), &signature, &given.pem, at(60));
    let why = |entry: &Value| match signer.check(&keyless(&given, &signature, Some(entry)), digest(), now()) {
        Err(Refusal::LogEntry { why }) => why,
        other => panic!("{other:?}"),
    };
    let mut later = right;
    later["Payload"]["integratedTime"] = at(61).into();
    assert_eq!(why(&later), "it is not signed by the log");
    let foreign = Authority::new().entry(&payload(digest()), &signature, &given.pem, at(60));
    assert_eq!(why(&foreign), "it is of another log");
    let other = authority.entry(b"something else", &signature, &given.pem, at(60));
    assert_eq!(why(&other), "it is about another signature");
    let other = authority.entry(&payload(digest()), &given.sign(b"else"), &given.pem, at(60));
    assert_eq!(why(&other), "it is about another signature");
    let other = authority.give(&format!("URI:{JOB}"), TOKEN);
    let other = authority.entry(&payload(digest()), &signature, &other.pem, at(60));
    assert_eq!(why(&other), "it is about a signature with another certificate");
}

#[test]
fn a_wrong_certificate_is_refused_with_the_reason() {
    let authority = Authority::new();
    let signer = authority.signer(JOB, TOKEN, true);
    let refused =
        |authority: &Authority, given: &IssuedCertificate| logged(authority, &signer, given, 60).unwrap_err();
    let given = authority.give("URI:https://ci.example/other@refs/tags/v1", TOKEN);
    assert_eq!(
        refused(&authority, &given).to_string(),
        format!("its signer is https://ci.example/other@refs/tags/v1, not {JOB}")
    );
    let given = authority.give(&format!("URI:{JOB}"), "https://elsewhere.example");
    assert_eq!(
        refused(&authority, &given).to_string(),
        "the OIDC issuer of its certificate is https://elsewhere.example, not https://token.example"
    );
    let given = authority.give_for(&format!("URI:{JOB}"), TOKEN, ExtendedKeyUsagePurpose::ServerAuth);
    assert!(
        matches!(refused(&authority, &given), Refusal::OtherAuthority { .. }),
        "for TLS servers, not for signing"
    );
    // Another authority with the same name, whose signature is in this log.
    let given = Authority::new().give(&format!("URI:{JOB}"), TOKEN);
    let refusal = refused(&authority, &given);
    assert!(matches!(refusal, Refusal::OtherAuthority { .. }), "{refusal}");
    // One certificate, and a signature by another key.
    let (given, thief) = (authority.give(&format!("URI:{JOB}"), TOKEN), Key::new());
    let signature = thief.sign(&payload(digest()));
    let entry = authority.entry(&payload(digest()), &signature, &given.pem, at(60));
    let found = keyless(&given, &signature, Some(&entry));
    assert_eq!(signer.check(&found, digest(), now()), Err(Refusal::NotByCertificate));
    // A signature by a key.
    let plain = by_key(&thief, digest());
    assert_eq!(
        signer.check(&plain, digest(), now()),
        Err(Refusal::NoCertificate { identity: JOB.to_owned() })
    );
}

#[test]
fn another_key_identity_or_root_is_another_signer() {
    let (one, two) = (Authority::new(), Authority::new());
    let key = |key: &Key| Signer::Key { name: "k".to_owned(), key: key.public() };
    let signers = [
        one.signer(JOB, TOKEN, true),
        one.signer("*", TOKEN, true),
        one.signer(JOB, "https://elsewhere.example", true),
        two.signer(JOB, TOKEN, true),
        key(&Key::new()),
        key(&Key::new()),
    ];
    let ids: std::collections::BTreeSet<String> = signers.iter().map(Signer::id).collect();
    assert_eq!(ids.len(), signers.len());
    assert_eq!(signers[0].id(), one.signer(JOB, TOKEN, true).id());
}
