//! The mirror: images from registry to registry.
//!
//! [`Mirror::plan`] decides by HEAD what is to be done and reads the manifests of what is to be copied; [`Mirror::apply`] does it;
//! [`Check`] reads the result back. A layer's bytes pass through: the source's reply is the upload's body.

mod apply;
mod artifacts;
mod blob;
mod check;
mod checked_blobs;
mod event;
mod job;
mod learned;
mod manifest_cache;
mod mapping;
mod plan;
mod pulls;
mod read_back;
mod resolve;
mod shared_blobs;
mod signature_policy;
mod slots;
mod target_tags;
mod watched;

use std::collections::HashMap;
use std::sync::Arc;

use crate::client::Client;
pub use crate::manifest::Blob;
pub use crate::profile::Mounts;
use crate::reference::registry_name;

pub use apply::{Copied, Outcome};
pub use blob::copy_blob;
pub use check::{Check, Checked, Difference, DifferenceKind};
pub use event::Event;
pub use job::{Action, Content, Job, Plan, Planned, Platforms, Pulls};
pub use mapping::{BlobIndex, Mapping, MemoryMapping, Sizes, TagIndex};
pub use pulls::read_once;
pub use read_back::{differs, look_again, read_back};
pub use signature_policy::{SignaturePolicy, too_fresh, untrusted};

use event::Events;
use slots::Slots;

/// Images that are worked on at once. Each costs the memory of a few requests; their transfers have limits of their own.
const IMAGES_AT_ONCE: usize = 128;

/// How much is done at once. A transfer takes a slot of the whole run, of its source's and of its target's host together, so
/// that it never holds one while it waits for another.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Large blobs in the whole run.
    pub transfers: usize,
    /// Large blobs from or to one host.
    pub transfers_per_host: usize,
    /// Small blobs, and requests without one, in the whole run.
    pub requests: usize,
    /// Small blobs, and requests without one, from or to one host.
    pub requests_per_host: usize,
}

impl Limits {
    /// The largest small blob in bytes: the round trip takes longer than the bytes.
    pub const SMALL: u64 = 256 << 10;
}

impl Default for Limits {
    fn default() -> Self {
        Self { transfers: 8, transfers_per_host: 8, requests: 64, requests_per_host: 64 }
    }
}

/// Copies images. Cheap to clone.
#[derive(Clone)]
pub struct Mirror {
    client: Client,
    mapping: Arc<dyn Mapping>,
    blob_index: Option<Arc<dyn BlobIndex>>,
    tag_index: Option<Arc<dyn TagIndex>>,
    signature_policy: Option<Arc<dyn SignaturePolicy>>,
    events: Events,
    mounts: HashMap<String, Mounts>,
    reads_back: bool,
    small: Arc<Slots>,
    large: Arc<Slots>,
}

impl Mirror {
    /// A mirror that remembers nothing between runs and reports no events.
    pub fn new(client: Client) -> Self {
        let mirror = Self {
            client,
            mapping: Arc::new(MemoryMapping::default()),
            blob_index: None,
            tag_index: None,
            signature_policy: None,
            events: Events::default(),
            mounts: HashMap::new(),
            reads_back: false,
            small: Slots::new(0, 0),
            large: Slots::new(0, 0),
        };
        mirror.limits(Limits::default())
    }

    /// What earlier runs learned.
    #[must_use]
    pub fn mapping(mut self, mapping: Arc<dyn Mapping>) -> Self {
        self.mapping = mapping;
        self
    }

    /// A cheaper way to ask a registry for many blobs at once.
    #[must_use]
    pub fn blob_index(mut self, blob_index: Arc<dyn BlobIndex>) -> Self {
        self.blob_index = Some(blob_index);
        self
    }

    /// A cheaper way to ask a registry for many tags at once.
    #[must_use]
    pub fn tag_index(mut self, tag_index: Arc<dyn TagIndex>) -> Self {
        self.tag_index = Some(tag_index);
        self
    }

    /// Which signatures an image must have.
    #[must_use]
    pub fn signature_policy(mut self, policy: Arc<dyn SignaturePolicy>) -> Self {
        self.signature_policy = Some(policy);
        self
    }

    /// Called for each event, from several threads: it should be quick.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.events = Events::new(listener);
        self
    }

    /// How much is done at once.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.small = Slots::new(limits.requests, limits.requests_per_host);
        self.large = Slots::new(limits.transfers, limits.transfers_per_host);
        self
    }

    /// How `registry` mounts, instead of what its profile says.
    #[must_use]
    pub fn mounts(mut self, registry: &str, mounts: Mounts) -> Self {
        self.mounts.insert(registry_name(registry), mounts);
        self
    }

    /// Reads each copy back before it counts as done, as [`Check`] does: while one is read, others are copied.
    #[must_use]
    pub fn read_back(mut self) -> Self {
        self.reads_back = true;
        self
    }

    /// The client that the mirror uses.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn is_send<T: Send>(_: T) {}

    #[test]
    fn all_futures_are_send() {
        let mirror = Mirror::new(Client::builder().build().unwrap());
        let target = "h:1/a:b".parse().unwrap();
        is_send(mirror.plan(Vec::<Job>::new()));
        is_send(mirror.apply(&Plan { images: Vec::new(), pulls: Vec::new() }));
        is_send(Check::new(&mirror, true).image(0, &target, Digest::of(b"")));
    }
}
