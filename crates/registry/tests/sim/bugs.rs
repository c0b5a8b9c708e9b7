//! The bugs that the simulation finds, and after how many seeds.

use std::time::Instant;

use registry::bugs::{Bug, inject};

use crate::{Counts, alone, search};

/// The most seeds that finding a bug may take.
const SEEDS: u64 = 3_000;

#[test]
fn control_each_injected_bug_is_found() {
    let _alone = alone();
    let mut missed = Vec::new();
    println!("| bug | runs until found | seconds | found by |\n|---|---|---|---|");
    for bug in Bug::ALL {
        inject(Some(bug));
        let (began, mut counts) = (Instant::now(), Counts::default());
        let found = search(1, SEEDS, &mut counts);
        inject(None);
        match found {
            Err(failure) => {
                let seconds = began.elapsed().as_secs_f64();
                println!("| {bug:?} | {} | {seconds:.1} | {} |", counts.runs, failure.why);
            }
            Ok(()) => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "{missed:?} were not found in {SEEDS} runs");
}
