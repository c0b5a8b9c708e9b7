//! An image in the output of `list-images`.

use aws::signing::Signing;
use images_config::lock::waiting::Waiting;
use runtimes::Hold;
use serde::Serialize;

use crate::ui::units;

/// A tag of a repository, or a repository without tags.
#[derive(Debug, Default, Serialize)]
pub(super) struct Listed {
    pub(super) repository: String,
    pub(super) uri: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
    /// Stored size in bytes.
    pub(super) size: Option<u64>,
    /// Seconds since the push.
    pub(super) age: Option<u64>,
    /// `same`, `behind`, `other platforms`, `absent`, `unknown`, `built here`, or empty without an upstream.
    pub(super) upstream: String,
    /// Whether it has the signature that images.toml requires. `None` if none is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signed: Option<bool>,
    /// The signer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signed_by: Option<String>,
    /// The status of ECR's signature of a runtime. `None` if images.toml requests none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signing: Option<Signing>,
    /// The number of referrers: signatures, SBOMs and similar.
    pub(super) referrers: Option<usize>,
    /// Whether it is archived, so that it cannot be pulled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) archived: bool,
    /// The day on which the support of a runtime's base ended, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base_support_ended: Option<String>,
    /// The build at which images.lock holds a runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<Hold>,
    /// A digest of its source, or of a runtime's base, that is too new to use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<Waiting>,
}

impl Listed {
    /// The comparison with upstream, and other notes.
    pub(super) fn notes(&self) -> String {
        let upstream = Some(self.upstream.clone()).filter(|upstream| !upstream.is_empty());
        let archived = self.archived.then(|| "archived: pulls do not find it".to_owned());
        let held = self.held.as_ref().map(|_| "held".to_owned());
        let ended = self.base_support_ended.as_ref().map(|day| format!("base's support ended {day}"));
        let signed = self.signed.map(|signed| if signed { "signed" } else { "not signed" });
        let signing = self.signing.as_ref().map(|signing| match signing {
            Signing::Signed => "signed",
            Signing::InProgress => "signing in progress",
            Signing::Failed { .. } => "signing failed",
            Signing::NotSigned => "not signed",
        });
        let signed = signed.or(signing).map(str::to_owned);
        let referrers = self.referrers.filter(|count| *count > 0);
        let referrers = referrers.map(|count| units::count(count, "referrer"));
        let said = upstream.into_iter().chain(signed).chain(referrers);
        let waits = self.waiting.as_ref().map(Waiting::in_short);
        let said = said.chain(archived).chain(held).chain(ended).chain(waits);
        let said: Vec<String> = said.collect();
        if said.is_empty() { "-".to_owned() } else { said.join(", ") }
    }
}
