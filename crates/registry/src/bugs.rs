//! Bugs that are switched on by tests, to see which ones the simulation finds (`tests/sim`). Without the feature `bugs` they
//! are not compiled.

#[cfg(feature = "bugs")]
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The tag is put before the blobs are there.
    TagFirst,
    /// A registry's token is also sent to the host that it redirects us to.
    TokenAbroad,
    /// Only one of the images that wait for a blob is woken.
    LostWakeUp,
    /// A broken download is resumed one byte too late, and any part of any length is accepted.
    WrongResume,
    /// A blob is mounted before a manifest names it.
    EarlyMount,
    /// The digest of transferred bytes is not checked.
    Unverified,
    /// `Retry-After` is not obeyed.
    Impatient,
    /// Published quotas are not kept.
    NoQuota,
    /// A failed upload is sent to the same session again.
    SameSession,
    /// A token is used again after it was refused.
    StaleToken,
    /// The list of referrers is written without its earlier entries.
    ForgottenReferrers,
    /// A transfer takes no slot.
    NoSlots,
    /// The tag is put before the signatures are there.
    LateArtifacts,
    /// An image that is up to date is never searched for missing artifacts.
    ForgottenArtifacts,
}

#[cfg(feature = "bugs")]
impl Bug {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::TagFirst,
        Self::TokenAbroad,
        Self::LostWakeUp,
        Self::WrongResume,
        Self::EarlyMount,
        Self::Unverified,
        Self::Impatient,
        Self::NoQuota,
        Self::SameSession,
        Self::StaleToken,
        Self::ForgottenReferrers,
        Self::NoSlots,
        Self::LateArtifacts,
        Self::ForgottenArtifacts,
    ];
}

/// The bug that is on, by its number from 1 on.
#[cfg(feature = "bugs")]
static PUT_IN: AtomicUsize = AtomicUsize::new(0);

/// Switches a bug on in the whole process, or all off.
#[cfg(feature = "bugs")]
pub fn inject(bug: Option<Bug>) {
    PUT_IN.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::SeqCst);
}

#[cfg(feature = "bugs")]
pub(crate) fn is_in(bug: Bug) -> bool {
    PUT_IN.load(Ordering::Relaxed) == bug as usize + 1
}

#[cfg(not(feature = "bugs"))]
pub(crate) const fn is_in(_: Bug) -> bool {
    false
}
