//! The servers of a run, and the checks: violations are looked for at each request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use http::Method;
use registry::Digest;
use tokio::time::Instant;

use crate::asked::{Answer, Asked, authorization, kind, parts};
use crate::journal::Journal;
use crate::load::Load;
use crate::plan::{Accident, Fault, Op, Scenario, Wanted};
use crate::site::Site;

/// Everything in a run except the mirror.
pub struct World {
    pub source: Site,
    pub target: Site,
    pub random: Rng,
    /// Faults that are still to come, and those that happened.
    faults: Vec<(bool, Op, usize, Fault)>,
    pub fired: Vec<Fault>,
    /// Images with an omitted part that was reported.
    pub warned: BTreeSet<usize>,
    counts: BTreeMap<(bool, Op), usize>,
    down: BTreeMap<String, Instant>,
    distance: u64,
    pub load: Load,
    /// Blobs that the source sent with wrong bytes once.
    pub spoiled: Vec<Digest>,
    pub journal: Journal,
    /// In the order of the images; empty if no artifacts are copied.
    due: Vec<Due>,
    /// Whether a tag may exist before its artifacts: the process that put it does not copy them.
    may_be_late: bool,
}

/// An image of the target, and the artifacts that it must have.
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
            distance: scenario.distance,
            load: Load::new(scenario.limits),
            spoiled: Vec::new(),
            journal: Journal::new(is_told),
            due: scenario.images.iter().filter(|_| scenario.copies_artifacts).map(Due::new).collect(),
            may_be_late: scenario.artifacts_later,
        }
    }

    pub fn site(&mut self, at_target: bool) -> &mut Site {
        if at_target { &mut self.target } else { &mut self.source }
    }

    pub fn delay(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(0..=self.distance))
    }

    /// From now on there are no accidents, and everything is visible at once.
    pub fn calm(&mut self) {
        self.faults.clear();
        self.down.clear();
        for site in [&mut self.source, &mut self.target] {
            site.ways.lag = Duration::ZERO;
        }
    }

    /// A request is sent. Returns its fault.
    pub fn sent(&mut self, process: usize, asked: &Asked) -> Option<Fault> {
        let (at_target, op) = kind(asked);
        self.check_authorization(asked);
        let has_quotas = at_target && self.target.ways.is_ecr;
        self.load.check_quota(process, (at_target, op), has_quotas, asked, &mut self.journal);
        let number = self.counts.entry((at_target, op)).or_default();
        let wanted = (at_target, op, *number);
        *number += 1;
        let position = self.faults.iter().position(|(side, op, number, _)| (*side, *op, *number) == wanted);
        let fault = position.map(|position| self.faults.remove(position).3);
        self.journal.note(&format!("{process} {} {} {fault:?}", asked.method, asked.url));
        if let Some(fault) = &fault {
            self.fired.push(fault.clone());
            match fault {
                Fault::Expire => self.site(at_target).logins.expire(),
                Fault::Down(time) => {
                    let host = asked.url.host_str().unwrap_or_default().to_owned();
                    self.down.insert(host, Instant::now() + *time);
                }
                _ => {}
            }
        }
        fault
    }

    /// An artifact that the target lacks for an existing image, although nothing refused it and nothing reported it.
    pub fn lost_artifact(&self, image: usize) -> Option<Digest> {
        let Due { repository, tag, digest, artifacts } = self.due.get(image)?;
        // This reply means "does not exist".
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

    /// A tag is put after the artifacts of its manifest.
    fn check_artifacts(&mut self, asked: &Asked) {
        let (repository, _, identifier) = parts(asked.url.path());
        let is_put = |due: &Due| due.repository == repository && due.tag == identifier;
        let Some(image) = self.due.iter().position(is_put).filter(|_| !self.may_be_late) else { return };
        if let Some(artifact) = self.lost_artifact(image) {
            self.journal.violate(|| format!("{repository}:{identifier} is put before {artifact} about it"));
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
                self.journal.violate(|| format!("{} {}: {what}", asked.method, asked.url));
                Answer::new(400)
            }
        }
    }

    /// A reply arrives.
    pub fn received(&mut self, process: usize, asked: &Asked, answer: &Answer) {
        let (at_target, op) = kind(asked);
        self.journal.note(&format!("{process} {} {} {}", answer.status, asked.method, asked.url));
        let wait = answer.headers.iter().find(|(name, _)| *name == "retry-after");
        if let (429, Some((_, seconds)), Some(host)) = (answer.status, wait, asked.url.host_str()) {
            let until = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
            if !host.contains('.') || !(host.starts_with("auth.") || host.starts_with("blobs.")) {
                self.load.hush(process, (at_target, op), until);
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
            self.journal
                .violate(|| format!("bytes of {digest} from {offset} on are others than the source sent"));
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
        // A token that was corrupted on the way was issued by no server.
        if whose != "source" && whose != "target" {
            return;
        }
        let host = asked.url.host_str().unwrap_or_default();
        let is_right = host == format!("{whose}.example")
            || (host == format!("auth.{whose}.example") && given.starts_with("Basic"));
        let is_right = is_right && asked.url.scheme() == "https";
        if !is_right {
            self.journal.violate(|| format!("{} is sent an Authorization of {whose}", asked.url));
        }
    }
}

/// Whether a request only reads.
pub fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
