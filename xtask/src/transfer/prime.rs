//! Fills the pull-through cache with the images that the grid's next steps need.

use failure::{FailWith as _, Kind, ending, failure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use registry::choose::{self, Repository};
use registry::{Digest, Reference};

use super::registry_hints::{of_target, registry_failure};
use super::{Plan, Run};

/// Images primed in parallel.
const PRIMED_AT_ONCE: usize = 8;

/// Pulls the images that the grid's next step and its charts need through ECR's cache, by tag: the first pull creates the
/// repository, and a first pull by digest fails (<https://github.com/aws/containers-roadmap/issues/2837>). No layers are
/// downloaded: ECR imports the layers requested with HEAD, and the grid's nodes find them in the account.
pub(super) async fn pull_through(run: &Run<'_>, plan: &Plan<'_>) -> anyhow::Result<Vec<Reference>> {
    if run.target.account.is_none() {
        return Ok(Vec::new());
    }
    let is_refused =
        |prime: &images_config::Prime| plan.primed.iter().any(|(name, _)| *name == prime.upstream);
    let primed = run.config.prime.iter().filter(|prime| !is_refused(prime)).map(|prime| pull_one(run, prime));
    let primed: Vec<Option<Reference>> = stream::iter(primed).buffered(PRIMED_AT_ONCE).try_collect().await?;
    Ok(primed.into_iter().flatten().collect())
}

/// The images without a required signature, by their upstream names, and those that could not be checked. Found before any change.
pub(super) async fn refused(run: &Run<'_>) -> Vec<(Reference, registry::Error)> {
    if run.target.account.is_none() || run.trust.is_none() {
        return Vec::new();
    }
    let asked = run.config.prime.iter().map(|prime| async move {
        // Images that are too new are skipped, even if they are signed.
        if !matches!(old_enough(run, &prime.upstream).await, Ok(Ok(()))) {
            return None;
        }
        let refused = check_signature(run, &prime.upstream, locked(run, prime)).await.err()?;
        Some((prime.upstream.clone(), refused))
    });
    let asked: Vec<_> = stream::iter(asked).buffered(PRIMED_AT_ONCE).collect().await;
    asked.into_iter().flatten().collect()
}

/// The digest in images.lock.
fn locked(run: &Run<'_>, prime: &images_config::Prime) -> Option<Digest> {
    run.lock.as_ref()?.source_digest(&prime.upstream)
}

/// `None` if it is skipped: the cache would pull upstream's present image, which is too new.
async fn pull_one(run: &Run<'_>, prime: &images_config::Prime) -> anyhow::Result<Option<Reference>> {
    let cached = run.target.repository(&prime.repository)?.with_tag(&prime.tag)?;
    let client = run.mirror.client();
    if let Err(error) = old_enough(run, &prime.upstream).await? {
        run.printer.warn(format!("{cached} is not pulled through the cache: {error}"));
        return Ok(None);
    }
    let failed = |error| registry_failure(error, Kind::Upstream);
    let locked = locked(run, prime);
    check_signature(run, &prime.upstream, locked).await.map_err(failed)?;
    // The manifest alone does not import the layers.
    let pulled = client.manifest(&cached).await.map_err(of_target)?;
    let pulled = pulled.ok_or_else(|| {
        failure(Kind::Upstream, format!("{cached}: the cache does not find {}", prime.upstream))
    });
    let pulled =
        pulled.hint(Kind::Upstream, "is the pull-through rule right, and does upstream have the tag?")?;
    check_signature(run, &prime.upstream, Some(pulled.digest())).await.map_err(failed)?;
    if let Some(locked) = locked.filter(|locked| *locked != pulled.digest()) {
        run.printer.warn(format!(
            "{cached}: the cache has {} of {}, and images.lock says {locked}",
            pulled.digest(),
            prime.upstream
        ));
    }
    // From an index, the cache imports only the requested images.
    let of_cache = Repository { client, name: &cached };
    let image = match choose::image(&of_cache, &pulled, &images_config::default_platform()).await {
        Ok(child) => client.manifest(&cached.with_digest(child.digest)).await.map_err(of_target)?,
        Err(_) => Some(pulled),
    };
    let image = image.and_then(|image| image.image().ok());
    for blob in image.iter().flat_map(registry::Image::blobs) {
        registry::blobs::has(client, &cached, blob.digest).await.map_err(of_target)?;
    }
    Ok(Some(cached))
}

/// Whether upstream's present image of a name is old enough.
async fn old_enough(run: &Run<'_>, upstream: &Reference) -> anyhow::Result<Result<(), registry::Error>> {
    let Some(ages) = run.ages.as_ref().filter(|_| run.config.min_age(upstream).is_some()) else {
        return Ok(Ok(()));
    };
    let found = run.mirror.client().find(upstream).await;
    let found = found.map_err(|error| registry_failure(error, Kind::Upstream))?;
    // If upstream does not have it, the cache reports that.
    Ok(found.map_or(Ok(()), |found| ages.check(upstream, found.digest)))
}

/// Checks the signature before the pull. Called again after it, because the cache may have an older image than upstream.
async fn check_signature(
    run: &Run<'_>,
    upstream: &Reference,
    digest: Option<Digest>,
) -> Result<(), registry::Error> {
    let Some(trust) = run.trust.as_ref().filter(|_| run.config.trusted(upstream).is_some()) else {
        return Ok(());
    };
    let digest = match digest {
        Some(digest) => Some(digest),
        None => run.mirror.client().find(upstream).await?.map(|found| found.digest),
    };
    match digest {
        Some(digest) => trust.check(upstream, digest).await.map(drop),
        // The cache does not find it either, and reports that.
        None => Ok(()),
    }
}

/// Whether functions are built in it: an image of AWS's SAM (<https://gallery.ecr.aws/sam>).
fn builds_functions(image: &Reference) -> bool {
    image.repository().contains("sam/build-")
}

/// The grid's next step builds in some of the primed images. If the engine is in use anyway, these are pulled into its store, as
/// the Makefile did; with `--prime` all of them are. Returns the commands to pull those that a running engine does not have.
pub(super) async fn fetch(run: &Run<'_>, primed: &[Reference]) -> anyhow::Result<Vec<String>> {
    let mut fetch = Vec::new();
    let pull = run.request.prime || run.builder.used_docker();
    for image in primed.iter().filter(|image| run.request.prime || builds_functions(image)) {
        if pull {
            match runtimes::pull(&run.builder, image).await {
                Ok(()) => continue,
                Err(error) if run.request.prime => {
                    let (kind, hint) = (error.kind(), error.hint().map(str::to_owned));
                    let error = anyhow::Error::new(error).context(format!("{image} was not pulled"));
                    return Err(ending(kind, hint, error));
                }
                Err(error) => {
                    let why = error.in_full();
                    run.printer.warn(format!("{image} was not pulled into the local engine: {why}"));
                }
            }
        }
        // Without an engine there is nothing to pull it into.
        let Ok(docker) = run.builder.docker().await else { continue };
        if matches!(docker.store().image(&run.builder.grid_settings.engine_name(image)).await, Ok(None)) {
            fetch.push(format!("{} pull {image}", docker.name()));
        }
    }
    Ok(fetch)
}
