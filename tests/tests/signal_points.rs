//! SIGINT, SIGTERM and SIGKILL at observed points of a run: a delayed answer of AWS, the request for a source's blob, a line of
//! terraform's output. The next run completes, and everything that was created is in the state.
//!
//! The points are drawn by `E2E_SEED`: one for each signal, and with `cargo xtask test --soak` in turn for all phases.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::{
    BOUND, Gate, INIT, INTERRUPTED, Running, World, completes, orphans, programs, random, rounds, say, seed,
    wait_for_terraform,
};
use rustix::process::Signal;
use serde_json::Value;

const TRANSFER: &str = "transfer-images --auto-approve";
const DESTROY: &str = "auto-destroy-images";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Apply,
    Destroy,
    Push,
    Plan,
    Copy,
    Init,
    Tag,
}

const PHASES: [Phase; 7] =
    [Phase::Apply, Phase::Destroy, Phase::Push, Phase::Plan, Phase::Copy, Phase::Init, Phase::Tag];

/// The event before the signal.
#[derive(Clone, Debug)]
enum Event {
    /// The nth answer to a request that contains this text; the request was carried out.
    Answer(usize, String),
    /// The nth blob that is requested from a source.
    Source(usize),
    /// The nth line that contains this text.
    Line(usize, &'static str),
}

fn started() -> Option<World> {
    let world = World::small_grid()?;
    world.xtask("local up").ok();
    Some(world)
}

/// The requests of a grid from creation to destruction: init, transfer up to the lease, the rest of the transfer, destroy.
fn requests() -> &'static [Vec<String>; 4] {
    static ALL: OnceLock<[Vec<String>; 4]> = OnceLock::new();
    ALL.get_or_init(|| {
        let world = started().unwrap();
        let aws = world.aws();
        let of = |line: &str| {
            aws.emulator.forget();
            world.xtask(line).ok();
            let word = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
            let entries = aws.emulator.log().into_iter();
            let text = |entry: Value| {
                format!("{} {} {}", word(&entry, "service"), word(&entry, "action"), word(&entry, "path"))
            };
            entries.map(text).collect::<Vec<_>>()
        };
        let (init, mut plan, destroy) = (of(INIT), of(TRANSFER), of(DESTROY));
        let lease = plan.iter().position(|request| request.ends_with("transfer.lock")).unwrap();
        let rest = plan.split_off(lease);
        [init, plan, rest, destroy]
    })
}

fn draw(phase: Phase, chance: &mut u64) -> Event {
    let [init, plan, rest, destroy] = requests();
    let mut nth = |requests: &[String], words: &str| {
        let all = requests.iter().filter(|request| request.contains(words)).count();
        assert!(all > 0, "no {words:?} in {requests:?}");
        Event::Answer(1 + random(chance, all), words.to_owned())
    };
    match phase {
        Phase::Init => nth(init, ""),
        Phase::Plan => nth(plan, ""),
        Phase::Apply => {
            let words = [
                "kms CreateKey",
                "kms CreateAlias",
                "ecr CreateRepository",
                "ecr CreateRepository",
                "ecr CreatePullThroughCacheRule",
                "terraform.tfstate.tflock",
                "s3 PutObject",
                "line",
            ];
            match words[random(chance, words.len())] {
                "line" => Event::Line(1 + random(chance, 8), ": done"),
                // Terraform's plan holds the lock before the lease exists: both counts continue from there.
                words @ ("terraform.tfstate.tflock" | "s3 PutObject") => {
                    let before = plan.iter().filter(|request| request.contains(words)).count();
                    let all = rest.iter().filter(|request| request.contains(words)).count();
                    Event::Answer(before + 1 + random(chance, all), words.to_owned())
                }
                words => {
                    let all = rest.iter().filter(|request| request.contains(words)).count();
                    assert!(all > 0, "no {words:?} in {rest:?}");
                    Event::Answer(1 + random(chance, all), words.to_owned())
                }
            }
        }
        Phase::Copy => Event::Source(1 + random(chance, 5)),
        Phase::Push => {
            let words = ["oci POST upload", "oci PATCH upload", "oci PUT upload", "oci HEAD blob"];
            let there: Vec<_> =
                words.iter().filter(|words| rest.iter().any(|request| request.contains(**words))).collect();
            let words = there[random(chance, there.len())];
            let all = rest.iter().filter(|request| request.contains(words)).count();
            Event::Answer(1 + random(chance, all), (*words).to_owned())
        }
        Phase::Tag => {
            let words = ["/curl/manifests/7.85.0", "/kedacore/keda/manifests/2.11.2", "/manifests/sha256:"];
            let words = format!("oci PUT manifest /v2{}", words[random(chance, 2)]);
            Event::Answer(1, words)
        }
        Phase::Destroy => {
            let words = [
                "ecr DeleteRepository",
                "ecr DeletePullThroughCacheRule",
                "kms DeleteAlias",
                "kms ScheduleKeyDeletion",
                "",
            ];
            let words = words[random(chance, words.len())];
            let all = destroy.iter().filter(|request| request.contains(words)).count();
            assert!(all > 0, "no {words:?} in {destroy:?}");
            Event::Answer(1 + random(chance, all), words.to_owned())
        }
    }
}

fn strike(phase: Phase, event: &Event, signal: Signal, group: bool) {
    let Some(mut world) = started() else { return };
    let mut gate = None;
    if let Event::Source(nth) = *event {
        let blobs = AtomicUsize::new(0);
        let hold =
            move |line: &str| line.contains("/blobs/") && blobs.fetch_add(1, Ordering::Relaxed) + 1 >= nth;
        let before = Gate::before(&world.sources.host, hold);
        for registry in ["docker.io", "ghcr.io"] {
            world.sources.route(registry, format!("http://{}/{registry}", before.host()));
        }
        gate = Some(before);
    }
    let aws = world.aws();
    let line = match phase {
        Phase::Init => INIT,
        Phase::Destroy => DESTROY,
        _ => TRANSFER,
    };
    if phase != Phase::Init {
        world.xtask(INIT).ok();
    }
    if phase == Phase::Destroy {
        world.xtask(TRANSFER).ok();
    }
    if let Event::Answer(nth, words) = event {
        aws.emulator.quirks(&[&format!("hold-answer={nth}:{words}")]);
    }
    let mut run: Running = world.xtask(line).start();
    let pid = run.pid();
    let at = match event {
        Event::Answer(..) => aws.emulator.held(|| run.is_over()),
        Event::Source(_) => Some(gate.as_ref().unwrap().wait()),
        Event::Line(nth, words) => (0..*nth).map(|_| run.wait_for(words)).last(),
    };
    let mut said = format!("{phase:?} {event:?} {signal:?} group {group}: {at:?}");
    if at.is_none() {
        panic!("{said}: the run ended before: {}", run.end_within(BOUND));
    }
    if group {
        run.signal(signal);
    } else {
        run.signal_alone(signal);
    }
    aws.emulator.quirks(&[]);
    if let Some(gate) = &gate {
        gate.open();
    }
    let ended = run.end_within(BOUND);
    said += &format!("\n{ended}");
    let killed = signal == Signal::KILL;
    if !killed {
        // A signal at the last answer may come too late.
        assert!(matches!(ended.code, Some(INTERRUPTED | 0)), "{said}");
        assert!(aws.s3.lock("transfer.lock").is_none(), "the lease stays: {said}");
        // A signal to the group takes the provider's process away from terraform, unless it comes from a terminal.
        if !group || signal == Signal::INT {
            assert_eq!(orphans(&aws), Vec::<String>::new(), "{said}");
            assert!(aws.s3.lock("tflock").is_none(), "the lock stays: {said}");
        }
    }
    wait_for_terraform(pid, &said);
    let lenient = killed || group && signal == Signal::TERM;
    if phase == Phase::Init {
        completes(&world, INIT, lenient, &said);
    }
    if phase == Phase::Destroy {
        let run = completes(&world, DESTROY, lenient, &said);
        assert_eq!(aws.repositories(), Vec::<String>::new(), "{said}\n{run}");
        assert_eq!(aws.keys(), (vec![], vec![]), "{said}\n{run}");
        assert_eq!(orphans(&aws), Vec::<String>::new(), "{said}\n{run}");
        return;
    }
    let run = completes(&world, TRANSFER, lenient, &said);
    let tags: Vec<String> = aws.whole_tags().into_iter().map(|(name, _)| name).collect();
    assert_eq!(tags, ["curl:7.85.0", "kedacore/keda:2.11.2"], "{said}\n{run}");
    assert_eq!(orphans(&aws), Vec::<String>::new(), "{said}\n{run}");
    assert_eq!((aws.keys().0.len(), aws.keys().1.len()), (1, 1), "{said}\n{run}");
    let after = world.xtask("transfer-images --format json").ok();
    assert_eq!(after.json()["changed"], false, "{said}\n{run}\n{after}");
    for lock in ["tflock", "transfer.lock"] {
        assert!(aws.s3.lock(lock).is_none(), "{lock} stays: {said}\n{run}");
    }
}

/// Sends the signal at points of all phases with `cargo xtask test --soak`, and otherwise at one of `phase`, which needs no
/// recording: `sure` has the text of a request, and the number of them in every run.
fn points(signal: Signal, phase: Phase, sure: &[(&str, usize)]) {
    if !programs(&["terraform"]) {
        return;
    }
    let mut chance = seed() ^ u64::from(signal.as_raw().unsigned_abs()) << 32;
    let began = std::time::Instant::now();
    let mut hit: BTreeMap<Phase, usize> = BTreeMap::new();
    let all = rounds(1, 3 * PHASES.len());
    for point in 0..all {
        let (phase, event) = if all == 1 {
            let (words, count) = sure[random(&mut chance, sure.len())];
            (phase, Event::Answer(1 + random(&mut chance, count), words.to_owned()))
        } else {
            let phase = PHASES[point % PHASES.len()];
            (phase, draw(phase, &mut chance))
        };
        // A terminal signals the whole group; `kill` and the kernel's out-of-memory killer signal one process.
        let group = signal == Signal::INT || random(&mut chance, 2) == 0;
        say(&format!("{signal:?} {point}: {phase:?} {event:?} {}", if group { "group" } else { "alone" }));
        strike(phase, &event, signal, group);
        *hit.entry(phase).or_default() += 1;
    }
    say(&format!("{signal:?}: {all} points in {} s: {hit:?}", began.elapsed().as_secs()));
}

#[test]
fn sigint_loses_nothing() {
    points(Signal::INT, Phase::Init, &[("", 6)]);
}

#[test]
fn sigterm_loses_nothing() {
    let deletes = [
        ("ecr DeleteRepository", 4),
        ("ecr DeletePullThroughCacheRule", 1),
        ("kms DeleteAlias", 1),
        ("kms ScheduleKeyDeletion", 1),
    ];
    points(Signal::TERM, Phase::Destroy, &deletes);
}

#[test]
fn sigkill_loses_nothing() {
    let creates = [
        ("kms CreateKey", 1),
        ("kms CreateAlias", 1),
        ("ecr CreateRepository", 4),
        ("ecr CreatePullThroughCacheRule", 1),
    ];
    points(Signal::KILL, Phase::Apply, &creates);
}

/// An apply that waits for AWS, and the lines that the user then sees at Ctrl-C.
fn interrupted_apply(world: &World) -> Running {
    world.xtask(INIT).ok();
    let aws = world.aws();
    aws.emulator.quirks(&["hold-answer=2:ecr CreateRepository"]);
    let mut run = world.xtask(TRANSFER).arg("--verbose").start();
    assert!(aws.emulator.held(|| run.is_over()).is_some());
    run.signal(Signal::INT);
    // Both processes have got it: signals of one kind are not counted, and another one that came before terraform handled this one
    // would be lost.
    let ours = "interrupted: terraform finishes what it has begun and records it; another Ctrl-C stops it";
    run.wait_for_all(&[ours, "Interrupt received"]);
    run
}

#[test]
fn one_ctrl_c_is_not_sent_to_terraform_twice() {
    let Some(world) = started() else { return };
    let run = interrupted_apply(&world);
    let aws = world.aws();
    aws.emulator.quirks(&[]);
    let ended = run.end_within(BOUND);
    ended.failed(INTERRUPTED, &["error: interrupted"]);
    assert!(!ended.stderr.contains("Two interrupts received"), "{ended}");
    assert_eq!(orphans(&aws), Vec::<String>::new(), "{ended}");
    assert!(!aws.repositories().is_empty(), "{ended}");
    completes(&world, TRANSFER, false, &ended.to_string());
}

#[test]
fn a_second_ctrl_c_ends_terraform_and_the_next_run_recovers_its_resources() {
    let Some(world) = started() else { return };
    let run = interrupted_apply(&world);
    let pid = run.pid();
    // AWS still does not answer: waiting for it would never end.
    run.signal(Signal::INT);
    let ended = run.end_within(BOUND);
    ended.failed(INTERRUPTED, &["terraform was killed before it finished", "hint: run the command again"]);
    let aws = world.aws();
    aws.emulator.quirks(&[]);
    wait_for_terraform(pid, &ended.to_string());
    let lost = orphans(&aws);
    assert!(!lost.is_empty(), "{ended}");
    let next = completes(&world, TRANSFER, true, &ended.to_string());
    assert!(
        next.stderr.contains("was created by a run that was stopped before it could record it"),
        "{next}"
    );
    assert_eq!(orphans(&aws), Vec::<String>::new(), "{lost:?}\n{ended}\n{next}");
}
