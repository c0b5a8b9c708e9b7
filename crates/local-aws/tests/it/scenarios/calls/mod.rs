//! The scenarios: calls as data. Those of services with a JSON protocol are next to the resource that they are about.

mod buckets;
mod callers;

use super::call::{Call, Request};

/// The calls of terraform's S3 backend, of the bucket check, of the provider and of this tool, and the other implemented ones.
pub(crate) fn scenarios() -> Vec<(&'static str, Vec<Call>)> {
    let others = [
        ("state bucket", buckets::STATE),
        ("lock and state", buckets::LOCKS),
        ("caller", callers::CALLER),
        ("another bucket", buckets::ANOTHER),
        ("roles, stacks, public registry", callers::OTHERS),
    ];
    let others = others.into_iter().map(|(name, calls)| (name, calls.to_vec()));
    let json = local_aws::scenarios().into_iter().map(|scenario| {
        let call = |asked: &local_aws::Asked| Call {
            name: asked.name,
            request: Request::Json(scenario.service, scenario.target, asked.action, asked.input),
            shown: asked.shown,
        };
        (scenario.name, scenario.calls.iter().map(call).collect())
    });
    others.chain(json).collect()
}
