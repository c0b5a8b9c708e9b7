//! The images to mirror, by images.toml and images.lock, and those that the registry has archived.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;
use images_config::{Config, RUNTIMES_REPOSITORY, lock::Lock};
use registry::mirror::{Action, Job, Plan};

use super::Run;
use crate::target::Target;

/// The images to mirror.
///
/// # Errors
/// A destination is not a valid repository of the target.
pub fn jobs(config: &Config, lock: Option<&Lock>, target: &Target) -> anyhow::Result<Vec<Arc<Job>>> {
    let mut jobs = Vec::with_capacity(config.images.len());
    for image in &config.images {
        jobs.push(Arc::new(Job {
            source: image.source.clone(),
            target: target.repository(&image.repository)?.with_tag(&image.tag)?,
            platforms: image.platforms.clone(),
            artifacts: image.artifacts || config.trusted(&image.source).is_some(),
            source_digest: lock.and_then(|lock| lock.source_digest(&image.source)),
            expected: lock.and_then(|lock| lock.expected(&image.source, &image.platforms)),
        }));
    }
    Ok(jobs)
}

/// Images that would be copied or built because the registry has archived them: pulls and requests by tag do not find them. One
/// line each; only repositories with missing images are listed.
pub(super) async fn archived(
    run: &Run<'_>,
    images: &Plan,
    runtimes: &[Result<runtimes::Planned, runtimes::Failure>],
) -> anyhow::Result<Vec<String>> {
    let Some(account) = &run.target.account else { return Ok(Vec::new()) };
    let copies = images.images.iter().filter(|planned| matches!(planned.action, Action::Copy(_)));
    let copies = copies.map(|planned| {
        let (repository, tag) =
            (planned.job.target.repository(), planned.job.target.tag().unwrap_or_default());
        (repository.to_owned(), tag.to_owned(), "copying it restores it".to_owned())
    });
    let builds =
        runtimes.iter().flatten().filter(|planned| matches!(planned.action, runtimes::Action::Build { .. }));
    let builds = builds.map(|planned| {
        let tag = runtimes::key_tag(&planned.name, &planned.key);
        let restore = format!(
            "`aws ecr update-image-storage-class --repository-name {RUNTIMES_REPOSITORY} --image-id imageTag={tag} \
             --target-storage-class STANDARD` restores it; else {} is built anew",
            planned.name
        );
        (RUNTIMES_REPOSITORY.to_owned(), tag, restore)
    });
    let mut absent: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (repository, tag, words) in copies.chain(builds) {
        absent.entry(repository).or_default().push((tag, words));
    }
    let asked = absent.into_iter().map(|(repository, tags)| async move {
        let found = account.ecr.images(&repository).await?;
        let of = |tag: &str| found.iter().any(|image| image.archived && image.tags.iter().any(|t| t == tag));
        let lines = tags
            .iter()
            .filter(|(tag, _)| of(tag))
            .map(|(tag, words)| format!("{repository}:{tag} is archived, and pulls do not find it: {words}"));
        anyhow::Ok(lines.collect::<Vec<_>>())
    });
    Ok(try_join_all(asked).await?.concat())
}

/// `repository:tag`, without the registry's host, which is the same for all images.
pub fn short(job: &Job) -> String {
    format!("{}:{}", job.target.repository(), job.target.tag().unwrap_or_default())
}
