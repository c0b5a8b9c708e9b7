//! The terminal at the top of README: a recorded real run. `UPDATE=1` records it again (docs/terminal.svg); without it the test
//! checks that a run still prints what the picture shows. AWS is emulated and the images are samples, as the command line shows
//! (`--local`).

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::time::Duration;

use e2e::{Images, Recording, SlowLink, Terminal, World, docker, programs, root, write_cargo};

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
grafana = "grafana/grafana:10.1.1"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"kedacore/keda-admission-webhooks" = "ghcr.io/kedacore/keda-admission-webhooks:2.11.2"
"kedacore/keda-metrics-apiserver" = "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2"
[runtimes]
"python3.12" = { base = "public.ecr.aws/lambda/python:3.12", epoch = "NEW" }
java21 = { base = "public.ecr.aws/lambda/java:21", epoch = "NEW" }
[pull_through]
ecr-public = "public.ecr.aws"
"#;

const COLUMNS: u16 = 100;
const ROWS: u16 = 32;
/// How long a command may take.
const BOUND: Duration = Duration::from_secs(300);
/// How long the plan stays on the screen before the answer, for readers.
const READING: Duration = Duration::from_secs(3);
/// The rate of the sources, in bytes per second: so that the copies are visible.
const RATE: f64 = 16_000_000.0;

/// Whether the shell waits for the next command.
fn is_prompt(screen: &str) -> bool {
    screen.lines().last() == Some("$")
}

fn record() -> Option<(Recording, String)> {
    if !programs(&["terraform", "tmux"]) || !docker() {
        return None;
    }
    let mut world = World::new(Images::Full)?;
    // The engine may have built these for another test, or an earlier one.
    let new = world.path("").file_name().unwrap().to_string_lossy().into_owned();
    world.write("images.toml", &IMAGES.replace("NEW", &new));
    world.xtask(e2e::INIT).ok();
    let link = SlowLink::to(&world.sources.host, RATE);
    for host in ["docker.io", "ghcr.io"] {
        world.sources.route(host, format!("http://{}/{host}", link.host()));
    }
    std::fs::create_dir(world.path("bin")).unwrap();
    write_cargo(&world.xtask(""), &world.path("bin/cargo"));
    let shell =
        format!("cd '{}'; PATH='{}':$PATH PS1='$ ' exec sh", root().display(), world.path("bin").display());
    let terminal = Terminal::start(&shell, COLUMNS, ROWS)?;
    let mut recording = Recording::new(COLUMNS, ROWS);
    recording.watch(&terminal, BOUND, is_prompt);
    terminal.type_line("cargo xtask transfer-images --local");
    recording.watch(&terminal, BOUND, |screen| screen.ends_with("accepted:"));
    recording.rest(READING);
    terminal.type_line("yes");
    recording.watch(&terminal, BOUND, |screen| screen.contains("and verified") && is_prompt(screen));
    terminal.type_line("cargo xtask transfer-images --local");
    recording.watch(&terminal, BOUND, |screen| screen.contains("nothing to do") && is_prompt(screen));
    let transcript = terminal.transcript();
    Some((recording, transcript))
}

/// The lines without parts that differ in each run: digests, times, ports, and which of two came first.
fn masked(words: &str) -> Vec<String> {
    let mut lines: Vec<String> = words.lines().map(masked_line).collect();
    lines.sort();
    lines
}

fn masked_line(line: &str) -> String {
    let mut masked = String::new();
    for word in line.split_inclusive(' ') {
        match word.split_once("sha256:") {
            Some((head, _)) => masked += head,
            None => masked
                .extend(word.chars().filter(|character| !character.is_ascii_digit() && *character != '.')),
        }
    }
    masked.trim_end().to_owned()
}

#[test]
fn the_terminal_in_readme_shows_a_runs_output() {
    let Some((recording, transcript)) = record() else { return };
    let file = root().join("docs/terminal.svg");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, recording.svg("cargo xtask transfer-images in a terminal", &transcript))
            .unwrap();
    }
    let svg = std::fs::read_to_string(&file).unwrap();
    let (_, words) = svg.split_once("<desc id=\"words\">\n").unwrap();
    let (words, _) = words.split_once("\n</desc>").unwrap();
    assert_eq!(
        masked(&transcript),
        masked(words),
        "docs/terminal.svg shows another run than this:\n{transcript}"
    );
}
