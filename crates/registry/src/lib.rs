//! OCI distribution client and mirror.
