//! An account that HTC-Grid's Makefile deployed keeps everything.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use e2e::{BUCKET, STATE, World};
use grid::ResourceKind;
use serde_json::{Value, json};

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
grafana = "grafana/grafana:10.1.1"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
ecr-public = "public.ecr.aws"
quay = "quay.io"
registry-k8s-io = "registry.k8s.io"
[repositories]
extra = ["awshpc", "submitter"]
"#;

/// The resources were created by the tool itself; the state then describes them as the Makefile's module does.
fn deployed_by_the_makefile() -> Option<World> {
    deployed_with_alias("ecr/mainline-htc")
}

/// The same by a version of HTC-Grid that named the key this way.
fn deployed_with_alias(alias: &str) -> Option<World> {
    let world = World::grid(IMAGES)?;
    world.xtask("init-images --create-state-bucket").ok();
    world.xtask("transfer-images --auto-approve").ok();
    let aws = world.aws();
    let mut state: Value = serde_json::from_slice(&aws.s3.get(BUCKET, STATE).unwrap()).unwrap();
    let mut resources = Vec::new();
    for mut resource in state["resources"].as_array().unwrap().clone() {
        for instance in resource["instances"].as_array_mut().unwrap() {
            // Attributes that provider 5.x did not have.
            for new in ["region", "image_tag_mutability_exclusion_filter"] {
                instance["attributes"].as_object_mut().unwrap().remove(new);
            }
        }
        match resource["type"].as_str().unwrap() {
            _ if resource["mode"] != "managed" => continue,
            "aws_kms_key" => {
                resource["module"] = "module.ecr_kms_key".into();
                resource["name"] = "this".into();
                resource["instances"][0]["index_key"] = 0.into();
                resource["instances"][0]["dependencies"] = json!([]);
            }
            "aws_kms_alias" => {
                resource["module"] = "module.ecr_kms_key".into();
                resource["name"] = "this".into();
                let instance = &mut resource["instances"][0];
                instance["index_key"] = alias.into();
                let name = format!("alias/{alias}");
                if instance["attributes"]["name"] != name.as_str() {
                    let key = instance["attributes"]["target_key_id"].clone();
                    aws.kms("DeleteAlias", &json!({ "AliasName": instance["attributes"]["name"] }));
                    aws.kms("CreateAlias", &json!({ "AliasName": name, "TargetKeyId": key }));
                    for attribute in ["id", "name"] {
                        instance["attributes"][attribute] = name.as_str().into();
                    }
                    instance["attributes"]["arn"] =
                        format!("arn:aws:kms:{}:{}:{name}", e2e::REGION, e2e::ACCOUNT).into();
                }
            }
            "aws_ecr_repository" => resource["name"] = "third_party".into(),
            "aws_ecr_pull_through_cache_rule" => {
                for mut instance in resource["instances"].as_array().unwrap().clone() {
                    let name = match instance["index_key"].as_str().unwrap() {
                        "registry-k8s-io" => "registry_k8s_io".to_owned(),
                        other => other.to_owned(),
                    };
                    instance.as_object_mut().unwrap().remove("index_key");
                    let mut rule = resource.clone();
                    rule["name"] = name.into();
                    rule["instances"] = json!([instance]);
                    resources.push(rule);
                }
                continue;
            }
            _ => continue,
        }
        resources.push(resource);
    }
    for name in ["authenticate_to_ecr_repository", "copy_images", "pull_python_env"] {
        resources.push(json!({
            "mode": "managed", "type": "null_resource", "name": name,
            "provider": "provider[\"registry.terraform.io/hashicorp/null\"]",
            "instances": [{ "schema_version": 0, "sensitive_attributes": [], "attributes": {
                "id": "4711", "triggers": { "always_run": "2023-09-01T10:00:00Z" },
            } }],
        }));
    }
    state["resources"] = resources.into();
    state["outputs"] = json!({});
    state["serial"] = (state["serial"].as_u64().unwrap() + 1).into();
    aws.s3.put(BUCKET, STATE, state.to_string().as_bytes());
    // Another machine: a fresh checkout of this project.
    std::fs::remove_dir_all(world.path("local/terraform")).unwrap();
    std::fs::remove_dir_all(world.path("target/xtask")).unwrap();
    aws.emulator.forget();
    Some(world)
}

fn addresses(state: &[u8]) -> Vec<String> {
    let state: Value = serde_json::from_slice(state).unwrap();
    let managed =
        state["resources"].as_array().unwrap().iter().filter(|resource| resource["mode"] == "managed");
    let name = |resource: &Value| {
        let module = resource["module"].as_str().map(|module| format!("{module}.")).unwrap_or_default();
        format!("{module}{}.{}", resource["type"].as_str().unwrap(), resource["name"].as_str().unwrap())
    };
    managed.map(name).collect()
}

#[test]
fn the_makefiles_resources_are_adopted() {
    let Some(world) = deployed_by_the_makefile() else { return };
    let aws = world.aws();
    let (tags, repositories) = (aws.whole_tags(), aws.ecr("DescribeRepositories", &json!({})));
    let (before, keys) = (aws.s3.get(BUCKET, STATE).unwrap(), aws.keys());
    assert_eq!((keys.0.len(), keys.1.len()), (1, 1));
    aws.emulator.forget();

    let run = world.xtask("init-images").ok();
    assert!(run.stderr.contains("Makefile's state") && run.stderr.contains("before-xtask"), "{run}");
    let run = world.xtask("transfer-images --auto-approve").ok();
    assert!(!run.stderr.contains("\n  delete ") && !run.stderr.contains("\n  replace "), "{run}");
    // 0 destroyed, 0 replaced, and none of it created again. Only what no Makefile created is new.
    let old = addresses(&before);
    let is_old =
        |kind: &ResourceKind| old.iter().any(|address| address.contains(&format!("{}.", kind.name())));
    let new: Vec<String> = ResourceKind::ALL
        .into_iter()
        .filter(|kind| !is_old(kind))
        .filter_map(|kind| Some(format!("{:?}", kind.creation().split_once(':')?.1)))
        .collect();
    let resources = ["Delete", "Create", "Put", "Batch", "POST", "PATCH"];
    let changed: Vec<_> = aws
        .emulator
        .changes()
        .into_iter()
        .filter(|change| !change.contains("s3") && resources.iter().any(|word| change.contains(word)))
        .filter(|change| !new.iter().any(|action| change.contains(action)))
        .collect();
    assert_eq!(changed, Vec::<String>::new(), "{run}");
    assert_eq!(aws.keys(), keys, "{run}");
    assert_eq!((tags.len(), aws.whole_tags()), (3, tags), "{run}");
    let after = aws.ecr("DescribeRepositories", &json!({}));
    assert_eq!(after["repositories"], repositories["repositories"], "{run}");
    let after = addresses(&aws.s3.get(BUCKET, STATE).unwrap());
    assert!(
        !after.iter().any(|address| address.contains("null_resource") || address.contains("module.")),
        "{after:?}"
    );
    let copy = aws.s3.get(BUCKET, &format!("{STATE}.before-xtask")).unwrap();
    assert_eq!(addresses(&copy), addresses(&before));
    let second = world.xtask("transfer-images --refresh --format json").ok();
    assert_eq!(second.json()["changed"], false, "{second}");
}

#[test]
fn a_transfer_asks_for_init_images_and_does_not_change_the_state() {
    let Some(world) = deployed_by_the_makefile() else { return };
    let aws = world.aws();
    let before = aws.s3.get(BUCKET, STATE).unwrap();
    for command in ["transfer-images --dry-run", "transfer-images --auto-approve"] {
        let run = world.xtask(command).end();
        assert_eq!(run.code, Some(3), "{run}");
        assert!(run.stderr.contains("`cargo xtask init-images` imports it"), "{run}");
    }
    assert!(
        aws.s3.get(BUCKET, STATE).unwrap() == before,
        "the state was changed: {:?}",
        addresses(&aws.s3.get(BUCKET, STATE).unwrap())
    );
}

#[test]
fn an_older_grids_alias_is_kept_with_the_grids_own() {
    let Some(world) = deployed_with_alias("ecr/htc") else { return };
    let aws = world.aws();
    let (tags, (keys, aliases)) = (aws.whole_tags(), aws.keys());
    assert_eq!(aliases, ["alias/ecr/htc"]);
    world.xtask("init-images").ok();
    let run = world.xtask("transfer-images --auto-approve").ok();
    assert!(!run.stderr.contains("\n  delete ") && !run.stderr.contains("\n  replace "), "{run}");
    assert_eq!(
        aws.keys(),
        (keys, vec!["alias/ecr/htc".to_owned(), "alias/ecr/mainline-htc".to_owned()]),
        "{run}"
    );
    assert_eq!(aws.whole_tags(), tags, "{run}");
    let second = world.xtask("transfer-images --refresh --format json").ok();
    assert_eq!(second.json()["changed"], false, "{second}");
    world.xtask("auto-destroy-images").ok();
    assert_eq!(aws.keys(), (Vec::new(), Vec::new()));
}
