//! Images with signatures in cosign's formats, created by hand: none of the tool's code is used.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, SigningKey as _,
    date_time_ymd,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{digest, request};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// The start of every certificate, 2026-03-01, in seconds since 1970; it is valid for ten minutes.
pub const CERTIFIED: i64 = 1_772_323_200;

/// A repository of a registry on loopback.
#[derive(Clone, Debug)]
pub struct TestRepository {
    url: String,
}

impl TestRepository {
    /// `repository` at `host`.
    pub fn new(host: &str, repository: &str) -> Self {
        Self { url: format!("http://{host}/v2/{repository}") }
    }

    /// Puts a blob, and returns its descriptor.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let begin = request("POST", &format!("{}/blobs/uploads/", self.url), &[], b"");
        let session = begin.header("location").unwrap().to_owned();
        let done = request("PUT", &format!("{session}&digest={}", digest(bytes)), &[], bytes);
        assert_eq!(done.status, 201, "{}", done.head);
        json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
    }

    /// Puts a manifest under its tag or, without one, its digest; returns its descriptor.
    pub fn manifest(&self, tag: Option<&str>, manifest: &Value) -> Value {
        let bytes = manifest.to_string();
        let (kind, digest) = (manifest["mediaType"].as_str().unwrap(), digest(bytes.as_bytes()));
        let url = format!("{}/manifests/{}", self.url, tag.unwrap_or(&digest));
        let done = request("PUT", &url, &[("content-type", kind)], bytes.as_bytes());
        assert_eq!(done.status, 201, "{}", done.head);
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    /// The manifest of a tag or digest.
    pub fn read(&self, name: &str) -> Option<Value> {
        let accept = format!("{IMAGE}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json");
        let found = request("GET", &format!("{}/manifests/{name}", self.url), &[("accept", &accept)], b"");
        (found.status == 200).then(|| found.json())
    }

    /// Puts an image of one layer, and returns its descriptor.
    pub fn image(&self, tag: Option<&str>, layer: &[u8]) -> Value {
        let config =
            json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = self.blob("application/vnd.oci.image.layer.v1.tar", layer);
        self.manifest(
            tag,
            &json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [layer] }),
        )
    }

    /// Puts an index of one such image for linux/amd64, and returns the descriptors of both.
    pub fn index(&self, tag: &str, layer: &[u8]) -> [Value; 2] {
        let image = self.image(None, layer);
        let mut entry = image.clone();
        entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        [self.manifest(Some(tag), &index), image]
    }

    /// Puts a signature like cosign 2: under a tag made of the digest of its subject `beside`.
    pub fn tag(&self, beside: &str, signature: &Signature) {
        let mut layer = self.blob("application/vnd.dev.cosign.simplesigning.v1+json", &signature.payload);
        layer["annotations"] = signature.annotations.clone();
        let config = self.blob("application/vnd.oci.image.config.v1+json", b"{}");
        let manifest = json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": config, "layers": [layer] });
        self.manifest(Some(&format!("{}.sig", beside.replace(':', "-"))), &manifest);
    }

    /// Puts a bundle like cosign 3: as a referrer, in a list maintained by clients if the registry does not have the API. Returns its
    /// digest.
    pub fn attach(&self, subject: &Value, bundle: &Value) -> String {
        let layer = self.blob(BUNDLE, bundle.to_string().as_bytes());
        let config = self.blob("application/vnd.oci.empty.v1+json", b"{}");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": IMAGE, "artifactType": BUNDLE, "config": config, "layers": [layer],
            "subject": subject,
        });
        let mut entry = self.manifest(None, &manifest);
        let found = entry["digest"].as_str().unwrap().to_owned();
        entry["artifactType"] = BUNDLE.into();
        let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        self.manifest(Some(&subject["digest"].as_str().unwrap().replace(':', "-")), &list);
        found
    }
}

/// A bundle in cosign 3's format (Rekor's version 2, a timestamp), its trusted root, and its signer. It is for the image with the layer
/// `one`, and was created by `crates/trust`.
pub fn of_rekor_2() -> (Value, String, &'static str) {
    let read =
        |name| std::fs::read_to_string(crate::root().join("crates/trust/testdata").join(name)).unwrap();
    let bundle = serde_json::from_str(&read("rekor-2.bundle.json")).unwrap();
    (bundle, read("rekor-2.root.json"), "https://ci.example/job@refs/tags/v1")
}

/// A signature in cosign's own form.
#[derive(Clone, Debug)]
pub struct Signature {
    payload: Vec<u8>,
    annotations: Value,
}

/// The payload that cosign signs.
fn payload(digest: &str) -> Vec<u8> {
    let critical = json!({
        "identity": { "docker-reference": "" }, "image": { "docker-manifest-digest": digest },
        "type": "cosign container image signature",
    });
    json!({ "critical": critical, "optional": null }).to_string().into_bytes()
}

/// A signer with a key.
#[derive(Debug)]
pub struct KeyHolder(KeyPair);

impl KeyHolder {
    /// A signer with a new key.
    #[expect(clippy::new_without_default, reason = "each one has a key of its own")]
    pub fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    /// The public key, as in `cosign.pub`.
    pub fn public(&self) -> String {
        self.0.public_key_pem()
    }

    /// The signature of an image or index.
    pub fn sign(&self, digest: &str) -> Signature {
        let payload = payload(digest);
        let signature = STANDARD.encode(self.0.sign(&payload).unwrap());
        Signature { payload, annotations: json!({ "dev.cosignproject.cosign/signature": signature }) }
    }

    /// The signature as a bundle.
    pub fn bundle(&self, digest: &str) -> Value {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
            "subject": [{ "digest": { "sha256": digest.trim_start_matches("sha256:") } }], "predicate": {},
        })
        .to_string();
        let kind = "application/vnd.in-toto+json";
        let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
        let signature = STANDARD.encode(self.0.sign(message.as_bytes()).unwrap());
        json!({
            "mediaType": BUNDLE, "verificationMaterial": { "publicKey": { "hint": "" } },
            "dsseEnvelope": {
                "payload": STANDARD.encode(&statement), "payloadType": kind, "signatures": [{ "sig": signature }],
            },
        })
    }
}

/// A separate sigstore: an authority whose certificates are valid for ten minutes, and a log.
#[derive(Debug)]
pub struct Sigstore {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
    log: KeyPair,
}

impl Sigstore {
    /// A new sigstore.
    #[expect(clippy::new_without_default, reason = "each one has keys of its own")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        let log = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { issuer: Issuer::new(params, key), certificate, log }
    }

    /// The log's ID, in hex.
    fn log_id(&self) -> String {
        hex::encode(Sha256::digest(self.log.subject_public_key_info()))
    }

    /// The trusted root, in the format of `cosign trusted-root create`.
    pub fn root(&self) -> String {
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [{
                "baseUrl": "https://rekor.invalid", "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": STANDARD.encode(self.log.subject_public_key_info()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": { "start": "2020-01-01T00:00:00Z" },
                },
                "logId": { "keyId": STANDARD.encode(hex::decode(self.log_id()).unwrap()) },
            }],
            "certificateAuthorities": [{
                "subject": { "commonName": "an authority" }, "uri": "https://fulcio.invalid",
                "certChain": { "certificates": [{ "rawBytes": STANDARD.encode(&self.certificate) }] },
                "validFor": { "start": "2020-01-01T00:00:00Z" },
            }],
        })
        .to_string()
    }

    /// The signature of a job, with the OIDC issuer `issuer`, logged so many seconds after its certificate's start; without a log entry if
    /// `logged` is `None`.
    pub fn sign(&self, digest: &str, job: &str, issuer: &str, logged: Option<i64>) -> Signature {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names.push(SanType::URI(job.try_into().unwrap()));
        params.distinguished_name = DistinguishedName::new();
        params.not_before = date_time_ymd(2026, 3, 1);
        params.not_after = params.not_before + Duration::from_secs(600);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::CodeSigning);
        // In both forms, like Fulcio.
        let text = [&[0x0c, u8::try_from(issuer.len()).unwrap()], issuer.as_bytes()].concat();
        for (form, value) in [(1, issuer.as_bytes().to_vec()), (8, text)] {
            let form = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, form], value);
            params.custom_extensions.push(form);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let payload = payload(digest);
        let signature = STANDARD.encode(key.sign(&payload).unwrap());
        let mut annotations = json!({
            "dev.cosignproject.cosign/signature": signature, "dev.sigstore.cosign/certificate": certificate,
        });
        if let Some(seconds) = logged {
            let entry = self.entry(&payload, &signature, &certificate, CERTIFIED + seconds);
            annotations["dev.sigstore.cosign/bundle"] = entry.to_string().into();
        }
        Signature { payload, annotations }
    }

    fn entry(&self, payload: &[u8], signature: &str, certificate: &str, time: i64) -> Value {
        let body = json!({
            "apiVersion": "0.0.1", "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": hex::encode(Sha256::digest(payload)) } },
                "signature": { "content": signature, "publicKey": { "content": STANDARD.encode(certificate) } },
            },
        });
        let (body, log) = (STANDARD.encode(body.to_string()), self.log_id());
        let signed = format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log}","logIndex":7}}"#);
        json!({
            "SignedEntryTimestamp": STANDARD.encode(self.log.sign(signed.as_bytes()).unwrap()),
            "Payload": { "body": body, "integratedTime": time, "logIndex": 7, "logID": log },
        })
    }
}
