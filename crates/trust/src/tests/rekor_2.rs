//! Signatures of cosign 3: in a log that proves their inclusion, with the time of a timestamp authority.

mod reply;

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use registry::Digest;
use ring::digest::{SHA256, digest as hashed};
use serde_json::{Value, json};

use reply::stamp;

use super::{JOB, TOKEN, at, digest, layer, now, payload};
use crate::testing::{Authority, IssuedCertificate, fixture, path, tree};
use crate::{Clock, Identity, Refusal, Signer, TrustRoot, bundle};

const NAME: &str = "log.example";
const KIND: &str = "application/vnd.in-toto+json";

/// An authority with a log of Rekor's version 2 and a timestamp authority.
struct Instance {
    authority: Authority,
    log: KeyPair,
    stamper: IssuedCertificate,
}

/// A signature with the data of its bundle.
struct Signed {
    given: IssuedCertificate,
    payload: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Instance {
    fn new() -> Self {
        let authority = Authority::new();
        let stamper = authority.give_for("URI:tsa", TOKEN, ExtendedKeyUsagePurpose::TimeStamping);
        Self { authority, log: KeyPair::generate_for(&PKCS_ED25519).unwrap(), stamper }
    }

    /// The log's ID: that of its key in checkpoints (<https://github.com/C2SP/C2SP/blob/main/signed-note.md#signatures>).
    fn log_id(&self) -> Vec<u8> {
        let info = self.log.subject_public_key_info();
        let key = &info[info.len() - 32..];
        hashed(&SHA256, &[NAME.as_bytes(), &[0x0a, 0x01], key].concat()).as_ref().to_vec()
    }

    fn root(&self) -> Value {
        let mut root = self.authority.file(true);
        let log = json!({
            "publicKey": { "rawBytes": STANDARD.encode(self.log.subject_public_key_info()) },
            "checkpointKeyId": { "keyId": STANDARD.encode(self.log_id()) },
        });
        root["tlogs"].as_array_mut().unwrap().push(log);
        let top = root["certificateAuthorities"][0]["certChain"]["certificates"][0].clone();
        let stamper = json!({ "rawBytes": STANDARD.encode(&self.stamper.certificate) });
        root["timestampAuthorities"] = json!([{
            "certChain": { "certificates": [stamper, top] }, "validFor": { "start": "2020-01-01T00:00:00Z" },
        }]);
        root
    }

    fn signed(&self) -> Signed {
        self.signed_for(digest())
    }

    fn signed_for(&self, digest: Digest) -> Signed {
        let given = self.authority.give(&format!("URI:{JOB}"), TOKEN);
        let statement = json!({
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {},
            "subject": [{ "digest": { "sha256": digest.hex() } }],
        });
        let payload = statement.to_string().into_bytes();
        let head = format!("DSSEv1 {} {KIND} {} ", KIND.len(), payload.len()).into_bytes();
        let message = [head, payload.clone()].concat();
        let signature = given.sign(&message);
        Signed { given, payload, message, signature }
    }

    /// The bundle of a signature, with a timestamp a minute after its certificate's start.
    fn bundle(&self, signed: &Signed) -> Value {
        let body = signed.body("hashedrekord");
        self.bundle_with(signed, &body, &[stamp(&self.stamper, &signed.signature, at(60))])
    }

    fn bundle_with(&self, signed: &Signed, body: &Value, stamps: &[Vec<u8>]) -> Value {
        let mut entries: Vec<Vec<u8>> = (0..11).map(|number| vec![number; 40]).collect();
        entries[6] = body.to_string().into_bytes();
        let hashes: Vec<_> = path(6, &entries).into_iter().map(|hash| STANDARD.encode(hash)).collect();
        let stamps = stamps.iter().map(|stamp| json!({ "signedTimestamp": STANDARD.encode(stamp) }));
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": { "rawBytes": STANDARD.encode(&signed.given.certificate) },
                "tlogEntries": [{
                    "logIndex": "6", "logId": { "keyId": STANDARD.encode(self.log_id()) }, "integratedTime": "0",
                    "inclusionPromise": null, "canonicalizedBody": STANDARD.encode(&entries[6]),
                    "inclusionProof": {
                        "logIndex": "6", "hashes": hashes, "treeSize": "11",
                        "checkpoint": { "envelope": self.checkpoint(11, &tree(&entries)) },
                    },
                }],
                "timestampVerificationData": { "rfc3161Timestamps": stamps.collect::<Vec<_>>() },
            },
            "dsseEnvelope": {
                "payload": STANDARD.encode(&signed.payload), "payloadType": KIND,
                "signatures": [{ "sig": STANDARD.encode(&signed.signature) }],
            },
        })
    }

    /// With a witness's signature before the log's, and an extension line.
    fn checkpoint(&self, size: u64, root: &[u8]) -> String {
        let text = format!("{NAME}\n{size}\n{}\nfor others\n", STANDARD.encode(root));
        let signature = [&self.log_id()[..4], &self.log.sign(text.as_bytes()).unwrap()].concat();
        let witness = STANDARD.encode([7; 68]);
        format!(
            "{text}\n\u{2014} witness.example {witness}\n\u{2014} {NAME} {}\n",
            STANDARD.encode(signature)
        )
    }

    fn why(&self, bundle: &Value) -> String {
        self.check(bundle).unwrap_err().to_string()
    }

    fn check(&self, bundle: &Value) -> Result<(), Refusal> {
        check(bundle, &self.root(), digest())
    }
}

fn signer(root: &Value) -> Signer {
    let root = Arc::new(TrustRoot::read(&root.to_string(), "root.json").unwrap());
    Signer::Identity(Identity { identity: JOB.to_owned(), issuer: TOKEN.to_owned(), root })
}

fn check(bundle: &Value, root: &Value, digest: Digest) -> Result<(), Refusal> {
    let found = bundle::read(bundle.to_string().as_bytes())?.unwrap();
    signer(root).check(&found, digest, now())
}

impl Signed {
    /// The logged content, of the given kind.
    fn body(&self, kind: &str) -> Value {
        let hash = |bytes: &[u8]| STANDARD.encode(hashed(&SHA256, bytes));
        let signature = json!({
            "content": STANDARD.encode(&self.signature),
            "verifier": {
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "x509Certificate": { "rawBytes": STANDARD.encode(&self.given.certificate) },
            },
        });
        let spec = match kind {
            "dsse" => json!({ "dsseV002": {
                "payloadHash": { "algorithm": "SHA2_256", "digest": hash(&self.payload) }, "signatures": [signature],
            } }),
            _ => json!({ "hashedRekordV002": {
                "data": { "algorithm": "SHA2_256", "digest": hash(&self.message) }, "signature": signature,
            } }),
        };
        json!({ "apiVersion": "0.0.2", "kind": kind, "spec": spec })
    }
}

fn entry(bundle: &mut Value) -> &mut Value {
    &mut bundle["verificationMaterial"]["tlogEntries"][0]
}

#[test]
fn a_log_entry_without_a_time_is_valid_with_a_timestamp() {
    let instance = Instance::new();
    let signed = instance.signed();
    for kind in ["hashedrekord", "dsse"] {
        for seconds in [0, 300, 600] {
            let stamp = stamp(&instance.stamper, &signed.signature, at(seconds));
            let mut bundle = instance.bundle_with(&signed, &signed.body(kind), &[stamp]);
            assert_eq!(instance.check(&bundle), Ok(()), "{kind} {seconds}");
            entry(&mut bundle)["inclusionPromise"] = json!({});
            assert_eq!(instance.check(&bundle), Ok(()), "an empty message is none");
        }
    }
}

/// The end-to-end tests attach it to an image. `UPDATE=1` writes it again.
#[test]
fn the_stored_bundle_is_valid_for_its_image() {
    let image = "sha256:57ae2bee276aba4b92471032fb9e8cd439ce0bb1953a48e76b97fa4401ace84c".parse().unwrap();
    let names = ["rekor-2.bundle.json", "rekor-2.root.json"];
    if std::env::var_os("UPDATE").is_some() {
        let instance = Instance::new();
        let written = [instance.bundle(&instance.signed_for(image)), instance.root()];
        for (name, value) in names.iter().zip(written) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
            std::fs::write(path, format!("{value:#}\n")).unwrap();
        }
    }
    let [bundle, root] = names.map(|name| serde_json::from_slice(&fixture(name)).unwrap());
    assert_eq!(check(&bundle, &root, image), Ok(()));
    assert!(matches!(check(&bundle, &root, digest()), Err(Refusal::OtherDigest { .. })));
}

#[test]
fn a_timestamp_that_is_missing_or_of_another_authority_or_content_is_refused() {
    let instance = Instance::new();
    let signed = instance.signed();
    let with = |stamps: &[Vec<u8>]| {
        instance.why(&instance.bundle_with(&signed, &signed.body("hashedrekord"), stamps))
    };
    let right = |seconds| stamp(&instance.stamper, &signed.signature, at(seconds));
    let refused = |why| format!("the timestamp of its signature is invalid: {why}");
    assert_eq!(
        with(&[]),
        "its signature is in a transparency log that keeps no time, and has no timestamp of an authority of root.json"
    );
    let other = stamp(&instance.stamper, b"another", at(60));
    assert_eq!(with(&[other]), refused("it is for another signature"));
    let stranger = stamp(&Instance::new().stamper, &signed.signature, at(60));
    assert_eq!(
        with(&[stranger]),
        refused("it is not by an authority of the trust root that was at work then")
    );
    let purpose = ExtendedKeyUsagePurpose::CodeSigning;
    let not_for_it = instance.authority.give_for("URI:tsa", TOKEN, purpose);
    let not_for_it = stamp(&not_for_it, &signed.signature, at(60));
    assert_eq!(with(&[not_for_it]), refused("it is by a certificate that is not for timestamps"));
    // A year before its authority's certificate.
    assert_eq!(with(&[right(-31_536_000)]), refused("the certificate of its authority was not valid then"));
    // The time was changed afterwards.
    let mut changed = right(60);
    let place = changed.windows(15).position(|part| part == b"20260301000100Z").unwrap();
    changed[place + 13] = b'1';
    assert_eq!(with(&[changed]), refused("what its authority signed is another one"));
    let late = "the certificate of its signature ended 2026-03-01T00:10:00Z, and its timestamp is of 2026-03-01T00:10:01Z";
    assert_eq!(with(&[right(601)]), late);
    // Nor is a valid one besides it enough.
    assert_eq!(with(&[right(60), right(601)]), late);
    assert_eq!(with(&[b"nothing".to_vec()]), "its signature cannot be read: its timestamp");
}

#[test]
fn an_entry_without_an_inclusion_proof_is_refused() {
    let instance = Instance::new();
    let signed = instance.signed();
    let right = instance.bundle(&signed);
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut bundle = right.clone();
        change(entry(&mut bundle));
        let why = instance.why(&bundle);
        why.strip_prefix("the transparency log's entry of its signature is invalid: ").unwrap().to_owned()
    };
    let elsewhere = "its inclusion proof does not lead to the log's checkpoint";
    assert_eq!(
        refused(&|entry| entry["inclusionProof"] = Value::Null),
        "it has no proof that it is in the log"
    );
    let no_checkpoint = |entry: &mut Value| entry["inclusionProof"]["checkpoint"] = Value::Null;
    assert_eq!(refused(&no_checkpoint), "it has no proof that it is in the log");
    let other_leaf = |entry: &mut Value| {
        let body = STANDARD.decode(entry["canonicalizedBody"].as_str().unwrap()).unwrap();
        entry["canonicalizedBody"] = STANDARD.encode([body, b" ".to_vec()].concat()).into();
    };
    assert_eq!(refused(&other_leaf), elsewhere);
    assert_eq!(refused(&|entry| entry["inclusionProof"]["logIndex"] = "5".into()), elsewhere);
    let other_hash = STANDARD.encode([0; 32]);
    assert_eq!(refused(&|entry| entry["inclusionProof"]["hashes"][2] = other_hash.clone().into()), elsewhere);
    let shorter = |entry: &mut Value| drop(entry["inclusionProof"]["hashes"].as_array_mut().unwrap().pop());
    assert_eq!(refused(&shorter), "its inclusion proof is none of a tree of that size");
    let checkpoint = |text: String| {
        refused(&move |entry: &mut Value| {
            entry["inclusionProof"]["checkpoint"]["envelope"] = text.clone().into();
        })
    };
    let own =
        right["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"]["envelope"].as_str();
    let own = own.unwrap();
    assert_eq!(checkpoint(own.replace("\n11\n", "\n12\n")), "its checkpoint is not signed by the log");
    let stranger = Instance::new().checkpoint(11, &tree(&[vec![1]]));
    assert_eq!(checkpoint(stranger), "its checkpoint is not signed by the log");
    assert_eq!(checkpoint("nothing".to_owned()), "its checkpoint cannot be read");
    assert_eq!(
        checkpoint(instance.checkpoint(11, &tree(&[vec![1]]))),
        elsewhere,
        "of another tree of the log"
    );
    let other_log = STANDARD.encode([0; 32]);
    assert_eq!(refused(&|entry| entry["logId"]["keyId"] = other_log.clone().into()), "it is of another log");
}

#[test]
fn a_logged_entry_for_other_content_is_refused() {
    let instance = Instance::new();
    let (signed, other) = (instance.signed(), instance.signed());
    let why = |body: &Value| {
        let stamp = stamp(&instance.stamper, &signed.signature, at(60));
        let why = instance.why(&instance.bundle_with(&signed, body, &[stamp]));
        why.strip_prefix("the transparency log's entry of its signature is invalid: ").unwrap().to_owned()
    };
    for kind in ["hashedrekord", "dsse"] {
        assert_eq!(why(&other.body(kind)), "it is about another signature");
        let text = signed.body(kind).to_string();
        let certificate = |signed: &Signed| STANDARD.encode(&signed.given.certificate);
        let changed = text.replace(&certificate(&signed), &certificate(&other));
        let changed: Value = serde_json::from_str(&changed).unwrap();
        assert_eq!(why(&changed), "it is about a signature with another certificate");
        let changed: Value = serde_json::from_str(&text.replace("0.0.2", "0.0.3")).unwrap();
        assert_eq!(why(&changed), "it is of a form that is not known");
    }
    // The digest of the payload instead of that of the message.
    let mut swapped = signed.body("hashedrekord");
    let payload = signed.body("dsse")["spec"]["dsseV002"]["payloadHash"]["digest"].clone();
    swapped["spec"]["hashedRekordV002"]["data"]["digest"] = payload;
    assert_eq!(why(&swapped), "it is about another signature");
}

/// Rekor's version 1 signs its entries, and may also prove that they are in the log.
#[test]
fn an_additional_inclusion_proof_must_be_valid_too() {
    let instance = Instance::new();
    let signed = instance.signed();
    let logged = instance.authority.entry(&signed.message, &signed.signature, &signed.given.pem, at(60));
    let body = STANDARD.decode(logged["Payload"]["body"].as_str().unwrap()).unwrap();
    let entries = [b"one".to_vec(), body, b"three".to_vec()];
    let id = hex::decode(logged["Payload"]["logID"].as_str().unwrap()).unwrap();
    let text = format!("rekor.example - 7\n3\n{}\n", STANDARD.encode(tree(&entries)));
    let signature = [&id[..4], &instance.authority.sign_as_log(text.as_bytes())].concat();
    let checkpoint = format!("{text}\n\u{2014} rekor.example {}\n", STANDARD.encode(signature));
    let hashes: Vec<_> = path(1, &entries).into_iter().map(|hash| STANDARD.encode(hash)).collect();
    let mut bundle = instance.bundle_with(&signed, &Value::Null, &[]);
    *entry(&mut bundle) = json!({
        // The index in all of its trees, and in this one.
        "logIndex": "7", "logId": { "keyId": STANDARD.encode(&id) }, "integratedTime": at(60).to_string(),
        "inclusionPromise": { "signedEntryTimestamp": logged["SignedEntryTimestamp"] },
        "canonicalizedBody": logged["Payload"]["body"],
        "inclusionProof": { "logIndex": "1", "hashes": hashes, "checkpoint": { "envelope": checkpoint } },
    });
    assert_eq!(instance.check(&bundle), Ok(()));
    let mut moved = bundle.clone();
    entry(&mut moved)["inclusionProof"]["logIndex"] = "0".into();
    assert_eq!(
        instance.why(&moved),
        "the transparency log's entry of its signature is invalid: its inclusion proof does not lead to the log's checkpoint"
    );
    // The time is trusted only if the log has signed it.
    let mut unsigned = bundle.clone();
    entry(&mut unsigned)["inclusionPromise"] = Value::Null;
    assert!(
        instance.why(&unsigned).contains("has no timestamp of an authority"),
        "{}",
        instance.why(&unsigned)
    );
    let stamped = [stamp(&instance.stamper, &signed.signature, at(60))].map(|stamp| STANDARD.encode(stamp));
    unsigned["verificationMaterial"]["timestampVerificationData"] =
        json!({ "rfc3161Timestamps": [{ "signedTimestamp": stamped[0] }] });
    assert_eq!(instance.check(&unsigned), Ok(()));
    // One that cannot be read is ignored, and the log's time still counts.
    let mut odd = bundle.clone();
    odd["verificationMaterial"]["timestampVerificationData"] =
        json!({ "rfc3161Timestamps": [{ "signedTimestamp": STANDARD.encode("another form") }] });
    assert_eq!(instance.check(&odd), Ok(()));
    // Both have a time, and each has to be in the certificate's validity.
    let late = STANDARD.encode(stamp(&instance.stamper, &signed.signature, at(700)));
    bundle["verificationMaterial"]["timestampVerificationData"] =
        json!({ "rfc3161Timestamps": [{ "signedTimestamp": late }] });
    assert!(matches!(instance.check(&bundle), Err(Refusal::NotValidThen { .. })));
}

/// Cosign 2 has the timestamp in an annotation; with a root without logs it is the only time.
#[test]
fn a_timestamp_in_cosigns_own_form_is_accepted() {
    let instance = Instance::new();
    let given = instance.authority.give(&format!("URI:{JOB}"), TOKEN);
    let signature = given.sign(&payload(digest()));
    let mut root = instance.root();
    root["tlogs"] = json!([]);
    let stamped = |seconds| {
        let stamp = STANDARD.encode(stamp(&instance.stamper, &signature, at(seconds)));
        let annotations = [
            ("dev.cosignproject.cosign/signature", STANDARD.encode(&signature)),
            ("dev.sigstore.cosign/certificate", given.pem.clone()),
            ("dev.sigstore.cosign/rfc3161timestamp", json!({ "SignedRFC3161Timestamp": stamp }).to_string()),
        ];
        signer(&root).check(&layer(payload(digest()), &annotations), digest(), now())
    };
    assert_eq!(stamped(60), Ok(()));
    assert!(matches!(stamped(601), Err(Refusal::NotValidThen { clock: Clock::Authority, .. })));
}
