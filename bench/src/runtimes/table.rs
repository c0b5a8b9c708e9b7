//! The table of all turns.

use std::fmt::Write as _;

use super::{Contender, Turn};
use crate::stats::{median, pairwise};

/// The largest accepted ratio of parallel to sequential time, and the largest overhead of ours, in seconds.
const GOAL: f64 = 0.70;
const ADDED: f64 = 2.0;

/// The table, with the medians of all rounds.
pub(super) fn table(turns: &[(Contender, Vec<Turn>)], versions: &str) -> String {
    let each =
        |done: &[Turn], value: fn(&Turn) -> f64| done.iter().map(value).enumerate().collect::<Vec<_>>();
    let plain = turns.first().map(|(_, done)| each(done, |turn| turn.wall_s)).unwrap_or_default();
    let middle =
        |values: &[(usize, f64)]| median(&values.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    let mut text = format!(
        "Four runtimes, cold ({versions}; {} CPUs; medians of {} rounds; goals: {GOAL:.2} and {ADDED:.1} s)\n\n\
         | | s | rounds | to one after another | outside `docker build`, s |\n|---|---|---|---|---|\n",
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        plain.len()
    );
    for (contender, done) in turns {
        let walls = each(done, |turn| turn.wall_s);
        let rounds = walls.iter().map(|(_, wall)| format!("{wall:.1}")).collect::<Vec<_>>().join(" ");
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let outside = middle(&each(done, |turn| turn.outside_s));
        let _ = writeln!(
            text,
            "| {} | {} | {rounds} | {} | {} |",
            contender.title(),
            number(middle(&walls)),
            number(pairwise(&walls, &plain)),
            number(outside)
        );
    }
    text += "\nOutside `docker build` is the wall time less the time in which at least one `docker build` ran, by a client that notes \
             when each begins and ends.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_ratio_within_a_round() {
        let turn = |wall_s| Turn { wall_s, outside_s: 0.5 };
        let turns = [
            (Contender::Plain, vec![turn(10.0), turn(20.0)]),
            (Contender::Ours, vec![turn(5.0), turn(12.0)]),
        ];
        let table = table(&turns, "client 1, engine 2");
        assert!(table.contains("| ours, `rebuild-runtimes` | 8.50 | 5.0 12.0 | 0.55 | 0.50 |"), "{table}");
    }
}
