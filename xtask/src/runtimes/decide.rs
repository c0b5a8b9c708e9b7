//! What has to be done for each runtime: two HEADs each, and the container client only where something is to be built.

use std::sync::Arc;

use futures_util::future::try_join;
use registry::{Digest, Platform, Reference};
use serde::Serialize;

use super::build::blocking;
use super::context::{BuildContext, Reads};
use super::key::{INPUTS_LABEL, Inputs, KEY_LABEL};
use super::{Context, Runtime, RuntimeError, entry_point, key_tag, local_name};
use crate::docker::{Docker, DockerError};
use crate::dockerfile::{self, Dockerfile, Needs};

/// How a plan is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// REBUILD_RUNTIMES: build whatever there is, without any cache.
    pub force: bool,
}

/// A base that is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// By its upstream name.
    pub name: Reference,
    /// What the name means.
    pub digest: Digest,
    /// Whether `images.lock` said so; else the upstream did.
    pub locked: bool,
}

/// What is done for one runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Action {
    /// It is as it should be.
    Nothing,
    /// The build is at the registry; the runtime tag is moved to it.
    Promote {
        /// The build.
        digest: Digest,
    },
    /// The build is in the container client's store; it is pushed.
    Push,
    /// It is built.
    Build {
        /// Without any cache.
        forced: bool,
    },
}

/// One runtime of a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The runtime's name.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// Why, for people.
    pub reason: String,
    /// The build key.
    pub key: String,
    /// What the key is made of.
    pub inputs: Inputs,
    /// The base.
    pub base: Option<Base>,
    /// What the runtime tag means now.
    pub seen: Option<Digest>,
    /// The build on which the runtime is held.
    pub held: Option<Digest>,
    pub(super) runtime: Runtime,
    pub(super) context: BuildContext,
    pub(super) dockerfile: Arc<Dockerfile>,
    pub(super) needs: Needs,
}

/// A runtime that could not be planned.
#[derive(Debug)]
pub struct Failure {
    /// The runtime's name.
    pub name: String,
    /// Why.
    pub error: RuntimeError,
}

/// What two HEADs, the lock and the user say.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    key: Option<Digest>,
    runtime: Option<Digest>,
    hold: Option<Digest>,
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Nothing(&'static str),
    Promote(Digest, &'static str),
    /// No registry has it: the container client's store may.
    Missing,
    Force,
}

/// The whole decision, apart from what the container client's store says.
fn decide(facts: Facts) -> Decision {
    match facts {
        Facts { force: true, .. } => Decision::Force,
        Facts { hold: Some(hold), runtime, .. } if runtime == Some(hold) => {
            Decision::Nothing("held by images.lock after a rollback")
        }
        Facts { hold: Some(hold), .. } => Decision::Promote(hold, "images.lock holds it on another build"),
        Facts { key: Some(key), runtime, .. } if runtime == Some(key) => Decision::Nothing("up to date"),
        Facts { key: Some(key), runtime: Some(_), .. } => {
            Decision::Promote(key, "built before, and the runtime is another build")
        }
        Facts { key: Some(key), runtime: None, .. } => {
            Decision::Promote(key, "built before, and the runtime is absent")
        }
        Facts { key: None, .. } => Decision::Missing,
    }
}

/// Plans each runtime, side by side. What cannot be planned is told beside what can.
pub async fn plan(
    context: &Context,
    runtimes: &[Runtime],
    options: Options,
) -> Vec<Result<Planned, Failure>> {
    let reads = Arc::new(Reads::default());
    let each = runtimes.iter().map(|runtime| async {
        let planned = plan_one(context, runtime, options, &reads).await;
        planned.map_err(|error| Failure { name: runtime.name.clone(), error })
    });
    futures_util::future::join_all(each).await
}

/// The key's inputs of one runtime as its files are now, for `--explain`: asks nobody but, for a base that is not locked, its
/// upstream.
///
/// # Errors
/// The context cannot be read, or the base not resolved.
pub async fn explain(context: &Context, runtime: &Runtime) -> Result<Inputs, RuntimeError> {
    inputs(context, runtime, &Arc::default()).await.map(|read| read.inputs)
}

/// A runtime's files, read and understood.
struct Read {
    inputs: Inputs,
    base: Option<Base>,
    files: BuildContext,
    dockerfile: Dockerfile,
    needs: Needs,
}

async fn inputs(context: &Context, runtime: &Runtime, reads: &Arc<Reads>) -> Result<Read, RuntimeError> {
    let (root, path) = (runtime.context.clone(), runtime.dockerfile.clone());
    let reads = Arc::clone(reads);
    let mut files = blocking(move || BuildContext::read(&root, &path, &reads)).await?;
    let shown = context.shown(&runtime.context.join(&runtime.dockerfile));
    let dockerfile = Dockerfile::parse(&shown, &files.dockerfile)?;
    let needs = needs(&dockerfile, runtime, &shown)?;
    if let Some(file) = &runtime.entry_point {
        let path = runtime.context.join(file);
        entry_point::check(&path, &context.shown(&path))?;
    }
    files.leave_out(&runtime.left_out(&dockerfile));
    let base = resolve(context, runtime).await?;
    let mut platforms: Vec<String> = runtime.platforms.iter().map(Platform::to_string).collect();
    platforms.sort();
    platforms.dedup();
    let inputs = Inputs {
        args: runtime.args.clone(),
        target: runtime.target.clone(),
        platforms,
        base: base.as_ref().map(|base| base.digest.to_string()),
        epoch: runtime.epoch.clone(),
        ..Inputs::new(&files.dockerfile, files.files())
    };
    Ok(Read { inputs, base, files, dockerfile, needs })
}

/// What the Dockerfile takes from elsewhere: all of it is pinned, or is the base.
fn needs(dockerfile: &Dockerfile, runtime: &Runtime, shown: &str) -> Result<Needs, RuntimeError> {
    let needs = dockerfile.needs(&runtime.given())?;
    let found = match (&needs.base, &runtime.base_argument) {
        (dockerfile::Base::Argument(_), Some(_)) => return Ok(needs),
        (dockerfile::Base::Own(own), None) if runtime.base.as_ref() == Some(own) => return Ok(needs),
        (dockerfile::Base::Scratch, None) if runtime.base.is_none() => return Ok(needs),
        (dockerfile::Base::Own(own), _) => own.to_string(),
        (dockerfile::Base::Scratch | dockerfile::Base::Argument(_), _) => "scratch".to_owned(),
    };
    let expected = match (&runtime.base_argument, &runtime.base) {
        (Some(argument), _) => format!("the argument {argument}"),
        (None, Some(base)) => base.to_string(),
        (None, None) => "scratch".to_owned(),
    };
    Err(RuntimeError::OtherBase { dockerfile: shown.to_owned(), expected, found })
}

/// A base's digest: its own, else the lock's, else what the upstream says now; never a cache's, which may be a day old.
async fn resolve(context: &Context, runtime: &Runtime) -> Result<Option<Base>, RuntimeError> {
    let Some(name) = runtime.base.clone() else { return Ok(None) };
    let locked = name.digest().or_else(|| context.surroundings.locked_base(&name));
    let digest = match locked {
        Some(digest) => digest,
        None => match context.client.find(&name).await? {
            Some(found) => found.digest,
            None => return Err(RuntimeError::BaseUnknown { base: name.to_string() }),
        },
    };
    Ok(Some(Base { name, digest, locked: locked.is_some() }))
}

async fn plan_one(
    context: &Context,
    runtime: &Runtime,
    options: Options,
    reads: &Arc<Reads>,
) -> Result<Planned, RuntimeError> {
    let Read { inputs, base, files, dockerfile, needs } = inputs(context, runtime, reads).await?;
    let key = inputs.key();
    let mut planned = Planned {
        name: runtime.name.clone(),
        action: Action::Nothing,
        reason: String::new(),
        key,
        inputs,
        base,
        seen: None,
        held: None,
        runtime: runtime.clone(),
        context: files,
        dockerfile: Arc::new(dockerfile),
        needs,
    };
    let decision = match &context.repository {
        Some(repository) => {
            let tagged = |tag: &str| tagged(repository, &runtime.name, tag);
            let key_tag = tagged(&key_tag(&runtime.name, &planned.key))?;
            let runtime_tag = tagged(&runtime.name)?;
            let (by_key, by_name) =
                try_join(context.client.look_up(&key_tag), context.client.look_up(&runtime_tag)).await?;
            planned.seen = by_name.map(|found| found.digest);
            planned.held = context.surroundings.hold(&runtime.name);
            decide(Facts {
                key: by_key.map(|found| found.digest),
                runtime: planned.seen,
                hold: planned.held,
                force: options.force,
            })
        }
        None if options.force => Decision::Force,
        None => Decision::Missing,
    };
    (planned.action, planned.reason) = match decision {
        Decision::Nothing(reason) => (Action::Nothing, reason.to_owned()),
        Decision::Promote(digest, reason) => (Action::Promote { digest }, reason.to_owned()),
        Decision::Force => {
            let held =
                if planned.held.is_some() { "; images.lock holds the runtime on another build" } else { "" };
            (Action::Build { forced: true }, format!("rebuild is forced{held}"))
        }
        Decision::Missing => match (is_local(context, &planned).await?, &context.repository) {
            (true, Some(_)) => (Action::Push, "built on this machine, and not at the registry".to_owned()),
            (true, None) => (Action::Nothing, "built on this machine".to_owned()),
            (false, Some(_)) if planned.seen.is_some() => {
                (Action::Build { forced: false }, "its inputs changed".to_owned())
            }
            (false, _) => (Action::Build { forced: false }, "not built yet".to_owned()),
        },
    };
    if matches!(planned.action, Action::Build { .. }) {
        check_platforms(context, &planned).await?;
    }
    Ok(planned)
}

/// `repository:tag`.
pub(super) fn tagged(repository: &Reference, runtime: &str, tag: &str) -> Result<Reference, RuntimeError> {
    let named = |source| RuntimeError::Name { runtime: runtime.to_owned(), source };
    repository.with_tag(tag).map_err(named)
}

/// Whether the container client's store has the build for every platform.
async fn is_local(context: &Context, planned: &Planned) -> Result<bool, RuntimeError> {
    let docker = &context.engine().await?.docker;
    for platform in &planned.runtime.platforms {
        // The label as well as the name: a name can be given to anything.
        let found = docker.image(&local_name(&planned.runtime, &planned.key, platform)).await?;
        let is_it = found.is_some_and(|image| {
            image.labels.get(KEY_LABEL) == Some(&planned.key)
                && image.labels.contains_key(INPUTS_LABEL)
                && image.platform.parse::<Platform>().is_ok_and(|found| same_machine(&found, platform))
        });
        if !is_it {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares without the variant, which not every client reports.
pub(super) fn same_machine(one: &Platform, other: &Platform) -> bool {
    let bare = |platform: &Platform| Platform { variant: None, ..platform.clone() };
    bare(one).matches(&bare(other))
}

/// Says before anything starts that a platform's programs cannot run here. A Dockerfile without `RUN` runs none.
async fn check_platforms(context: &Context, planned: &Planned) -> Result<(), RuntimeError> {
    let engine = context.engine().await?;
    let foreign: Vec<&Platform> = planned
        .runtime
        .platforms
        .iter()
        .filter(|platform| !same_machine(platform, &engine.platform))
        .collect();
    if foreign.is_empty() || !planned.dockerfile.runs_programs() {
        return Ok(());
    }
    let named = engine.docker.builder_platforms(context.builder.as_deref()).await?;
    for platform in foreign {
        let can = match &named {
            Some(named) => named
                .iter()
                .filter_map(|name| name.parse().ok())
                .any(|found: Platform| same_machine(&found, platform)),
            None => emulated(&platform.architecture, std::path::Path::new("/proc/sys/fs/binfmt_misc")),
        };
        if !can {
            return Err(no_emulator(&engine.docker, platform));
        }
    }
    Ok(())
}

fn no_emulator(docker: &Docker, platform: &Platform) -> RuntimeError {
    RuntimeError::Docker(DockerError::NoEmulator {
        program: docker.name(),
        platform: platform.to_string(),
        architecture: platform.architecture.clone(),
    })
}

/// Whether the kernel hands another architecture's programs to an emulator. An engine on another machine (a remote one, or the
/// virtual machine of macOS) is not ours to look into: it is believed, and its own error is shown.
fn emulated(architecture: &str, registered: &std::path::Path) -> bool {
    let remote =
        std::env::var("DOCKER_HOST").is_ok_and(|host| !host.is_empty() && !host.starts_with("unix://"));
    if remote || !cfg!(target_os = "linux") {
        return true;
    }
    is_registered(architecture, registered)
}

fn is_registered(architecture: &str, registered: &std::path::Path) -> bool {
    let qemu = match architecture {
        "amd64" => "qemu-x86_64",
        "arm64" => "qemu-aarch64",
        "386" => "qemu-i386",
        other => &format!("qemu-{other}"),
    };
    std::fs::read_to_string(registered.join(qemu)).is_ok_and(|text| text.starts_with("enabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decision_table() {
        let a = Some(Digest::of(b"a"));
        let b = Some(Digest::of(b"b"));
        let facts = |key, runtime, hold, force| decide(Facts { key, runtime, hold, force });
        let promote = |found: Decision, to: Option<Digest>| {
            assert!(matches!(found, Decision::Promote(digest, _) if Some(digest) == to), "{found:?}");
        };
        assert_eq!(facts(a, a, None, false), Decision::Nothing("up to date"));
        promote(facts(a, b, None, false), a);
        promote(facts(a, None, None, false), a);
        assert_eq!(facts(None, None, None, false), Decision::Missing);
        assert_eq!(facts(None, b, None, false), Decision::Missing);
        assert!(matches!(facts(a, b, b, false), Decision::Nothing(_)));
        assert!(matches!(facts(None, b, b, false), Decision::Nothing(_)), "a held runtime is not built anew");
        promote(facts(a, a, b, false), b);
        promote(facts(a, None, b, false), b);
        for (key, runtime, hold) in [(None, None, None), (a, a, None), (a, b, None), (a, b, b), (None, a, a)]
        {
            assert_eq!(facts(key, runtime, hold, true), Decision::Force);
        }
    }

    #[test]
    fn an_emulator_is_there_only_while_it_is_enabled() {
        let room = tempfile::tempdir().unwrap();
        assert!(!is_registered("arm64", room.path()));
        std::fs::write(room.path().join("qemu-aarch64"), "enabled\ninterpreter /x\n").unwrap();
        assert!(is_registered("arm64", room.path()));
        std::fs::write(room.path().join("qemu-aarch64"), "disabled\n").unwrap();
        assert!(!is_registered("arm64", room.path()));
    }
}
