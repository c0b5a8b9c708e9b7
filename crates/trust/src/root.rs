//! Trust roots for keyless signatures: authorities, transparency logs and timestamp authorities, from a file.
//!
//! The format is [sigstore's trusted root](https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto), which
//! `cosign trusted-root create` writes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::key::PublicKey;
use crate::refusal::{Clock, Refusal};

/// The root of sigstore's public instance, as in sigstore-trust-root 0.15.1.
const PUBLIC: &str = include_str!("../sigstore_trusted_root.json");

/// The public instance's name in messages.
const PUBLIC_NAME: &str = "sigstore's public instance";

/// Extended key usage of certificates that sign images: 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// Extended key usage of certificates that sign timestamps: 1.3.6.1.5.5.7.3.8.
const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];

/// Why a file is not a trust root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a trusted root of sigstore: {0}")]
pub struct RootError(String);

/// The authorities that certify signers, and logs that record when something was signed.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    name: String,
    id: String,
    authorities: Vec<Authority>,
    logs: Vec<Log>,
    /// The timestamp authorities.
    stampers: Vec<Authority>,
}

#[derive(Clone, Debug)]
struct Authority {
    /// The root certificate is the last one.
    chain: Vec<CertificateDer<'static>>,
    valid: Valid,
}

/// A transparency log.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// Its ID, in hex.
    name: String,
    pub(crate) key: PublicKey,
    valid: Valid,
}

impl Log {
    /// Whether its ID has this prefix: checkpoints have its first four bytes.
    pub(crate) fn is_named(&self, beginning: &[u8]) -> bool {
        self.name.starts_with(&hex::encode(beginning))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<FileLog>,
    #[serde(default)]
    certificate_authorities: Vec<FileAuthority>,
    #[serde(default)]
    timestamp_authorities: Vec<FileAuthority>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileLog {
    public_key: FileKey,
    log_id: Option<FileLogId>,
    /// The newer name of `log_id`, with the same value.
    checkpoint_key_id: Option<FileLogId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileLogId {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileKey {
    raw_bytes: String,
    #[serde(default)]
    valid_for: Valid,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileAuthority {
    cert_chain: FileChain,
    #[serde(default)]
    valid_for: Valid,
}

#[derive(Deserialize)]
struct FileChain {
    certificates: Vec<FileCertificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileCertificate {
    raw_bytes: String,
}

/// A period; `None` means no limit.
#[derive(Clone, Debug, Default, Deserialize)]
struct Valid {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Valid {
    fn holds(&self, at: i64) -> bool {
        self.start.is_none_or(|start| start.as_second() <= at)
            && self.end.is_none_or(|end| at <= end.as_second())
    }
}

impl Authority {
    /// Checks that it issued the certificate, for this purpose, with `at` in its validity. `between` may be intermediate certificates.
    fn certifies(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        at: i64,
        purpose: &'static [u8],
    ) -> Result<(), webpki::Error> {
        let top = self.chain.last().ok_or(webpki::Error::UnknownIssuer)?;
        let anchors = [anchor_from_trusted_cert(top)?];
        let between: Vec<_> = self.chain.iter().chain(between).cloned().collect();
        let moment = u64::try_from(at).map_err(|_| webpki::Error::InvalidCertValidity)?;
        let moment = UnixTime::since_unix_epoch(Duration::from_secs(moment));
        let end = EndEntityCert::try_from(certificate)?;
        let usage = KeyUsage::required(purpose);
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        end.verify_for_usage(algorithms, &anchors, &between, moment, usage, None, None).map(drop)
    }
}

impl TrustRoot {
    /// Reads the root in a file; `name` is the file's name in messages.
    ///
    /// # Errors
    /// The file is not a trusted root, or has no authority that certifies signers.
    pub fn read(text: &str, name: &str) -> Result<Self, RootError> {
        let file: File = serde_json::from_str(text).map_err(|why| RootError(why.to_string()))?;
        if !file.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
            return Err(RootError(format!("its media type is `{}`", file.media_type)));
        }
        let bytes = |text: &str| STANDARD.decode(text).map_err(|why| RootError(why.to_string()));
        let mut root = Self {
            name: name.to_owned(),
            id: hex::encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes())),
            authorities: Vec::new(),
            logs: Vec::new(),
            stampers: Vec::new(),
        };
        let authority = |authority: FileAuthority| {
            let raw = authority.cert_chain.certificates.iter();
            let chain = raw.map(|raw| bytes(&raw.raw_bytes).map(CertificateDer::from));
            let chain = chain.collect::<Result<Vec<_>, _>>()?;
            let top = chain.last().ok_or_else(|| RootError("an authority has no certificate".to_owned()))?;
            anchor_from_trusted_cert(top)
                .map_err(|why| RootError(format!("an authority's certificate: {why}")))?;
            Ok(Authority { chain, valid: authority.valid_for })
        };
        root.authorities =
            file.certificate_authorities.into_iter().map(authority).collect::<Result<_, _>>()?;
        root.stampers = file.timestamp_authorities.into_iter().map(authority).collect::<Result<_, _>>()?;
        if root.authorities.is_empty() {
            return Err(RootError("it has no certificate authority".to_owned()));
        }
        for log in file.tlogs {
            let key = PublicKey::from_info(&bytes(&log.public_key.raw_bytes)?);
            let key =
                key.ok_or_else(|| RootError("a log's key is of a kind that is not known".to_owned()))?;
            let name = match log.log_id.or(log.checkpoint_key_id) {
                Some(id) => hex::encode(bytes(&id.key_id)?),
                None => key.id(),
            };
            root.logs.push(Log { name, key, valid: log.public_key.valid_for });
        }
        Ok(root)
    }

    /// The root of sigstore's public instance.
    ///
    /// # Errors
    /// Never: it is part of the program, and a test checks it.
    pub fn public() -> Result<Self, RootError> {
        Self::read(PUBLIC, PUBLIC_NAME)
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The SHA-256 of its text, in hex.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether signatures must be in a log.
    pub(crate) fn has_logs(&self) -> bool {
        !self.logs.is_empty()
    }

    /// A log that was active at this time, in seconds since 1970.
    pub(crate) fn log(&self, name: &str, at: i64) -> Option<&Log> {
        self.logs.iter().find(|log| log.name == name && log.valid.holds(at))
    }

    /// Checks that the certificate is for signing, is issued by one of the authorities, and was valid at `at`, a time of `clock`.
    pub(crate) fn certifies(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        at: i64,
        clock: Clock,
    ) -> Result<(), Refusal> {
        let other = |why: String| Refusal::OtherAuthority { root: self.name.clone(), why };
        let (mut refusal, mut is_then) = (None, false);
        for authority in self.authorities.iter().filter(|authority| authority.valid.holds(at)) {
            is_then = true;
            match authority.certifies(certificate, chain, at, CODE_SIGNING) {
                Ok(()) => return Ok(()),
                Err(why) => refusal = Some(self.refusal(&why, clock)),
            }
        }
        let none = if is_then { "it has no authority" } else { "none of them was at work then" };
        Err(refusal.unwrap_or_else(|| other(none.to_owned())))
    }

    /// Checks that a timestamp authority made the signature that `has_signed` verifies, with a certificate of the root or the timestamp
    /// that is for timestamps and was valid at `at`.
    pub(crate) fn stamps(
        &self,
        certificates: &[CertificateDer<'static>],
        at: i64,
        has_signed: impl Fn(&CertificateDer<'_>) -> bool,
    ) -> Result<(), Refusal> {
        let mut why = "it is not by an authority of the trust root that was at work then";
        for authority in self.stampers.iter().filter(|authority| authority.valid.holds(at)) {
            for certificate in authority.chain.iter().chain(certificates).filter(|one| has_signed(one)) {
                match authority.certifies(certificate, certificates, at, TIME_STAMPING) {
                    Ok(()) => return Ok(()),
                    Err(webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. }) => {
                        why = "the certificate of its authority was not valid then";
                    }
                    Err(webpki::Error::RequiredEkuNotFoundContext(_)) => {
                        why = "it is by a certificate that is not for timestamps";
                    }
                    Err(_) => {}
                }
            }
        }
        Err(Refusal::Timestamp { why })
    }

    fn refusal(&self, why: &webpki::Error, clock: Clock) -> Refusal {
        let shown = |time: &UnixTime| {
            let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
        };
        match why {
            webpki::Error::CertExpired { time, not_after: valid } => {
                Refusal::NotValidThen { began: true, valid: shown(valid), at: shown(time), clock }
            }
            webpki::Error::CertNotValidYet { time, not_before: valid } => {
                Refusal::NotValidThen { began: false, valid: shown(valid), at: shown(time), clock }
            }
            why => Refusal::OtherAuthority { root: self.name.clone(), why: why.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_root_is_read() {
        let root = TrustRoot::public().unwrap();
        assert_eq!((root.authorities.len(), root.logs.len(), root.stampers.len()), (2, 2, 1));
        // Rekor's log, since 2021.
        let rekor = "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d";
        assert_eq!(root.log(rekor, 1_700_000_000).map(|log| log.key.id()).as_deref(), Some(rekor));
        assert!(root.log(rekor, 1_500_000_000).is_none(), "it was not at work yet");
    }

    #[test]
    fn other_files_are_refused() {
        for (text, why) in [
            ("", "EOF"),
            ("{\"mediaType\": \"x\"}", "media type is `x`"),
            (
                "{\"mediaType\": \"application/vnd.dev.sigstore.trustedroot+json;version=0.1\"}",
                "no certificate authority",
            ),
        ] {
            let refused = TrustRoot::read(text, "root.json").unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
