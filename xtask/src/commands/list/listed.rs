//! An image as `list-images` shows it.

use aws::signing::Signing;
use images_config::lock::waiting::Waiting;
use runtimes::Hold;
use serde::Serialize;

use crate::ui::units;

/// A tag of a repository, or a repository without any.
#[derive(Debug, Default, Serialize)]
pub(super) struct Listed {
    pub(super) repository: String,
    pub(super) uri: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<String>,
    /// Bytes that are stored.
    pub(super) size: Option<u64>,
    /// Seconds since it was pushed.
    pub(super) age: Option<u64>,
    /// `same`, `behind`, `other platforms`, `absent`, `unknown`, `built here`, or empty where there is no upstream.
    pub(super) upstream: String,
    /// Whether it is signed as images.toml asks; nothing where it asks for no signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signed: Option<bool>,
    /// Who signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signed_by: Option<String>,
    /// What came of ECR's signature of a runtime; nothing where images.toml asks for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signing: Option<Signing>,
    /// What is about it: signatures, SBOMs and the like.
    pub(super) referrers: Option<usize>,
    /// Whether it is archived: pulls do not find it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) archived: bool,
    /// The day on which the support of a runtime's base ended, where it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base_support_ended: Option<String>,
    /// On which build images.lock holds a runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<Hold>,
    /// What its source, or a runtime's base, has and is too fresh to be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) waiting: Option<Waiting>,
}

impl Listed {
    /// How it stands to its upstream, and what else is to be known of it.
    pub(super) fn standing(&self) -> String {
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
