//! The whole mirror with registries that only exist in memory, on one thread and with a simulated clock: one seed determines every
//! choice. `SIM_SEED=N` runs one seed and shows each request; `SIM_DROP=1,4` omits these of its accidents.
#![expect(unreachable_pub, clippy::unwrap_used, reason = "all of it is a test")]

mod asked;
#[cfg(feature = "bugs")]
mod bugs;
#[path = "../it/support/ecr.rs"]
mod ecr;
#[expect(dead_code, reason = "shared with other tests")]
mod images;
mod journal;
mod load;
mod logins;
mod net;
mod plan;
mod run;
mod site;
mod store;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use plan::Scenario;

/// One test at a time: an injected bug affects the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A seed that fails, and why.
#[derive(Debug)]
struct Failure {
    seed: u64,
    dropped: Vec<usize>,
    why: String,
}

/// Runs `count` seeds from `first` on, on all cores, until one fails.
fn search(first: u64, count: u64, counts: &mut Counts) -> Result<(), Failure> {
    let (next, is_over) = (AtomicU64::new(first), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let results = std::thread::scope(|scope| {
        let worker = || {
            let mut counts = Counts::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count || is_over.load(Ordering::Relaxed) {
                    return (counts, None);
                }
                let (report, result) = tried(&Scenario::draw(seed));
                counts.add(&report);
                if let Err(why) = result {
                    is_over.store(true, Ordering::Relaxed);
                    return (counts, Some((seed, why)));
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    let mut failures = Vec::new();
    for (found, failure) in results {
        counts.merge(found);
        failures.extend(failure);
    }
    match failures.into_iter().min() {
        None => Ok(()),
        Some((seed, why)) => Err(shrunk(seed, why)),
    }
}

/// A panic is a failure like any other.
fn tried(scenario: &Scenario) -> (run::Report, Result<(), String>) {
    let run = std::panic::catch_unwind(|| run::run(scenario, false));
    run.unwrap_or_else(|_| (run::Report::default(), Err("it panics".to_owned())))
}

/// Omits one accident after the other, as long as the run still fails.
fn shrunk(seed: u64, mut why: String) -> Failure {
    let mut dropped = Vec::new();
    for accident in 0..Scenario::draw(seed).accidents.len() {
        let mut fewer = dropped.clone();
        fewer.push(accident);
        if let (_, Err(now)) = tried(&Scenario::draw(seed).without(&fewer)) {
            (dropped, why) = (fewer, now);
        }
    }
    Failure { seed, dropped, why }
}

impl Failure {
    /// One line that runs it again.
    fn replay(&self) -> String {
        let dropped: Vec<String> = self.dropped.iter().map(ToString::to_string).collect();
        let dropped =
            if dropped.is_empty() { String::new() } else { format!("SIM_DROP={} ", dropped.join(",")) };
        format!("SIM_SEED={} {dropped}cargo test -p registry --test sim one_seed -- --nocapture", self.seed)
    }
}

/// The events of many runs.
#[derive(Debug, Default)]
struct Counts {
    runs: u64,
    images: usize,
    failed: usize,
    faults: BTreeMap<&'static str, usize>,
    longest: std::time::Duration,
}

impl Counts {
    fn add(&mut self, report: &run::Report) {
        self.runs += 1;
        self.images += report.images;
        self.failed += report.failed;
        self.longest = self.longest.max(report.time);
        for fault in &report.fired {
            *self.faults.entry(fault).or_default() += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        self.images += other.images;
        self.failed += other.failed;
        self.longest = self.longest.max(other.longest);
        for (fault, count) in other.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn any_accident_ends_in_a_complete_copy_or_a_named_error() {
    let _alone = alone();
    let count =
        number("SIM_COUNT").unwrap_or(if std::env::var_os("SOAK").is_some() { 100_000 } else { 3_000 });
    let first = number("SIM_FIRST").unwrap_or_else(|| fastrand::u64(0..1 << 40));
    let (began, mut counts) = (Instant::now(), Counts::default());
    let result = search(first, count, &mut counts);
    println!("{} runs from seed {first} on in {:.1?}: {counts:?}", counts.runs, began.elapsed());
    if let Err(failure) = result {
        panic!("{}\n{}", failure.why, failure.replay());
    }
    // A fault that never happens tests nothing, and a mirror with a third of its images failing is broken.
    assert!(counts.faults.len() >= 15, "{counts:?}");
    assert!(counts.failed * 5 < counts.images, "{counts:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let _alone = alone();
    for seed in 0..30 {
        let [first, second] = [(), ()].map(|()| run::run(&Scenario::draw(seed), true));
        assert_eq!(first.0.log, second.0.log, "seed {seed}");
        assert_eq!(first.0.requests, second.0.requests, "seed {seed}");
    }
}

/// A token's lock was held by a future that was no longer polled, and the run never ended: few seeds find it.
#[test]
fn a_read_that_waits_for_a_token_is_always_polled() {
    let _alone = alone();
    run::run(&Scenario::draw(26204), false).1.unwrap_or_else(|why| panic!("{why}"));
}

/// Shows the run of one seed.
#[test]
fn one_seed() {
    let _alone = alone();
    let seed = number("SIM_SEED").unwrap_or_default();
    let dropped = std::env::var("SIM_DROP").unwrap_or_default();
    let dropped: Vec<usize> = dropped.split(',').filter_map(|number| number.parse().ok()).collect();
    let scenario = Scenario::draw(seed).without(&dropped);
    let (report, result) = run::run(&scenario, true);
    if std::env::var_os("SIM_SEED").is_some() {
        println!("{:#?}\n{:?} {:?}", scenario.accidents, scenario.source, scenario.target);
        println!("{}", report.log.join("\n"));
    }
    result.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
}
