//! Entries of a transparency log: Rekor's promise that it took a signature, and when.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use registry::Digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::refusal::{Refusal, decoded};
use crate::root::TrustRoot;

/// A log's entry about a signature.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What was logged, in base64 as the log signed it.
    pub(crate) body: String,
    /// When, in seconds since 1970.
    pub(crate) time: i64,
    pub(crate) index: i64,
    /// The log's name, in hex.
    pub(crate) log: String,
    /// The log's signature over all of this.
    pub(crate) promise: Vec<u8>,
}

/// A number that protobuf's JSON writes as a text.
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
            promise: decoded(&promise, "its log's signature")?,
        })
    }

    /// When the log took a signature over `content`, in seconds since 1970, if the entry is one of a log of `root` and about exactly
    /// this signature and certificate.
    pub(crate) fn time_of(
        &self,
        content: Digest,
        signature: &[u8],
        certificate: &CertificateDer<'_>,
        root: &TrustRoot,
    ) -> Result<i64, Refusal> {
        let wrong = |why| Refusal::LogEntry { why };
        let log = root.log(&self.log, self.time).ok_or(wrong("it is of another log"))?;
        if !log.has_signed(self.signed().as_bytes(), &self.promise) {
            return Err(wrong("it is not signed by the log"));
        }
        let body = STANDARD.decode(&self.body).ok().and_then(|body| serde_json::from_slice(&body).ok());
        let logged =
            body.as_ref().and_then(Logged::read).ok_or(wrong("it is of a form that is not known"))?;
        if logged.content != content || logged.signature != signature {
            return Err(wrong("it is about another signature"));
        }
        if logged.certificate.as_ref() != Some(certificate) {
            return Err(wrong("it is about a signature with another certificate"));
        }
        Ok(self.time)
    }

    /// What the log signed: [canonical JSON](https://www.rfc-editor.org/rfc/rfc8785) of these four. In base64 and hex is nothing that
    /// JSON would escape, and other texts are refused when they are decoded.
    fn signed(&self) -> String {
        let Self { body, time, index, log, .. } = self;
        format!(r#"{{"body":"{body}","integratedTime":{time},"logID":"{log}","logIndex":{index}}}"#)
    }
}

/// What an entry says that was logged.
struct Logged {
    content: Digest,
    signature: Vec<u8>,
    certificate: Option<CertificateDer<'static>>,
}

impl Logged {
    /// From the two forms that cosign makes: `hashedrekord` and `dsse`.
    fn read(body: &Value) -> Option<Self> {
        let text = |pointer: &str| body.pointer(pointer)?.as_str();
        let (hash, signature, verifier) = match (text("/kind")?, text("/apiVersion")?) {
            ("hashedrekord", "0.0.1") => {
                ("/spec/data/hash", "/spec/signature/content", "/spec/signature/publicKey/content")
            }
            ("dsse", "0.0.1") => {
                ("/spec/payloadHash", "/spec/signatures/0/signature", "/spec/signatures/0/verifier")
            }
            _ => return None,
        };
        if text(&format!("{hash}/algorithm"))? != "sha256" {
            return None;
        }
        let pem = STANDARD.decode(text(verifier)?).ok()?;
        Some(Self {
            content: format!("sha256:{}", text(&format!("{hash}/value"))?).parse().ok()?,
            signature: STANDARD.decode(text(signature)?).ok()?,
            certificate: CertificateDer::from_pem_slice(&pem).ok(),
        })
    }
}
