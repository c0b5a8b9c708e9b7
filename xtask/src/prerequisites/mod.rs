//! Finds what `demo` and `test` need on this machine before they start, and installs it if possible.
//!
//! On Debian and Ubuntu as root, missing packages are installed and a docker engine is started, after a question. On other systems,
//! each missing thing is listed with the step to install it.

mod client;
mod docker;
mod engine;
mod error;
mod modern_docker;
mod need;
mod packages;
mod processes;
mod python;
mod test_engines;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use self::docker::{Docker, Reached};
pub use engine::Engine;
pub use error::PrerequisiteError;
pub use need::Need;
use packages::System;
pub use processes::has_ended;
pub use test_engines::TestEngines;

use terraform::Program;

/// Set for the tests: a missing program or engine fails the test instead of skipping it.
pub const COMPLETE: &str = "HTC_GRID_TEST_COMPLETE";

/// How [`ensure`] may change the machine, and its output.
pub struct Setup<'a> {
    /// The directory of Python's packages: `target/python`, where the tests expect it.
    pub python: &'a Path,
    /// The directory for the data of an engine that it starts (images, socket, log), such as `target/local/docker`.
    pub state: &'a Path,
    /// `--yes`; `CI=true` means the same.
    pub assume_yes: bool,
    /// Asks the user a question.
    pub ask: &'a (dyn Fn(&str) -> bool + Sync),
    /// Prints progress, one line at a time.
    pub say: &'a (dyn Fn(&str) + Sync),
}

/// The result, for the commands that follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The `DOCKER_HOST` for every child. `None` if the environment leads to the engine already.
    pub docker_host: Option<String>,
}

/// The work for the needs, found without changing anything.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    install: Vec<&'static str>,
    install_python: bool,
    start_engine: bool,
    /// A running engine at an address that docker does not use.
    use_engine: Option<String>,
    steps: Vec<String>,
    by_hand: bool,
}

impl Plan {
    /// The text of the question.
    fn question(&self) -> String {
        let mut parts = Vec::new();
        if !self.install.is_empty() {
            parts.push(format!("install {} with apt-get", self.install.join(", ")));
        }
        if self.install_python {
            parts.push(format!("install {} with pip below the target directory", python::names()));
        }
        if self.start_engine {
            parts.push("start a docker engine".to_owned());
        }
        if let Some(address) = &self.use_engine {
            parts.push(format!("use the docker engine at {address}"));
        }
        format!("To go on, this will {}. Continue?", parts.join(" and "))
    }
}

/// `docker` is what is installed of it. `look` returns the step to install another need if it is missing.
fn plan(
    needs: &[Need],
    system: &System,
    docker: Option<&Docker>,
    look: impl Fn(Need) -> Result<(), String>,
) -> Plan {
    let mut plan = Plan::default();
    let able = matches!(system, System::Debian { root: true });
    if let Some(docker) = docker {
        docker.plan(system, &mut plan);
    }
    for need in needs.iter().filter(|need| **need != Need::Docker) {
        let looked = look(*need);
        let Err(step) = looked else { continue };
        let step = format!("{}: {step}", need.program());
        plan.steps.push(step);
        if *need == Need::Python {
            plan.install_python = true;
            if able {
                plan.install.extend(need.packages());
            }
        } else if able && !need.packages().is_empty() {
            plan.install.extend(need.packages());
        } else {
            plan.by_hand = true;
        }
    }
    if needs.contains(&Need::Debootstrap) && matches!(system, System::Debian { root: false }) {
        plan.steps.push("the sample bases can only be made by root: run this command as root".to_owned());
        plan.by_hand = true;
    }
    plan
}

/// Makes sure that everything in `needs` is available: checks, asks, installs, starts.
///
/// An engine that an earlier run started, and that still answers, is reused. A new one stays running, with its address in
/// [`Environment::docker_host`]; the same holds for one at an address that docker does not use. The user's own engine always comes
/// first: if `DOCKER_HOST` or a context names one that does not answer, no other is started.
///
/// # Errors
/// Something missing cannot be installed here, the answer was no, or installing or starting failed.
pub async fn ensure(needs: &[Need], setup: &Setup<'_>) -> Result<Environment, PrerequisiteError> {
    let system = System::detect();
    let engine = Engine::at(setup.state);
    let mut environment = Environment::default();
    let docker = if needs.contains(&Need::Docker) { Some(Docker::look(&engine).await?) } else { None };
    if let Some(Docker { engine: Reached::At(host), .. }) = &docker {
        environment.docker_host.clone_from(host);
    }
    let plan = plan(needs, &system, docker.as_ref(), |need| look(need, &system, setup.python));
    if plan.steps.is_empty() {
        return Ok(environment);
    }
    if plan.by_hand {
        return Err(PrerequisiteError::Missing { steps: plan.steps });
    }
    // Refuses a second engine before asking or installing.
    if plan.start_engine {
        engine.check_alone()?;
    }
    let agreed = setup.assume_yes || std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1");
    if !agreed && !(setup.ask)(&plan.question()) {
        return Err(PrerequisiteError::Refused { steps: plan.steps });
    }
    if !plan.install.is_empty() {
        packages::install(&plan.install, setup.say).await?;
    }
    if plan.install_python {
        python::install(setup.python, setup.say).await?;
    }
    if needs.contains(&Need::Docker) {
        environment.docker_host = docker::bring_up(&engine, &plan, setup).await?;
    }
    Ok(environment)
}

/// The directories to search for programs: PATH, and those of system programs, which `su` leaves out (`dockerd`, `debootstrap` and
/// programs that apt starts are there).
pub fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for dir in ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    // A directory in PATH contains no colon.
    std::env::join_paths(dirs).unwrap_or(path)
}

/// Whether a program is installed.
fn is_there(program: &str) -> bool {
    which::which_in_global(program, Some(search_path())).is_ok_and(|mut found| found.next().is_some())
}

/// Whether a need other than docker is available; the error is the step to install it.
fn look(need: Need, system: &System, python: &Path) -> Result<(), String> {
    match need {
        Need::Python if python::is_there(python) => Ok(()),
        Need::Python => Err(need.step(system)),
        Need::Terraform => Program::find().map(|_| ()).map_err(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        }),
        // Ubuntu has it only as a snap. There the test reports that it skips.
        Need::Chromium if Need::BROWSERS.into_iter().any(is_there) || packages::is_ubuntu() => Ok(()),
        need if is_there(need.program()) => Ok(()),
        need => Err(need.step(system)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: System = System::Debian { root: true };

    /// A machine that only has the needs accepted by `there`.
    fn machine(system: System, there: impl Fn(Need) -> bool) -> impl Fn(Need) -> Result<(), String> {
        move |need| if there(need) { Ok(()) } else { Err(need.step(&system)) }
    }

    fn docker(engine: Reached) -> Docker {
        Docker { client: engine != Reached::Nowhere, dockerd: engine != Reached::Nowhere, engine }
    }

    #[test]
    fn nothing_is_done_if_nothing_is_missing() {
        for (needs, system) in [(Need::TEST, ROOT), (Need::DEMO, System::MacOs)] {
            let there = docker(Reached::At(None));
            assert_eq!(plan(needs, &system, Some(&there), machine(system, |_| true)), Plan::default());
        }
    }

    #[test]
    fn root_on_debian_gets_an_offer_to_install_everything_from_apt() {
        let plan = plan(
            Need::TEST,
            &ROOT,
            Some(&docker(Reached::Nowhere)),
            machine(ROOT, |need| need == Need::Terraform),
        );
        assert!(plan.start_engine && !plan.by_hand);
        for package in
            ["docker.io", "debootstrap", "skopeo", "docker-registry", "shellcheck", "podman", "chromium"]
        {
            assert!(plan.install.contains(&package), "{package} in {:?}", plan.install);
        }
        assert!(
            plan.question().ends_with(
                "with apt-get and install moto[server]==5.2.5, awscli==1.46.3, boto3==1.44.8, awscrt==0.38.0 with pip below the target directory \
                 and start a docker engine. Continue?"
            ),
            "{}",
            plan.question()
        );
    }

    #[test]
    fn elsewhere_each_missing_thing_has_its_step() {
        for system in [System::MacOs, System::Other, System::Debian { root: false }] {
            let plan = plan(Need::TEST, &system, Some(&docker(Reached::Nowhere)), machine(system, |_| false));
            assert!(plan.by_hand && plan.install.is_empty() && !plan.start_engine, "{system:?}");
            for need in Need::TEST {
                let name = format!("{}: ", need.program());
                assert!(plan.steps.iter().any(|step| step.starts_with(&name)), "{name} on {system:?}");
            }
        }
        let error = PrerequisiteError::Missing { steps: vec!["a".into(), "b".into()] };
        assert_eq!(error.to_string(), "this machine lacks what is needed:\n  - a\n  - b");
    }

    #[test]
    fn terraform_is_never_offered_but_always_explained() {
        let plan = plan(
            Need::DEMO,
            &ROOT,
            Some(&docker(Reached::At(None))),
            machine(ROOT, |need| need != Need::Terraform),
        );
        assert!(plan.by_hand && plan.install.is_empty());
        assert!(plan.steps[0].contains("1.11") && plan.steps[0].contains("1.10"), "{:?}", plan.steps);
    }
}
