//! An emulated AWS on loopback: ECR with its OCI registry, ECR Public, S3, STS, KMS and parts of CloudFormation and IAM.
//!
//! One listener serves all of them with one state: an image pushed through `/v2/` is listed by `DescribeImages`, and a push needs a
//! repository created by `CreateRepository`. A second listener is the bucket to which ECR redirects layer downloads, because clients have
//! to handle that redirect correctly. ECR's deviations from the distribution specification are implemented on purpose, each with a comment
//! in the code.
//!
//! The code shares nothing with the clients that it tests: neither their digests nor their manifests.

mod account;
mod app;
mod cloudformation;
mod digest;
mod ecr;
mod ecr_public;
mod fault;
mod http;
mod iam;
mod input;
mod journal;
mod kms;
mod local;
mod manifest;
mod oci;
mod policy;
mod pull_through;
mod quirks;
mod request;
mod resource;
mod route;
mod s3;
mod scope;
mod server;
mod store;
mod sts;
mod time;
mod traffic;
mod uploads;
mod upstreams;
mod xml;

pub use app::Config;
pub use ecr::lifecycle;
pub use quirks::{Quirk, QuirkError};
use resource::Service;
pub use resource::{Asked, Scenario};
pub use server::{Server, StartError};

/// All implemented AWS operations, in the format of the request list: `ecr.CreateRepository`.
#[must_use]
pub fn operations() -> Vec<String> {
    let of = |service: &str, actions: Vec<&str>| -> Vec<String> {
        actions.into_iter().map(|action| format!("{service}.{action}")).collect()
    };
    let json = SERVICES.iter();
    let json = json.flat_map(|service| of(service.name, service.actions().map(|(name, ..)| *name).collect()));
    let rest = [
        of("cloudformation", cloudformation::actions()),
        of("iam", iam::api::actions()),
        of("s3", s3::actions()),
        of("sts", sts::actions()),
    ];
    json.chain(rest.concat()).collect()
}

/// The services with a JSON protocol.
const SERVICES: [&Service; 3] = [&ecr::SERVICE, &ecr_public::SERVICE, &kms::SERVICE];

/// The calls with which the tests compare the JSON services with other emulators.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    let of = |service: &'static Service| {
        let (target, service, resources) = (service.target, service.name, service.resources);
        let all = resources.iter().flat_map(|resource| resource.scenarios);
        all.map(move |(name, calls)| Scenario { name, service, target, calls })
    };
    SERVICES.into_iter().flat_map(of).collect()
}
