//! sigstore's bundle, as cosign 3 attaches it to an image: an in-toto statement in a DSSE envelope
//! ([bundle](https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto),
//! [DSSE](https://github.com/secure-systems-lab/dsse/blob/master/protocol.md)).

use std::collections::BTreeMap;

use rustls_pki_types::CertificateDer;
use serde::Deserialize;

use crate::candidate::Candidate;
use crate::checkpoint::Proof;
use crate::log::{Entry, Number};
use crate::refusal::{Refusal, decoded};

/// Prefix of the media types of bundles, in both of their forms.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";

/// The predicate type of a statement that signs an image. Any other one describes the image, but is not its signature.
const SIGNS: &str = "https://sigstore.dev/cosign/sign/v1";

const STATEMENT: &str = "application/vnd.in-toto+json";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<Raw>,
    x509_certificate_chain: Option<Chain>,
    #[serde(default)]
    tlog_entries: Vec<Logged>,
    timestamp_verification_data: Option<Stamps>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamps {
    #[serde(default)]
    rfc3161_timestamps: Vec<Stamped>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamped {
    signed_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Logged {
    #[serde(default)]
    log_index: Number,
    log_id: Option<LogId>,
    #[serde(default)]
    integrated_time: Number,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<Included>,
    #[serde(default)]
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    #[serde(default)]
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Included {
    /// The index in the tree, which is not the log's index if the log has several trees.
    #[serde(default)]
    log_index: Number,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    envelope: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// The signature in a bundle; `None` if it contains something other than an image's signature: an SBOM, a provenance.
pub(crate) fn read(text: &[u8]) -> Result<Option<Candidate>, Refusal> {
    let bundle: Bundle =
        serde_json::from_slice(text).map_err(|why| Refusal::malformed(format!("its bundle: {why}")))?;
    let Some(envelope) = bundle.dsse_envelope.filter(|envelope| envelope.payload_type == STATEMENT) else {
        return Ok(None);
    };
    let payload = decoded(&envelope.payload, "its statement")?;
    let statement: Statement = serde_json::from_slice(&payload)
        .map_err(|why| Refusal::malformed(format!("its statement: {why}")))?;
    if statement.predicate_type != SIGNS {
        return Ok(None);
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err(Refusal::malformed("its envelope has not one signature"));
    };
    let subjects = statement.subject.iter().filter_map(|subject| subject.digest.get("sha256"));
    let material = bundle.verification_material;
    let chain = material.x509_certificate_chain.map(|chain| chain.certificates).unwrap_or_default();
    let mut chain = material
        .certificate
        .into_iter()
        .chain(chain)
        .map(|raw| decoded(&raw.raw_bytes, "its certificate").map(CertificateDer::from));
    let stamps =
        material.timestamp_verification_data.into_iter().flat_map(|stamps| stamps.rfc3161_timestamps);
    let stamps = stamps.map(|one| decoded(&one.signed_timestamp, "its timestamp"));
    Ok(Some(Candidate {
        subjects: subjects.filter_map(|hex| format!("sha256:{hex}").parse().ok()).collect(),
        message: pre_authentication(&envelope.payload_type, &payload),
        payload,
        signature: decoded(&signature.sig, "its signature")?,
        certificate: chain.next().transpose()?,
        chain: chain.collect::<Result<_, _>>()?,
        entries: material.tlog_entries.into_iter().filter_map(entry).collect::<Result<_, _>>()?,
        stamps: stamps.collect::<Result<_, _>>()?,
    }))
}

/// The bytes that are signed for an envelope.
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend(payload);
    message
}

/// The log entry, if it names its log.
fn entry(logged: Logged) -> Option<Result<Entry, Refusal>> {
    let Logged { log_index, log_id, integrated_time, inclusion_promise, inclusion_proof, canonicalized_body } =
        logged;
    let log = log_id?.key_id;
    let promise = inclusion_promise.map(|promise| promise.signed_entry_timestamp);
    let promise = promise.filter(|promise| !promise.is_empty());
    let read = || {
        Ok(Entry {
            body: canonicalized_body,
            time: integrated_time.0,
            index: log_index.0,
            log: hex::encode(decoded(&log, "its log's name")?),
            promise: promise.map(|promise| decoded(&promise, "its log's signature")).transpose()?,
            proof: inclusion_proof.map(proof).transpose()?.flatten(),
        })
    };
    Some(read())
}

/// The inclusion proof; `None` without a checkpoint, as then the root of its tree is not signed.
fn proof(included: Included) -> Result<Option<Proof>, Refusal> {
    let Some(checkpoint) = included.checkpoint else { return Ok(None) };
    let index = u64::try_from(included.log_index.0);
    let hashes = included.hashes.iter().map(|hash| decoded(hash, "its inclusion proof"));
    Ok(Some(Proof {
        index: index.map_err(|_| Refusal::malformed("its place in its log"))?,
        hashes: hashes.collect::<Result<_, _>>()?,
        checkpoint: checkpoint.envelope,
    }))
}
