//! Content digests, implemented separately from the client's, so that both cannot have the same error.

use sha2::{Digest as _, Sha256};

/// `sha256:<hex>` of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Whether `text` is a digest that this registry supports: sha256 with 64 lower-case hexadecimal digits.
pub(crate) fn is_valid(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_no_bytes_is_the_known_one() {
        let nothing = sha256(b"");
        assert_eq!(nothing, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!(is_valid(&nothing));
        assert!(!is_valid(&nothing.to_uppercase()));
        assert!(!is_valid("sha256:../../etc/passwd"));
        assert!(!is_valid("sha512:e3b0"));
    }
}
