//! The output on a terminal, in a log and on GitHub, line by line: `screens/NAME.txt`. `UPDATE=1` rewrites them; look at them as
//! somebody who has never seen this tool. Times, rates, digests and ports are not part of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::{DebianRegistry, Gate, INIT, Images, Run, Terminal, World, root};
use regex::Regex;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"kedacore/keda-metrics-apiserver" = "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2"
"#;

/// Time limit for a screen to become the expected one.
const BOUND: Duration = Duration::from_secs(60);

/// A world whose images of ghcr.io are not completely copied before the gate opens, and its target.
struct Held {
    world: World,
    target: DebianRegistry,
    gate: Gate,
}

fn held() -> Option<Held> {
    let mut world = World::new(Images::Small)?;
    world.write("images.toml", IMAGES);
    let gate = Gate::before(&world.sources.host, |line| line.starts_with("GET") && line.contains("/blobs/"));
    world.sources.route("ghcr.io", format!("http://{}/ghcr.io", gate.host()));
    Some(Held { target: DebianRegistry::start()?, world, gate })
}

impl Held {
    fn transfer(&self, line: &str) -> Run {
        self.world.sourced().arg("--registry").arg(self.target.host()).args("transfer-images").args(line)
    }

    fn masked(&self, text: &str) -> String {
        let text =
            text.replace(self.target.host(), "127.0.0.1:00000").replace(self.gate.host(), "127.0.0.1:00001");
        let text = text.replace(&self.world.sources.host, "127.0.0.1:00002");
        masked(&text)
    }
}

/// A text without parts that differ in each run. No mask is longer than what it replaces.
fn masked(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        // The number of requests, and how long ago they began.
        let line = match line.split_once(": its reply") {
            Some((waiting, _)) if waiting.starts_with("waiting for ") => waiting,
            _ => line,
        };
        let mut words: Vec<String> = line.split(' ').map(digest).collect();
        for at in 1..words.len() {
            let unit = words[at].trim_end_matches([',', ')']).to_owned();
            let number = words[at - 1].trim_start_matches('(').to_owned();
            let is_measured = ["s", "B/s", "KiB/s", "MiB/s", "GiB/s"].contains(&unit.as_str());
            if is_measured && number.parse::<f64>().is_ok() {
                words[at - 1] = words[at - 1].replace(&number, "N");
                words[at] = words[at].replace(&unit, if unit == "s" { "s" } else { "B/s" });
            }
        }
        // Whether the remaining time is known depends on the moment.
        lines.push(words.join(" ").replace(", N B/s", "").replace(", N s left", "").trim_end().to_owned());
    }
    lines.join("\n") + "\n"
}

/// A digest as zeros.
fn digest(word: &str) -> String {
    let Some((head, rest)) = word.split_once("sha256:") else { return word.to_owned() };
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    format!("{head}sha256:{}{}", "0".repeat(digits), &rest[digits..])
}

fn file(name: &str) -> PathBuf {
    root().join("tests/tests/screens").join(format!("{name}.txt"))
}

/// The expected content of `name`; with UPDATE it is written from `found`.
fn wanted(name: &str, found: impl FnOnce() -> String) -> String {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file(name), found()).unwrap();
    }
    std::fs::read_to_string(file(name)).unwrap_or_default()
}

/// Waits until the terminal shows the recorded text.
#[track_caller]
fn shows(terminal: &Terminal, name: &str, masked: impl Fn(&str) -> String) {
    let settled = || {
        // The display is redrawn ten times a second and is complete when it has not changed for a while.
        let (mut last, mut since) = (String::new(), Instant::now());
        let found = terminal.wait_until(BOUND, |screen| {
            let screen = masked(screen);
            if screen != last {
                (last, since) = (screen, Instant::now());
            }
            since.elapsed() > Duration::from_secs(2)
        });
        masked(&found.unwrap())
    };
    let wanted = wanted(name, settled);
    let found = terminal.wait_until(BOUND, |screen| masked(screen) == wanted);
    if let Err(screen) = found {
        assert_eq!(masked(&screen), wanted, "{name} looks otherwise than written down");
    }
}

#[test]
fn a_resized_terminal_keeps_all_output() {
    for (columns, rows, narrower, wider) in
        [(80, 24, (60, 20), (120, 30)), (60, 20, (40, 24), (80, 24)), (200, 50, (80, 24), (200, 50))]
    {
        let Some(held) = held() else { return };
        let Some(terminal) = held.transfer("--auto-approve").in_terminal(columns, rows) else { return };
        let name = |step: &str| format!("copy-{columns}x{rows}-{step}");
        terminal.wait_for("1 of 3 images");
        shows(&terminal, &name("begun"), |screen| held.masked(screen));
        terminal.resize(narrower.0, narrower.1);
        shows(&terminal, &name("narrower"), |screen| held.masked(screen));
        terminal.resize(wider.0, wider.1);
        shows(&terminal, &name("wider"), |screen| held.masked(screen));
        held.gate.cut();
        terminal.wait_for("exit code 0");
        // Nothing of the display is left, and nothing is lost: all lines of a log are here.
        let transcript = held.masked(&terminal.transcript());
        for words in ["of 3 images,", "  kedacore/keda:2.11.2  [", "so far"] {
            assert!(!transcript.contains(words), "{words:?} is left in\n{transcript}");
        }
        for words in ["$ cargo xtask\n", "Plan for ", "copy 3 images"] {
            assert_eq!(transcript.matches(words).count(), 1, "{words:?} is not there once in\n{transcript}");
        }
        assert_eq!(transcript.matches(": copied, sha256:").count(), 3, "{transcript}");
    }
}

#[test]
fn ctrl_c_reports_what_is_done_and_that_the_next_run_continues() {
    let Some(held) = held() else { return };
    let Some(terminal) = held.transfer("--auto-approve").in_terminal(80, 24) else { return };
    terminal.wait_for("1 of 3 images");
    terminal.interrupt();
    terminal.wait_for("exit code 130");
    shows(&terminal, "interrupted", |screen| held.masked(screen));
    held.gate.cut();
    let next = held.transfer("--auto-approve").ok();
    assert!(next.stderr.contains("copy 2 images") && next.stderr.contains("3 images in place"), "{next}");
}

/// Whether a line of a log is about one image's copy.
fn is_of_one_image(line: &str) -> bool {
    line.contains(": copying ") || line.contains(": copied, ")
}

#[test]
fn a_log_has_lines_for_start_end_and_progress() {
    for (name, variables) in
        [("log", &[][..]), ("log-github", &[("GITHUB_ACTIONS", "true"), ("CI", "true")][..])]
    {
        let Some(held) = held() else { return };
        let mut run = variables
            .iter()
            .fold(held.transfer("--auto-approve"), |run, (name, value)| run.env(name, value))
            .start();
        run.wait_for("1 of 3 images");
        held.gate.cut();
        let ended = run.end();
        assert_eq!(ended.code, Some(0), "{ended}");
        // The order in which two images begin or end is random.
        let mut lines: Vec<String> = held.masked(&ended.stderr).lines().map(str::to_owned).collect();
        lines.retain(|line| !line.contains("again in"));
        let beat = lines.iter().position(|line| line.starts_with("1 of 3 images")).unwrap();
        lines.retain(|line| !line.starts_with("1 of 3 images") && !line.starts_with("waiting for"));
        let first = lines.iter().position(|line| is_of_one_image(line)).unwrap();
        let (mut of_one, mut others): (Vec<String>, Vec<String>) =
            lines.into_iter().partition(|line| is_of_one_image(line));
        assert!(beat > 0 && of_one.len() == 6, "{ended}");
        for copied in of_one.iter().filter_map(|line| line.split_once(": copied, ")) {
            let place = |words: String| of_one.iter().position(|line| line.starts_with(&words));
            let begun = place(format!("{}: copying ", copied.0));
            assert!(begun.is_some() && begun < place(format!("{}: copied, ", copied.0)), "{ended}");
        }
        of_one.sort_by_key(|line| (line.contains(": copied, "), line.clone()));
        others.splice(first..first, of_one);
        let lines = others;
        let found = lines.join("\n") + "\n";
        assert_eq!(
            found,
            wanted(name, || found.clone()),
            "{name} reads otherwise than written down:\n{ended}"
        );
    }
}

#[test]
fn colours_and_progress_only_go_to_terminals_that_support_them() {
    let Some(held) = held() else { return };
    held.gate.open();
    for (variables, colors, draws) in [
        (&[][..], true, true),
        (&[("TERM", "dumb")], false, false),
        (&[("NO_COLOR", "1")], false, true),
        (&[("CI", "true")], true, false),
    ] {
        let run = held.world.sourced().args("--registry 127.0.0.1:1 transfer-images --dry-run");
        let run = run.on_a_terminal();
        let ended = variables.iter().fold(run, |run, (name, value)| run.env(name, value)).end();
        assert_eq!(ended.stdout.contains("\u{1b}[1;31merror:"), colors, "{variables:?}\n{ended}");
        assert!(draws || !ended.stdout.contains("\u{1b}[K"), "{variables:?}\n{ended}");
    }
    let run =
        held.world.sourced().args("--registry 127.0.0.1:1 transfer-images --dry-run --color always").end();
    assert!(run.stderr.contains("\u{1b}[1;31merror:"), "{run}");
    let quiet = held.transfer("--auto-approve --quiet").ok();
    assert_eq!(quiet.stderr, "", "{quiet}");
    assert!(quiet.stdout.contains("kedacore/keda:2.11.2"), "{quiet}");
}

/// The output of a run in a log, followed by its stdout.
#[track_caller]
fn reads(world: &World, name: &str, line: &str) {
    let run = world.xtask(line).ok();
    let text = masked(&run.stderr.replace(&world.aws().host, "127.0.0.1:00000"));
    let text = Regex::new("key/[0-9a-f-]{36}").unwrap().replace_all(&text, "key/ID");
    // The duration of so little work depends on the machine, and so does what is waited for.
    let lines = text.lines().map(|line| line.split("; about ").next().unwrap());
    let is_said = |line: &&str| !["waiting for", "looking at"].iter().any(|head| line.starts_with(head));
    let mut lines: Vec<&str> = lines.filter(is_said).collect();
    // The order in which several images begin or end is random.
    let kind = |line: &str| (line.starts_with("terraform: create "), is_of_one_image(line));
    lines
        .chunk_by_mut(|one, other| kind(one) == kind(other) && kind(one) != (false, false))
        .for_each(|lines| lines.sort_by_key(|line| (line.contains(": copied, "), *line)));
    let found = format!("{}\non stdout:\n{}", lines.join("\n"), masked(&run.stdout));
    assert_eq!(found, wanted(name, || found.clone()), "{name} reads otherwise than written down:\n{run}");
}

#[test]
fn a_plan_has_headings_and_groups_and_the_end_only_shows_changes() {
    let list = "[pull_through]\necr-public = \"public.ecr.aws\"\n[repositories]\nextra = [\"awshpc\", \"submitter\"]\n";
    let Some(world) = World::grid(&format!("{IMAGES}{list}")) else { return };
    world.xtask(INIT).ok();
    // Another grid, whose resources are used and not changed.
    world.aws().ecr("CreateRepository", &serde_json::json!({ "repositoryName": "submitter" }));
    reads(&world, "plan-new-grid", "transfer-images --dry-run");
    reads(&world, "run-new-grid", "auto-transfer-images");
    reads(&world, "run-nothing-to-do", "auto-transfer-images");
    reads(&world, "run-nothing-to-do-verbose", "auto-transfer-images --verbose");
    world.sources.store.touch("docker.io/curlimages/curl:7.85.0").unwrap();
    reads(&world, "run-one-moved", "auto-transfer-images");
    let other = "TAG=prod --state-key .terraform/prod.tfstate";
    reads(&world, "plan-another-grid", &format!("transfer-images --dry-run {other}"));
}
