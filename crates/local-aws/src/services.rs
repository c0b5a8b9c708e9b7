//! The services that speak JSON.

use std::collections::BTreeMap;

use crate::app::App;
use crate::resource::{Scenario, Service};
use crate::scope::Scope;
use crate::{ecr, ecr_public, kms};

/// All of them.
pub(crate) const SERVICES: [&Service; 3] = [&ecr::SERVICE, &ecr_public::SERVICE, &kms::SERVICE];

/// What the tests ask of each.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let of = |service: &'static Service| {
        let (target, service, resources) = (service.target, service.name, service.resources);
        let all = resources.iter().flat_map(|resource| resource.scenarios);
        all.map(move |(name, calls)| Scenario { name, service, target, calls })
    };
    SERVICES.into_iter().flat_map(of).collect()
}

/// What stands in an account's region, by terraform's types.
pub(crate) fn standing(app: &App, scope: &Scope) -> BTreeMap<&'static str, Vec<String>> {
    let resources = SERVICES.iter().flat_map(|service| service.resources);
    let kinds = resources.filter_map(|resource| resource.standing);
    kinds.map(|(kind, standing)| (kind, standing(app, scope))).collect()
}
