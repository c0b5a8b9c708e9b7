//! The signers that images.toml requires.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use registry::Digest;
use rustls_pki_types::CertificateDer;

use crate::candidate::Candidate;
use crate::certificate;
use crate::key::PublicKey;
use crate::log::Signed;
use crate::refusal::{Clock, Refusal};
use crate::root::TrustRoot;
use crate::timestamp::Stamp;

/// A signer whose signature is accepted.
#[derive(Clone, Debug)]
pub enum Signer {
    /// The owner of a private key.
    Key {
        /// The file of the public half, as images.toml names it.
        name: String,
        /// The public half.
        key: PublicKey,
    },
    /// An identity that was confirmed when it signed (keyless).
    Identity(Identity),
}

/// The identity that a certificate must have.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name, in which `*` matches anything.
    pub identity: String,
    /// The issuer of the OpenID token with the name.
    pub issuer: String,
    /// The accepted authorities and logs.
    pub root: Arc<TrustRoot>,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { name, .. } => f.write_str(name),
            Self::Identity(identity) => f.write_str(&identity.identity),
        }
    }
}

impl Signer {
    /// Its ID for storing that a signature was valid: it differs for another key, name or root.
    pub fn id(&self) -> String {
        match self {
            Self::Key { key, .. } => key.id(),
            Self::Identity(Identity { identity, issuer, root }) => {
                let all = format!("{identity}\n{issuer}\n{}", root.id());
                Digest::of(all.as_bytes()).hex()
            }
        }
    }

    /// Checks that the signature is by this signer and for exactly this digest.
    pub(crate) fn check(&self, found: &Candidate, digest: Digest, now: Timestamp) -> Result<(), Refusal> {
        if !found.subjects.contains(&digest) {
            let signed = found.subjects.first().copied();
            let nothing = || Refusal::malformed("it is for nothing");
            return Err(signed.map_or_else(nothing, |signed| Refusal::OtherDigest { signed }));
        }
        match self {
            Self::Key { name, key } if !key.has_signed(&found.message, &found.signature) => {
                Err(Refusal::OtherKey { key: name.clone() })
            }
            Self::Key { .. } => Ok(()),
            Self::Identity(identity) => identity.check(found, now),
        }
    }
}

impl Identity {
    fn check(&self, found: &Candidate, now: Timestamp) -> Result<(), Refusal> {
        let without = || Refusal::NoCertificate { identity: self.identity.clone() };
        let certificate = found.certificate.as_ref().ok_or_else(without)?;
        let key = certificate::key(certificate)
            .ok_or_else(|| Refusal::malformed("the key of its certificate is of a kind that is not known"))?;
        if !key.has_signed(&found.message, &found.signature) {
            return Err(Refusal::NotByCertificate);
        }
        for (at, clock) in self.times(found, certificate, now)? {
            self.root.certifies(certificate, &found.chain, at, clock)?;
        }
        let subject = certificate::subject(certificate)
            .ok_or_else(|| Refusal::malformed("the names in its certificate"))?;
        if subject.issuer.as_ref() != Some(&self.issuer) {
            let found = subject.issuer.into_iter().collect();
            return Err(Refusal::OtherIssuer { found, wanted: self.issuer.clone() });
        }
        if !subject.names.iter().any(|name| matches(&self.identity, name)) {
            return Err(Refusal::OtherIdentity { found: subject.names, wanted: self.identity.clone() });
        }
        Ok(())
    }

    /// When the signature was made, from every trusted source.
    fn times(
        &self,
        found: &Candidate,
        certificate: &CertificateDer<'_>,
        now: Timestamp,
    ) -> Result<Vec<(i64, Clock)>, Refusal> {
        let (mut times, mut refused) = (Vec::new(), None);
        for stamp in &found.stamps {
            match Stamp::read(stamp).and_then(|stamp| stamp.time_of(&found.signature, &self.root)) {
                Ok(time) => times.push((time, Clock::Authority)),
                Err(why) => refused = Some(why),
            }
        }
        if self.root.has_logs() {
            let stamped = times.first().map(|(time, _)| *time);
            match (self.logged(found, certificate, stamped), refused) {
                (Ok(time), _) => times.extend(time.map(|time| (time, Clock::Log))),
                // Without a time the entry cannot be checked further.
                (Err(Refusal::NoTime { .. }), Some(why)) | (Err(why), _) => return Err(why),
            }
        } else if let Some(why) = refused {
            return Err(why);
        }
        if times.is_empty() {
            times.push((now.as_second(), Clock::Now));
        }
        Ok(times)
    }

    /// When a log received the signature; `None` if the log has no time.
    fn logged(
        &self,
        found: &Candidate,
        certificate: &CertificateDer<'_>,
        stamped: Option<i64>,
    ) -> Result<Option<i64>, Refusal> {
        let Candidate { message, payload, signature, .. } = found;
        let signed = Signed { message, payload, signature, certificate };
        let mut refusal = Refusal::NotLogged { root: self.root.name().to_owned() };
        for entry in &found.entries {
            match entry.time_of(signed, &self.root, stamped) {
                Ok(time) => return Ok(time),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }
}

/// Whether a name matches the pattern, in which `*` matches anything.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_anything_and_other_characters_match_themselves() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "ba", false),
            ("a*", "ab", true),
            ("a*", "a", true),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abcd", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("https://h/o/*@refs/tags/*", "https://h/o/r/w.yml@refs/tags/v1", true),
            ("https://h/o/*@refs/tags/*", "https://h/o/r/w.yml@refs/heads/main", false),
            (".", "x", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
