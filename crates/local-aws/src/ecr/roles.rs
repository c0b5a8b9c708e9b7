//! The service-linked roles that ECR creates in an account, once for all regions
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/using-service-linked-roles.html>).

use crate::app::App;
use crate::fault::Fault;
use crate::policy::Need;
use crate::resource::Call;
use crate::scope::Scope;

pub(super) const PULL_THROUGH: &str = "pullthroughcache.ecr.amazonaws.com";
pub(super) const REPLICATION: &str = "replication.ecr.amazonaws.com";

/// The scope of IAM, which has no regions.
fn everywhere(scope: &Scope) -> Scope {
    Scope { account: scope.account.clone(), region: format!("{}-global", scope.partition()) }
}

/// Whether the account has the role of this service.
fn exists(app: &App, scope: &Scope, service: &str) -> bool {
    app.store.region(&everywhere(scope)).settings().service_roles.contains(service)
}

/// The permission that the caller needs if the account does not have this service's role yet.
pub(super) fn first(call: &Call<'_>, service: &str, role: &str) -> Option<Need> {
    let needed = !exists(call.app, &call.scope, service);
    needed.then(|| Need::service_role(&call.scope, service, role))
}

/// Creates the role of this service, if the account does not have it.
pub(super) fn make(app: &App, scope: &Scope, service: &str) -> Result<(), Fault> {
    if exists(app, scope, service) {
        return Ok(());
    }
    app.store.region(&everywhere(scope)).change_settings(|settings| {
        settings.service_roles.insert(service.to_owned());
        Ok(())
    })
}
