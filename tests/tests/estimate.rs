//! The plan shows an estimate of the duration if an earlier run on this machine was measured.

use e2e::{DebianRegistry, Images, Run, SlowLink, TestRepository, World, random};
use serde_json::Value;

const SIZE: usize = 1_500_000;
/// The source's rate, in bytes per second.
const RATE: f64 = 1_000_000.0;

#[test]
fn a_plan_has_an_estimate_after_an_earlier_run_on_this_machine() {
    let Some(world) = World::new(Images::Small) else { return };
    let (Some(source), Some(target), Some(other)) =
        (DebianRegistry::start(), DebianRegistry::start(), DebianRegistry::start())
    else {
        return;
    };
    let shelf = TestRepository::new(source.host(), "team/x");
    let mut seed = 7;
    for tag in ["1", "2", "3"] {
        let layer: Vec<u8> = std::iter::repeat_with(|| random(&mut seed, 256) as u8).take(SIZE).collect();
        shelf.image(Some(tag), &layer);
    }
    let line = |tag: u8| {
        format!("\"img:{tag}\" = {{ source = \"{}/team/x:{tag}\", platforms = \"all\" }}\n", source.host())
    };
    let list = [1, 2, 3].map(line).concat();
    world.write("images.toml", &format!("schema_version = 1\n[images]\n{list}"));
    let link = SlowLink::to(source.host(), RATE);
    let run = |target: &DebianRegistry, words: &str| -> Run {
        let run = world.sourced().arg("--upstream").arg(format!("{}=http://{}", source.host(), link.host()));
        run.args(&format!("transfer-images --auto-approve --registry {} {words}", target.host()))
    };

    // Without an earlier run there is no estimate.
    let first = run(&target, "--only img:1 --format json").ok();
    assert_eq!(first.json()["estimate"], Value::Null, "{first}");
    assert!(!first.stderr.contains("about "), "{first}");

    let plan = run(&target, "--dry-run").ok();
    assert!(
        plan.stderr.contains("; about ") && plan.stderr.contains(" s, as the last runs here took"),
        "{plan}"
    );
    let second = run(&target, "--format json").ok();
    let (estimate, took) =
        (second.json()["estimate"]["seconds"].as_f64().unwrap(), second.took.as_secs_f64());
    assert!(took > 2.9, "{second}");
    assert!((took / 3.0..took * 3.0).contains(&estimate), "{estimate} s were estimated, it took {took} s");
    assert_eq!(second.json()["estimate"]["without_terraform"], false, "{second}");

    // With nothing to do no duration is shown, and for another target it is not known.
    for plan in [run(&target, "--dry-run").ok(), run(&other, "--dry-run").ok()] {
        assert!(!plan.stderr.contains("about "), "{plan}");
    }
    // An unreadable file is treated as a missing one.
    std::fs::write(world.path("target/xtask/timings.json"), "{").unwrap();
    run(&target, "--dry-run").ok();
}
