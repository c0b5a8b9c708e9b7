//! The scenarios: calls as data.

mod buckets;
mod callers;
mod images;
mod keys;
mod registry;
mod repositories;
mod signing;

use reqwest::Method;

use super::call::{Call, Request};

const fn ecr(
    name: &'static str,
    action: &'static str,
    input: &'static str,
    shown: &'static [&'static str],
) -> Call {
    Call { name, request: Request::Ecr(action, input), shown }
}

const fn kms(
    name: &'static str,
    action: &'static str,
    input: &'static str,
    shown: &'static [&'static str],
) -> Call {
    Call { name, request: Request::Kms(action, input), shown }
}

const fn s3(
    name: &'static str,
    method: Method,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    shown: &'static [&'static str],
) -> Call {
    Call { name, request: Request::S3 { method, path, headers, body }, shown }
}

/// What terraform's backend, the bucket's check, the provider and this tool ask for, and what else is served.
pub(crate) const SCENARIOS: &[(&str, &[Call])] = &[
    ("state bucket", buckets::STATE),
    ("lock and state", buckets::LOCKS),
    ("repositories", repositories::REPOSITORIES),
    ("registry", registry::REGISTRY),
    ("key", keys::KEY),
    ("caller", callers::CALLER),
    ("another bucket", buckets::ANOTHER),
    ("layers and images", images::IMAGES),
    ("registry settings", registry::SETTINGS),
    ("creation templates", registry::TEMPLATES),
    ("signatures", signing::SIGNING),
    ("more of keys", keys::MORE),
    ("roles, stacks, public registry", callers::OTHERS),
];
