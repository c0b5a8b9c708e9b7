//! The cryptography of TLS.

/// Names ring as the TLS stack's cryptography; a second call changes nothing.
pub(crate) fn choose_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
