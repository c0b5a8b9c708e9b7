//! One signature of an image, in any of the supported forms.

use registry::Digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::log::Entry;
use crate::refusal::{Refusal, decoded};

/// The annotations that cosign writes to a layer ([specification](https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md)).
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

/// The types of a signed payload.
const KINDS: [&str; 2] = ["cosign container image signature", "atomic container signature"];

/// A signature and the data that came with it. Nothing of it has been verified yet.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The digests that it claims to sign.
    pub(crate) subjects: Vec<Digest>,
    /// The bytes that were signed.
    pub(crate) message: Vec<u8>,
    /// The content of the message: the same bytes, or a part of them.
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) certificate: Option<CertificateDer<'static>>,
    /// Intermediate certificates.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) entries: Vec<Entry>,
    /// Replies of timestamp authorities, parsed only if a time is needed: an unknown form does not invalidate a signature that is valid
    /// without it.
    pub(crate) stamps: Vec<Vec<u8>>,
}

/// An authority's reply in cosign's annotation; empty if it has another form.
fn timestamp(annotation: &str) -> Vec<u8> {
    #[derive(Deserialize)]
    struct Timestamp {
        #[serde(rename = "SignedRFC3161Timestamp")]
        reply: String,
    }
    let parsed = serde_json::from_str::<Timestamp>(annotation).ok();
    parsed.and_then(|parsed| decoded(&parsed.reply, "its timestamp").ok()).unwrap_or_default()
}

/// The signed payload in cosign's own form.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

impl Candidate {
    /// A layer of cosign's signature tag: the payload, and the layer's annotations.
    pub(crate) fn of_layer(
        payload: Vec<u8>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, Refusal> {
        let parsed: Payload = serde_json::from_slice(&payload)
            .map_err(|why| Refusal::malformed(format!("its payload: {why}")))?;
        if !KINDS.contains(&parsed.critical.r#type.as_str()) {
            return Err(Refusal::malformed("its payload is not a signature of an image"));
        }
        let signature = annotations
            .get(SIGNATURE)
            .ok_or_else(|| Refusal::malformed(format!("its layer has no annotation {SIGNATURE}")))?;
        let certificate = annotations.get(CERTIFICATE).filter(|pem| !pem.is_empty());
        let certificate = certificate.map(|pem| {
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| Refusal::malformed("its certificate"))
        });
        let chain = annotations.get(CHAIN).map(String::as_bytes).unwrap_or_default();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let stamp = annotations.get(TIMESTAMP).filter(|stamp| !stamp.is_empty());
        let entry = annotations.get(BUNDLE).filter(|bundle| !bundle.is_empty());
        Ok(Self {
            subjects: vec![parsed.critical.image.digest],
            message: payload.clone(),
            payload,
            signature: decoded(signature, "its signature")?,
            certificate: certificate.transpose()?,
            chain: chain.map_err(|_| Refusal::malformed("its chain of certificates"))?,
            entries: entry.map(|bundle| Entry::of_annotation(bundle)).transpose()?.into_iter().collect(),
            stamps: stamp.map(|stamp| timestamp(stamp)).into_iter().collect(),
        })
    }
}
