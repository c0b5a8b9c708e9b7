//! Formats the progress: as lines for a terminal of a given width, or as a line in a log.

use std::time::{Duration, Instant};

use super::state::{State, Task, Wait};
use crate::ui::units;
use crate::ui::width::{self, cut, cut_middle, padded};

/// Shorter waits are not shown.
const SHOWN_AFTER: Duration = Duration::from_secs(2);
/// Maximum number of tasks named in a log line.
const NAMED: usize = 3;
/// The columns of two sizes with `of` between them.
const COUNTS: usize = 24;
/// The minimum number of columns for the name of a server in a wait.
const NARROWEST: usize = 16;
/// The minimum and maximum width of a bar, with its ends.
const BAR: (usize, usize) = (12, 32);

/// The lines for a terminal with these columns and rows, after `silent` without output. No line is wider, and they use at most half
/// of the rows.
pub(super) fn lines(
    state: &mut State,
    (columns, rows): (usize, usize),
    now: Instant,
    silent: Duration,
) -> Vec<String> {
    // Some terminals wrap after the last column.
    let columns = columns.saturating_sub(1);
    let mut foot: Vec<String> = waits(state, Some(columns), now);
    foot.extend(of_all(state, Some(columns), now));
    let most = (rows / 2).max(2).saturating_sub(foot.len()).max(1);
    let tasks: Vec<&Task> = state.tasks.values().collect();
    let (shown, rest) =
        if tasks.len() > most { (most - 1, tasks.len() + 1 - most) } else { (tasks.len(), 0) };
    let names = tasks.iter().take(shown).map(|task| width::of(&task.name)).max().unwrap_or(0);
    let names = names.min((columns * 2 / 5).max(12));
    let mut lines: Vec<String> =
        tasks.iter().take(shown).map(|task| of_task(task, names, columns, now)).collect();
    if rest > 0 {
        lines.push(cut(&format!("  and {rest} more"), columns));
    }
    lines.extend(foot);
    if lines.is_empty() && silent >= SHOWN_AFTER {
        lines.extend(state.command.as_ref().map(|(name, since)| cut(&so_far(name, *since, now), columns)));
    }
    lines.truncate(rows.saturating_sub(1).max(1));
    lines
}

fn of_task(task: &Task, names: usize, columns: usize, now: Instant) -> String {
    let name = padded(&cut_middle(&task.name, names), names);
    let text = match task.bytes {
        Some((done, all)) if all > 0 => {
            let room = columns.saturating_sub(2 + names + 2);
            let counts = match room {
                COUNTS.. => format!("{:>10} of {:>10}", units::bytes(done), units::bytes(all)),
                _ => format!("{:>3}%", u128::from(done) * 100 / u128::from(all)),
            };
            let room = room.saturating_sub(COUNTS + 2);
            let bar =
                if room >= BAR.0 { format!("{}  ", bar(done, all, room.min(BAR.1))) } else { String::new() };
            format!("  {name}  {bar}{counts}")
        }
        _ if task.news.is_empty() => format!("  {name}  {}", units::about(now.duration_since(task.since))),
        _ => format!("  {name}  {}", task.news),
    };
    cut(text.trim_end(), columns)
}

/// `[=====>    ]`
fn bar(done: u64, all: u64, columns: usize) -> String {
    let inside = columns - 2;
    let full = u128::from(done) * u128::try_from(inside).unwrap_or_default() / u128::from(all.max(1));
    let full = usize::try_from(full).unwrap_or(inside).min(inside);
    let head = if full < inside { ">" } else { "" };
    format!("[{:<inside$}]", format!("{}{head}", "=".repeat(full)))
}

/// `3 of 13 images, 2 of 15 runtimes, 45.1 MiB of 194.0 MiB, 12.0 MiB/s, 12 s left`. If the line is too narrow, the least important
/// parts are left out. `None` if there is no count.
fn of_all(state: &mut State, columns: Option<usize>, now: Instant) -> Option<String> {
    let counted = |done: usize, all: usize, noun| format!("{done} of {}", units::count(all, noun));
    let runtimes = state.count.as_ref().map(|count| counted(count.done, count.all, count.noun));
    let Some(total) = &mut state.total else { return Some(cut(&runtimes?, columns.unwrap_or(usize::MAX))) };
    let rate = total.rate(now);
    let images = Some(counted(total.done, total.all, total.noun));
    let bytes = Some(format!("{} of {}", units::bytes(total.bytes), units::bytes(total.all_bytes)));
    let speed = rate.map(|rate| format!("{}/s", units::bytes(rate)));
    let left = total.left(rate).map(|left| format!("{} left", units::about(left)));
    let whole =
        |parts: &[&Option<String>]| parts.iter().filter_map(|p| p.as_deref()).collect::<Vec<_>>().join(", ");
    let all = whole(&[&images, &runtimes, &bytes, &speed, &left]);
    let Some(columns) = columns else { return Some(all) };
    let least = whole(&[&images, &runtimes, &left]);
    let mut ways = [all, whole(&[&images, &runtimes, &bytes, &left])].into_iter();
    Some(ways.find(|text| width::of(text) <= columns).unwrap_or_else(|| cut(&least, columns)))
}

/// The waits, one line each.
fn waits(state: &State, columns: Option<usize>, now: Instant) -> Vec<String> {
    let mut told: Vec<(&Wait, usize)> = Vec::new();
    for wait in state.waits.values().filter(|wait| now.duration_since(wait.since) >= SHOWN_AFTER) {
        match told.iter_mut().find(|(other, _)| (&other.on, &other.what) == (&wait.on, &wait.what)) {
            Some((first, count)) => {
                *count += 1;
                // The one that ends last.
                *first = if wait.until > first.until { wait } else { first };
            }
            None => told.push((wait, 1)),
        }
    }
    told.into_iter().map(|(wait, count)| of_wait(wait, count, columns, now)).collect()
}

/// `waiting for docker.io: its reply, 12 s, at most 1 min 48 s more`. If the line is too narrow, the name is cut in the middle,
/// because the times at the end are needed.
fn of_wait(wait: &Wait, count: usize, columns: Option<usize>, now: Instant) -> String {
    let times = if count > 1 { format!(" ({count} requests)") } else { String::new() };
    let so_far = units::about(now.duration_since(wait.since));
    let left = wait
        .until
        .map(|until| format!(", at most {} more", units::about(until.saturating_duration_since(now))));
    let rest = format!(": {}{times}, {so_far}{}", wait.what, left.unwrap_or_default());
    let Some(columns) = columns else { return format!("waiting for {}{rest}", wait.on) };
    let room = columns.saturating_sub(width::of("waiting for ") + width::of(&rest)).max(NARROWEST);
    cut(&format!("waiting for {}{rest}", cut_middle(&wait.on, room)), columns)
}

/// The progress lines for a log after some time without output.
pub(super) fn heartbeat(state: &mut State, now: Instant) -> Vec<String> {
    let mut lines = waits(state, None, now);
    let tasks: Vec<(&str, Instant)> =
        state.tasks.values().map(|task| (task.name.as_str(), task.since)).collect();
    let names: Vec<&str> = tasks.iter().take(NAMED).map(|(name, _)| *name).collect();
    let more = tasks.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = format!("{}{more}", names.join(", "));
    let since = tasks.first().map(|(_, since)| *since);
    match (of_all(state, None, now), since) {
        (Some(all), None) => lines.push(all),
        (Some(all), Some(_)) => lines.push(format!("{all} ({names})")),
        (None, Some(first)) => lines.push(so_far(&names, first, now)),
        (None, None) if !lines.is_empty() => {}
        (None, None) => lines.extend(state.command.as_ref().map(|(name, since)| so_far(name, *since, now))),
    }
    lines
}

fn so_far(name: &str, since: Instant, now: Instant) -> String {
    format!("{name}: {} so far", units::about(now.duration_since(since)))
}

#[cfg(test)]
mod tests {
    use super::super::state::{Count, Total};
    use super::*;

    fn state(now: Instant) -> State {
        let mut state = State::default();
        let mut total = Total::new("image", 13, 1_480_351_744, now);
        total.done = 3;
        state.total = Some(total);
        for (name, done, all) in [
            ("kedacore/keda-metrics-apiserver:2.11.2", 5_347_737, 44_354_764),
            ("curlimages/curl:7.85.0", 0, 4_404_019),
            ("grafana/grafana-image-renderer:9.3.1", 734_003_200, 1_073_741_824),
        ] {
            let task = state.begin(name.into(), Some(all), now);
            state.advance(task, done, true, now);
        }
        let build = state.begin("lambda:python3.9".into(), None, now);
        state.tasks.get_mut(&build).unwrap().news =
            "step 4 of 7  RUN yum install -y gcc make python39".into();
        state
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_the_end_of_a_name_is_kept() {
        let now = Instant::now();
        for columns in [1, 20, 40, 60, 80, 120, 200] {
            let lines = lines(&mut state(now), (columns, 24), now + Duration::from_secs(2), Duration::ZERO);
            assert!(lines.iter().all(|line| width::of(line) < columns.max(2)), "{columns}: {lines:#?}");
        }
        let at =
            |columns| lines(&mut state(now), (columns, 24), now + Duration::from_secs(2), Duration::ZERO);
        assert_eq!(
            at(80),
            [
                "  kedacore/ke...-apiserver:2.11.2  [=>              ]     5.1 MiB of   42.3 MiB",
                "  curlimages/curl:7.85.0           [>               ]         0 B of    4.2 MiB",
                "  grafana/gra...ge-renderer:9.3.1  [==========>     ]   700.0 MiB of    1.0 GiB",
                "  lambda:python3.9                 step 4 of 7  RUN yum install -y gcc make ...",
                "3 of 13 images, 705.1 MiB of 1.4 GiB, 352.5 MiB/s, 3 s left",
            ]
        );
        let with_runtimes = |columns| {
            let mut state = state(now);
            state.count = Some(Count { noun: "runtime", done: 2, all: 15 });
            lines(&mut state, (columns, 24), now + Duration::from_secs(2), Duration::ZERO).pop().unwrap()
        };
        assert_eq!(
            with_runtimes(100),
            "3 of 13 images, 2 of 15 runtimes, 705.1 MiB of 1.4 GiB, 352.5 MiB/s, 3 s left"
        );
        assert_eq!(with_runtimes(70), "3 of 13 images, 2 of 15 runtimes, 705.1 MiB of 1.4 GiB, 3 s left");
        assert_eq!(with_runtimes(60), "3 of 13 images, 2 of 15 runtimes, 3 s left");
        let mut alone = State::default();
        alone.count = Some(Count { noun: "runtime", done: 0, all: 1 });
        assert_eq!(heartbeat(&mut alone, now), ["0 of 1 runtime"]);
        assert_eq!(at(60)[0], "  kedacore...erver:2.11.2     5.1 MiB of   42.3 MiB");
        assert_eq!(at(40)[0], "  keda...r:2.11.2   12%");
        assert!(at(200)[0].starts_with("  kedacore/keda-metrics-apiserver:2.11.2  [==="));
    }

    #[test]
    fn many_tasks_are_summed_up_and_never_fill_the_screen() {
        let now = Instant::now();
        let mut state = state(now);
        for number in 0..40 {
            state.begin(format!("image{number}:1"), Some(10), now);
        }
        let lines = lines(&mut state, (80, 24), now, Duration::ZERO);
        assert_eq!(lines.len(), 12, "{lines:#?}");
        assert_eq!(lines[10], "  and 34 more");
        for rows in 1..10 {
            assert!(super::lines(&mut state, (80, rows), now, Duration::ZERO).len() < rows.max(2), "{rows}");
        }
    }

    #[test]
    fn an_unanswered_server_is_named_with_the_remaining_time() {
        let now = Instant::now();
        let mut state = State::default();
        let wait = |on: &str, seconds: u64| Wait {
            on: on.into(),
            what: "its reply".into(),
            since: now,
            until: Some(now + Duration::from_secs(seconds)),
        };
        state.waits =
            [(1, wait("docker.io", 30)), (2, wait("docker.io", 60)), (3, wait("ghcr.io", 9))].into();
        assert!(heartbeat(&mut state, now + Duration::from_secs(1)).is_empty());
        assert_eq!(
            heartbeat(&mut state, now + Duration::from_secs(4)),
            [
                "waiting for docker.io: its reply (2 requests), 4 s, at most 56 s more",
                "waiting for ghcr.io: its reply, 4 s, at most 5 s more"
            ]
        );
    }

    #[test]
    fn every_wait_is_shown_with_its_duration() {
        let now = Instant::now();
        let on = "arn:aws:iam::123456789012:user/ada on a-laptop-with-a-name (process 31337)";
        let until = Some(now + Duration::from_secs(120));
        let wait = Wait { on: on.into(), what: "its lease".into(), since: now, until };
        let mut state = State::default();
        state.waits.insert(1, wait);
        let mut at =
            |columns| lines(&mut state, (columns, 24), now + Duration::from_secs(10), Duration::ZERO);
        let end = ": its lease, 10 s, at most 110 s more";
        assert_eq!(at(80), [format!("waiting for arn:aws:ia...e (process 31337){end}")]);
        assert_eq!(at(200), [format!("waiting for {on}{end}")]);
        assert!(width::of(&at(40)[0]) < 40);
    }

    #[test]
    fn a_log_gets_one_line_for_all() {
        let now = Instant::now();
        let lines = heartbeat(&mut state(now), now + Duration::from_secs(10));
        assert_eq!(
            lines,
            [
                "3 of 13 images, 705.1 MiB of 1.4 GiB, 70.5 MiB/s, 11 s left (kedacore/keda-metrics-apiserver:2.11.2, \
              curlimages/curl:7.85.0, grafana/grafana-image-renderer:9.3.1 and 1 more)"
            ]
        );
    }
}
