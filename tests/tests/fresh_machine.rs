//! From a fresh machine to images: the README's commands if docker is missing, completely or in part, does not run, or runs
//! elsewhere.
//!
//! Each machine is a copy-on-write root with its own mounts, processes and network ([`Machine`]).

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::path::Path;

use e2e::{Docker, Ended, Images, Machine, Run, World, built, programs, say};
use serde_json::Value;

/// Two images and a runtime: the number of images does not change what a machine lacks.
const SHORT: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[runtimes]
"python3.12" = { base = "public.ecr.aws/lambda/python:3.12" }
[pull_through]
ecr-public = "public.ecr.aws"
"#;

/// A user of a machine: how the commands are typed, and the environment.
struct User<'a> {
    machine: &'a Machine,
    images: &'a str,
    env: Vec<(&'a str, String)>,
}

impl User<'_> {
    fn types(&self, line: &str) -> Run {
        let run = self.machine.xtask(line).args(self.images);
        self.env.iter().fold(run, |run, (name, value)| run.env(name, value))
    }

    /// The demo, and the next steps in the README and in the demo's own output; returns the demo's output.
    fn does_it_all(&self) -> Ended {
        let demo = self.types("demo --yes").ok();
        assert!(demo.stdout.contains("sha256:"), "{demo}");
        self.has_nothing_to_do();

        let doctor = self.machine.xtask("doctor --local --format json").args(self.images).ok().json();
        assert!(doctor["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{doctor}");
        // The same engine builds.
        let build = self.machine.xtask("rebuild-runtimes --local").args(self.images).ok();
        assert!(build.stderr.contains("python3.12"), "{build}");
        demo
    }

    /// `transfer-images --local` without options for sources and engine, and without the variables set before: nothing to do,
    /// within a second. A busy machine does not make the tool slow: if the whole command takes longer than a second, the tool's own
    /// time must be below one second, and its CPU time at most half a second above that of `--version`, which is the time that
    /// cargo takes to start it. The best of five runs counts.
    fn has_nothing_to_do(&self) {
        let mut seen = Vec::new();
        for _ in 0..5 {
            let start = processor_seconds(&self.machine.timed_xtask("--version").ok());
            let run = self.machine.timed_xtask("transfer-images --local").args(self.images).ok();
            assert!(run.stderr.contains("nothing to do"), "{run}");
            let (more, own) = (processor_seconds(&run) - start, own_seconds(&run));
            if own < 1.0 && (more < 0.5 || run.took.as_secs_f64() < 1.0) {
                return say(&format!(
                    "nothing to do: {more:.2} s of CPU above {start:.2} s, {own} s of its own"
                ));
            }
            seen.push((start, more, own, run.took));
        }
        panic!("CPU to start, CPU above it, own and whole time of five runs with nothing to do: {seen:?}");
    }

    fn status(&self) -> Value {
        self.machine.xtask("local status --format json").ok().json()
    }

    /// Ends everything that the demo started, and checks that nothing is left.
    fn ends_it(&self) {
        let down = self.machine.xtask("local down").ok();
        assert_eq!(self.machine.processes(), Vec::<String>::new(), "{down}");
        let status = self.status();
        for server in [&status, &status["samples"], &status["engine"]] {
            assert_eq!(server["running"], false, "{status}");
        }
    }
}

/// The shell's `times` for the programs that it ran: `0m0.25s 0m0.11s` in its last line.
fn processor_seconds(run: &Ended) -> f64 {
    let seconds = |word: &str| {
        let (minutes, seconds) = word.strip_suffix('s').and_then(|word| word.split_once('m')).unwrap();
        60.0 * minutes.parse::<f64>().unwrap() + seconds.parse::<f64>().unwrap()
    };
    run.stderr.lines().next_back().unwrap().split_whitespace().map(seconds).sum()
}

/// The seconds in `nothing was changed (0.1 s)`.
fn own_seconds(run: &Ended) -> f64 {
    let (_, told) = run.stderr.split_once("nothing was changed (").unwrap_or_else(|| panic!("{run}"));
    // Minutes have another format.
    told.split_once(" s)").and_then(|(seconds, _)| seconds.parse().ok()).unwrap_or(f64::INFINITY)
}

/// A machine with existing sample images; `None` if something is missing to create it.
fn machine(docker: Docker) -> Option<Machine> {
    with_samples(|| Machine::new(docker))
}

fn with_samples(machine: impl FnOnce() -> Option<Machine>) -> Option<Machine> {
    if !programs(&["terraform", "cargo"]) {
        return None;
    }
    // Both compile and create what the machine then finds.
    let (_, world) = (built(), World::new(Images::Full)?);
    let machine = machine()?;
    world.sources.store.copy_to(&machine.local().join("sample-upstreams")).unwrap();
    std::fs::write(machine.local().join("images.toml"), SHORT).unwrap();
    Some(machine)
}

fn user<'a>(machine: &'a Machine, env: &[(&'a str, &str)]) -> User<'a> {
    let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    User { machine, images: "--images target/local/images.toml", env }
}

fn has(machine: &Machine, program: &str) -> bool {
    machine.command("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success()
}

/// Whether all machines are tested, or only those that `cargo xtask test` has time for.
fn soak(what: &str) -> bool {
    let all = std::env::var_os("SOAK").is_some();
    if !all {
        say(&format!("only with SOAK=1: {what}"));
    }
    all
}

#[test]
fn without_docker_client_and_engine_are_installed_and_stopped_at_the_end() {
    let Some(machine) = machine(Docker::None) else { return };
    assert!(!has(&machine, "docker") && !has(&machine, "dockerd"));
    let user = user(&machine, &[]);
    // There is no terminal for a confirmation: nothing is installed.
    user.types("demo").end().failed(4, &["docker: as root: apt-get install docker.io"]);
    assert!(!has(&machine, "dockerd"));
    let demo = user.does_it_all();
    assert!(demo.stderr.contains("installing"), "{demo}");
    let status = user.status();
    assert_eq!((&status["engine"]["running"], &status["samples"]["running"]), (&true.into(), &true.into()));
    user.ends_it();
    // And again, with what is installed by now.
    let demo = user.types("demo --yes").ok();
    assert!(
        !demo.stderr.contains("installing") && demo.stderr.contains("starting a docker engine"),
        "{demo}"
    );
    user.ends_it();
}

#[test]
fn with_only_the_client_the_engine_is_installed() {
    let Some(machine) = machine(Docker::Client) else { return };
    assert!(has(&machine, "docker") && !has(&machine, "dockerd"));
    let user = user(&machine, &[]);
    user.types("demo").end().failed(4, &["dockerd: as root: apt-get install docker.io"]);
    let demo = user.does_it_all();
    assert!(demo.stderr.contains("docker.io"), "{demo}");
    user.ends_it();
}

#[test]
fn a_stopped_engine_is_started_even_if_path_lacks_system_programs() {
    if !soak("docker.io installed and stopped") {
        return;
    }
    let Some(machine) = machine(Docker::Stopped) else { return };
    // As after `su` without a dash.
    let path = std::env::var("PATH").unwrap();
    let path: Vec<&str> = path.split(':').filter(|dir| !dir.ends_with("sbin")).collect();
    let user = user(&machine, &[("PATH", &path.join(":"))]);
    let demo = user.does_it_all();
    assert!(!demo.stderr.contains("installing"), "{demo}");
    user.ends_it();
}

#[test]
fn an_engine_elsewhere_is_used_and_left_running() {
    if !soak("an engine at DOCKER_HOST, at a context, and without a client") {
        return;
    }
    for (case, docker) in [("host", Docker::Client), ("context", Docker::Client), ("no client", Docker::None)]
    {
        let Some(machine) = machine(docker) else { return };
        let Some(engine) = machine.engine_elsewhere() else { return };
        let address = format!("unix://{}", e2e::target().join("local/elsewhere/docker.sock").display());
        let env: &[(&str, &str)] = if case == "context" {
            let create = ["context", "create", "there", "--docker", &format!("host={address}")];
            e2e::read(machine.command("docker").args(create));
            e2e::read(machine.command("docker").args(["context", "use", "there"]));
            &[]
        } else {
            &[("DOCKER_HOST", &address)]
        };
        let user = user(&machine, env);
        user.does_it_all();
        if docker == Docker::Client {
            assert!(!has(&machine, "dockerd"), "{case}");
        }
        assert!(!engine.images().is_empty(), "{case}");
        user.ends_it();
        assert!(!engine.images().is_empty(), "{case}");
    }
}

/// On a new Debian that has Rust, terraform and nothing else, not even certificates.
fn from_nothing(release: &str) {
    if !soak(&format!("a Debian root with Rust and terraform alone: {release}")) {
        return;
    }
    let Some(machine) = with_samples(|| Machine::debian(release)) else { return };
    assert!(!has(&machine, "docker") && !has(&machine, "dockerd") && !has(&machine, "debootstrap"));
    assert!(!has_certificates(&machine));
    let user = user(&machine, &[]);
    assert_eq!(user.status()["running"], false);
    user.does_it_all();
    user.ends_it();
}

#[test]
fn on_a_new_bookworm_with_only_rust_and_terraform() {
    from_nothing("bookworm");
}

#[test]
fn on_a_new_trixie_with_only_rust_and_terraform() {
    from_nothing("trixie");
}

fn has_certificates(machine: &Machine) -> bool {
    machine.command("ls").arg("/etc/ssl/certs").output().unwrap().stdout.len() > 1
}

#[test]
fn a_machine_without_certificates_does_everything_without_tls() {
    let _ = built();
    let Some(machine) = Machine::new(Docker::Stopped) else { return };
    e2e::read(machine.command("rm").args(["-rf", "/etc/ssl/certs", "/usr/share/ca-certificates"]));
    assert!(!has_certificates(&machine));
    machine.xtask("local status").ok();
}

#[test]
fn the_tests_run_on_a_machine_without_docker() {
    if std::env::var_os(e2e::COMPLETE).is_none() {
        // The tests of the whole workspace are compiled inside: `cargo xtask test` has done that already.
        say("only under `cargo xtask test`: the tests on a machine without docker");
        return;
    }
    let machines = if soak("the tests where only the engine is missing") {
        &[Docker::None, Docker::Client][..]
    } else {
        &[Docker::None]
    };
    for docker in machines {
        let Some(machine) = machine(*docker) else { return };
        let name = "only_changed_runtimes_are_built";
        let run = machine.xtask("test --yes").arg(name).ok();
        assert!(run.stderr.contains("0 failed"), "{run}");
        machine.xtask("local down").ok();
        assert_eq!(machine.processes(), Vec::<String>::new(), "{run}");
    }
}

#[test]
fn the_host_machine_is_not_changed() {
    let Some(machine) = Machine::new(Docker::None) else { return };
    assert!(!has(&machine, "docker"));
    let dir = machine.local().parent().unwrap().to_owned();
    drop(machine);
    assert!(!dir.exists() && !Path::new("/var/tmp").join(dir.file_name().unwrap()).exists());
    assert!(programs(&["docker"]));
}
