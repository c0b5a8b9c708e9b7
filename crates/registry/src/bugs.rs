//! Bugs that are put in by hand, so that it is known which ones the simulation finds (`tests/sim`). Without the feature `bugs` none
//! of them is compiled.

#[cfg(feature = "bugs")]
use std::sync::atomic::{AtomicUsize, Ordering};

/// What can be done wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The tag is put before the blobs are there.
    TagFirst,
    /// A registry's token goes along to the host that it sends us to.
    TokenAbroad,
    /// Of those who wait for a blob only one is woken.
    LostWakeUp,
    /// A broken download goes on one byte too late, and any part of any length is taken for the right one.
    WrongResume,
    /// A blob is mounted before a manifest names it.
    EarlyMount,
    /// The digest of what passes is not looked at.
    Unverified,
    /// `Retry-After` is not obeyed.
    Impatient,
    /// Published quotas are not kept.
    NoQuota,
    /// What failed is sent to the same upload session again.
    SameSession,
    /// A token is kept although it is refused.
    StaleToken,
    /// The list of referrers is written without what stood there.
    ForgottenReferrers,
    /// A transfer takes no slot.
    NoSlots,
    /// The tag is put before the signatures are there.
    LateArtifacts,
    /// What is up to date is taken for complete.
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

/// The one that is in, by its number from 1 on.
#[cfg(feature = "bugs")]
static PUT_IN: AtomicUsize = AtomicUsize::new(0);

/// Puts a bug into the whole process, or takes it out.
#[cfg(feature = "bugs")]
pub fn put_in(bug: Option<Bug>) {
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
