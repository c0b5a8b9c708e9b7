//! ECR's JSON API (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/Welcome.html>), and the operations that the OCI
//! registry shares with it.

mod image_actions;
pub(crate) mod images;
pub(crate) mod layers;
pub mod lifecycle;
mod lifecycle_actions;
pub(crate) mod manifest;
pub(crate) mod registry;
mod replication;
pub(crate) mod repositories;
mod settings;
pub(crate) mod templates;
pub(crate) mod uploads;
mod wildcard;

pub(crate) use lifecycle_actions::run as run_lifecycle;

use serde_json::Value;

use crate::account::{Caller, Scope};
use crate::fault::Fault;
use crate::input::Input;
use crate::server::App;

/// One request: for whom, and with what.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    /// The registry that is meant: the caller's own, or the one `registryId` names.
    pub(crate) scope: Scope,
    pub(crate) caller: &'a Caller,
}

type Handler = fn(&Call<'_>, &Input) -> Result<Value, Fault>;

/// Every action that is implemented. What is not here answers 501 with its name.
pub(crate) const ACTIONS: &[(&str, Handler)] = &[
    ("BatchCheckLayerAvailability", layers::batch_check),
    ("BatchDeleteImage", image_actions::batch_delete),
    ("BatchGetImage", image_actions::batch_get),
    ("CompleteLayerUpload", layers::complete),
    ("CreatePullThroughCacheRule", registry::create_rule),
    ("CreateRepository", repositories::create),
    ("CreateRepositoryCreationTemplate", templates::create),
    ("DeleteLifecyclePolicy", lifecycle_actions::delete),
    ("DeletePullThroughCacheRule", registry::delete_rule),
    ("DeleteRegistryPolicy", registry::delete_policy),
    ("DeleteRepository", repositories::delete),
    ("DeleteRepositoryCreationTemplate", templates::delete),
    ("DeleteRepositoryPolicy", settings::delete_policy),
    ("DescribeImages", image_actions::describe),
    ("DescribePullThroughCacheRules", registry::describe_rules),
    ("DescribeRegistry", registry::describe),
    ("DescribeRepositories", repositories::describe),
    ("DescribeRepositoryCreationTemplates", templates::describe),
    ("GetAccountSetting", registry::get_account_setting),
    ("GetAuthorizationToken", registry::get_authorization_token),
    ("GetDownloadUrlForLayer", layers::download_url),
    ("GetLifecyclePolicy", lifecycle_actions::get),
    ("GetLifecyclePolicyPreview", lifecycle_actions::get_preview),
    ("GetRegistryPolicy", registry::get_policy),
    ("GetRegistryScanningConfiguration", registry::get_scanning),
    ("GetRepositoryPolicy", settings::get_policy),
    ("InitiateLayerUpload", layers::initiate),
    ("ListImageReferrers", image_actions::list_referrers),
    ("ListImages", image_actions::list),
    ("ListTagsForResource", settings::list_tags),
    ("PutAccountSetting", registry::put_account_setting),
    ("PutImage", image_actions::put),
    ("PutImageScanningConfiguration", settings::put_scanning),
    ("PutImageTagMutability", settings::put_mutability),
    ("PutLifecyclePolicy", lifecycle_actions::put),
    ("PutRegistryPolicy", registry::put_policy),
    ("PutRegistryScanningConfiguration", registry::put_scanning),
    ("PutReplicationConfiguration", registry::put_replication),
    ("SetRepositoryPolicy", settings::set_policy),
    ("StartLifecyclePolicyPreview", lifecycle_actions::start_preview),
    ("StartReplicationBackfill", replication::backfill),
    ("TagResource", settings::tag),
    ("UntagResource", settings::untag),
    ("UpdateImageStorageClass", image_actions::update_storage_class),
    ("UpdatePullThroughCacheRule", registry::update_rule),
    ("UploadLayerPart", layers::upload_part),
];

/// Answers one action.
pub(crate) fn dispatch(app: &App, caller: &Caller, action: &str, input: &Input) -> Result<Value, Fault> {
    let handler = crate::route::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("ecr", action))?;
    let mut scope = caller.scope.clone();
    if let Some(registry) = input.opt("registryId").filter(|registry| *registry != scope.account) {
        scope.account = registry.to_owned();
        let name = input.opt("repositoryName").unwrap_or("*");
        // Another account's registry needs its repository's policy; none that exists names its readers yet.
        let repository = app.store.repository(&scope, name);
        let allowed = repository.as_ref().is_none_or(|repository| {
            repository.policy.as_deref().is_some_and(|policy| settings::policy_allows(policy, caller, action))
        });
        if !allowed {
            return Err(Fault::client(
                "AccessDeniedException",
                format!(
                    "User: {} is not authorized to perform: ecr:{action} on resource: {} because no resource-based policy \
                     allows the ecr:{action} action",
                    caller.principal,
                    repositories::arn(&scope, name)
                ),
            ));
        }
    }
    handler(&Call { app, scope, caller }, input)
}

/// The journal's resource, and the one a refusal names.
pub(crate) fn resource(scope: &Scope, input: &Input) -> String {
    match (input.opt("repositoryName"), input.opt("resourceArn")) {
        (Some(name), _) => repositories::arn(scope, name),
        (None, Some(arn)) => arn.to_owned(),
        (None, None) => "*".to_owned(),
    }
}

/// What the caller needs beside the action's own permission: tags at creation, and the grant that lets ECR use a key
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html>).
pub(crate) fn further_permissions(app: &App, scope: &Scope, action: &str, input: &Input) -> Vec<String> {
    let mut permissions: Vec<&str> = Vec::new();
    match action {
        "CreateRepository" => {
            if !input.list("tags").is_empty() {
                permissions.push("ecr:TagResource");
            }
            let kind =
                input.value("encryptionConfiguration").and_then(|wanted| wanted["encryptionType"].as_str());
            if kind.is_some_and(|kind| kind.starts_with("KMS")) {
                permissions.extend(["kms:DescribeKey", "kms:CreateGrant"]);
            }
        }
        "DeleteRepository" => {
            let repository = input.opt("repositoryName").and_then(|name| app.store.repository(scope, name));
            if repository.is_some_and(|repository| repository.encryption.key.is_some()) {
                permissions.push("kms:RetireGrant");
            }
        }
        _ => {}
    }
    permissions.into_iter().map(str::to_owned).collect()
}
