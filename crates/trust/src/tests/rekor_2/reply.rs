//! A timestamp authority's reply (RFC 3161), built by hand.

use jiff::Timestamp;
use ring::digest::{SHA256, digest as hashed};

use crate::der::{CONTEXT_0, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, TIME, encoded};
use crate::testing::IssuedCertificate;
use crate::timestamp::{CONTENT_TYPE, MESSAGE_DIGEST, SIGNED_DATA, TIME_INFO};

const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    encoded(SEQUENCE, &parts.concat())
}

/// An authority's reply for a signature; `time` in seconds since 1970.
pub(super) fn stamp(by: &IssuedCertificate, signature: &[u8], time: i64) -> Vec<u8> {
    let time = Timestamp::from_second(time).unwrap().to_string().replace(['-', ':', 'T'], "");
    let (number, sha_256) = (encoded(INTEGER, &[3]), sequence(&[&encoded(OID, SHA_256)]));
    let octets = |bytes: &[u8]| encoded(OCTET_STRING, hashed(&SHA256, bytes).as_ref());
    let info = sequence(&[
        &number,
        &encoded(OID, &[0x2a, 0x03]),
        &sequence(&[&sha_256, &octets(signature)]),
        &number,
        &encoded(TIME, time.as_bytes()),
    ]);
    let attribute = |name, value: &[u8]| sequence(&[&encoded(OID, name), &encoded(SET, value)]);
    let attributes =
        [attribute(CONTENT_TYPE, &encoded(OID, TIME_INFO)), attribute(MESSAGE_DIGEST, &octets(&info))]
            .concat();
    let signer = sequence(&[
        &number,
        &sequence(&[]),
        &sha_256,
        &encoded(CONTEXT_0, &attributes),
        &sequence(&[]),
        &encoded(OCTET_STRING, &by.sign(&encoded(SET, &attributes))),
    ]);
    let info = encoded(CONTEXT_0, &encoded(OCTET_STRING, &info));
    let content = sequence(&[&encoded(OID, TIME_INFO), &info]);
    let certificates = encoded(CONTEXT_0, &by.certificate);
    let signed =
        sequence(&[&number, &encoded(SET, &sha_256), &content, &certificates, &encoded(SET, &signer)]);
    let token = sequence(&[&encoded(OID, SIGNED_DATA), &encoded(CONTEXT_0, &signed)]);
    sequence(&[&sequence(&[&encoded(INTEGER, &[0])]), &token])
}
