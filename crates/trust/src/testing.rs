//! Fixtures of the tests: files by openssl and cosign, and an authority and a log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType, date_time_ymd,
};
use registry::Digest;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::{Identity, PublicKey, Signer, TrustRoot};

/// The start of each certificate, which is valid for ten minutes.
pub(crate) const BEGIN: &str = "2026-03-01T00:00:00Z";

/// A file of testdata/.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)).unwrap()
}

/// A base64 text with line breaks.
pub(crate) fn unpacked(text: &[u8]) -> Vec<u8> {
    STANDARD
        .decode(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<u8>>())
        .unwrap()
}

/// [`BEGIN`] plus `seconds`.
pub(crate) fn at(seconds: i64) -> i64 {
    BEGIN.parse::<Timestamp>().unwrap().as_second() + seconds
}

/// A key of P-256.
pub(crate) struct Key {
    pair: KeyPair,
    signer: EcdsaKeyPair,
}

impl Key {
    pub(crate) fn new() -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            pair.serialized_der(),
            &SystemRandom::new(),
        );
        Self { pair, signer: signer.unwrap() }
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::from_pem(self.pair.public_key_pem().as_bytes()).unwrap()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.signer.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

/// An authority that certifies signers, and a log for their signatures.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    log: Key,
}

/// A certificate and its key.
pub(crate) struct IssuedCertificate {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) pem: String,
    key: Key,
}

impl IssuedCertificate {
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message)
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate, log: Key::new() }
    }

    /// A certificate for ten minutes from [`BEGIN`]; `name` is `URI:...` or `email:...`.
    pub(crate) fn give(&self, name: &str, issuer: &str) -> IssuedCertificate {
        self.give_for(name, issuer, ExtendedKeyUsagePurpose::CodeSigning)
    }

    pub(crate) fn give_for(
        &self,
        name: &str,
        issuer: &str,
        purpose: ExtendedKeyUsagePurpose,
    ) -> IssuedCertificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let name = match name.split_once(':').unwrap() {
            ("email", mail) => SanType::Rfc822Name(mail.try_into().unwrap()),
            (_, uri) => SanType::URI(uri.try_into().unwrap()),
        };
        params.subject_alt_names.push(name);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.not_before = date_time_ymd(2026, 3, 1);
        // Certificates for timestamps are valid for a long time.
        let is_brief = purpose != ExtendedKeyUsagePurpose::TimeStamping;
        params.not_after = params.not_before + Duration::from_secs(if is_brief { 600 } else { 600_000 });
        params.extended_key_usages.push(purpose);
        let mut value = vec![0x0c, u8::try_from(issuer.len()).unwrap()];
        value.extend(issuer.bytes());
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 57264, 1, 8], value));
        let key = Key::new();
        let certificate = params.signed_by(&key.pair, &self.issuer).unwrap();
        IssuedCertificate { certificate: certificate.der().clone(), pem: certificate.pem(), key }
    }

    /// The trust root with this authority and optionally its log.
    pub(crate) fn root(&self, with_log: bool) -> Arc<TrustRoot> {
        TrustRoot::read(&self.file(with_log).to_string(), "root.json").unwrap().into()
    }

    /// The same as a file.
    pub(crate) fn file(&self, with_log: bool) -> Value {
        let key = self.log.pair.subject_public_key_info();
        let log = json!({
            "publicKey": { "rawBytes": STANDARD.encode(key), "keyDetails": "PKIX_ECDSA_P256_SHA_256" },
            "logId": { "keyId": STANDARD.encode(hex::decode(self.log.public().id()).unwrap()) },
        });
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": if with_log { vec![log] } else { Vec::new() },
            "certificateAuthorities": [{
                "certChain": { "certificates": [{ "rawBytes": STANDARD.encode(&self.certificate) }] },
                "validFor": { "start": "2020-01-01T00:00:00Z" },
            }],
        })
    }

    /// A signer that requires this authority's certificates.
    pub(crate) fn signer(&self, identity: &str, issuer: &str, with_log: bool) -> Signer {
        let (identity, issuer) = (identity.to_owned(), issuer.to_owned());
        Signer::Identity(Identity { identity, issuer, root: self.root(with_log) })
    }

    /// A checkpoint's signature.
    pub(crate) fn sign_as_log(&self, text: &[u8]) -> Vec<u8> {
        self.log.sign(text)
    }

    /// The log's entry about a signature over `content`, as in cosign's annotation.
    pub(crate) fn entry(&self, content: &[u8], signature: &[u8], pem: &str, time: i64) -> Value {
        let body = json!({
            "apiVersion": "0.0.1", "kind": "hashedrekord",
            "spec": {
                "data": { "hash": { "algorithm": "sha256", "value": Digest::of(content).hex() } },
                "signature": {
                    "content": STANDARD.encode(signature),
                    "publicKey": { "content": STANDARD.encode(pem) },
                },
            },
        });
        let body = STANDARD.encode(body.to_string());
        let log = self.log.public().id();
        let signed = format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log}","logIndex":7}}"#);
        json!({
            "SignedEntryTimestamp": STANDARD.encode(self.log.sign(signed.as_bytes())),
            "Payload": { "body": body, "integratedTime": time, "logIndex": 7, "logID": log },
        })
    }
}

/// The root of a log's tree, by the definition ([RFC 9162, 2.1.1](https://www.rfc-editor.org/rfc/rfc9162#section-2.1.1)).
pub(crate) fn tree(entries: &[Vec<u8>]) -> Vec<u8> {
    let hashed = |parts: &[&[u8]]| digest(&SHA256, &parts.concat()).as_ref().to_vec();
    match entries {
        [] => hashed(&[]),
        [entry] => hashed(&[&[0], entry]),
        _ => {
            let (left, right) = entries.split_at(entries.len().next_power_of_two() / 2);
            hashed(&[&[1], &tree(left), &tree(right)])
        }
    }
}

/// The hashes next to the path to an entry, by the definition (2.1.3.1 there).
pub(crate) fn path(place: usize, entries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if entries.len() == 1 {
        return Vec::new();
    }
    let (left, right) = entries.split_at(entries.len().next_power_of_two() / 2);
    let (mut path, beside) = match place.checked_sub(left.len()) {
        None => (path(place, left), tree(right)),
        Some(place) => (path(place, right), tree(left)),
    };
    path.push(beside);
    path
}
