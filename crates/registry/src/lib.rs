//! OCI distribution client and mirror; knows nothing of AWS, docker or this command line.
//!
//! [`Client`] speaks [the distribution protocol](https://github.com/opencontainers/distribution-spec/blob/main/spec.md) with
//! any number of registries; [`mirror`] copies images between them, registry to registry, by as few requests as there can be
//! and with every byte verified. Nothing here knows AWS, docker or a command line: credentials, memory and bulk existence checks
//! come in by the traits [`Credentials`], [`mirror::Mapping`] and [`mirror::BlobIndex`].

#[cfg(all(any(feature = "unverified", feature = "bugs"), not(debug_assertions)))]
compile_error!("`unverified` and `bugs` are for the tests alone");

mod auth;
#[cfg(feature = "bugs")]
pub mod bugs;
#[cfg(not(feature = "bugs"))]
mod bugs;
mod client;
mod digest;
mod error;
#[cfg(test)]
mod fuzz;
mod lenient;
pub mod limits;
mod manifest;
pub mod mirror;
mod platform;
mod reference;

pub use auth::{Anonymous, Credential, Credentials, Server};
pub use client::{
    Body, Builder, Client, Http, Lookup, Proxies, Quotas, RateLimit, Request, Response, RetryPolicy,
    RetryWatcher, Timeouts, Transport,
};
pub use digest::{Digest, DigestError};
pub use error::{BoxError, Error, ErrorKind, NoConnection};
pub use futures_util::future::BoxFuture;
pub use manifest::{
    ACCEPTED, Descriptor, Image, Index, Kind, Manifest, ManifestError, SOURCE_DIGEST_ANNOTATION,
};
pub use platform::{Platform, PlatformError};
pub use reference::{DOCKER_HUB, MAX_TAG, Reference, ReferenceError};
