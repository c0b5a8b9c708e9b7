//! `--dry-run`, and a question that is answered with no: nothing is written, not even what puts the state right.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use e2e::{Aws, BUCKET, INIT, STATE, World};
use serde_json::{Value, json};

const IMAGES: &str = r#"schema_version = 1
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
quay = "quay.io"
"#;
const REFUSED: i32 = 6;
/// Every command that has it.
const DRY: [&str; 5] = [
    "transfer-images --dry-run",
    "destroy-images --dry-run",
    "auto-transfer-images --dry-run --refresh",
    "prune --dry-run",
    "auto-destroy-images --dry-run",
];

/// Every request that AWS took and that is no read, terraform's lock among them.
fn writes(aws: &Aws) -> Vec<String> {
    let reads =
        ["Get", "Head", "List", "Describe", "BatchGet", "BatchCheck", "GET", "HEAD", "Decrypt", "Assume"];
    let entries = aws.log().into_iter().map(|entry| {
        let word = |name: &str| entry[name].as_str().unwrap().to_owned();
        (word("action"), word("path"))
    });
    entries
        .filter(|(action, _)| !reads.iter().any(|read| action.starts_with(read)))
        .map(|(action, path)| format!("{action} {path}"))
        .collect()
}

/// Runs what must not write, holds the state's bytes and all writes against that, and gives what each said.
fn nothing_is_written(world: &World, dry: &[&str]) -> Vec<String> {
    let aws = world.aws();
    let beside =
        || ["", ".proof.json", ".transfer.lock"].map(|end| aws.object(BUCKET, &format!("{STATE}{end}")));
    let before = beside();
    let mut said = Vec::new();
    for command in dry {
        aws.forget();
        let run = world.xtask(command).ok();
        assert_eq!(writes(&aws), [""; 0], "{command}: {run}");
        assert!(beside() == before, "{command}: {run}");
        said.push(run.stderr);
    }
    // With a question there is a plan before it, and terraform's lock around the plan.
    for command in ["transfer-images", "destroy-images"] {
        aws.forget();
        let run = world.xtask(command).stdin("no\n").end();
        // Where there is nothing to do, nothing is asked.
        assert!(matches!(run.code, Some(REFUSED | 0)), "{run}");
        assert_eq!(aws.changes(), [""; 0], "{command}: {run}");
        assert!(beside() == before, "{command}: {run}");
        said.push(run.stderr);
    }
    said
}

fn edit_state(aws: &Aws, edit: impl FnOnce(&mut Value)) {
    let mut state: Value = serde_json::from_slice(&aws.object(BUCKET, STATE).unwrap()).unwrap();
    edit(&mut state);
    state["serial"] = (state["serial"].as_u64().unwrap() + 1).into();
    aws.put_object(BUCKET, STATE, state.to_string().as_bytes());
}

/// The instances of a resource in the state.
fn instances<'a>(state: &'a mut Value, kind: &str) -> &'a mut Vec<Value> {
    let resources = state["resources"].as_array_mut().unwrap();
    let resource = resources.iter_mut().find(|resource| resource["type"] == kind).unwrap();
    resource["instances"].as_array_mut().unwrap()
}

#[test]
fn nothing_is_written_before_the_yes_whatever_there_is_to_put_right() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    let aws = world.aws();
    // A new account.
    let said = nothing_is_written(&world, &DRY[..1]);
    assert!(said[0].contains("create aws_kms_key.ecr"), "{}", said[0]);
    world.xtask("auto-transfer-images").ok();
    nothing_is_written(&world, &DRY);

    // A creation that was cut off, as terraform marks it.
    edit_state(&aws, |state| instances(state, "aws_ecr_repository")[0]["status"] = "tainted".into());
    let said = nothing_is_written(&world, &DRY[..1]);
    let line = r#"aws_ecr_repository.managed["kedacore/keda"]: its creation was cut off; it stands, and is kept as it is"#;
    assert!(said[0].contains(line) && said[1].contains(line), "{}{}", said[0], said[1]);
    let repository = || aws.ecr("DescribeRepositories", &json!({}))["repositories"][0]["createdAt"].clone();
    let created = repository();
    world.xtask("transfer-images").stdin("yes\n").ok();
    assert_eq!(repository(), created);
    edit_state(&aws, |state| assert_eq!(instances(state, "aws_ecr_repository")[0]["status"], Value::Null));

    // What a killed apply created and could not record: the note beside the state names it.
    edit_state(&aws, |state| {
        instances(state, "aws_ecr_repository").retain(|instance| instance["index_key"] != "kedacore/keda");
        instances(state, "aws_ecr_pull_through_cache_rule").clear();
    });
    let begun = json!({ "begun": "2026-11-27T00:00:00Z", "creates": {
        "aws_ecr_repository.managed[\"kedacore/keda\"]": "kedacore/keda",
        "aws_ecr_pull_through_cache_rule.managed[\"quay\"]": "quay",
    } });
    aws.put_object(BUCKET, &format!("{STATE}.proof.json"), begun.to_string().as_bytes());
    let said = nothing_is_written(&world, &DRY[..2]);
    for said in &said {
        for address in [
            "aws_ecr_repository.managed[\"kedacore/keda\"]",
            "aws_ecr_pull_through_cache_rule.managed[\"quay\"]",
        ] {
            assert!(
                said.contains(&format!("record {address}, which stands: it was created by a run")),
                "{said}"
            );
            assert!(!said.contains(&format!("create {address}")), "{said}");
        }
    }
    world.xtask("transfer-images").stdin("yes\n").ok();
    assert_eq!(world.xtask("transfer-images --refresh --format json").ok().json()["changed"], false);
    world.xtask("auto-destroy-images").ok();
    assert_eq!(aws.repositories(), [""; 0]);
}
