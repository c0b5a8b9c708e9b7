//! Public keys, from files and from certificates.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;

use crate::der::{BIT_STRING, OID, Reader};

const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ED: &[u8] = &[0x2b, 0x65, 0x70];

/// Why a file has no usable key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The file is not PEM with a public key.
    #[error("is not a public key in PEM form (`-----BEGIN PUBLIC KEY-----`)")]
    Pem,
    /// The file has the private key, which must not be used here.
    #[error("is a private key: name the public one")]
    Private,
    /// The kind of key is not supported.
    #[error("is a key of another kind than ECDSA P-256 or P-384, Ed25519 or RSA from 2048 bits")]
    Algorithm,
}

/// A public key. Signatures are over SHA-256, as cosign makes them, or over the hashes that authorities use for timestamps; those of
/// Ed25519 are over the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    info: Vec<u8>,
    algorithm: Algorithm,
    key: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl PublicKey {
    /// The key in a PEM file, such as `cosign.pub`.
    ///
    /// # Errors
    /// The file has no public key, or its kind is not supported.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let has = |word: &[u8]| text.windows(word.len()).any(|part| part == word);
        if has(b"PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let info = SubjectPublicKeyInfoDer::from_pem_slice(text).map_err(|_| KeyError::Pem)?;
        Self::from_info(&info).ok_or(KeyError::Algorithm)
    }

    /// The key in a SubjectPublicKeyInfo; `None` if its kind is not supported.
    pub(crate) fn from_info(info: &[u8]) -> Option<Self> {
        let mut fields = Reader::new(info).sequence()?;
        let mut kind = fields.sequence()?;
        let algorithm = match kind.field(OID)? {
            EC_KEY => match kind.field(OID)? {
                P256 => Algorithm::P256,
                P384 => Algorithm::P384,
                _ => return None,
            },
            RSA => Algorithm::Rsa,
            ED => Algorithm::Ed25519,
            _ => return None,
        };
        let key = fields.field(BIT_STRING)?.strip_prefix(&[0])?.to_vec();
        Some(Self { info: info.to_vec(), algorithm, key })
    }

    /// Its ID in logs: the SHA-256 of its SubjectPublicKeyInfo, in hex.
    pub fn id(&self) -> String {
        hex::encode(ring::digest::digest(&ring::digest::SHA256, &self.info))
    }

    /// Whether the message was signed by this key.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithms: &[&'static dyn VerificationAlgorithm] = match self.algorithm {
            Algorithm::P256 => &[&ECDSA_P256_SHA256_ASN1, &ECDSA_P256_SHA384_ASN1],
            Algorithm::P384 => &[&ECDSA_P384_SHA256_ASN1, &ECDSA_P384_SHA384_ASN1],
            Algorithm::Rsa => {
                &[&RSA_PKCS1_2048_8192_SHA256, &RSA_PKCS1_2048_8192_SHA384, &RSA_PKCS1_2048_8192_SHA512]
            }
            Algorithm::Ed25519 => &[&ED25519],
        };
        let by = |algorithm: &&'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(*algorithm, &self.key).verify(message, signature).is_ok()
        };
        algorithms.iter().any(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{fixture, unpacked};

    /// Signatures by openssl, with each kind of key.
    #[test]
    fn openssls_signatures_are_only_valid_for_their_message_and_key() {
        let kinds = ["p256", "p384", "ed25519", "rsa"];
        let keys = kinds.map(|kind| PublicKey::from_pem(&fixture(&format!("{kind}.pub"))).unwrap());
        for (kind, key) in kinds.iter().zip(&keys) {
            let signature = unpacked(&fixture(&format!("{kind}.sig")));
            assert!(key.has_signed(b"a message\n", &signature), "{kind}");
            assert!(!key.has_signed(b"another\n", &signature), "{kind}");
            assert!(!key.has_signed(b"a message\n", &signature[1..]), "{kind}");
            let others = keys.iter().filter(|other| *other != key);
            assert!(
                others.clone().count() == 3
                    && !others.clone().any(|other| other.has_signed(b"a message\n", &signature))
            );
        }
    }

    #[test]
    fn other_files_are_refused_by_name() {
        assert_eq!(PublicKey::from_pem(b"ssh-ed25519 AAAA"), Err(KeyError::Pem));
        assert_eq!(
            PublicKey::from_pem(b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"),
            Err(KeyError::Private)
        );
        let p521 = "-----BEGIN PUBLIC KEY-----\nMBAwDgYHKoZIzj0CAQYDAgQA\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::from_pem(p521.as_bytes()), Err(KeyError::Algorithm));
    }
}
