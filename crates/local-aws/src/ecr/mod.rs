//! ECR's JSON API (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/Welcome.html>), and the operations that the OCI
//! registry shares with it.

mod image_actions;
pub(crate) mod images;
pub(crate) mod layer_url;
pub(crate) mod layers;
pub mod lifecycle;
mod lifecycle_actions;
pub(crate) mod registry;
mod replication;
pub(crate) mod repositories;
mod roles;
mod rules;
mod scans;
mod settings;
mod signing;
pub(crate) mod templates;
pub(crate) mod uploads;
mod wildcard;

pub(crate) use lifecycle_actions::run as run_lifecycle;

use crate::policy::Need;
use crate::resource::{Needs, Service};

/// The API. The permissions for each action are listed in
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>.
pub(crate) const SERVICE: Service = Service {
    name: "ecr",
    target: "AmazonEC2ContainerRegistry_V20150921",
    resources: &[
        &repositories::RESOURCE,
        &settings::RESOURCE,
        &lifecycle_actions::RESOURCE,
        &registry::RESOURCE,
        &rules::RESOURCE,
        &replication::RESOURCE,
        &layers::RESOURCE,
        &image_actions::RESOURCE,
        &scans::RESOURCE,
        &templates::RESOURCE,
        &signing::RESOURCE,
    ],
};

/// Resource: `repositoryName`.
const ON_REPOSITORY: Needs = |call, permission, input| {
    let arn = repositories::arn(&call.scope, input.opt("repositoryName").unwrap_or("*"));
    Ok(vec![Need::new(permission, arn)])
};
