//! The load of a run, and its rate of requests: both have limits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use registry::mirror::Limits;
use tokio::time::Instant;

use crate::asked::{Asked, kind};
use crate::journal::Journal;
use crate::plan::Op;

/// The counter of a layer's piece from the source, until it is no longer in memory.
pub type Held = Arc<AtomicI64>;

/// The longest piece that a source sends at once.
pub const PIECE: usize = 64 << 10;

/// The load of all processes.
pub struct Load {
    limits: Limits,
    /// By process: transfers of large blobs, and all other requests that need a slot.
    under_way: BTreeMap<usize, (usize, usize)>,
    /// By process and kind: when requests with a quota were sent.
    sent: BTreeMap<(usize, Op), VecDeque<Instant>>,
    /// By process, side and kind: the time before which no request may be sent.
    hushed: BTreeMap<(usize, bool, Op), Instant>,
    pub held: Held,
}

impl Load {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            under_way: BTreeMap::new(),
            sent: BTreeMap::new(),
            hushed: BTreeMap::new(),
            held: Held::default(),
        }
    }

    /// No request of this side and kind may be sent before that time.
    pub fn hush(&mut self, process: usize, (at_target, op): (bool, Op), until: Instant) {
        self.hushed.insert((process, at_target, lane(op)), until);
    }

    /// A request of this side and kind is sent; `has_quotas` is whether the side is ECR.
    pub fn check_quota(
        &mut self,
        process: usize,
        (at_target, op): (bool, Op),
        has_quotas: bool,
        asked: &Asked,
        journal: &mut Journal,
    ) {
        let (lane, now) = (lane(op), Instant::now());
        let is_registry = asked.url.host_str().is_some_and(|host| host.split('.').count() == 2);
        let hushed = self.hushed.get(&(process, at_target, lane));
        if let Some(until) = hushed.filter(|until| is_registry && now < **until).copied() {
            journal.violate(|| format!("{op:?} is sent {:?} before Retry-After has ended", until - now));
        }
        let quota = match lane {
            Op::ManifestPut => 10,
            Op::UploadStart | Op::UploadFinish => 100,
            _ => return,
        };
        if !has_quotas {
            return;
        }
        let times = self.sent.entry((process, lane)).or_default();
        times.push_back(now);
        while times.front().is_some_and(|first| now - *first >= Duration::from_secs(1)) {
            times.pop_front();
        }
        let count = times.len();
        if count > quota {
            journal.violate(|| format!("{count} of {lane:?} in a second"));
        }
    }

    /// Counts a request that needs a slot; [`Load::ended`] reverts it.
    pub fn began(&mut self, process: usize, asked: &Asked, journal: &mut Journal) -> Option<bool> {
        let (at_target, op) = kind(asked);
        let length =
            asked.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let is_large = match op {
            Op::UploadFinish => length.unwrap_or_default() > Limits::SMALL,
            Op::UploadStart | Op::ManifestPut => false,
            _ => return None,
        };
        if !at_target {
            journal.violate(|| format!("{} {}", asked.method, asked.url));
        }
        let limits = self.limits;
        let (large, small) = self.under_way.entry(process).or_default();
        *(if is_large { &mut *large } else { &mut *small }) += 1;
        let (large, small) = (*large, *small);
        let most = |one: usize, other: usize| one.min(other);
        if large > most(limits.transfers, limits.transfers_per_host)
            || small > most(limits.requests, limits.requests_per_host)
        {
            journal.violate(|| format!("{large} transfers and {small} requests at once, of {limits:?}"));
        }
        Some(is_large)
    }

    pub fn ended(&mut self, process: usize, is_large: bool) {
        let (large, small) = self.under_way.entry(process).or_default();
        *(if is_large { large } else { small }) -= 1;
    }

    /// A piece of a layer is handed out: the memory in use has a limit, whatever is copied.
    pub fn handed_out(&mut self, bytes: usize, journal: &mut Journal) {
        let held = self.held.fetch_add(bytes as i64, Ordering::Relaxed) + bytes as i64;
        let at_once = (self.limits.transfers + self.limits.requests) * self.under_way.len().max(1);
        // Each transfer: one piece in use and one in transit.
        let most = (at_once * 2 * PIECE) as i64;
        if held > most {
            journal.violate(|| format!("{held} bytes of layers are held at once, {most} are allowed"));
        }
    }
}

/// The requests that a registry counts as one kind.
fn lane(op: Op) -> Op {
    match op {
        Op::ManifestHead => Op::ManifestGet,
        other => other,
    }
}
