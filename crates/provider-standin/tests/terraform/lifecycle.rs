//! The module from creation to destruction: real terraform, its state and lock in the emulated S3, resources in the emulated ECR
//! and KMS.

use crate::aws::{Aws, REGION};
use crate::workspace::{Ran, Workspace, module};
use local_aws::{Config, Server};
use serde_json::{Value, json};

const BUCKET: &str = "state";

/// An emulated account with a state bucket, and a copy of the module.
struct Account {
    server: Server,
    aws: Aws,
    workspace: Workspace,
    _data: tempfile::TempDir,
}

impl Account {
    fn new() -> Self {
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let server = Server::start(Config::new(data.path())).unwrap();
        let aws = Aws::at(server.url());
        aws.create_bucket(BUCKET);
        Self { server, aws, workspace: Workspace::of(&module()), _data: data }
    }

    fn terraform(&self, arguments: &[&str]) -> Ran {
        self.workspace.terraform(arguments, Some(&self.server.url()))
    }

    /// Runs a command that must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let ran = self.terraform(arguments);
        assert!(ran.ok(), "{arguments:?}: {}", ran.text);
        ran.text
    }

    fn init(&self) {
        let (bucket, region) =
            (format!("-backend-config=bucket={BUCKET}"), format!("-backend-config=region={REGION}"));
        self.run(&["init", "-input=false", "-no-color", &bucket, &region]);
    }

    fn variables(&self, variables: &Value) {
        std::fs::write(self.workspace.path().join("terraform.tfvars.json"), variables.to_string()).unwrap();
    }

    fn plan(&self) -> String {
        self.run(&["plan", "-input=false", "-no-color", "-out=plan"])
    }

    fn apply(&self) -> String {
        self.plan();
        self.run(&["apply", "-input=false", "-no-color", "plan"])
    }

    /// Asserts that a plan finds nothing to do.
    fn settled(&self) {
        let plan = self.terraform(&["plan", "-input=false", "-no-color", "-detailed-exitcode"]);
        assert_eq!(plan.code, Some(0), "{}", plan.text);
    }
}

fn grid() -> Value {
    json!({
        "region": REGION,
        "tag": "mainline",
        "repositories": ["curl", "kedacore/keda", "lambda"],
        "pull_through_cache_rules": {
            "ecr-public": { "upstream": "public.ecr.aws" },
            "quay": { "upstream": "quay.io" },
        },
        "tags": { "team": "hpc" },
    })
}

fn with(mut variables: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        variables[name] = value.clone();
    }
    variables
}

#[test]
fn a_grid_is_created_and_destroyed() {
    let account = Account::new();
    account.variables(&grid());
    account.init();
    let applied = account.apply();
    assert!(applied.contains("Apply complete!"), "{applied}");
    assert!(account.plan().contains("AWS is emulated on this machine"), "the stand-in says what it is");
    account.settled();

    // The resources in the account.
    let lambda = account.aws.repository("lambda");
    let key = lambda["encryptionConfiguration"]["kmsKey"].as_str().unwrap().to_owned();
    assert_eq!(lambda["encryptionConfiguration"]["encryptionType"], "KMS");
    assert_eq!(lambda["imageScanningConfiguration"]["scanOnPush"], true);
    assert_eq!(account.aws.tags("lambda"), ["htc-grid/mainline=used", "team=hpc"]);
    let metadata = account.aws.kms("DescribeKey", &json!({ "KeyId": "alias/ecr/mainline-htc" }));
    assert_eq!(metadata["KeyMetadata"]["Arn"], key.as_str());
    assert_eq!(account.aws.kms("GetKeyRotationStatus", &json!({ "KeyId": key }))["KeyRotationEnabled"], true);
    let rules = account.aws.ecr("DescribePullThroughCacheRules", &json!({}));
    assert_eq!(rules["pullThroughCacheRules"].as_array().unwrap().len(), 2);

    // Another grid marks a repository; another user deletes a repository and a rule.
    let mark = json!([{ "Key": "htc-grid/other", "Value": "used" }]);
    account.aws.ecr("TagResource", &json!({ "resourceArn": lambda["repositoryArn"], "tags": mark }));
    account.settled();
    account.aws.ecr("DeleteRepository", &json!({ "repositoryName": "curl", "force": true }));
    account.aws.ecr("DeletePullThroughCacheRule", &json!({ "ecrRepositoryPrefix": "quay" }));
    let plan = account.plan();
    assert!(plan.contains("Plan: 2 to add, 0 to change, 0 to destroy."), "{plan}");
    account.run(&["apply", "-input=false", "-no-color", "plan"]);
    account.settled();
    assert_eq!(account.aws.tags("lambda").len(), 3, "the other grid's mark stays");

    // Options change repositories in place.
    let options = json!({
        "protect_build_tags": true,
        "keep_builds": 3,
        "runtimes": { "repository": "lambda", "tags": ["provided"] },
        "pull_accounts": ["210987654321"],
        "scan_on_push": false,
        "tags": { "team": "grid" },
        "kms_key_admin_roles": ["security"],
        "kms_deletion_window": 14,
    });
    account.variables(&with(grid(), options));
    let plan = account.plan();
    assert!(plan.contains("Plan: 4 to add, 4 to change, 0 to destroy."), "{plan}");
    account.run(&["apply", "-input=false", "-no-color", "plan"]);
    account.settled();
    let lambda = account.aws.repository("lambda");
    assert_eq!(lambda["imageTagMutability"], "MUTABLE_WITH_EXCLUSION");
    assert_eq!(lambda["imageTagMutabilityExclusionFilters"][0]["filter"], "*-sha256-*");
    assert_eq!(lambda["imageScanningConfiguration"]["scanOnPush"], false);
    assert_eq!(account.aws.tags("lambda"), ["htc-grid/mainline=used", "htc-grid/other=used", "team=grid"]);
    let policy = account.aws.ecr("GetLifecyclePolicy", &json!({ "repositoryName": "lambda" }));
    assert!(policy["lifecyclePolicyText"].as_str().unwrap().contains("provided-sha256-*"));
    let policy = account.aws.ecr("GetRepositoryPolicy", &json!({ "repositoryName": "curl" }));
    assert!(policy["policyText"].as_str().unwrap().contains("210987654321"));
    let policy = account.aws.kms("GetKeyPolicy", &json!({ "KeyId": key, "PolicyName": "default" }));
    assert!(policy["Policy"].as_str().unwrap().contains(":role/security"));

    // And switched off again.
    account.variables(&grid());
    account.apply();
    account.settled();
    assert_eq!(account.aws.repository("lambda")["imageTagMutability"], "MUTABLE");

    let destroyed = account.run(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
    assert!(destroyed.contains("Destroy complete!"), "{destroyed}");
    let left = account.aws.ecr("DescribeRepositories", &json!({}));
    assert_eq!(left["repositories"].as_array().unwrap().len(), 0);
    let metadata = account.aws.kms("DescribeKey", &json!({ "KeyId": key }));
    assert_eq!(metadata["KeyMetadata"]["KeyState"], "PendingDeletion");
}

#[test]
fn a_resource_of_another_owner_is_an_error_with_the_real_providers_message() {
    let account = Account::new();
    account.aws.ecr("CreateRepository", &json!({ "repositoryName": "curl" }));
    account.variables(&grid());
    account.init();
    account.plan();
    let apply = account.terraform(&["apply", "-input=false", "-no-color", "plan"]);
    assert_eq!(apply.code, Some(1));
    let text = apply.text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "Error: creating ECR Repository (curl): operation error ECR: CreateRepository, https response error StatusCode: 400, RequestID: ",
        "RepositoryAlreadyExistsException: The repository with name 'curl' already exists in the registry with id '123456789012'",
        "with aws_ecr_repository.managed[\"curl\"], on repositories.tf line 1",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
    // Everything else was created and is in the state; without that repository in the list the apply succeeds.
    let owned = json!({
        "repositories": ["kedacore/keda", "lambda"],
        "existing_repositories": { "curl": account.aws.repository("curl")["repositoryUri"] },
    });
    account.variables(&with(grid(), owned));
    account.apply();
    account.settled();
    assert_eq!(account.aws.repository("curl")["encryptionConfiguration"]["encryptionType"], "AES256");
}

#[test]
fn htc_grids_own_state_is_adopted_without_a_loss() {
    let account = Account::new();
    // The resources of its Makefile: a module's key, repositories, rules. One repository is older than the key.
    let key = account
        .aws
        .kms("CreateKey", &json!({ "Description": "CMK KMS Key used to encrypt ECR Repositories" }));
    let (id, arn) = (key["KeyMetadata"]["KeyId"].clone(), key["KeyMetadata"]["Arn"].clone());
    account.aws.kms("EnableKeyRotation", &json!({ "KeyId": id }));
    account.aws.kms("CreateAlias", &json!({ "AliasName": "alias/ecr/mainline-htc", "TargetKeyId": id }));
    let encryption = json!({ "encryptionType": "KMS", "kmsKey": arn });
    for name in ["curl", "lambda"] {
        account.aws.ecr(
            "CreateRepository",
            &json!({ "repositoryName": name, "encryptionConfiguration": encryption }),
        );
    }
    account.aws.ecr("CreateRepository", &json!({ "repositoryName": "kedacore/keda" }));
    for (prefix, upstream) in [("ecr-public", "public.ecr.aws"), ("quay", "quay.io")] {
        account.aws.ecr(
            "CreatePullThroughCacheRule",
            &json!({ "ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": upstream }),
        );
    }

    let provider = "provider[\"registry.terraform.io/hashicorp/aws\"]";
    let resource = |address: &str, instances: Value| {
        let (module, rest) = match address.strip_prefix("module.ecr_kms_key.") {
            Some(rest) => (Some("module.ecr_kms_key"), rest),
            None => (None, address),
        };
        let (kind, name) = rest.split_once('.').unwrap();
        let mut resource = json!({ "mode": "managed", "type": kind, "name": name, "provider": provider, "instances": instances });
        if let Some(module) = module {
            resource["module"] = json!(module);
        }
        resource
    };
    let instance = |key: Value, attributes: Value| {
        let mut instance = json!({ "schema_version": 0, "attributes": attributes });
        if !key.is_null() {
            instance["index_key"] = key;
        }
        instance
    };
    let repositories: Vec<Value> = ["curl", "kedacore/keda", "lambda"]
        .iter()
        .map(|name| {
            // As written by provider 5.x: without a region.
            let found = account.aws.repository(name);
            let encryption = &found["encryptionConfiguration"];
            let attributes = json!({
                "id": name, "name": name, "arn": found["repositoryArn"], "force_delete": true,
                "image_tag_mutability": "MUTABLE", "registry_id": "123456789012",
                "repository_url": found["repositoryUri"],
                "image_scanning_configuration": [{ "scan_on_push": true }],
                "encryption_configuration": [{
                    "encryption_type": encryption["encryptionType"],
                    "kms_key": encryption["kmsKey"].as_str().unwrap_or_default(),
                }],
                "tags": null, "tags_all": {}, "timeouts": null,
            });
            instance(json!(name), attributes)
        })
        .collect();
    let rule = |prefix: &str, upstream: &str| {
        let attributes = json!({
            "id": prefix, "ecr_repository_prefix": prefix, "upstream_registry_url": upstream,
            "registry_id": "123456789012", "credential_arn": null,
        });
        json!([instance(Value::Null, attributes)])
    };
    let alias = json!({
        "id": "alias/ecr/mainline-htc", "name": "alias/ecr/mainline-htc", "name_prefix": "",
        "target_key_id": id, "target_key_arn": arn,
    });
    let key = json!({ "id": id, "key_id": id, "arn": arn, "enable_key_rotation": true, "is_enabled": true });
    let state = json!({
        "version": 4, "terraform_version": "1.5.7", "serial": 7, "lineage": "2f6d4b1e", "outputs": {},
        "resources": [
            resource("module.ecr_kms_key.aws_kms_key.this", json!([instance(json!(0), key)])),
            resource(
                "module.ecr_kms_key.aws_kms_alias.this",
                json!([instance(json!("ecr/mainline-htc"), alias)]),
            ),
            resource("aws_ecr_repository.third_party", json!(repositories)),
            resource("aws_ecr_pull_through_cache_rule.ecr-public", rule("ecr-public", "public.ecr.aws")),
            resource("aws_ecr_pull_through_cache_rule.quay", rule("quay", "quay.io")),
        ],
    });
    account.aws.s3("PUT", &format!("/{BUCKET}/.terraform/terraform.tfstate"), state.to_string().into_bytes());

    account.variables(&grid());
    account.init();
    let plan = account.plan();
    // Nothing that exists is created again; tags, scanning and the key's policy are updated.
    for resource in state["resources"].as_array().unwrap() {
        let added = plan.lines().find(|line| {
            line.ends_with("will be created")
                && line.contains(&format!("# {}.", resource["type"].as_str().unwrap()))
        });
        assert_eq!(added, None, "{plan}");
    }
    assert!(plan.contains(" to add, 4 to change, 0 to destroy."), "{plan}");
    assert!(plan.contains("aws_kms_key.ecr"), "{plan}");
    assert!(!plan.contains("must be replaced") && !plan.contains("will be destroyed"), "{plan}");
    account.run(&["apply", "-input=false", "-no-color", "plan"]);
    account.settled();
    assert_eq!(account.aws.repository("curl")["encryptionConfiguration"]["kmsKey"], arn);
    assert_eq!(
        account.aws.repository("kedacore/keda")["encryptionConfiguration"]["encryptionType"],
        "AES256"
    );
    let metadata = account.aws.kms("DescribeKey", &json!({ "KeyId": "alias/ecr/mainline-htc" }));
    assert_eq!(
        (&metadata["KeyMetadata"]["KeyState"], &metadata["KeyMetadata"]["KeyId"]),
        (&json!("Enabled"), &id)
    );
}
