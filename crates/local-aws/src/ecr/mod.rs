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
mod scans;
mod settings;
mod signing;
pub(crate) mod templates;
pub(crate) mod uploads;
mod wildcard;

pub(crate) use lifecycle_actions::run as run_lifecycle;

use serde_json::Value;

use crate::account::Caller;
use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::kms;
use crate::policy::Need;
use crate::scope::Scope;

/// One request: for whom, and with what.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    /// The registry that is meant: the caller's own, or the one `registryId` names.
    pub(crate) scope: Scope,
    pub(crate) caller: &'a Caller,
}

type Handler = fn(&Call<'_>, &Input) -> Result<Value, Fault>;

/// What an action's permission, `ecr:` and its name, is for, and what is needed beside it.
#[derive(Clone, Copy)]
enum On {
    /// `repositoryName`.
    Repository,
    /// Each of `repositoryNames`, or all.
    Repositories,
    /// `resourceArn`.
    Tagged,
    /// Nothing that has an ARN.
    Registry,
    /// A repository with its tags, and the grant by which ECR uses its key
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html>).
    NewRepository,
    /// A repository, and the end of that grant.
    OldRepository,
    /// The registry, and at the account's first rule the role that pulls for it
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/slr-pullthroughcache.html>).
    FirstRule,
    /// The registry, and at the account's first replication the role that replicates
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/slr-replication.html>).
    Replication,
    /// The registry, and what a template does for whoever writes it
    /// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-create.html>).
    Template,
}

/// Every action that is implemented, with what it needs
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>). What is not
/// here answers 501 with its name.
const ACTIONS: &[(&str, On, Handler)] = &[
    ("BatchCheckLayerAvailability", On::Repository, layers::batch_check),
    ("BatchDeleteImage", On::Repository, image_actions::batch_delete),
    ("BatchGetImage", On::Repository, image_actions::batch_get),
    ("CompleteLayerUpload", On::Repository, layers::complete),
    ("CreatePullThroughCacheRule", On::FirstRule, registry::create_rule),
    ("CreateRepository", On::NewRepository, repositories::create),
    ("CreateRepositoryCreationTemplate", On::Template, templates::create),
    ("DeleteLifecyclePolicy", On::Repository, lifecycle_actions::delete),
    ("DeletePullThroughCacheRule", On::Registry, registry::delete_rule),
    ("DeleteRegistryPolicy", On::Registry, registry::delete_policy),
    ("DeleteRepository", On::OldRepository, repositories::delete),
    ("DeleteRepositoryCreationTemplate", On::Registry, templates::delete),
    ("DeleteRepositoryPolicy", On::Repository, settings::delete_policy),
    ("DeleteSigningConfiguration", On::Registry, signing::delete),
    ("DescribeImageScanFindings", On::Repository, scans::describe_findings),
    ("DescribeImageSigningStatus", On::Repository, signing::describe_status),
    ("DescribeImages", On::Repository, image_actions::describe),
    ("DescribePullThroughCacheRules", On::Registry, registry::describe_rules),
    ("DescribeRegistry", On::Registry, registry::describe),
    ("DescribeRepositories", On::Repositories, repositories::describe),
    ("DescribeRepositoryCreationTemplates", On::Registry, templates::describe),
    ("GetAccountSetting", On::Registry, registry::get_account_setting),
    ("GetAuthorizationToken", On::Registry, registry::get_authorization_token),
    ("GetDownloadUrlForLayer", On::Repository, layers::download_url),
    ("GetLifecyclePolicy", On::Repository, lifecycle_actions::get),
    ("GetLifecyclePolicyPreview", On::Repository, lifecycle_actions::get_preview),
    ("GetRegistryPolicy", On::Registry, registry::get_policy),
    ("GetRegistryScanningConfiguration", On::Registry, registry::get_scanning),
    ("GetRepositoryPolicy", On::Repository, settings::get_policy),
    ("GetSigningConfiguration", On::Registry, signing::get),
    ("InitiateLayerUpload", On::Repository, layers::initiate),
    ("ListImageReferrers", On::Repository, image_actions::list_referrers),
    ("ListImages", On::Repository, image_actions::list),
    ("ListTagsForResource", On::Tagged, settings::list_tags),
    ("PutAccountSetting", On::Registry, registry::put_account_setting),
    ("PutImage", On::Repository, image_actions::put),
    ("PutImageScanningConfiguration", On::Repository, settings::put_scanning),
    ("PutImageTagMutability", On::Repository, settings::put_mutability),
    ("PutLifecyclePolicy", On::Repository, lifecycle_actions::put),
    ("PutRegistryPolicy", On::Registry, registry::put_policy),
    ("PutRegistryScanningConfiguration", On::Registry, registry::put_scanning),
    ("PutReplicationConfiguration", On::Replication, registry::put_replication),
    ("PutSigningConfiguration", On::Registry, signing::put),
    ("SetRepositoryPolicy", On::Repository, settings::set_policy),
    ("StartLifecyclePolicyPreview", On::Repository, lifecycle_actions::start_preview),
    ("StartReplicationBackfill", On::Registry, replication::backfill),
    ("TagResource", On::Tagged, settings::tag),
    ("UntagResource", On::Tagged, settings::untag),
    ("UpdateImageStorageClass", On::Repository, image_actions::update_storage_class),
    ("UpdatePullThroughCacheRule", On::Registry, registry::update_rule),
    ("UpdateRepositoryCreationTemplate", On::Template, templates::update),
    ("UploadLayerPart", On::Repository, layers::upload_part),
];

/// The names of what is implemented.
pub(crate) fn actions() -> Vec<&'static str> {
    ACTIONS.iter().map(|(name, _, _)| *name).collect()
}

/// Answers one action.
pub(crate) fn dispatch(app: &App, caller: &Caller, action: &str, input: &Input) -> Result<Value, Fault> {
    let (_, _, handler) = find(action)?;
    handler(&Call { app, scope: registry_of(caller, input), caller }, input)
}

fn find(action: &str) -> Result<&'static (&'static str, On, Handler), Fault> {
    ACTIONS.iter().find(|(name, _, _)| *name == action).ok_or_else(|| Fault::not_implemented("ecr", action))
}

/// The caller's own registry, or the one that `registryId` names.
fn registry_of(caller: &Caller, input: &Input) -> Scope {
    let account = input.opt("registryId").unwrap_or(&caller.scope.account).to_owned();
    Scope { account, region: caller.scope.region.clone() }
}

/// What the caller needs for an action.
pub(crate) fn needs(app: &App, caller: &Caller, action: &str, input: &Input) -> Result<Vec<Need>, Fault> {
    let (name, on, _) = find(action)?;
    let scope = registry_of(caller, input);
    let own = |resource: String| Need::new(format!("ecr:{name}"), resource);
    let repository = || repositories::arn(&scope, input.opt("repositoryName").unwrap_or("*"));
    let key = |action: &str, arn: String| Need::new(action, arn).via("ecr", &scope);
    let first = |service: &str, role: &str| {
        let needed = !roles::stands(app, &scope, service);
        needed.then(|| Need::service_role(&scope, service, role))
    };
    Ok(match on {
        On::Repository => vec![own(repository())],
        On::Repositories => {
            let names = input.texts("repositoryNames");
            let names = if names.is_empty() { vec!["*"] } else { names };
            names.into_iter().map(|name| own(repositories::arn(&scope, name))).collect()
        }
        On::Tagged => vec![own(input.opt("resourceArn").unwrap_or("*").to_owned())],
        On::Registry => vec![own("*".to_owned())],
        On::NewRepository => {
            let tags = !input.list("tags").is_empty();
            let tags = tags.then(|| Need::new("ecr:TagResource", repository()));
            let encryption = input.value("encryptionConfiguration");
            let encrypted = encryption.filter(|wanted| {
                wanted["encryptionType"].as_str().is_some_and(|kind| kind.starts_with("KMS"))
            });
            let grant = encrypted.map(|wanted| kms::key_arn(app, &scope, wanted["kmsKey"].as_str(), "ecr"));
            let grant = grant.transpose()?.into_iter();
            let grant =
                grant.flat_map(|arn| ["kms:DescribeKey", "kms:CreateGrant"].map(|a| key(a, arn.clone())));
            [own(repository())].into_iter().chain(tags).chain(grant).collect()
        }
        On::OldRepository => {
            let stands =
                input.opt("repositoryName").and_then(|name| app.store.region(&scope).repository(name));
            let arn = stands.and_then(|repository| repository.encryption.key.clone());
            [own(repository())].into_iter().chain(arn.map(|arn| key("kms:RetireGrant", arn))).collect()
        }
        On::FirstRule => {
            let role = first(roles::PULL_THROUGH, "AWSServiceRoleForECRPullThroughCache");
            [own("*".to_owned())].into_iter().chain(role).collect()
        }
        On::Replication => {
            let rules = input.value("replicationConfiguration").and_then(|wanted| wanted["rules"].as_array());
            let some = rules.is_some_and(|rules| !rules.is_empty());
            let role = some.then(|| first(roles::REPLICATION, "AWSServiceRoleForECRReplication")).flatten();
            [own("*".to_owned())].into_iter().chain(role).collect()
        }
        On::Template => {
            let below = repositories::arn(&scope, &format!("{}/*", input.opt("prefix").unwrap_or("*")));
            let gives = [
                ("ecr:PutLifecyclePolicy", "lifecyclePolicy"),
                ("ecr:SetRepositoryPolicy", "repositoryPolicy"),
            ];
            let gives = gives.into_iter().filter(|(_, member)| input.value(member).is_some());
            let gives = gives.map(|(action, _)| action).chain(["ecr:CreateRepository"]);
            let gives = gives.map(|action| Need::new(action, below.clone()));
            let role = input.opt("customRoleArn");
            let role = role
                .map(|role| Need::new("iam:PassRole", role).with("iam:passedtoservice", "ecr.amazonaws.com"));
            [own("*".to_owned())].into_iter().chain(role).chain(gives).collect()
        }
    })
}
