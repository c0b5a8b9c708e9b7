//! Real output of four builders, and the events parsed from it.

use super::*;

/// The events of a recorded build: the steps shown, the lines, and the failure.
struct RecordedBuild {
    steps: Vec<String>,
    lines: Vec<String>,
    follower: Follower,
}

fn read_recorded(form: Form, recorded: &str) -> RecordedBuild {
    let (mut steps, mut lines) = (Vec::new(), Vec::new());
    let mut follower = Follower::new(form, None);
    // As `Cmd::stream` passes lines.
    for line in recorded.split_terminator('\n') {
        let line = process::plain(line.trim_end_matches('\r'));
        follower.read_line(&line, &mut |news| match news {
            BuildEvent::Step(step) => steps.push(step.to_string()),
            BuildEvent::Line(line) => lines.push(line.to_owned()),
        });
    }
    RecordedBuild { steps, lines, follower }
}

macro_rules! recorded {
    ($form:ident, $name:literal) => {
        ($name, read_recorded(Form::$form, include_str!(concat!("recorded/", $name, ".txt"))))
    };
}

/// The rows that a text takes at 80 columns.
fn rows(text: &str) -> usize {
    text.lines().map(|line| line.chars().count().div_ceil(80).max(1)).sum()
}

#[test]
fn a_failed_program_is_reported_with_its_output_and_exit_code() {
    for (name, heard) in [
        recorded!(RawJson, "buildx-rawjson-fail"),
        recorded!(Plain, "buildx-plain-fail"),
        recorded!(Plain, "buildkit20-fail"),
        recorded!(Legacy, "legacy28-fail"),
        recorded!(Podman, "podman-fail"),
    ] {
        let failure = heard.follower.failure();
        assert_eq!((failure.code, &failure.reason), (Some(1), &None), "{name}");
        let text = failure.to_string();
        let (head, rest) = text.split_once('\n').unwrap();
        assert!(
            head.starts_with("step ") && head.ends_with(" of the build failed with exit code 1"),
            "{name}: {head}"
        );
        assert!(rest.starts_with("    RUN set -eu; need() { command -v \"$1\""), "{name}: {rest}");
        for words in ["seq: unrecognized option '--nosuch-option'", "-s SEP    String separator"] {
            assert!(rest.contains(words), "{name}: no {words:?} in\n{text}");
        }
        assert!(!rest.contains("/bin/sh -c") && rows(&text) <= 12, "{name}:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{name}:\n{text}");
        assert_eq!(
            heard.lines.iter().filter(|line| line.starts_with("Setting up package-")).count(),
            60,
            "{name}"
        );
        assert!(heard.lines.iter().any(|line| line == "green and  a bell"), "{name}: {:#?}", heard.lines);
        assert!(heard.lines.iter().any(|line| line == "100% fetched"), "{name}");
        assert!(heard.lines.iter().all(|line| !line.trim().is_empty()), "{name}");
    }
}

#[test]
fn a_step_is_one_line_with_its_number_and_stage() {
    let (_, heard) = recorded!(RawJson, "buildx-rawjson-stages");
    let (_, plain) = recorded!(Plain, "buildx-plain-stages");
    let mut wanted = vec![
        "step 1 of 2 (other)  FROM docker.io/library/h5base:1",
        "step 2 of 2 (tools)  RUN echo tools > /tools && sleep 1",
        "step 2 of 2 (other)  RUN echo other >/other",
        "step 2 of 4 (stage-2)  COPY --from=tools /tools /tools",
        "step 3 of 4 (stage-2)  COPY --from=other /other /other",
        "step 4 of 4 (stage-2)  RUN echo last; exit 7",
    ];
    assert_eq!(
        (&heard.steps, &plain.steps),
        (&wanted.iter().map(ToString::to_string).collect(), &heard.steps)
    );
    let (_, podman) = recorded!(Podman, "podman-stages");
    wanted = vec![
        "step 1 of 2 (stage 1/3)  FROM localhost/h5base:1 AS tools",
        "step 2 of 2 (stage 1/3)  RUN echo tools > /tools && sleep 1",
    ];
    assert_eq!(podman.steps[..2], wanted);
    let (_, legacy) = recorded!(Legacy, "legacy28-stages");
    assert_eq!((legacy.steps.len(), legacy.steps[8].as_str()), (9, "step 9 of 9  RUN echo last; exit 7"));
    for heard in [heard, plain, podman, legacy, recorded!(Plain, "buildkit20-stages").1] {
        let failure = heard.follower.failure();
        assert_eq!((failure.code, &failure.lines), (Some(7), &vec!["last".to_owned()]));
    }
    let (_, long) = recorded!(Legacy, "legacy28-fail");
    assert!(
        long.steps.iter().all(|step| step.chars().count() <= 80 && !step.contains("  need")),
        "{:?}",
        long.steps
    );
}

#[test]
fn a_failure_without_a_program_is_reported_with_the_builders_reason() {
    for ((name, heard), step, reason) in [
        (
            recorded!(RawJson, "buildx-rawjson-copy"),
            "COPY nothing-there /start",
            "\"/nothing-there\": not found",
        ),
        (
            recorded!(Legacy, "legacy20-copy"),
            "COPY nothing-there /start",
            "COPY failed: file not found in build context",
        ),
        (
            recorded!(Podman, "podman-copy"),
            "COPY nothing-there /start",
            "checking on sources under \"/ctx\": copier: stat",
        ),
        (
            recorded!(RawJson, "buildx-rawjson-nobase"),
            "load metadata for 127.0.0.1:46651/nothing:1",
            "nothing:1: not found",
        ),
        (
            recorded!(Plain, "buildx-plain-nobase"),
            "load metadata for 127.0.0.1:46651/nothing:1",
            "nothing:1: not found",
        ),
        (
            recorded!(Legacy, "legacy20-nobase"),
            "FROM ${BASE_IMAGE}",
            "manifest for 127.0.0.1:46651/nothing:1 not found",
        ),
        (
            recorded!(Podman, "podman-nobase"),
            "FROM 127.0.0.1:46651/nothing:1",
            "reading manifest 1 in 127.0.0.1:46651/nothing",
        ),
        (
            recorded!(RawJson, "buildx-rawjson-syntax"),
            "",
            "dockerfile parse error on line 3: unknown instruction: RUNN",
        ),
        (
            recorded!(Plain, "buildx-plain-syntax"),
            "",
            "dockerfile parse error on line 3: unknown instruction: RUNN",
        ),
        (
            recorded!(Plain, "buildkit20-syntax"),
            "",
            "dockerfile parse error line 3: unknown instruction: RUNN",
        ),
        (
            recorded!(Legacy, "legacy20-syntax"),
            "",
            "dockerfile parse error line 3: unknown instruction: RUNN",
        ),
        (recorded!(Podman, "podman-syntax"), "RUNN x", "Unknown instruction: \"RUNN\""),
    ] {
        let failure = heard.follower.failure();
        let found = failure.step.as_ref().map(|step| step.instruction.as_str()).unwrap_or_default();
        assert_eq!((found, failure.code), (step, None), "{name}");
        let text = failure.to_string();
        assert!(text.contains(reason) && rows(&text) <= 6, "{name}:\n{text}");
        assert!(!text.contains("failed to solve") && !text.contains("ERROR"), "{name}:\n{text}");
    }
}

#[test]
fn a_cache_that_does_not_exist_yet_is_no_error() {
    for (name, heard) in
        [recorded!(RawJson, "buildx-rawjson-nocachefail"), recorded!(Plain, "buildx-plain-nocachefail")]
    {
        let failure = heard.follower.failure();
        assert_eq!(failure.step.unwrap().instruction, "RUN echo last; exit 7", "{name}");
        let not_used: Vec<_> =
            heard.lines.iter().filter(|line| line.contains("x-cache: not found")).collect();
        assert_eq!(not_used.len(), 1, "{name}: {not_used:?}");
        assert!(not_used[0].starts_with("not used: "), "{name}: {not_used:?}");
    }
}

#[test]
fn cached_steps_are_reported_and_fail_nothing() {
    for ((name, heard), cached) in [
        (recorded!(RawJson, "buildx-rawjson-cached"), 2),
        (recorded!(Plain, "buildkit20-cached"), 2),
        // USER; the engine of that recording ran the rest.
        (recorded!(Legacy, "legacy20-cached"), 1),
        (recorded!(Podman, "podman-cached"), 5),
    ] {
        assert_eq!(heard.lines.iter().filter(|line| *line == "(cached)").count(), cached, "{name}");
        assert!(heard.follower.failed.is_empty() && heard.follower.unfinished().is_none(), "{name}");
    }
}

#[test]
fn the_log_has_every_line_under_its_steps_name() {
    let room = tempfile::tempdir().unwrap();
    let logs = Logs::new(room.path().to_owned(), "logs".into());
    let mut follower = Follower::new(Form::RawJson, logs.open("java17"));
    let recorded = include_str!("recorded/buildx-rawjson-fail.txt");
    recorded.lines().for_each(|line| follower.read_line(line, &mut |_| {}));
    let failure = follower.failure();
    let log = failure.log.as_ref().unwrap();
    assert!(failure.to_string().ends_with(&format!("\n    the whole output: {log}")));
    let text = std::fs::read_to_string(room.path().join(log.strip_prefix("logs/").unwrap())).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let at = |wanted: &str| {
        lines.iter().position(|line| line.starts_with(wanted)).unwrap_or_else(|| panic!("{text}"))
    };
    assert!(
        at("step 2 of 3  RUN set -eu; ") < at("Setting up package-1 ")
            && at("Setting up package-60") < at("seq: ")
    );
    assert!(lines[at("step 2 of 3")].ends_with("seq --nosuch-option"), "the log shortens an instruction");
    assert!(!text.contains('\u{1b}') && !text.contains("\"vertexes\""));
}

#[test]
fn a_step_that_was_cancelled_for_another_is_not_the_reason() {
    let mut follower = Follower::new(Form::Plain, None);
    for line in [
        "#1 [a 2/2] RUN sleep 9",
        "#2 [b 2/2] RUN false",
        "#1 CANCELED",
        "#2 ERROR: process \"/bin/sh -c false\" did not complete successfully: exit code: 1",
    ] {
        follower.read_line(line, &mut |_| {});
    }
    assert_eq!(follower.failure().step.unwrap().instruction, "RUN false");
}

#[test]
fn the_line_with_the_error_is_shown_however_much_output_follows() {
    let mut follower = Follower::new(Form::Legacy, None);
    follower.read_line("Step 1/1 : RUN cat --nosuch-option", &mut |_| {});
    follower.read_line("cat: unrecognized option '--nosuch-option'", &mut |_| {});
    for option in 0..200 {
        follower.read_line(&format!("    -{option}  an option"), &mut |_| {});
    }
    let text = follower.failure().to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines[2..4], ["cat: unrecognized option '--nosuch-option'", "…"], "{text}");
    assert_eq!((lines.len(), lines[9]), (10, "-199  an option"), "{text}");
}
