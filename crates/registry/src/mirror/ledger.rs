//! Who brings which blob to which repository: each blob of a run is fetched once, and mounted or awaited by all others.
//!
//! Waiting never goes in a circle: an image waits only for images before it in the plan.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::{Action, Mirror, Mounts, Plan};
use crate::bugs::{self, Bug};
use crate::digest::Digest;

/// Refused mounts after which a registry that never took one is not asked again.
const REFUSALS: u32 = 2;

/// What an image has to do for a blob.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: it came with another image of the same repository.
    Present,
    /// Mount it from this repository.
    Mount(String),
    /// Bring it.
    Bring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its owner is about to bring it.
    Pending,
    /// It is there.
    Present,
    /// It is there and a manifest names it.
    Committed,
    /// Its owner failed.
    Lost,
}

/// A blob in a repository, and the image that sees to it.
#[derive(Debug)]
struct Claim {
    repository: String,
    state: Watched<(usize, State)>,
}

/// How a registry mounts, as far as the run has shown.
#[derive(Debug)]
struct Habit {
    mounts: Mounts,
    taken: AtomicU32,
    refused: AtomicU32,
    /// Nobody needs to wait for a mount any more.
    off: Watched<bool>,
}

/// All claims of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    claims: HashMap<(String, Digest), Vec<Claim>>,
    /// Repositories whose tags are what they should be, and stand on the blob.
    standing: HashMap<(String, Digest), Vec<String>>,
    habits: HashMap<String, Habit>,
    /// Registries that refused a mount from a blob's own repository, by which existence is asked.
    no_probe: Mutex<Vec<String>>,
}

impl Ledger {
    pub(super) fn new(mirror: &Mirror, plan: &Plan) -> Self {
        let mut claims: HashMap<(String, Digest), Vec<Claim>> = HashMap::new();
        let mut standing: HashMap<(String, Digest), Vec<String>> = HashMap::new();
        let mut habits = HashMap::new();
        for (image, planned) in plan.images.iter().enumerate() {
            let target = &planned.job.target;
            for blob in planned.content().into_iter().flat_map(|content| &content.blobs) {
                let claims = claims.entry((target.registry().to_owned(), blob.digest)).or_default();
                if claims.iter().all(|claim| claim.repository != target.repository()) {
                    let state = Watched::new((image, State::Pending));
                    claims.push(Claim { repository: target.repository().to_owned(), state });
                }
            }
            if let Action::UpToDate { digest } = planned.action {
                for blob in mirror.mapping.blobs(digest) {
                    let repositories = standing.entry((target.registry().to_owned(), blob)).or_default();
                    repositories.push(target.repository().to_owned());
                }
            }
            let habit = || Habit::new(mirror.mounts_at(target.registry()));
            habits.entry(target.registry().to_owned()).or_insert_with(habit);
        }
        Self { claims, standing, habits, no_probe: Mutex::default() }
    }

    /// What `image` has to do for `digest` in `repository`, as soon as that is clear.
    pub(super) async fn turn(&self, image: usize, registry: &str, repository: &str, digest: Digest) -> Turn {
        let Some(claims) = self.claims.get(&(registry.to_owned(), digest)) else { return Turn::Bring };
        let Some(own) = claims.iter().find(|claim| claim.repository == repository) else {
            return Turn::Bring;
        };
        loop {
            let (owner, state) = own.state.get();
            match state {
                State::Present | State::Committed => return Turn::Present,
                State::Lost => own.take_over(image),
                State::Pending if owner != image => own.changed(owner, state).await,
                State::Pending => match self.source_of_mount(image, (registry, digest), own, claims) {
                    Source::Ready(from) => return Turn::Mount(from),
                    Source::None => return Turn::Bring,
                    Source::Later(claim, owner, state) => tokio::select! {
                        biased;
                        () = claim.changed(owner, state) => {}
                        () = self.mounts_end(registry) => {}
                    },
                },
            }
        }
    }

    /// The repository to mount from, now or after another image's work.
    fn source_of_mount<'a>(
        &self,
        image: usize,
        (registry, digest): (&str, Digest),
        own: &Claim,
        claims: &'a [Claim],
    ) -> Source<'a> {
        let mounts = self.mounts(registry);
        let standing =
            self.standing.get(&(registry.to_owned(), digest)).map(Vec::as_slice).unwrap_or_default();
        // What its own repository should have is asked for there.
        if mounts != Mounts::Never
            && !standing.contains(&own.repository)
            && let Some(from) = standing.first()
        {
            return Source::Ready(from.clone());
        }
        let mut later = Source::None;
        for claim in claims.iter().filter(|claim| claim.repository != own.repository) {
            let (owner, state) = claim.state.get();
            match (mounts, state) {
                (Mounts::Never, _) | (_, State::Lost) => {}
                (Mounts::Committed, State::Present) if bugs::is_in(Bug::EarlyMount) => {
                    return Source::Ready(claim.repository.clone());
                }
                (_, State::Committed) | (Mounts::Anytime, State::Present) => {
                    return Source::Ready(claim.repository.clone());
                }
                (_, State::Pending | State::Present) if owner < image && matches!(later, Source::None) => {
                    later = Source::Later(claim, owner, state);
                }
                (_, State::Pending | State::Present) => {}
            }
        }
        later
    }

    fn mounts(&self, registry: &str) -> Mounts {
        match self.habits.get(registry) {
            Some(habit) if !habit.off.get() => habit.mounts,
            Some(_) | None => Mounts::Never,
        }
    }

    /// Ends when the registry has shown that it takes no mounts.
    async fn mounts_end(&self, registry: &str) {
        if let Some(habit) = self.habits.get(registry) {
            habit.off.wait_for(|off| off).await;
        }
    }

    /// Notes how the registry answered a mount from another repository.
    pub(super) fn mount_answered(&self, registry: &str, taken: bool) {
        let Some(habit) = self.habits.get(registry) else { return };
        let count = if taken { &habit.taken } else { &habit.refused };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        if !taken && count >= REFUSALS && habit.taken.load(Ordering::Relaxed) == 0 {
            habit.off.change(|_| Some(true));
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

    /// `image` ended without a manifest: whoever waits for it must see to the blob.
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
        let claims = self.claims.get(&(registry.to_owned(), digest));
        let claim = claims.and_then(|claims| claims.iter().find(|claim| claim.repository == repository));
        if let Some(claim) = claim {
            claim.state.change(|(owner, state)| next(owner, state).map(|next| (owner, next)));
        }
    }
}

impl Habit {
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
    /// Makes `image` the owner if the last one failed and nobody else was faster.
    fn take_over(&self, image: usize) {
        self.state.change(|(_, state)| (state == State::Lost).then_some((image, State::Pending)));
    }

    /// Waits until owner or state are not those any more.
    async fn changed(&self, owner: usize, state: State) {
        self.state.wait_for(|now| now != (owner, state)).await;
    }
}

/// A value that can be waited for. Who waits is woken in the order of coming: tokio's own `watch` wakes by chance, and a run of the
/// simulation could not be repeated.
#[derive(Debug)]
struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Watched<T> {
    fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    fn get(&self) -> T {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another value there, if there is one.
    fn change(&self, next: impl FnOnce(T) -> Option<T>) {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(next) = next(*value) else { return };
        *value = next;
        drop(value);
        if bugs::is_in(Bug::LostWakeUp) {
            return self.changed.notify_one();
        }
        self.changed.notify_waiters();
    }

    async fn wait_for(&self, is_it: impl Fn(T) -> bool) {
        loop {
            // Before the look: what changes after it wakes this one.
            let changed = self.changed.notified();
            if is_it(self.get()) {
                return;
            }
            changed.await;
        }
    }
}
