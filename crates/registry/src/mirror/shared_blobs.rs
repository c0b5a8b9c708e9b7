//! Which image copies which blob to which repository: each blob of a run is fetched once, and the other images mount it or wait
//! for it.
//!
//! Waiting never goes in a circle: an image waits only for images before it in the plan.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::watched::Watched;
use super::{Action, Mirror, Mounts, Plan};
use crate::bugs::{self, Bug};
use crate::digest::Digest;

/// Refused mounts after which a registry that never accepted one is not asked again.
const REFUSALS: u32 = 2;

/// What an image has to do for a blob.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlobTask {
    /// Nothing: another image of the same repository has copied it.
    Present,
    /// Mount it from this repository.
    Mount(String),
    /// Copy it from the source.
    Bring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its owner is about to copy it.
    Pending,
    /// The repository has it.
    Present,
    /// The repository has it, and a manifest names it.
    Committed,
    /// Its owner failed.
    Lost,
}

/// A blob in a repository, and the image that has to copy it.
#[derive(Debug)]
struct Claim {
    repository: String,
    state: Watched<(usize, State)>,
}

/// How a registry mounts, as seen in this run.
#[derive(Debug)]
struct MountSupport {
    mounts: Mounts,
    taken: AtomicU32,
    refused: AtomicU32,
    /// No image has to wait for a mount any more.
    off: Watched<bool>,
}

/// A blob that more than one image of the run has at one registry, and its claim in each repository.
#[derive(Debug, Default)]
struct Shared {
    /// In the order of the plan.
    claims: Vec<Claim>,
    /// Their positions.
    by_repository: HashMap<String, usize>,
    /// The position plus one of one that was lately placed; a blob may be in thousands of repositories.
    placed: AtomicUsize,
    /// The position plus one of one that is committed, and stays so.
    committed: AtomicUsize,
}

/// Where a blob is known to be from earlier runs.
#[derive(Debug, Default)]
struct Standing {
    first: Option<String>,
    repositories: HashSet<String>,
}

/// All claims of a run. A blob of one image alone is in none of the maps.
#[derive(Debug, Default)]
pub(super) struct SharedBlobs {
    claims: HashMap<(String, Digest), Shared>,
    /// Repositories that are up to date, and use a blob that is to be copied.
    standing: HashMap<(String, Digest), Standing>,
    mount_supports: HashMap<String, MountSupport>,
    /// Registries that refused a mount from a blob's own repository, by which existence is asked.
    no_probe: Mutex<Vec<String>>,
}

impl SharedBlobs {
    pub(super) fn new(mirror: &Mirror, plan: &Plan) -> Self {
        let wanted = wanted(plan);
        let mut claims: HashMap<(String, Digest), Shared> = HashMap::new();
        let mut standing: HashMap<(String, Digest), Standing> = HashMap::new();
        let mut mount_supports = HashMap::new();
        for (image, planned) in plan.images.iter().enumerate() {
            let target = &planned.job.target;
            let (registry, repository) = (target.registry(), target.repository());
            for blob in planned.content().into_iter().flat_map(|content| &content.blobs) {
                if wanted.get(&(registry, blob.digest)).is_some_and(|images| *images > 1) {
                    claims.entry((registry.to_owned(), blob.digest)).or_default().claim(image, repository);
                }
            }
            if let Action::UpToDate { digest } | Action::Complete { digest, .. } = planned.action
                && !wanted.is_empty()
            {
                let blobs = mirror.mapping.blobs(digest).into_iter();
                for blob in blobs.filter(|blob| wanted.contains_key(&(registry, *blob))) {
                    standing.entry((registry.to_owned(), blob)).or_default().add(repository);
                }
            }
            let mount_support = || MountSupport::new(mounts(mirror, registry));
            if !mount_supports.contains_key(registry) {
                mount_supports.insert(registry.to_owned(), mount_support());
            }
        }
        Self { claims, standing, mount_supports, no_probe: Mutex::default() }
    }

    /// What `image` has to do for `digest` in `repository`, as soon as that is clear.
    pub(super) async fn task(
        &self,
        image: usize,
        registry: &str,
        repository: &str,
        digest: Digest,
    ) -> BlobTask {
        let key = (registry.to_owned(), digest);
        let own = self.claims.get(&key).and_then(|shared| Some((shared, shared.of(repository)?)));
        let Some((shared, own)) = own else {
            return self.standing_elsewhere(&key, repository).map_or(BlobTask::Bring, BlobTask::Mount);
        };
        loop {
            let (owner, state) = own.state.get();
            match state {
                State::Present | State::Committed => return BlobTask::Present,
                State::Lost => own.take_over(image),
                // It took over from one that failed: to wait for it could be to wait in a circle.
                State::Pending if owner > image => own.take_over(image),
                State::Pending if owner != image => own.changed(owner, state).await,
                State::Pending => match self.source_of_mount(image, &key, own, shared) {
                    Source::Ready(from) => return BlobTask::Mount(from),
                    Source::None => return BlobTask::Bring,
                    Source::Later(claim, owner, state) => tokio::select! {
                        biased;
                        () = claim.changed(owner, state) => {}
                        () = mounts_end(self.mount_supports.get(registry)) => {}
                    },
                },
            }
        }
    }

    /// A repository to mount from, unless the target repository should already have the blob (then ask it first).
    fn standing_elsewhere(&self, key: &(String, Digest), repository: &str) -> Option<String> {
        let standing = self.standing.get(key).filter(|_| self.mounts(&key.0) != Mounts::Never)?;
        standing.first.clone().filter(|_| !standing.repositories.contains(repository))
    }

    /// The repository to mount from, now or after another image's work.
    fn source_of_mount<'a>(
        &self,
        image: usize,
        key: &(String, Digest),
        own: &Claim,
        shared: &'a Shared,
    ) -> Source<'a> {
        let mounts = self.mounts(&key.0);
        if let Some(from) = self.standing_elsewhere(key, &own.repository) {
            return Source::Ready(from);
        }
        if mounts == Mounts::Never {
            return Source::None;
        }
        if let Some(ready) = shared.ready(mounts).filter(|ready| ready.repository != own.repository) {
            return Source::Ready(ready.repository.clone());
        }
        // One that is not lost is found early as a rule, without looking at thousands.
        let waiting = shared.claims.iter().find_map(|claim| {
            let (owner, state) = claim.state.get();
            let is_other = claim.repository != own.repository;
            (is_other && state != State::Lost && owner < image).then_some((claim, owner, state))
        });
        waiting.map_or(Source::None, |(claim, owner, state)| Source::Later(claim, owner, state))
    }

    fn mounts(&self, registry: &str) -> Mounts {
        match self.mount_supports.get(registry) {
            Some(mount_support) if !mount_support.off.get() => mount_support.mounts,
            Some(_) | None => Mounts::Never,
        }
    }

    /// Notes how the registry answered a mount from another repository.
    pub(super) fn mount_answered(&self, registry: &str, taken: bool) {
        let Some(mount_support) = self.mount_supports.get(registry) else { return };
        let count = if taken { &mount_support.taken } else { &mount_support.refused };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        if !taken && count >= REFUSALS && mount_support.taken.load(Ordering::Relaxed) == 0 {
            mount_support.off.change(|_| Some(true));
        }
    }

    /// Whether existence may be asked by a mount from the blob's own repository.
    pub(super) fn probes_by_mount(&self, registry: &str) -> bool {
        self.no_probe.lock().is_ok_and(|registries| registries.iter().all(|known| known != registry))
    }

    /// Notes that the registry does not understand that.
    pub(super) fn probe_failed(&self, registry: &str) {
        if let Ok(mut registries) = self.no_probe.lock() {
            registries.push(registry.to_owned());
        }
    }

    /// The blob is in the repository.
    pub(super) fn present(&self, registry: &str, repository: &str, digest: Digest) {
        self.advance(registry, repository, digest, |_, state| {
            matches!(state, State::Pending | State::Lost).then_some(State::Present)
        });
    }

    /// A manifest in the repository names the blob.
    pub(super) fn committed(&self, registry: &str, repository: &str, digest: Digest) {
        self.advance(registry, repository, digest, |_, _| Some(State::Committed));
    }

    /// `image` ended without a manifest: an image that waits for it must copy the blob.
    pub(super) fn lost(&self, image: usize, registry: &str, repository: &str, digest: Digest) {
        self.advance(registry, repository, digest, |owner, state| {
            (owner == image && state != State::Committed).then_some(State::Lost)
        });
    }

    fn advance(
        &self,
        registry: &str,
        repository: &str,
        digest: Digest,
        next: impl Fn(usize, State) -> Option<State>,
    ) {
        if let Some(shared) = self.claims.get(&(registry.to_owned(), digest)) {
            shared.advance(repository, next);
        }
    }
}

/// How a registry mounts, by the caller or by its profile.
fn mounts(mirror: &Mirror, registry: &str) -> Mounts {
    mirror.mounts.get(registry).copied().unwrap_or_else(|| mirror.client.connection.profile(registry).mounts)
}

/// Ends when the registry has shown that it refuses mounts.
async fn mounts_end(mount_support: Option<&MountSupport>) {
    if let Some(mount_support) = mount_support {
        mount_support.off.wait_for(|off| off).await;
    }
}

/// How many images want each blob that is to be copied.
fn wanted(plan: &Plan) -> HashMap<(&str, Digest), u32> {
    let mut wanted = HashMap::new();
    for planned in &plan.images {
        let registry = planned.job.target.registry();
        for blob in planned.content().into_iter().flat_map(|content| &content.blobs) {
            *wanted.entry((registry, blob.digest)).or_default() += 1;
        }
    }
    wanted
}

impl Standing {
    fn add(&mut self, repository: &str) {
        if self.first.is_none() {
            self.first = Some(repository.to_owned());
        }
        if !self.repositories.contains(repository) {
            self.repositories.insert(repository.to_owned());
        }
    }
}

impl Shared {
    fn claim(&mut self, image: usize, repository: &str) {
        if !self.by_repository.contains_key(repository) {
            self.by_repository.insert(repository.to_owned(), self.claims.len());
            let state = Watched::new((image, State::Pending));
            self.claims.push(Claim { repository: repository.to_owned(), state });
        }
    }

    fn of(&self, repository: &str) -> Option<&Claim> {
        self.claims.get(*self.by_repository.get(repository)?)
    }

    /// A claim that can be mounted from now.
    fn ready(&self, mounts: Mounts) -> Option<&Claim> {
        let at = |noted: &AtomicUsize| self.claims.get(noted.load(Ordering::Acquire).checked_sub(1)?);
        // It may have been lost since, and belong to another image by now.
        let placed = || at(&self.placed).filter(|claim| claim.state.get().1 == State::Present);
        let early = mounts == Mounts::Anytime || bugs::is_in(Bug::EarlyMount);
        at(&self.committed).or_else(|| if early { placed() } else { None })
    }

    fn advance(&self, repository: &str, next: impl Fn(usize, State) -> Option<State>) {
        let Some(position) = self.by_repository.get(repository) else { return };
        let Some(claim) = self.claims.get(*position) else { return };
        claim.state.change(|(owner, state)| {
            let next = next(owner, state)?;
            // Before the waiting images are woken.
            match next {
                State::Present => self.placed.store(position + 1, Ordering::Release),
                State::Committed => self.committed.store(position + 1, Ordering::Release),
                State::Pending | State::Lost => {}
            }
            Some((owner, next))
        });
    }
}

impl MountSupport {
    fn new(mounts: Mounts) -> Self {
        Self { mounts, taken: AtomicU32::new(0), refused: AtomicU32::new(0), off: Watched::new(false) }
    }
}

enum Source<'a> {
    Ready(String),
    Later(&'a Claim, usize, State),
    None,
}

impl Claim {
    /// Makes `image` the owner if the last one failed and no other was faster, or if the owner comes later in the plan.
    fn take_over(&self, image: usize) {
        self.state.change(|(owner, state)| {
            let is_later = state == State::Pending && owner > image;
            (state == State::Lost || is_later).then_some((image, State::Pending))
        });
    }

    /// Waits until owner or state have changed.
    async fn changed(&self, owner: usize, state: State) {
        self.state.wait_for(|now| now != (owner, state)).await;
    }
}

#[cfg(test)]
mod tests;
