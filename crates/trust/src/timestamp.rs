//! When a signature was made, by a timestamp authority ([RFC 3161](https://www.rfc-editor.org/rfc/rfc3161), in the format of [RFC
//! 5652](https://www.rfc-editor.org/rfc/rfc5652)).

use jiff::Timestamp;
use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use rustls_pki_types::CertificateDer;

use crate::certificate;
use crate::der::{CONTEXT_0, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, SET, TIME, Value, encoded};
use crate::refusal::Refusal;
use crate::root::TrustRoot;

/// 1.2.840.113549.1.7.2
pub(crate) const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4
pub(crate) const TIME_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
/// 1.2.840.113549.1.9.3
pub(crate) const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
/// 1.2.840.113549.1.9.4
pub(crate) const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// 2.16.840.1.101.3.4.2, below which are SHA-256 (1), SHA-384 (2) and SHA-512 (3).
const HASHES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// An authority's reply, parsed but not yet verified.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    /// The signed time and digest.
    info: Vec<u8>,
    /// The bytes that the signature is over, with the digest of `info`.
    attributes: Vec<u8>,
    hash: &'static Algorithm,
    signature: Vec<u8>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Stamp {
    /// The stamp in an authority's reply, or the bare token.
    pub(crate) fn read(reply: &[u8]) -> Result<Self, Refusal> {
        parsed(reply).ok_or_else(|| Refusal::malformed("its timestamp"))
    }

    /// When an authority of `root` saw the signature, in seconds since 1970.
    pub(crate) fn time_of(&self, signature: &[u8], root: &TrustRoot) -> Result<i64, Refusal> {
        let wrong = |why| Refusal::Timestamp { why };
        let info = Info::read(&self.info).ok_or(wrong("it cannot be read"))?;
        if digest(info.hash, signature).as_ref() != info.imprint {
            return Err(wrong("it is for another signature"));
        }
        if !self.names_info() {
            return Err(wrong("what its authority signed is another one"));
        }
        root.stamps(&self.certificates, info.time, |certificate| {
            certificate::key(certificate).is_some_and(|key| key.has_signed(&self.attributes, &self.signature))
        })?;
        Ok(info.time)
    }

    /// Whether the signed attributes have the type and the digest of `info`.
    fn names_info(&self) -> bool {
        let attribute = |name: &[u8]| {
            let mut all = Reader::new(Reader::new(&self.attributes).field(SET)?);
            all.find_map(|attribute| {
                let mut attribute = Reader::new(attribute.bytes);
                (attribute.field(OID)? == name).then_some(())?;
                Reader::new(attribute.field(SET)?).next()
            })
        };
        let is = |found: Option<Value<'_>>, tag, bytes: &[u8]| {
            found.is_some_and(|found| found.tag == tag && found.bytes == bytes)
        };
        is(attribute(CONTENT_TYPE), OID, TIME_INFO)
            && is(attribute(MESSAGE_DIGEST), OCTET_STRING, digest(self.hash, &self.info).as_ref())
    }
}

/// The signed content: RFC 3161, 2.4.2.
struct Info<'a> {
    hash: &'static Algorithm,
    imprint: &'a [u8],
    time: i64,
}

impl<'a> Info<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut info = Reader::new(bytes).sequence()?;
        // Version and policy.
        info.field(INTEGER)?;
        info.field(OID)?;
        let mut imprint = info.sequence()?;
        let hash = hash(imprint.sequence()?)?;
        let imprint = imprint.field(OCTET_STRING)?;
        // Serial number.
        info.field(INTEGER)?;
        let time = std::str::from_utf8(info.field(TIME)?).ok()?;
        Some(Self { hash, imprint, time: seconds(time)? })
    }
}

/// `YYYYMMDDhhmmssZ`, with a fraction or without, in seconds since 1970.
fn seconds(time: &str) -> Option<i64> {
    let (whole, _) = time.strip_suffix('Z')?.split_at_checked(14)?;
    let part = |from: usize, to: usize| whole.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let time: Timestamp = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()?;
    Some(time.as_second())
}

/// The hash of an AlgorithmIdentifier.
fn hash(mut algorithm: Reader<'_>) -> Option<&'static Algorithm> {
    match algorithm.field(OID)?.strip_prefix(HASHES)? {
        [1] => Some(&SHA256),
        [2] => Some(&SHA384),
        [3] => Some(&SHA512),
        _ => None,
    }
}

fn parsed(reply: &[u8]) -> Option<Stamp> {
    let mut outer = Reader::new(reply).sequence()?;
    // A reply has a status before the token.
    let mut ahead = outer;
    let mut token = match ahead.sequence() {
        Some(_) => ahead.sequence()?,
        None => std::mem::replace(&mut outer, Reader::new(&[])),
    };
    (token.field(OID)? == SIGNED_DATA).then_some(())?;
    let mut signed = Reader::new(token.field(CONTEXT_0)?).sequence()?;
    // Version and digests.
    signed.field(INTEGER)?;
    signed.field(SET)?;
    let mut content = signed.sequence()?;
    (content.field(OID)? == TIME_INFO).then_some(())?;
    let info = Reader::new(content.field(CONTEXT_0)?).field(OCTET_STRING)?.to_vec();
    let certificates = signed.field(CONTEXT_0).map(Reader::new).into_iter().flatten();
    let certificates = certificates.filter(|certificate| certificate.tag == SEQUENCE);
    let certificates = certificates.map(|one| CertificateDer::from(encoded(SEQUENCE, one.bytes))).collect();
    let signers = signed.find(|value| value.tag == SET)?;
    let mut signer = Reader::new(signers.bytes).sequence()?;
    // Version, and the certificate's ID.
    signer.field(INTEGER)?;
    signer.next()?;
    let hash = hash(signer.sequence()?)?;
    // The signature is over a set, not over `[0]`: RFC 5652, 5.4.
    let attributes = encoded(SET, signer.field(CONTEXT_0)?);
    signer.sequence()?;
    let signature = signer.field(OCTET_STRING)?.to_vec();
    Some(Stamp { info, attributes, hash, signature, certificates })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rustls_pki_types::pem::PemObject as _;
    use serde_json::json;

    use super::*;
    use crate::testing::{Authority, fixture, unpacked};

    const SIGNATURE: &[u8] = b"a signature\n";

    /// A root with an authority that has these certificates, the root certificate last.
    fn root(chain: &[&str]) -> TrustRoot {
        let raw = chain.iter().map(|name| CertificateDer::from_pem_slice(&fixture(name)).unwrap());
        let raw: Vec<_> = raw.map(|raw| json!({ "rawBytes": STANDARD.encode(raw) })).collect();
        let mut file = Authority::new().file(false);
        file["timestampAuthorities"] = json!([{ "certChain": { "certificates": raw } }]);
        TrustRoot::read(&file.to_string(), "root.json").unwrap()
    }

    /// Replies of openssl (`openssl ts -reply`): with or without a certificate, with each hash and kind of key.
    #[test]
    fn openssls_replies_are_only_valid_for_their_signature_and_authority() {
        let (whole, top) =
            (root(&["timestamp-p384.pem", "timestamp-root.pem"]), root(&["timestamp-root.pem"]));
        for (kind, root) in [("p256", &top), ("p256", &whole), ("rsa", &top), ("p384", &whole)] {
            let reply = unpacked(&fixture(&format!("timestamp-{kind}.tsr")));
            let stamp = Stamp::read(&reply).unwrap();
            let time = Timestamp::from_second(stamp.time_of(SIGNATURE, root).unwrap()).unwrap();
            assert_eq!(time.to_string(), "2026-11-28T11:14:53Z", "{kind}");
            let why = |refused: Result<i64, Refusal>| match refused {
                Err(Refusal::Timestamp { why }) => why,
                other => panic!("{kind}: {other:?}"),
            };
            assert_eq!(why(stamp.time_of(b"another", root)), "it is for another signature");
            let stranger = TrustRoot::public().unwrap();
            let of_nobody = "it is not by an authority of the trust root that was at work then";
            assert_eq!(why(stamp.time_of(SIGNATURE, &stranger)), of_nobody);
        }
    }

    #[test]
    fn a_changed_or_truncated_reply_is_invalid_and_never_read_past_its_end() {
        let root = root(&["timestamp-p384.pem", "timestamp-root.pem"]);
        let reply = unpacked(&fixture("timestamp-p384.tsr"));
        let whole = Stamp::read(&reply).unwrap();
        let time = whole.time_of(SIGNATURE, &root).unwrap();
        for at in 0..reply.len() {
            if let Ok(stamp) = Stamp::read(&reply[..at]) {
                assert!(stamp.time_of(SIGNATURE, &root).is_err(), "{at}");
            }
            for bit in [0x01, 0x80] {
                let mut changed = reply.clone();
                changed[at] ^= bit;
                // A change in unsigned bytes never changes the time.
                if let Ok(changed) = Stamp::read(&changed).and_then(|stamp| stamp.time_of(SIGNATURE, &root)) {
                    assert_eq!(changed, time, "{at}");
                }
            }
        }
        for (text, is_time) in [
            ("20260301000000Z", true),
            ("20260301000000.5Z", true),
            ("20260301000000", false),
            ("202603010000Z", false),
            ("20261301000000Z", false),
            ("2026030100000\u{e9}Z", false),
        ] {
            assert_eq!(seconds(text).is_some(), is_time, "{text}");
        }
    }
}
