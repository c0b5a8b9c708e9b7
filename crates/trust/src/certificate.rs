//! The subject of a certificate; read only after its chain was verified.

use rustls_pki_types::CertificateDer;

use crate::der::{CONTEXT_3, OCTET_STRING, OID, Reader, SEQUENCE, UTF8_STRING, Value, encoded};
use crate::key::PublicKey;

const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// 1.3.6.1.4.1.57264.1.1, whose value is plain text ([Fulcio's extensions](https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md)).
const ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
/// 1.3.6.1.4.1.57264.1.8, whose value is a UTF8String: the newer form.
const ISSUER_V2: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];

/// Tags of a subject's alternative names: other name, e-mail, DNS, URI.
const NAMES: [u8; 4] = [0xa0, 0x81, 0x82, 0x86];

/// The subject of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Its alternative names.
    pub(crate) names: Vec<String>,
    /// The issuer of the OpenID token with these names.
    pub(crate) issuer: Option<String>,
}

/// The certificate's key; `None` if its kind is not supported.
pub(crate) fn key(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let mut body = Reader::new(certificate).sequence()?.sequence()?;
    // Version (which may be absent), serial number, algorithm, issuer, validity, subject, key.
    let info = body.by_ref().filter(|value| value.tag == SEQUENCE).nth(4)?;
    PublicKey::from_info(&encoded(SEQUENCE, info.bytes))
}

/// The subject of a certificate.
pub(crate) fn subject(certificate: &CertificateDer<'_>) -> Option<Subject> {
    let mut body = Reader::new(certificate).sequence()?.sequence()?;
    let extensions = body.find(|value| value.tag == CONTEXT_3);
    let mut subject = Subject::default();
    let Some(extensions) = extensions else { return Some(subject) };
    let mut old = None;
    for extension in Reader::new(extensions.bytes).sequence()? {
        let mut extension = Reader::new(extension.bytes);
        let name = extension.field(OID)?;
        // The flag "critical" may be between them.
        let value = extension.find(|value| value.tag == OCTET_STRING)?.bytes;
        match name {
            SUBJECT_ALT_NAME => subject.names = names(value)?,
            ISSUER => old = text(value),
            ISSUER_V2 => subject.issuer = Reader::new(value).field(UTF8_STRING).and_then(text),
            _ => {}
        }
    }
    subject.issuer = subject.issuer.or(old);
    Some(subject)
}

fn names(value: &[u8]) -> Option<Vec<String>> {
    let names = Reader::new(value).sequence()?.filter(|name| NAMES.contains(&name.tag));
    let name = |name: Value<'_>| match name.tag {
        // `type-id, [0] value`.
        0xa0 => {
            let value = Reader::new(name.bytes).find(|value| value.tag == 0xa0)?;
            Reader::new(value.bytes).field(UTF8_STRING).and_then(text)
        }
        _ => text(name.bytes),
    };
    Some(names.filter_map(name).collect())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    #[test]
    fn the_names_issuer_and_key_of_a_certificate_are_read() {
        let authority = Authority::new();
        let given = authority.give("URI:https://ci.example/job@refs/tags/v1", "https://token.example");
        let subject = subject(&given.certificate).unwrap();
        assert_eq!(subject.names, ["https://ci.example/job@refs/tags/v1"]);
        assert_eq!(subject.issuer.as_deref(), Some("https://token.example"));
        let signature = given.sign(b"something");
        assert!(key(&given.certificate).unwrap().has_signed(b"something", &signature));
        let mail = authority.give("email:person@example.com", "https://token.example");
        assert_eq!(super::subject(&mail.certificate).unwrap().names, ["person@example.com"]);
    }

    #[test]
    fn truncated_or_changed_certificates_are_never_read_past_their_end() {
        let given = Authority::new().give("URI:https://ci.example/job", "https://token.example");
        let whole = given.certificate.to_vec();
        for at in 0..whole.len() {
            let cut = CertificateDer::from(&whole[..at]);
            let _ = (key(&cut), subject(&cut));
            for changed in [0x00, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = changed;
                let bytes = CertificateDer::from(bytes);
                let _ = (key(&bytes), subject(&bytes));
            }
        }
        assert!(subject(&given.certificate).is_some());
    }
}
