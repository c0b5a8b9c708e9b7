//! Finds docker's client and engine separately, because they are installed separately.

use process::cmd;

use super::client::{answers, comes_up};
use super::engine::Engine;
use super::packages::System;
use super::{Need, Plan, PrerequisiteError, Setup, is_there};

/// Debian's and Ubuntu's packages for the client. Newer releases have it, and its BuildKit plugin, in separate packages. In older
/// ones `docker.io` contains the client too.
const CLIENT: &[&str] = &["docker-cli", "docker-buildx"];
/// The package of the engine, and the one needed to pull over TLS.
const ENGINE: &[&str] = &["docker.io", "ca-certificates"];

/// What is installed of docker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Docker {
    /// Whether the client is installed.
    pub(super) client: bool,
    /// Whether the engine's program is installed.
    pub(super) dockerd: bool,
    /// The engine that the client reaches.
    pub(super) engine: Reached,
}

/// Whether the client reaches an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// An engine answers: at the given `DOCKER_HOST`, or at the client's default (`None`).
    At(Option<String>),
    /// An engine answers at this address, which the client does not use.
    Elsewhere(String),
    /// An engine exists, but there is no client yet to check it.
    Unasked,
    /// There is no engine.
    Nowhere,
}

impl Docker {
    /// Finds client and engine. `own` is the engine that an earlier run may have started.
    ///
    /// # Errors
    /// The user's chosen engine does not answer, or the user has no access to it.
    pub(super) async fn look(own: &Engine) -> Result<Self, PrerequisiteError> {
        let (client, dockerd) = (is_there("docker"), is_there("dockerd"));
        let engine = if client {
            reach(own).await?
        } else if chosen_by_variable().is_some() || own.check_alone().is_err() {
            Reached::Unasked
        } else {
            Reached::Nowhere
        };
        Ok(Self { client, dockerd, engine })
    }

    /// Adds missing parts of client and engine to `plan`.
    pub(super) fn plan(&self, system: &System, plan: &mut Plan) {
        let able = matches!(system, System::Debian { root: true });
        let needs_engine = self.engine == Reached::Nowhere;
        let needs_dockerd = needs_engine && !self.dockerd && matches!(system, System::Debian { .. });
        if !self.client || needs_dockerd {
            let missing = if self.client { "dockerd" } else { "docker" };
            plan.steps.push(format!("{missing}: {}", Need::Docker.step(system)));
        }
        if able {
            plan.install.extend(CLIENT.iter().filter(|_| !self.client));
            plan.install.extend(ENGINE.iter().filter(|_| needs_dockerd));
            plan.start_engine = needs_engine;
        }
        match &self.engine {
            Reached::Elsewhere(address) => {
                plan.use_engine = Some(address.clone());
                plan.steps.push(format!("use the docker engine that runs: export DOCKER_HOST={address}"));
            }
            Reached::Nowhere if able && self.dockerd => {
                plan.steps.push("start a docker engine: as root, dockerd &".to_owned());
            }
            Reached::Nowhere if !able && self.client && !needs_dockerd => {
                plan.steps
                    .push("start the docker engine (systemctl start docker, or Docker Desktop)".to_owned());
            }
            Reached::Nowhere | Reached::Unasked | Reached::At(_) => {}
        }
        plan.by_hand |= !able && (!self.client || needs_engine);
    }
}

/// Starts an engine if none answers, after missing parts were installed. Returns its `DOCKER_HOST`, or `None` if the client finds
/// it itself.
///
/// # Errors
/// An existing engine does not answer, or a new one does not start.
pub(super) async fn bring_up(
    own: &Engine,
    plan: &Plan,
    setup: &Setup<'_>,
) -> Result<Option<String>, PrerequisiteError> {
    match reach(own).await? {
        Reached::At(host) => return Ok(host),
        Reached::Elsewhere(address) => return Ok(Some(address)),
        Reached::Unasked | Reached::Nowhere => {}
    }
    // Installing docker may have started its service, which needs a moment.
    if !plan.install.is_empty() && own.check_alone().is_err() && comes_up().await {
        return Ok(None);
    }
    (setup.say)(&format!("starting a docker engine in {}", setup.state.display()));
    own.start().await
}

/// The engine named in the environment, otherwise the one that an earlier run started, otherwise one at an address that the client
/// does not use.
async fn reach(own: &Engine) -> Result<Reached, PrerequisiteError> {
    let reason = match answers(None).await {
        Ok(()) => return Ok(Reached::At(None)),
        Err(reason) => reason,
    };
    if let Some(address) = chosen() {
        return Err(PrerequisiteError::EngineSilent { address, reason });
    }
    let host = own.host();
    if own.pid().is_some() && answers(Some(&host)).await.is_ok() {
        return Ok(Reached::At(Some(host)));
    }
    if reason.contains("permission denied") {
        return Err(PrerequisiteError::EngineForbidden);
    }
    match own.other_address() {
        Some(address) if answers(Some(&address)).await.is_ok() => Ok(Reached::Elsewhere(address)),
        _ => Ok(Reached::Nowhere),
    }
}

/// The engine chosen in the user's settings, if it is not docker's default.
fn chosen() -> Option<String> {
    let context = || cmd!(process::shell().ok()?, "docker context show").read().ok();
    chosen_by_variable()
        .or_else(|| context().filter(|name| name != "default").map(|name| format!("context {name}")))
}

fn chosen_by_variable() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let context = || variable("DOCKER_CONTEXT").filter(|name| name != "default");
    variable("DOCKER_HOST").or_else(|| context().map(|name| format!("context {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: System = System::Debian { root: true };

    fn plan(client: bool, dockerd: bool, engine: Reached, system: &System) -> Plan {
        let mut plan = Plan::default();
        Docker { client, dockerd, engine }.plan(system, &mut plan);
        plan
    }

    #[test]
    fn client_and_engine_are_installed_separately_if_missing() {
        let all = ["docker-cli", "docker-buildx", "docker.io", "ca-certificates"];
        for (client, dockerd, engine, install, start) in [
            (false, false, Reached::Nowhere, &all[..], true),
            (true, false, Reached::Nowhere, ENGINE, true),
            (true, true, Reached::Nowhere, &[], true),
            (false, true, Reached::Nowhere, CLIENT, true),
            (true, false, Reached::At(None), &[], false),
            (true, false, Reached::At(Some("unix:///a.sock".into())), &[], false),
            // DOCKER_HOST or another engine: no second one is needed.
            (false, false, Reached::Unasked, CLIENT, false),
            (false, true, Reached::Unasked, CLIENT, false),
        ] {
            let case = format!("client {client}, dockerd {dockerd}, {engine:?}");
            let plan = plan(client, dockerd, engine, &ROOT);
            assert_eq!(
                (&plan.install[..], plan.start_engine, plan.by_hand),
                (install, start, false),
                "{case}"
            );
            assert_eq!(plan.steps.is_empty(), install.is_empty() && !start, "{case}: {:?}", plan.steps);
        }
    }

    #[test]
    fn an_engine_at_another_address_is_used_and_no_second_one_started() {
        for system in [ROOT, System::Debian { root: false }] {
            let plan = plan(true, false, Reached::Elsewhere("unix:///a.sock".to_owned()), &system);
            assert!(!plan.start_engine && !plan.by_hand && plan.install.is_empty());
            assert!(plan.question().contains("unix:///a.sock"));
            assert_eq!(plan.steps, ["use the docker engine that runs: export DOCKER_HOST=unix:///a.sock"]);
        }
    }

    #[test]
    fn without_root_each_missing_part_has_its_step() {
        for (client, system, step) in [
            (true, System::Debian { root: false }, "dockerd: as root: apt-get install docker.io"),
            (false, System::Debian { root: false }, "docker: as root: apt-get install docker.io"),
            (true, System::MacOs, "start the docker engine (systemctl start docker, or Docker Desktop)"),
        ] {
            let plan = plan(client, false, Reached::Nowhere, &system);
            assert!(plan.by_hand && plan.install.is_empty() && !plan.start_engine, "{system:?}");
            assert_eq!(plan.steps, [step], "{system:?}");
        }
    }
}
