//! Which servers are trusted: those with a certificate from the system's CAs, or with a certificate that the user named.
//!
//! A self-signed certificate of a registry is often marked as a CA, because `openssl req -x509` does that. [RFC
//! 5280](https://www.rfc-editor.org/rfc/rfc5280#section-4.2.1.9) does not allow a CA as a server's certificate, but curl, docker
//! and git accept it if the user named exactly this certificate. So do we, for its own names and within its validity.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The error for every server on a machine without CAs.
const NO_AUTHORITIES: &str =
    "this machine has no CA certificates: on Debian and Ubuntu, apt-get install ca-certificates";

/// The verifiers, in order, and the certificates that the user named.
#[derive(Debug)]
pub(super) struct NamedCertificates {
    provider: Arc<CryptoProvider>,
    /// Empty on a fresh machine.
    verifiers: Vec<Arc<dyn ServerCertVerifier>>,
    certificates: Vec<CertificateDer<'static>>,
}

impl NamedCertificates {
    pub(super) fn new(
        provider: Arc<CryptoProvider>,
        system: Option<Arc<dyn ServerCertVerifier>>,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self { provider, verifiers: system.into_iter().collect(), certificates }
    }

    /// A copy with these CAs before all others.
    ///
    /// # Errors
    /// One of them is not a valid certificate.
    pub(super) fn with(&self, authorities: Vec<CertificateDer<'static>>) -> anyhow::Result<Self> {
        let mut verifiers = self.verifiers.clone();
        if !authorities.is_empty() {
            let mut roots = RootCertStore::empty();
            for authority in &authorities {
                roots.add(authority.clone())?;
            }
            let own =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
            verifiers.insert(0, own.build()?);
        }
        let certificates = [authorities, self.certificates.clone()].concat();
        Ok(Self { provider: Arc::clone(&self.provider), verifiers, certificates })
    }

    /// The result of the first verifier that accepts. If none does, the error of one that knows the signer is the most precise.
    fn any<T>(&self, ask: impl Fn(&dyn ServerCertVerifier) -> Result<T, Error>) -> Result<T, Error> {
        let mut refusal = None;
        for verifier in &self.verifiers {
            match ask(&**verifier) {
                Ok(verified) => return Ok(verified),
                Err(error) if refusal.as_ref().is_none_or(is_about_the_signer) => refusal = Some(error),
                Err(_) => {}
            }
        }
        Err(refusal.unwrap_or_else(|| Error::General(NO_AUTHORITIES.to_owned())))
    }
}

/// Whether the signer is the only problem of a certificate. Its validity period is checked before. webpki's own error has no public
/// type here.
fn is_about_the_signer(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            format!("{other:?}").contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}

impl ServerCertVerifier for NamedCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let asked = self.any(|verifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        });
        match asked {
            Err(error)
                if is_about_the_signer(&error) && self.certificates.iter().any(|one| one == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any(|verifier| verifier.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any(|verifier| verifier.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self.verifiers.first() {
            Some(verifier) => verifier.supported_verify_schemes(),
            None => self.provider.signature_verification_algorithms.supported_schemes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::*;

    const YEARS: [i32; 2] = [2020, 2090];

    fn params(name: &str, is_ca: bool, years: [i32; 2]) -> CertificateParams {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        if is_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let [from, to] = years;
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params
    }

    fn own(name: &str, is_ca: bool, years: [i32; 2]) -> CertificateDer<'static> {
        params(name, is_ca, years).self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    /// The result for a server that presents `shown`, if the user has named `named`.
    fn verdict(shown: &CertificateDer<'static>, named: &[&CertificateDer<'static>]) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(own("somebody.example", true, YEARS)).unwrap();
        let system = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let named = named.iter().map(|named| (*named).clone()).collect();
        let system = system.build().unwrap();
        let verifier = NamedCertificates::new(provider, Some(system), Vec::new()).with(named).unwrap();
        let name = ServerName::try_from("reg.corp").unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_servers_own_certificate_is_trusted_if_the_user_named_it() {
        for is_ca in [true, false] {
            let shown = own("reg.corp", is_ca, YEARS);
            assert_eq!(verdict(&shown, &[&shown]), Ok(()), "CA:{is_ca}");
            assert!(verdict(&shown, &[]).is_err(), "CA:{is_ca}");
            assert!(verdict(&shown, &[&own("reg.corp", is_ca, YEARS)]).is_err(), "another key, CA:{is_ca}");
            let expired = own("reg.corp", is_ca, [2010, 2011]);
            assert!(verdict(&expired, &[&expired]).is_err(), "CA:{is_ca}");
            let other = own("other.corp", is_ca, YEARS);
            assert!(verdict(&other, &[&other]).is_err(), "CA:{is_ca}");
        }
    }

    #[test]
    fn servers_of_an_authority_and_named_servers_are_trusted() {
        let key = KeyPair::generate().unwrap();
        let authority = params("the company", true, YEARS);
        let root = authority.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(authority, key);
        let leaf = params("reg.corp", false, YEARS).signed_by(&KeyPair::generate().unwrap(), &issuer);
        let leaf = leaf.unwrap().der().clone();
        assert_eq!(verdict(&leaf, &[&root]), Ok(()));
        assert_eq!(verdict(&leaf, &[&leaf]), Ok(()));
        let expired =
            params("reg.corp", false, [2010, 2011]).signed_by(&KeyPair::generate().unwrap(), &issuer);
        let why = verdict(expired.unwrap().der(), &[&root]).unwrap_err();
        assert!(why.to_string().contains("expired"), "the company's verifier knows best: {why}");
        assert!(verdict(&leaf, &[&own("reg.corp", true, YEARS)]).is_err());
    }
}
