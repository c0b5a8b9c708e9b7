//! Publishes an image: push, verify, and the tags in their order.

use registry::{Digest, Manifest, Reference};

use super::attestations;
use super::history::{Cause, Move, Record};
use super::outcome::Done;
use super::planned::{Action, Planned, tagged};
use super::push::{self, BaseLayers, Packed, Push};
use super::{CompletedAction, Context, RuntimeError, State, build_tag, key_tag, smoke};

/// Build tag, reading back, the documents about it, key tag, runtime tag.
pub(super) async fn publish(
    context: &Context,
    planned: &Planned,
    repository: &Reference,
    images: &[Packed],
    bases: &[BaseLayers],
    done: &mut Done,
) -> Result<(), RuntimeError> {
    let manifest = match images {
        [image] => image.manifest.clone(),
        images => push::index(images)?,
    };
    let push = Push { context, runtime: &planned.name, repository, images, bases };
    let mut pushed = push.blobs().await?;
    done.sent = pushed.sent;

    let digest = manifest.digest();
    let name = build_tag(&planned.name, &digest);
    let by_build = tagged(repository, &planned.name, &name)?;
    match context.client.look_up(&by_build).await? {
        // Put only once: a registry with immutable build tags rejects even the same bytes.
        Some(found) if found.digest == digest => {}
        Some(found) => {
            let image = by_build.to_string();
            return Err(RuntimeError::BuildTag { image, found: found.digest, pushed: digest });
        }
        None => push.manifests(&by_build, &manifest, &mut pushed).await?,
    }
    done.sent = pushed.sent;
    context.progress.state(&planned.name, &State::Verifying);
    push::verify(context, &by_build, digest).await?;
    attestations::attach(context, planned, repository, &manifest, images).await?;

    context.progress.state(&planned.name, &State::Tagging);
    done.build_tag = Some(name);
    let chosen = put_key_tag(context, planned, repository, manifest).await?;
    if chosen.digest() != digest {
        done.smoke = smoke::at_registry(context, &repository.with_digest(chosen.digest())).await?;
    }
    // A hold also applies after a forced rebuild: the new build only gets its own two tags.
    match &planned.held {
        Some(held) => done.digest = planned.seen.or(Some(held.build)),
        None => move_runtime(context, planned, repository, &chosen, Cause::Built, done).await?,
    }
    let how = if done.built { CompletedAction::Built } else { CompletedAction::Pushed };
    context.progress.state(&planned.name, &State::Done { how, digest: chosen.digest() });
    Ok(())
}

/// Puts the key tag, unless another run was first: then its build is the one for these inputs, and only a forced rebuild moves the tag.
async fn put_key_tag(
    context: &Context,
    planned: &Planned,
    repository: &Reference,
    manifest: Manifest,
) -> Result<Manifest, RuntimeError> {
    let by_key = tagged(repository, &planned.name, &key_tag(&planned.name, &planned.key))?;
    let forced = planned.action == Action::Build { forced: true };
    if !forced && let Some(theirs) = context.client.manifest(&by_key).await? {
        if theirs.digest() != manifest.digest() {
            let line =
                format!("another run built the same inputs as {}: that build is used", theirs.digest());
            context.progress.line(&planned.name, &line);
        }
        return Ok(theirs);
    }
    context.client.put_manifest(&by_key, &manifest).await?;
    Ok(manifest)
}

/// Moves the runtime tag to a build that the registry has.
pub(super) async fn promote(
    context: &Context,
    planned: &Planned,
    digest: Digest,
) -> Result<Done, RuntimeError> {
    let Some(repository) = &context.repository else { return Ok(Done::default()) };
    context.progress.state(&planned.name, &State::Tagging);
    let by_digest = repository.with_digest(digest);
    let Some(manifest) = context.client.manifest(&by_digest).await? else {
        let image = tagged(repository, &planned.name, &planned.name)?.to_string();
        return Err(RuntimeError::Gone { image, digest });
    };
    let mut done = Done { smoke: smoke::at_registry(context, &by_digest).await?, ..Done::default() };
    move_runtime(context, planned, repository, &manifest, Cause::Promoted, &mut done).await?;
    context.progress.state(&planned.name, &State::Done { how: CompletedAction::Promoted, digest });
    Ok(done)
}

async fn move_runtime(
    context: &Context,
    planned: &Planned,
    repository: &Reference,
    manifest: &Manifest,
    cause: Cause,
    done: &mut Done,
) -> Result<(), RuntimeError> {
    done.moved = move_tag(context, repository, &planned.name, planned.seen, manifest, cause).await?;
    done.digest = Some(manifest.digest());
    done.replaced = planned.seen.filter(|_| done.moved);
    Ok(())
}

/// Moves the runtime tag by putting the same bytes, if it is unchanged since the plan; returns `false` if nothing had to be moved. The move
/// is recorded before it is made.
pub(super) async fn move_tag(
    context: &Context,
    repository: &Reference,
    runtime: &str,
    seen: Option<Digest>,
    manifest: &Manifest,
    cause: Cause,
) -> Result<bool, RuntimeError> {
    let by_name = tagged(repository, runtime, runtime)?;
    let expect = async || {
        let found = context.client.look_up(&by_name).await?.map(|found| found.digest);
        if found == seen || found == Some(manifest.digest()) {
            return Ok(found);
        }
        Err(RuntimeError::Moved { image: by_name.to_string(), expected: seen, found })
    };
    if expect().await? == Some(manifest.digest()) {
        return Ok(false);
    }
    let planned = Move::new(context, seen, manifest.digest(), cause);
    // A move without a record is detected by the next one with a record: the grid need not wait for it.
    let record = match Record::begin(context, repository, runtime, planned).await {
        Ok(record) => Some(record),
        Err(error) => {
            unrecorded(context, runtime, &error);
            None
        }
    };
    // Recording takes time: check again, so that another run's move is not undone.
    if expect().await? == Some(manifest.digest()) {
        return Ok(false);
    }
    context.client.put_manifest(&by_name, manifest).await?;
    if let Some(record) = record
        && let Err(error) = record.made().await
    {
        unrecorded(context, runtime, &error);
    }
    Ok(true)
}

fn unrecorded(context: &Context, runtime: &str, error: &RuntimeError) {
    let why = error.in_full();
    context.progress.warn(runtime, &format!("the move of its tag was not recorded: {why}"));
}
