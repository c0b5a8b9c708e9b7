//! One list by several processes: the result is that of one process, also if one of them is killed.
//!
//! AWS is the emulated one: this was not observed in a real account.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use e2e::{Aws, BUCKET, Ended, Gate, INIT, STATE, SlowLink, TERRAFORM, World, say};
use rustix::process::Signal;
use serde_json::{Value, json};

const SOURCES: [&str; 3] = [
    "kedacore/keda:2.11.2",
    "kedacore/keda-metrics-apiserver:2.11.2",
    "kedacore/keda-admission-webhooks:2.11.2",
];
const SHARDS: u64 = 4;

/// The shard of a repository: the rule in the documentation, implemented a second time.
fn share(repository: &str) -> u64 {
    let digest = e2e::digest(repository.as_bytes());
    u64::from_str_radix(&digest["sha256:".len()..][..12], 16).unwrap() % SHARDS + 1
}

/// Repositories, this number in each shard.
fn repositories(each: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in (0..).map(|number| format!("team/app-{number}")) {
        if names.iter().filter(|other| share(other) == share(&name)).count() < each {
            names.push(name);
        }
        if names.len() as u64 == SHARDS * each as u64 {
            return names;
        }
    }
    unreachable!("the numbers do not end")
}

/// An image in each repository, from a registry that does not count pulls.
fn images(repositories: &[String]) -> String {
    let mut text = "schema_version = 1\n[images]\n".to_owned();
    for (repository, source) in repositories.iter().zip(SOURCES.iter().cycle()) {
        writeln!(text, "\"{repository}\" = \"ghcr.io/{source}\"").unwrap();
    }
    text
}

fn shard(world: &World, number: u64) -> e2e::Run {
    world.xtask(&format!("transfer-images --auto-approve --format json --shard {number}/{SHARDS}"))
}

fn nothing_is_held(aws: &Aws, said: &str) {
    for lock in ["tflock".to_owned(), "transfer.lock".to_owned()]
        .into_iter()
        .chain((1..=SHARDS).map(|number| format!("transfer.lock.{number}-of-{SHARDS}")))
    {
        assert!(aws.s3.lock(&lock).is_none(), "{lock} stays\n{said}");
    }
}

/// The repository of an image in a report.
fn repository(image: &Value) -> &str {
    image["name"].as_str().unwrap().split(':').next().unwrap()
}

fn all_said(runs: &[Ended]) -> String {
    runs.iter().map(|run| format!("{run}\n")).collect()
}

#[test]
fn four_shards_have_the_result_of_one_process() {
    let repositories = repositories(2);
    let Some(alone) = World::grid(&images(&repositories)) else { return };
    alone.xtask(INIT).ok();
    alone.xtask("transfer-images --auto-approve").ok();
    let wanted = alone.aws().whole_tags();

    let world = World::grid(&images(&repositories)).unwrap();
    world.xtask(INIT).ok();
    let aws = world.aws();
    aws.emulator.forget();
    let runs: Vec<_> = (1..=SHARDS).map(|number| shard(&world, number).start()).collect();
    let runs: Vec<Ended> = runs.into_iter().map(e2e::Running::end).collect();
    let said = all_said(&runs);
    assert!(runs.iter().all(|run| run.code == Some(0)), "{said}");
    assert_eq!(aws.whole_tags(), wanted, "{said}");
    nothing_is_held(&aws, &said);

    // The resources were created once, whichever process did it.
    let log = aws.emulator.log();
    let count = |action: &str| log.iter().filter(|entry| entry["action"] == action).count();
    // The runtimes' repository is in addition to these.
    assert_eq!(count("CreateRepository"), repositories.len() + 1, "{said}");
    assert_eq!(count("CreateKey"), 1, "{said}");
    // Each copied its own shard only.
    let reports: Vec<Value> = runs.iter().map(Ended::json).collect();
    for (report, number) in reports.iter().zip(1..) {
        assert_eq!(report["shard"], format!("{number}/{SHARDS}"), "{said}");
        let images = report["images"].as_array().unwrap();
        assert_eq!(images.len(), 2, "{said}");
        assert!(
            images.iter().all(|image| share(repository(image)) == number && image["action"] == "copy"),
            "{said}"
        );
    }
    // The process that ends last has all their reports.
    let whole: Vec<&Value> = reports.iter().map(|report| &report["shards"]).collect();
    let joined = whole.iter().find(|joined| joined["complete"] == true).expect("nobody joined the reports");
    assert_eq!((joined["images"].as_u64(), joined["brought"].as_u64()), (Some(8), Some(8)), "{said}");
    assert!(
        runs.iter().any(|run| run.stderr.contains("all 4 shards have reported: 8 images in place")),
        "{said}"
    );

    let after = world.xtask("transfer-images --auto-approve --format json").ok();
    assert_eq!(after.json()["changed"], false, "{after}");
}

#[test]
fn a_killed_shard_does_not_stop_others_and_continues_when_restarted() {
    let repositories = repositories(2);
    let Some(mut world) = World::grid(&images(&repositories)) else { return };
    world.xtask(INIT).ok();
    let gate = Gate::before(&world.sources.host, |line| line.contains("/blobs/"));
    world.sources.route("ghcr.io", format!("http://{}/ghcr.io", gate.host()));
    let killed = shard(&world, 2).start();
    gate.wait();
    let aws = world.aws();
    let held: Value = serde_json::from_slice(&aws.s3.lock("transfer.lock.2-of-4").unwrap()).unwrap();
    assert_eq!(held["shard"], "2/4");
    assert!(aws.s3.lock("transfer.lock").is_none(), "the resources are made, and others may work");

    // A run for the whole list is refused meanwhile, and the error names the shard.
    let whole = world.xtask("transfer-images --auto-approve").end();
    whole.failed(
        TERRAFORM,
        &["has been working on shard 2/4 of the images of grid mainline since", "--lock-timeout"],
    );
    // Nor may another process work on the same shard.
    let mut twice = shard(&world, 2).start();
    twice.wait_for("whose run works on shard 2/4 of the images of this grid");
    twice.signal(Signal::INT);
    twice.end();

    killed.signal(Signal::KILL);
    assert_eq!(killed.end().code, None);
    gate.open();
    let others: Vec<_> = [1, 3, 4].map(|number| shard(&world, number).start()).into_iter().collect();
    let others: Vec<Ended> = others.into_iter().map(e2e::Running::end).collect();
    let said = all_said(&others);
    assert!(others.iter().all(|run| run.code == Some(0)), "{said}");
    assert!(others.iter().all(|run| run.json()["shards"]["complete"] == false), "{said}");
    assert!(others.iter().any(|run| run.stderr.contains("not reported yet: shard 2/4")), "{said}");

    let again = shard(&world, 2).ok();
    assert!(again.stderr.contains("whose process is gone"), "{again}");
    assert_eq!(again.json()["shards"]["complete"], true, "{again}");
    nothing_is_held(&aws, &again.to_string());
    let tags: Vec<String> = aws.whole_tags().into_iter().map(|(name, _)| name).collect();
    assert_eq!(tags.len(), repositories.len(), "{tags:?}\n{again}");
    let after = world.xtask("transfer-images --auto-approve --format json").ok();
    assert_eq!(after.json()["changed"], false, "{after}");
}

#[test]
fn a_shard_waits_for_a_run_that_does_the_whole_work() {
    let Some(world) = World::grid(&images(&repositories(1))) else { return };
    world.xtask(INIT).ok();
    world.xtask("transfer-images --auto-approve").ok();
    let aws = world.aws();
    let image = json!({ "repositoryName": repositories(1)[0], "imageIds": [{ "imageTag": "2.11.2" }] });
    aws.ecr("BatchDeleteImage", &image);
    let lease = json!({
        "who": "ada on laptop (process 7)", "grid": "mainline", "since": "2026-11-22T10:00:00Z", "expires": "2999-01-01T00:00:00Z",
    });
    let key = format!("{STATE}.transfer.lock");
    aws.s3.put(BUCKET, &key, lease.to_string().as_bytes());
    let number = share(&repositories(1)[0]);
    let mut run = shard(&world, number).start();
    run.wait_for("waiting up to 900 s for ada on laptop (process 7)");
    assert!(
        aws.s3.lock(&format!("transfer.lock.{number}-of-4")).is_none(),
        "it holds nothing while it waits"
    );
    aws.s3.bucket(e2e::ACCOUNT, "DELETE", &format!("{BUCKET}/{key}"), "");
    let run = run.end();
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(aws.whole_tags().len(), 4, "{run}");
}

#[test]
fn an_invalid_shard_is_refused_before_any_request() {
    let Some(world) = World::grid(&images(&repositories(1))) else { return };
    for (shard, why) in [("5/4", "--shard: \"5/4\" is not I/N"), ("auto", "nothing says which one this is")] {
        world.xtask(&format!("transfer-images --shard {shard}")).end().failed(2, &[why]);
    }
    let run = world.xtask("transfer-images --registry 127.0.0.1:1 --shard auto/4");
    assert!(run.env("JOB_COMPLETION_INDEX", "4").end().stderr.contains("is not one of 4"));
}

/// How long one process needs the link.
fn link_time() -> Duration {
    Duration::from_secs(e2e::rounds(8, 40) as u64)
}

#[test]
fn four_shards_with_four_links_are_faster() {
    let repositories = repositories(4);
    let mut times = Vec::new();
    let mut tags = Vec::new();
    let mut rate = 0.0;
    for processes in [1, SHARDS] {
        let Some(mut world) = World::grid(&images(&repositories)) else { return };
        // Each process reaches it through its own proxy: the arguments in the command line are also those of the emulated AWS.
        world.sources.route("ghcr.io", "http://samples.test/ghcr.io".to_owned());
        let through =
            |run: e2e::Run, link: &SlowLink| run.env("HTTP_PROXY", format!("http://{}", link.host()));
        let fast = SlowLink::to(&world.sources.host, 1e9);
        world.xtask(INIT).ok();
        // The resources, which take time and are not measured.
        let first = world.xtask(&format!("transfer-images --auto-approve --only {}", repositories[0]));
        through(first, &fast).ok();
        let aws = world.aws();
        let id = json!({ "repositoryName": repositories[0], "imageIds": [{ "imageTag": "2.11.2" }] });
        aws.ecr("BatchDeleteImage", &id);
        if processes == 1 {
            let plan = through(world.xtask("transfer-images --dry-run --format json"), &fast).ok().json();
            let bytes =
                plan["images"].as_array().unwrap().iter().map(|image| image["bytes"].as_f64().unwrap());
            rate = bytes.sum::<f64>() / link_time().as_secs_f64();
        }
        let mut runs = Vec::new();
        let started = Instant::now();
        for number in 1..=processes {
            let link = SlowLink::to(&world.sources.host, rate);
            let run = through(world.xtask("transfer-images --auto-approve --format json"), &link);
            let run = if processes == 1 { run } else { run.args(&format!("--shard {number}/{processes}")) };
            runs.push(run.start());
        }
        let runs: Vec<Ended> = runs.into_iter().map(e2e::Running::end).collect();
        times.push(started.elapsed().as_secs_f64());
        assert!(runs.iter().all(|run| run.code == Some(0)), "{}", all_said(&runs));
        tags.push(aws.whole_tags());
    }
    assert_eq!(tags[0], tags[1]);
    let ratio = times[1] / times[0];
    say(&format!("one process {:.1} s, four shards {:.1} s: {ratio:.2}", times[0], times[1]));
    assert!(times[0] >= 0.9 * link_time().as_secs_f64(), "the link was not the limit: {times:?}");
    // The fixed cost of each process counts less the longer its part takes.
    let bound = if link_time() > Duration::from_secs(20) { 0.3 } else { 0.6 };
    assert!(ratio <= bound, "{ratio:.2}: {times:?}");
}
