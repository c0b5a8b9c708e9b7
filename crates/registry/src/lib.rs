//! OCI distribution client and mirror; knows nothing of AWS, docker or this command line.
//!
#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

#[cfg(all(feature = "bugs", not(debug_assertions)))]
compile_error!("`bugs` is for the tests alone");

mod auth;
pub mod blobs;
#[cfg(feature = "bugs")]
pub mod bugs;
#[cfg(not(feature = "bugs"))]
mod bugs;
pub mod choose;
mod client;
mod digest;
mod error;
#[cfg(test)]
mod fuzz;
mod lenient;
pub mod lists;
mod manifest;
pub mod mirror;
pub mod names;
mod net;
mod platform;
mod profile;
mod reference;
pub mod resend;
pub mod size_limits;
mod transfer;

pub use auth::{Anonymous, Credential, Credentials, Server};
pub use client::{Builder, Client, RateLimit, RetryPolicy, RetryWatcher, Route, Timeouts};
pub use digest::{Digest, DigestError};
pub use error::{BoxError, Error, ErrorKind, NoConnection};
pub use futures_util::future::BoxFuture;
pub use manifest::{
    ACCEPTED, Descriptor, Image, Index, Kind, Manifest, ManifestError, SOURCE_DIGEST_ANNOTATION,
};
pub use net::http::{Body, Http, Lookup, Proxies, Request, Response, Transport};
pub use platform::{Platform, PlatformError};
pub use profile::{Mounts, Profile, Quotas};
pub use reference::{DOCKER_HUB, MAX_TAG, Reference, ReferenceError, registry_name};
