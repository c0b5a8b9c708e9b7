//! Entries of a transparency log: proof that it has a signature, and since when. Rekor's version 1 signs both; version 2 proves that the
//! entry is in the log, without a time ([specification](https://github.com/sigstore/architecture-docs/blob/main/rekor-v2-spec.md)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::checkpoint::Proof;
use crate::refusal::{Refusal, decoded};
use crate::root::TrustRoot;

/// A log's entry about a signature.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The logged content, in base64 as the log signed it.
    pub(crate) body: String,
    /// When, in seconds since 1970; not trustworthy without the log's signature.
    pub(crate) time: i64,
    pub(crate) index: i64,
    /// The log's ID, in hex.
    pub(crate) log: String,
    /// The log's signature over these fields.
    pub(crate) promise: Option<Vec<u8>>,
    /// The proof that the entry is in the log.
    pub(crate) proof: Option<Proof>,
}

/// The signature that an entry has to be about.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) message: &'a [u8],
    /// The content of the message: the same bytes, or a part of them.
    pub(crate) payload: &'a [u8],
    pub(crate) signature: &'a [u8],
    pub(crate) certificate: &'a CertificateDer<'a>,
}

/// A number that protobuf's JSON writes as a string.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Number(pub(crate) i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = match Value::deserialize(deserializer)? {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.as_i64(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| serde::de::Error::custom("a number is expected"))
    }
}

/// cosign's annotation.
#[derive(Deserialize)]
struct Annotation {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log: String,
}

impl Entry {
    /// The entry in cosign's annotation `dev.sigstore.cosign/bundle`.
    pub(crate) fn of_annotation(text: &str) -> Result<Self, Refusal> {
        let Annotation { promise, payload } =
            serde_json::from_str(text).map_err(|why| Refusal::malformed(format!("its log entry: {why}")))?;
        Ok(Self {
            body: payload.body,
            time: payload.integrated_time,
            index: payload.log_index,
            log: payload.log,
            promise: Some(decoded(&promise, "its log's signature")?),
            proof: None,
        })
    }

    /// When the log received a signature, in seconds since 1970, if the entry is from a log of `root` and about exactly this signature and
    /// certificate; `None` if the log has no time of its own. `stamped` is the time of a timestamp authority.
    pub(crate) fn time_of(
        &self,
        signed: Signed<'_>,
        root: &TrustRoot,
        stamped: Option<i64>,
    ) -> Result<Option<i64>, Refusal> {
        let wrong = |why| Refusal::LogEntry { why };
        let own = self.promise.as_ref().map(|_| self.time);
        let at = own.or(stamped).ok_or_else(|| Refusal::NoTime { root: root.name().to_owned() })?;
        let log = root.log(&self.log, at).ok_or(wrong("it is of another log"))?;
        let unknown = || wrong("it is of a form that is not known");
        let body = STANDARD.decode(&self.body).map_err(|_| unknown())?;
        if self.promise.as_ref().is_some_and(|promise| !log.key.has_signed(self.signed().as_bytes(), promise))
        {
            return Err(wrong("it is not signed by the log"));
        }
        match &self.proof {
            Some(proof) => proof.holds(&body, log)?,
            None if own.is_none() => return Err(wrong("it has no proof that it is in the log")),
            None => {}
        }
        let body = serde_json::from_slice(&body).ok();
        let logged = body.as_ref().and_then(Logged::read).ok_or_else(unknown)?;
        let content = if logged.is_payload { signed.payload } else { signed.message };
        if digest(logged.hash, content).as_ref() != logged.digest || logged.signature != signed.signature {
            return Err(wrong("it is about another signature"));
        }
        if logged.certificate.as_ref() != Some(signed.certificate) {
            return Err(wrong("it is about a signature with another certificate"));
        }
        Ok(own)
    }

    /// The bytes that the log signed: [canonical JSON](https://www.rfc-editor.org/rfc/rfc8785) of these four fields. Base64 and hex need no
    /// escaping in JSON, and other texts are rejected when they are decoded.
    fn signed(&self) -> String {
        let Self { body, time, index, log, .. } = self;
        format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log}","logIndex":{index}}}"#)
    }
}

/// The content of an entry.
struct Logged {
    hash: &'static Algorithm,
    digest: Vec<u8>,
    /// Whether the digest is that of the payload, and not of the signed message.
    is_payload: bool,
    signature: Vec<u8>,
    certificate: Option<CertificateDer<'static>>,
}

impl Logged {
    /// Parses the forms that cosign writes: `hashedrekord` and `dsse`, of Rekor's version 1 (0.0.1) or 2 (0.0.2).
    fn read(body: &Value) -> Option<Self> {
        let kind = |name: &str| body.get(name)?.as_str();
        let is_payload = kind("kind")? == "dsse";
        let (hash, signature, verifier) = match (kind("kind")?, kind("apiVersion")?) {
            ("hashedrekord", "0.0.1") => {
                ("/spec/data/hash", "/spec/signature/content", "/spec/signature/publicKey/content")
            }
            ("dsse", "0.0.1") => {
                ("/spec/payloadHash", "/spec/signatures/0/signature", "/spec/signatures/0/verifier")
            }
            ("hashedrekord", "0.0.2") => (
                "/spec/hashedRekordV002/data",
                "/spec/hashedRekordV002/signature/content",
                "/spec/hashedRekordV002/signature/verifier/x509Certificate/rawBytes",
            ),
            ("dsse", "0.0.2") => (
                "/spec/dsseV002/payloadHash",
                "/spec/dsseV002/signatures/0/content",
                "/spec/dsseV002/signatures/0/verifier/x509Certificate/rawBytes",
            ),
            _ => return None,
        };
        let text = |pointer: &str| body.pointer(pointer)?.as_str();
        let base64 = |pointer: &str| STANDARD.decode(text(pointer)?).ok();
        let is_new = kind("apiVersion")? == "0.0.2";
        let algorithm = match text(&format!("{hash}/algorithm"))? {
            "sha256" | "SHA2_256" => &SHA256,
            "sha384" | "SHA2_384" => &SHA384,
            "sha512" | "SHA2_512" => &SHA512,
            _ => return None,
        };
        let verifier = base64(verifier);
        Some(Self {
            hash: algorithm,
            digest: match is_new {
                true => base64(&format!("{hash}/digest"))?,
                false => hex::decode(text(&format!("{hash}/value"))?).ok()?,
            },
            is_payload,
            signature: base64(signature)?,
            certificate: match is_new {
                true => verifier.map(CertificateDer::from),
                false => CertificateDer::from_pem_slice(&verifier?).ok(),
            },
        })
    }
}
