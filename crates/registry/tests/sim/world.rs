//! The servers of a run, and who watches them: what must never be is looked for with each request.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use http::Method;
use registry::Digest;
use registry::mirror::Limits;
use tokio::time::Instant;

use crate::plan::{Accident, Fault, Op, Scenario, Wanted};
use crate::site::{Answer, Asked, Site, authorization, parts};

/// Where a piece of a layer that came from the source is counted until nobody holds it any more.
pub type Held = Arc<AtomicI64>;

/// The longest piece that a source sends at once.
pub const PIECE: usize = 64 << 10;

/// All of a run but the mirror.
pub struct World {
    pub source: Site,
    pub target: Site,
    pub random: Rng,
    /// Faults that are still to come, and those that came.
    faults: Vec<(bool, Op, usize, Fault)>,
    pub fired: Vec<Fault>,
    /// Images of which something was left out, and said so.
    pub warned: BTreeSet<usize>,
    counts: BTreeMap<(bool, Op), usize>,
    down: BTreeMap<String, Instant>,
    limits: Limits,
    distance: u64,
    /// By process: transfers of large blobs, and all other requests that a slot is needed for.
    pub under_way: BTreeMap<usize, (usize, usize)>,
    /// By process, side and kind: when requests of a quota were sent.
    sent: BTreeMap<(usize, Op), VecDeque<Instant>>,
    /// By process, side and kind: until when nothing may be asked.
    hushed: BTreeMap<(usize, bool, Op), Instant>,
    /// Blobs that the source sent wrongly once.
    pub spoiled: Vec<Digest>,
    pub held: Held,
    pub began: Instant,
    trace: DefaultHasher,
    pub log: Option<Vec<String>>,
    /// In the order of the images; none where no artifacts are copied.
    due: Vec<Due>,
    /// Whether a tag may be there before them: who put it did not want them.
    may_be_late: bool,
    violation: Option<String>,
}

/// An image of the target, and what has to be there about it.
struct Due {
    repository: String,
    tag: String,
    digest: Digest,
    artifacts: Vec<Digest>,
}

impl Due {
    fn new(wanted: &Wanted) -> Self {
        let (repository, tag) = wanted.target.clone();
        let artifacts = wanted.artifacts.iter().map(|artifact| artifact.digest()).collect();
        Self { repository, tag, digest: wanted.image.digest(), artifacts }
    }
}

pub type Shared = Arc<Mutex<World>>;

pub fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is asked of whom.
pub fn kind(asked: &Asked) -> (bool, Op) {
    let host = asked.url.host_str().unwrap_or_default();
    let (_, kind, _) = parts(asked.url.path());
    let op = match (asked.method.as_str(), kind) {
        _ if host.starts_with("auth.") => Op::Token,
        ("HEAD", "manifests") => Op::ManifestHead,
        ("PUT", "manifests") => Op::ManifestPut,
        (_, "manifests") => Op::ManifestGet,
        ("HEAD", "blobs") => Op::BlobHead,
        (_, "blobs") => Op::BlobGet,
        ("POST", _) => Op::UploadStart,
        ("PUT", _) => Op::UploadFinish,
        _ => Op::Referrers,
    };
    (host.ends_with("target.example"), op)
}

impl World {
    pub fn new(scenario: &Scenario, is_told: bool) -> Self {
        let faults = scenario.accidents.iter().filter_map(|accident| match accident {
            Accident::Fault { at_target, op, number, fault } => {
                Some((*at_target, *op, *number, fault.clone()))
            }
            _ => None,
        });
        Self {
            source: Site::new("source", scenario.source.clone()),
            target: Site::new("target", scenario.target.clone()),
            random: Rng::with_seed(scenario.seed ^ 0x5eed),
            faults: faults.collect(),
            fired: Vec::new(),
            warned: BTreeSet::new(),
            counts: BTreeMap::new(),
            down: BTreeMap::new(),
            limits: scenario.limits,
            distance: scenario.distance,
            under_way: BTreeMap::new(),
            sent: BTreeMap::new(),
            hushed: BTreeMap::new(),
            spoiled: Vec::new(),
            held: Held::default(),
            began: Instant::now(),
            trace: DefaultHasher::new(),
            log: is_told.then(Vec::new),
            due: scenario.images.iter().filter(|_| scenario.copies_artifacts).map(Due::new).collect(),
            may_be_late: scenario.artifacts_later,
            violation: None,
        }
    }

    /// The first thing that must never be, if it was.
    pub fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub fn violate(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let what = what();
            self.note(&format!("VIOLATION: {what}"));
            self.violation = Some(format!("{what}, after {:?}", self.began.elapsed()));
        }
    }

    /// Notes what happened: two runs of a seed must note the same.
    pub fn note(&mut self, what: &str) {
        self.trace.write(what.as_bytes());
        self.trace.write_u128(self.began.elapsed().as_millis());
        if let Some(log) = &mut self.log {
            log.push(format!("{:>9.3} {what}", self.began.elapsed().as_secs_f64()));
        }
    }

    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub fn site(&mut self, at_target: bool) -> &mut Site {
        if at_target { &mut self.target } else { &mut self.source }
    }

    pub fn delay(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(0..=self.distance))
    }

    /// No accident comes any more, and everything is seen at once.
    pub fn calm(&mut self) {
        self.faults.clear();
        self.down.clear();
        for site in [&mut self.source, &mut self.target] {
            site.ways.lag = Duration::ZERO;
        }
    }

    /// A request is sent. Gives what goes wrong with it.
    pub fn sent(&mut self, process: usize, asked: &Asked) -> Option<Fault> {
        let (at_target, op) = kind(asked);
        self.check_authorization(asked);
        self.check_quota(process, at_target, op, asked);
        let number = self.counts.entry((at_target, op)).or_default();
        let wanted = (at_target, op, *number);
        *number += 1;
        let position = self.faults.iter().position(|(side, op, number, _)| (*side, *op, *number) == wanted);
        let fault = position.map(|position| self.faults.remove(position).3);
        self.note(&format!("{process} {} {} {fault:?}", asked.method, asked.url));
        if let Some(fault) = &fault {
            self.fired.push(fault.clone());
            match fault {
                Fault::Expire => self.site(at_target).expire(),
                Fault::Down(time) => {
                    let host = asked.url.host_str().unwrap_or_default().to_owned();
                    self.down.insert(host, Instant::now() + *time);
                }
                _ => {}
            }
        }
        fault
    }

    /// An artifact of an image that stands at the target without it, although nobody refused it and nobody was told.
    pub fn lost_artifact(&self, image: usize) -> Option<Digest> {
        let Due { repository, tag, digest, artifacts } = self.due.get(image)?;
        // What is answered so reads as "there is none".
        let hides = |fault: &Fault| {
            matches!(fault, Fault::Status(400..=499) | Fault::Corrupt(_) | Fault::Truncate(_))
        };
        let store = &self.target.store;
        if store.tagged(repository, tag) != Some(*digest)
            || self.warned.contains(&image)
            || self.fired.iter().any(hides)
        {
            return None;
        }
        let manifests = &store.repositories.get(repository)?.manifests;
        let list = store.tagged(repository, &format!("sha256-{}", digest.hex()));
        let list = list.and_then(|list| manifests.get(&list)?.0.index().ok());
        let lists = |digest: &Digest| {
            list.as_ref().is_some_and(|list| list.manifests.iter().any(|one| one.digest == *digest))
        };
        let is_listed = |digest: &Digest| self.target.ways.has_referrers || lists(digest);
        artifacts.iter().find(|digest| !manifests.contains_key(digest) || !is_listed(digest)).copied()
    }

    /// A tag is put after what is about its manifest.
    fn check_artifacts(&mut self, asked: &Asked) {
        let (repository, _, identifier) = parts(asked.url.path());
        let is_put = |due: &Due| due.repository == repository && due.tag == identifier;
        let Some(image) = self.due.iter().position(is_put).filter(|_| !self.may_be_late) else { return };
        if let Some(artifact) = self.lost_artifact(image) {
            self.violate(|| format!("{repository}:{identifier} is put before {artifact} about it"));
        }
    }

    pub fn is_down(&self, asked: &Asked) -> bool {
        let until = asked.url.host_str().and_then(|host| self.down.get(host));
        until.is_some_and(|until| Instant::now() < *until)
    }

    pub fn answer(&mut self, asked: &Asked) -> Answer {
        let (at_target, op) = kind(asked);
        let mut random = self.random.fork();
        match self.site(at_target).answer(asked, &mut random) {
            Ok(answer) => {
                if (at_target, op) == (true, Op::ManifestPut) && answer.status == 201 {
                    self.check_artifacts(asked);
                }
                answer
            }
            Err(what) => {
                self.violate(|| format!("{} {}: {what}", asked.method, asked.url));
                Answer::new(400)
            }
        }
    }

    /// An answer arrives.
    pub fn received(&mut self, process: usize, asked: &Asked, answer: &Answer) {
        let (at_target, op) = kind(asked);
        self.note(&format!("{process} {} {} {}", answer.status, asked.method, asked.url));
        let wait = answer.headers.iter().find(|(name, _)| *name == "retry-after");
        if let (429, Some((_, seconds)), Some(host)) = (answer.status, wait, asked.url.host_str()) {
            let until = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
            if !host.contains('.') || !(host.starts_with("auth.") || host.starts_with("blobs.")) {
                self.hushed.insert((process, at_target, lane(op)), until);
            }
        }
    }

    /// Part of an upload arrives at `offset`.
    pub fn uploaded(&mut self, asked: &Asked, offset: usize, piece: &[u8]) {
        let digest = asked.url.query_pairs().find(|(name, _)| name == "digest");
        let Some(digest) = digest.and_then(|(_, digest)| digest.parse::<Digest>().ok()) else { return };
        let right =
            self.source.store.contents.get(&digest).and_then(|right| right.get(offset..offset + piece.len()));
        if right != Some(piece) && !self.spoiled.contains(&digest) {
            self.violate(|| format!("bytes of {digest} from {offset} on are others than the source sent"));
        }
    }

    fn check_authorization(&mut self, asked: &Asked) {
        let given = authorization(asked);
        let whose = match given.split_once(' ') {
            None => return,
            Some(("Basic", login)) => {
                let login = STANDARD.decode(login).ok().and_then(|login| String::from_utf8(login).ok());
                login.and_then(|login| Some(login.split_once(':')?.0.to_owned()))
            }
            Some((_, token)) => token.split_once('-').map(|(whose, _)| whose.to_owned()),
        };
        let whose = whose.unwrap_or_default();
        // A token that was corrupted on its way to us is nobody's.
        if whose != "source" && whose != "target" {
            return;
        }
        let host = asked.url.host_str().unwrap_or_default();
        let is_right = host == format!("{whose}.example")
            || (host == format!("auth.{whose}.example") && given.starts_with("Basic"));
        let is_right = is_right && asked.url.scheme() == "https";
        if !is_right {
            self.violate(|| format!("{} is sent an Authorization of {whose}", asked.url));
        }
    }

    fn check_quota(&mut self, process: usize, at_target: bool, op: Op, asked: &Asked) {
        let (lane, now) = (lane(op), Instant::now());
        let is_registry = asked.url.host_str().is_some_and(|host| host.split('.').count() == 2);
        let hushed = self.hushed.get(&(process, at_target, lane));
        if let Some(until) = hushed.filter(|until| is_registry && now < **until).copied() {
            self.violate(|| format!("{op:?} is sent {:?} before Retry-After has ended", until - now));
        }
        let quota = match lane {
            Op::ManifestPut => 10,
            Op::UploadStart | Op::UploadFinish => 100,
            _ => return,
        };
        if !at_target || !self.target.ways.is_ecr {
            return;
        }
        let times = self.sent.entry((process, lane)).or_default();
        times.push_back(now);
        while times.front().is_some_and(|first| now - *first >= Duration::from_secs(1)) {
            times.pop_front();
        }
        let count = times.len();
        if count > quota {
            self.violate(|| format!("{count} of {lane:?} in a second"));
        }
    }

    /// Counts a request that a slot is needed for; [`World::ended`] takes it back.
    pub fn began(&mut self, process: usize, asked: &Asked) -> Option<bool> {
        let (at_target, op) = kind(asked);
        let length =
            asked.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        let is_large = match op {
            Op::UploadFinish => length.unwrap_or_default() > Limits::SMALL,
            Op::UploadStart | Op::ManifestPut => false,
            _ => return None,
        };
        if !at_target {
            self.violate(|| format!("{} {}", asked.method, asked.url));
        }
        let limits = self.limits;
        let (large, small) = self.under_way.entry(process).or_default();
        *(if is_large { &mut *large } else { &mut *small }) += 1;
        let (large, small) = (*large, *small);
        let most = |one: usize, other: usize| one.min(other);
        if large > most(limits.transfers, limits.transfers_per_host)
            || small > most(limits.requests, limits.requests_per_host)
        {
            self.violate(|| format!("{large} transfers and {small} requests at once, of {limits:?}"));
        }
        Some(is_large)
    }

    pub fn ended(&mut self, process: usize, is_large: bool) {
        let (large, small) = self.under_way.entry(process).or_default();
        *(if is_large { large } else { small }) -= 1;
    }

    /// A piece of a layer is handed out: what is held at once is bounded, whatever is copied.
    pub fn handed_out(&mut self, bytes: usize, processes: usize) {
        let held = self.held.fetch_add(bytes as i64, Ordering::Relaxed) + bytes as i64;
        let at_once = (self.limits.transfers + self.limits.requests) * processes.max(1);
        // Each transfer: one piece in its hands and one on its way.
        let most = (at_once * 2 * PIECE) as i64;
        if held > most {
            self.violate(|| format!("{held} bytes of layers are held at once, {most} are allowed"));
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

/// Whether a request only reads.
pub fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
