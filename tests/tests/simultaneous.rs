//! Two transfers that start at the same moment: one works, the other waits or reports the holder.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use e2e::{Aws, BUCKET, Ended, STATE, TERRAFORM, World, rounds, say};
use serde_json::json;

// From a registry that does not count pulls.
const IMAGES: &str = r#"schema_version = 1
[images]
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"kedacore/keda-metrics-apiserver" = "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2"
"#;

/// All changes are made under the one lease, except for the plan cache, the record of the run and terraform's own lock.
fn all_changes_are_under_a_lease(aws: &Aws, both: &str) {
    let lease = format!("/{BUCKET}/{STATE}.transfer.lock");
    let aside = ["proof.json", "transfer.report", "tflock"].map(|name| format!("/{BUCKET}/{STATE}.{name}"));
    let mut held = false;
    for entry in aws.emulator.log() {
        let (action, path) = (entry["action"].as_str().unwrap(), entry["path"].as_str().unwrap());
        let done = entry["status"].as_u64().unwrap() < 400;
        if path == lease && done {
            match action {
                "PutObject" => {
                    assert!(!held, "two hold the lease\n{both}");
                    held = true;
                }
                "DeleteObject" => held = false,
                _ => {}
            }
            continue;
        }
        let reads = ["Get", "Head", "List", "Describe", "BatchGet", "BatchCheck", "GET", "HEAD", "Decrypt"];
        let read =
            reads.iter().any(|read| action.starts_with(read)) || aside.iter().any(|aside| path == aside);
        assert!(held || read || !done, "{action} {path} without the lease\n{both}");
    }
}

fn names_the_other(ended: &Ended, other: u32) -> bool {
    let lease = format!("(process {other}) has been working on the images of grid mainline since ");
    // Terraform's lock contains user and machine.
    ended.stderr.contains(&lease)
        || ended.stderr.contains("the terraform state") && ended.stderr.contains("is locked by ")
}

#[test]
fn one_works_and_the_other_waits_or_reports_the_holder() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask("init-images --create-state-bucket").ok();
    world.xtask("transfer-images --auto-approve").ok();
    let aws = world.aws();
    let tags = aws.whole_tags();
    let (mut refused, mut waited, mut idle) = (0, 0, 0);
    for round in 0..rounds(2, 50) {
        // Changes by terraform, or only by the copies; the other run waits, or does not.
        let (terraforms, patient) = (round % 2 == 0, round % 4 == 0 || round % 4 == 3);
        let input = if terraforms {
            json!({ "repositoryName": "kedacore/keda", "force": true })
        } else {
            json!({ "repositoryName": "kedacore/keda-metrics-apiserver", "imageIds": [{ "imageTag": "2.11.2" }] })
        };
        aws.ecr(if terraforms { "DeleteRepository" } else { "BatchDeleteImage" }, &input);
        aws.emulator.forget();
        let start = || {
            let patience = if patient { "--lock-timeout 120" } else { "" };
            world.xtask(&format!("transfer-images --auto-approve --format json {patience}")).start()
        };
        let both = [start(), start()];
        let pids = [both[1].pid(), both[0].pid()];
        let both = both.map(e2e::Running::end);
        let said = format!("round {round}\n{}\n{}", both[0], both[1]);
        let mut worked = 0;
        for (ended, other) in both.iter().zip(pids) {
            match ended.code {
                Some(0) => {
                    let changed = ended.json()["changed"] == true;
                    worked += usize::from(changed);
                    waited += usize::from(ended.stderr.contains("waiting up to 120 s for"));
                    idle += usize::from(!changed);
                }
                code => {
                    assert_eq!(code, Some(TERRAFORM), "{said}");
                    assert!(!patient && names_the_other(ended, other), "{said}");
                    refused += 1;
                }
            }
        }
        assert_eq!(worked, 1, "{said}");
        all_changes_are_under_a_lease(&aws, &said);
        for lock in ["tflock", "transfer.lock"] {
            assert!(aws.s3.lock(lock).is_none(), "{lock} stays\n{said}");
        }
        assert_eq!(aws.whole_tags(), tags, "{said}");
        let after = world.xtask("transfer-images --format json").ok();
        assert_eq!(after.json()["changed"], false, "{said}\n{after}");
    }
    say(&format!("{refused} refused, {waited} waited, {idle} found nothing to do"));
}
