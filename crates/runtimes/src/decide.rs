//! Decides what to do for each runtime: two HEAD requests each, and the container client only if something has to be built.

use std::sync::Arc;

use dockerfile::{Dockerfile, Needs};
use futures_util::future::try_join;
use process::blocking;
use registry::{Digest, Platform, Reference};

use super::builds::{Why, brief, last_base, why};
use super::context::{BuildContext, Reads};
use super::emulator::check_platforms;
use super::key::{INPUTS_LABEL, Inputs, KEY_LABEL};
use super::planned::{Action, Base, Planned, same_machine, tagged};
use super::{Context, Runtime, RuntimeError, entry_point, key_tag, local_name};

/// How a plan is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// REBUILD_RUNTIMES: build even if a build exists, without any cache.
    pub force: bool,
    /// `--locked`: check whether the upstreams still have the digests in `images.lock`.
    pub compare: bool,
}

/// A runtime that could not be planned.
#[derive(Debug)]
pub struct Failure {
    /// The runtime's name.
    pub name: String,
    /// Its base.
    pub base: Option<Reference>,
    /// The cause.
    pub error: RuntimeError,
}

/// The results of two HEAD requests, the lock and the options.
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
    /// No registry has the build; the container client's store may have it.
    Missing,
    Force,
}

/// The whole decision, except for the container client's store.
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

/// Plans all runtimes in parallel. A runtime that cannot be planned does not stop the others.
pub async fn plan(
    context: &Context,
    runtimes: &[Runtime],
    options: Options,
) -> Vec<Result<Planned, Failure>> {
    // When planning again after a file has changed, the engine may have been started in the meantime.
    context.forget_engine_failure().await;
    let reads = Arc::new(Reads::default());
    let each = runtimes.iter().map(|runtime| async {
        let planned = plan_one(context, runtime, options, &reads).await;
        planned.map_err(|error| Failure { name: runtime.name.clone(), base: runtime.base.clone(), error })
    });
    futures_util::future::join_all(each).await
}

/// The inputs of one runtime's key from its current files, for `--explain`. Sends no request, except to the upstream of a base that is not
/// locked.
///
/// # Errors
/// The context cannot be read, or the base cannot be resolved.
pub async fn explain(context: &Context, runtime: &Runtime) -> Result<Inputs, RuntimeError> {
    let read = read(context, runtime, &Arc::default()).await?;
    let base = resolve(context, runtime, Wait::Full).await?;
    Ok(inputs(runtime, &read.files, base.as_ref()))
}

/// A runtime's files, read and parsed.
struct Read {
    files: BuildContext,
    dockerfile: Arc<Dockerfile>,
    needs: Needs,
}

async fn read(context: &Context, runtime: &Runtime, reads: &Arc<Reads>) -> Result<Read, RuntimeError> {
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
    files.exclude(&runtime.left_out(&dockerfile));
    Ok(Read { files, dockerfile: Arc::new(dockerfile), needs })
}

fn inputs(runtime: &Runtime, files: &BuildContext, base: Option<&Base>) -> Inputs {
    let mut platforms: Vec<String> = runtime.platforms.iter().map(Platform::to_string).collect();
    platforms.sort();
    platforms.dedup();
    Inputs {
        args: runtime.args.clone(),
        target: runtime.target.clone(),
        platforms,
        base: base.map(|base| base.digest.to_string()),
        epoch: runtime.epoch.clone(),
        ..Inputs::new(&files.dockerfile, files.files())
    }
}

/// How long to wait for a base's registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The full timeout: nothing can be done without its answer.
    Full,
    /// A short timeout: the answer may not be needed.
    Little,
}

/// The digest that the upstream has for a base's name.
async fn ask(context: &Context, base: &Reference, wait: Wait) -> Result<Digest, RuntimeError> {
    let found = match wait {
        Wait::Full => context.client.find(base).await,
        Wait::Little => context.client.find_soon(base).await,
    };
    let failed = |source| RuntimeError::Base { base: base.to_string(), source };
    let unknown = || RuntimeError::BaseUnknown { base: base.to_string() };
    Ok(found.map_err(failed)?.ok_or_else(unknown)?.digest)
}

/// What the Dockerfile takes from elsewhere, after a check that all of it is pinned or is the base.
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

/// A base's digest: its own, else the lock's, else the upstream's; never a cache's, which may be a day old.
async fn resolve(context: &Context, runtime: &Runtime, wait: Wait) -> Result<Option<Base>, RuntimeError> {
    let Some(name) = runtime.base.clone() else { return Ok(None) };
    let known = name.digest().or_else(|| context.grid_settings.locked_base(&name));
    let digest = match known {
        Some(digest) => digest,
        None => ask(context, &name, wait).await?,
    };
    check_signature(context, &name, digest).await?;
    Ok(Some(Base { name, digest, locked: known.is_some() }))
}

/// Nothing is built on an image that lacks a required signature.
async fn check_signature(context: &Context, image: &Reference, digest: Digest) -> Result<(), RuntimeError> {
    let failed = |source| RuntimeError::Base { base: image.to_string(), source };
    context.grid_settings.check_signature(image, digest).await.map(drop).map_err(failed)
}

async fn plan_one(
    context: &Context,
    runtime: &Runtime,
    options: Options,
    reads: &Arc<Reads>,
) -> Result<Planned, RuntimeError> {
    let read = read(context, runtime, reads).await?;
    for stage in &read.needs.stages {
        if let Some(digest) = stage.digest() {
            check_signature(context, stage, digest).await?;
        }
    }
    let (mut planned, decision) = match resolve(context, runtime, Wait::Little).await {
        Ok(base) => look(context, runtime, &read, base, options).await?,
        Err(RuntimeError::Base { source, .. }) if source.is_out_of_reach() => {
            // Without the upstream: if the runtime's current build has this base's last digest and the same inputs, there is nothing to do.
            let last = match &runtime.base {
                Some(base) => last_base(context, &runtime.name, base).await.unwrap_or_default(),
                None => None,
            };
            let base_then = runtime.base.clone().zip(last);
            let base_then = base_then.map(|(name, digest)| Base { name, digest, locked: false });
            let (mut planned, decision) = look(context, runtime, &read, base_then, options).await?;
            if matches!(decision, Decision::Nothing(_)) {
                planned.unanswered = Some(source);
                (planned, decision)
            } else {
                let base = resolve(context, runtime, Wait::Full).await?;
                look(context, runtime, &read, base, options).await?
            }
        }
        Err(error) => return Err(error),
    };
    if options.compare {
        compare(context, &mut planned).await?;
    }
    complete(context, planned, decision).await
}

/// `--locked`: whether the base's name still refers to the digest in the lock.
async fn compare(context: &Context, planned: &mut Planned) -> Result<(), RuntimeError> {
    let Some(base) = planned.base.as_ref().filter(|base| base.locked && base.name.digest().is_none()) else {
        return Ok(());
    };
    match ask(context, &base.name, Wait::Little).await {
        Ok(now) => planned.base_moved = (now != base.digest).then_some((base.digest, now)),
        // The lock has the digest to use, so the upstream is not needed.
        Err(RuntimeError::Base { source, .. }) if source.is_out_of_reach() => {
            planned.unanswered = Some(source);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Sends the two HEAD requests and decides.
async fn look(
    context: &Context,
    runtime: &Runtime,
    read: &Read,
    base: Option<Base>,
    options: Options,
) -> Result<(Planned, Decision), RuntimeError> {
    let inputs = inputs(runtime, &read.files, base.as_ref());
    let mut planned = Planned {
        name: runtime.name.clone(),
        action: Action::Nothing,
        reason: String::new(),
        key: inputs.key(),
        inputs,
        base,
        seen: None,
        held: None,
        unanswered: None,
        base_moved: None,
        runtime: runtime.clone(),
        context: read.files.clone(),
        dockerfile: Arc::clone(&read.dockerfile),
        needs: read.needs.clone(),
    };
    let Some(repository) = &context.repository else {
        let decision = if options.force { Decision::Force } else { Decision::Missing };
        return Ok((planned, decision));
    };
    let tagged = |tag: &str| tagged(repository, &runtime.name, tag);
    let key_tag = tagged(&key_tag(&runtime.name, &planned.key))?;
    let runtime_tag = tagged(&runtime.name)?;
    let (by_key, by_name) =
        try_join(context.client.look_up(&key_tag), context.client.look_up(&runtime_tag)).await?;
    planned.seen = by_name.map(|found| found.digest);
    planned.held = context.grid_settings.hold(&runtime.name);
    let decision = decide(Facts {
        key: by_key.map(|found| found.digest),
        runtime: planned.seen,
        hold: planned.held.as_ref().map(|hold| hold.build),
        force: options.force,
    });
    Ok((planned, decision))
}

/// Completes a plan from the decision; may need the container client.
async fn complete(
    context: &Context,
    mut planned: Planned,
    decision: Decision,
) -> Result<Planned, RuntimeError> {
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
            (false, _) => (Action::Build { forced: false }, changed(context, &planned).await),
        },
    };
    if matches!(planned.action, Action::Build { .. } | Action::Push)
        && let Some(base) = &planned.base
    {
        let failed = |source| RuntimeError::Base { base: base.name.to_string(), source };
        context.grid_settings.is_old_enough(&base.name, base.digest).map_err(failed)?;
    }
    if matches!(planned.action, Action::Build { .. }) {
        check_platforms(context, &planned).await?;
    }
    Ok(planned)
}

/// What changed since the current build.
async fn changed(context: &Context, planned: &Planned) -> String {
    match why(context, planned).await {
        Ok(Why::Absent) => "not built yet".to_owned(),
        Ok(Why::Foreign) => "the registry's runtime was not built by this version of the tool".to_owned(),
        Ok(Why::Changes(changes)) => brief(&changes),
        // The runtime is built in any case.
        Err(_) => "its inputs changed".to_owned(),
    }
}

/// Whether the container client's store has the build for every platform.
async fn is_local(context: &Context, planned: &Planned) -> Result<bool, RuntimeError> {
    let docker = &context.engine().await?.docker;
    for platform in &planned.runtime.platforms {
        // Checks the label as well as the name: any image can have the name.
        let found = docker.store().image(&local_name(&planned.runtime, &planned.key, platform)).await?;
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
}
