//! The cryptography provider for TLS.

/// Installs ring as the cryptography provider of TLS; a second call has no effect.
pub(crate) fn choose_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
