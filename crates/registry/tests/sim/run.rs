//! One run: processes that copy, end and start again, and what must be true at the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry::mirror::{Action, Event, Job, Mapping, MemoryMapping, Mirror, Outcome, Platforms};
use registry::{
    BoxError, BoxFuture, Client, Credential, Credentials, Digest, Reference, RetryPolicy, Server, Timeouts,
};
use tokio::time::{Instant, sleep, timeout};

use crate::ecr::ECR;
use crate::net::Net;
use crate::plan::{Accident, Fault, Scenario, Wanted};
use crate::world::{Shared, World, lock};

/// The longest time of a run, by its own clock: every request may be repeated six times after two minutes each, one image after the
/// other.
const BOUND: Duration = Duration::from_secs(2 * 3_600);

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub requests: u64,
    pub fired: Vec<&'static str>,
    pub failed: usize,
    pub images: usize,
    pub time: Duration,
    pub log: Vec<String>,
}

/// Runs a scenario with its own clock and thread.
///
/// # Errors
/// A violation of the invariants.
pub fn run(scenario: &Scenario, is_told: bool) -> (Report, Result<(), String>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world: Shared = Arc::new(Mutex::new(World::new(scenario, is_told)));
        seed(&world, scenario);
        let result = timeout(2 * BOUND, whole(&world, scenario)).await;
        let result = result.unwrap_or_else(|_| Err("it hangs".to_owned()));
        let mut world = lock(&world);
        let (images, failed) = *result.as_ref().unwrap_or(&(0, 0));
        let report = Report {
            requests: world.journal.trace(),
            fired: world.fired.iter().map(name).collect(),
            time: world.journal.began.elapsed(),
            log: world.journal.log.take().unwrap_or_default(),
            images,
            failed,
        };
        let result = match world.journal.violation() {
            Some(what) => Err(what.clone()),
            None => result.map(drop),
        };
        (report, result)
    })
}

fn name(fault: &Fault) -> &'static str {
    match fault {
        Fault::CutReply(_) => "reply cut",
        Fault::CutRequest(_) => "upload cut",
        Fault::Truncate(_) => "reply too short",
        Fault::Corrupt(_) => "reply corrupt",
        Fault::Hang => "no reply",
        Fault::Delay(_) => "late reply",
        Fault::TooMany(Some(_)) => "429 with Retry-After",
        Fault::TooMany(None) => "429",
        Fault::Status(416) => "416",
        Fault::Status(500..) => "5xx",
        Fault::Status(_) => "4xx",
        Fault::LoseReply => "reply lost",
        Fault::WrongRange => "wrong Content-Range",
        Fault::LoseSession => "session lost",
        Fault::Expire => "credentials expired",
        Fault::Trickle => "trickle",
        Fault::Down(_) => "server down",
    }
}

fn seed(world: &Shared, scenario: &Scenario) {
    let mut world = lock(world);
    let now = Instant::now();
    for wanted in &scenario.images {
        let (repository, tag) = &wanted.source;
        let store = &mut world.source.store;
        for image in [&wanted.image, &wanted.next].into_iter().chain(&wanted.artifacts) {
            store.seed(repository, image);
        }
        store.tag(repository, tag, wanted.image.digest(), now);
        if scenario.source.has_referrers || wanted.artifacts.is_empty() {
            continue;
        }
        let digests: Vec<_> =
            wanted.artifacts.iter().map(|artifact| artifact.manifest.descriptor()).collect();
        list(&mut world.source.store, repository, wanted.image.digest(), &digests);
    }
    if !scenario.target.has_referrers {
        for wanted in &scenario.images {
            // A signature that another user put at the target.
            let other = crate::images::about("somebody else's", &wanted.image);
            let digest = wanted.image.digest();
            list(&mut world.target.store, &wanted.target.0, digest, &[other.manifest.descriptor()]);
        }
    }
}

/// The list of referrers under a tag.
fn list(store: &mut crate::store::Store, repository: &str, subject: Digest, listed: &[registry::Descriptor]) {
    let json =
        serde_json::json!({ "schemaVersion": 2, "mediaType": crate::images::OCI_INDEX, "manifests": listed });
    let manifest = registry::Manifest::new(crate::images::OCI_INDEX, json.to_string());
    let digest = manifest.digest();
    let now = Instant::now();
    store.repository(repository).manifests.insert(digest, (manifest, now));
    store.tag(repository, &format!("sha256-{}", subject.hex()), digest, now);
}

/// The logins of each registry.
struct Logins(Shared);

impl Credentials for Logins {
    fn get<'a>(
        &'a self,
        server: &'a Server,
        _stale: Option<&'a Credential>,
    ) -> BoxFuture<'a, Result<Option<Credential>, BoxError>> {
        Box::pin(async move {
            sleep(Duration::from_millis(3)).await;
            let world = lock(&self.0);
            let site = [&world.source, &world.target].into_iter().find(|site| site.host() == server.host());
            let login = site.map(|site| site.logins.login());
            Ok(login.map(|(username, password)| Credential::Basic { username, password }))
        })
    }
}

fn reference(host: &str, (repository, tag): &(String, String)) -> Reference {
    format!("{host}/{repository}:{tag}").parse().unwrap()
}

fn job(wanted: &Wanted, scenario: &Scenario, process: usize) -> Job {
    let mut job =
        Job::new(reference("source.example", &wanted.source), reference("target.example", &wanted.target));
    job.artifacts = scenario.copies_artifacts && (process > 0 || !scenario.artifacts_later);
    if wanted.one_platform {
        job.platforms = Platforms::Only(vec!["linux/amd64".parse().unwrap()]);
    }
    job
}

/// The expected target for this source.
fn expected(wanted: &Wanted, source: Digest) -> Digest {
    let image = [&wanted.image, &wanted.next].into_iter().find(|image| image.digest() == source).unwrap();
    match wanted.one_platform {
        true => image.children[0].digest(),
        false => source,
    }
}

/// One process, from its start to its end.
async fn process(
    world: Shared,
    scenario: &Scenario,
    number: usize,
    mapping: Arc<dyn Mapping>,
) -> Result<Vec<Outcome>, String> {
    let net = Net { world: Arc::clone(&world), process: number };
    let mut builder = Client::builder()
        .transport(Arc::new(net))
        .credentials(Arc::new(Logins(Arc::clone(&world))))
        .seed(scenario.seed.wrapping_add(number as u64));
    if scenario.target.is_ecr {
        builder = builder.profiles(|host| (host == "target.example").then_some(ECR));
    }
    let client = builder.build().map_err(|error| error.to_string())?;
    let mirror = Mirror::new(client).limits(scenario.limits).mapping(mapping).read_back();
    let mirror = mirror.on_event(move |event| {
        if let Event::Warning { image, .. } = event {
            lock(&world).warned.insert(*image);
        }
    });
    let jobs: Vec<_> = scenario.images.iter().map(|wanted| job(wanted, scenario, number)).collect();
    let work = async {
        let plan = mirror.plan(jobs).await;
        for planned in &plan.images {
            if let Action::Failed(error) = &planned.action {
                tracing::debug!(%error, "not planned");
            }
        }
        mirror.apply(&plan).await
    };
    timeout(BOUND, work).await.map_err(|_| format!("process {number} did not end within {BOUND:?}"))
}

/// All processes of a run, one after the other, and a last one without accidents.
async fn whole(world: &Shared, scenario: &Scenario) -> Result<(usize, usize), String> {
    let shared: Arc<dyn Mapping> = Arc::new(MemoryMapping::default());
    let mapping = || match scenario.remembers {
        true => Arc::clone(&shared),
        false => Arc::new(MemoryMapping::default()),
    };
    let mut kills: Vec<Duration> = Vec::new();
    let (mut second, mut moves) = (None, Vec::new());
    for accident in &scenario.accidents {
        match accident {
            Accident::Kill(after) => kills.push(*after),
            Accident::Second(after) => second = Some(*after),
            Accident::MoveSource(after, image) => moves.push((*after, *image, false)),
            Accident::MoveTarget(after, image) => moves.push((*after, *image, true)),
            Accident::Fault { .. } => {}
        }
    }
    let somebody = async {
        moves.sort();
        for (after, image, at_target) in &moves {
            let at = lock(world).journal.began + *after;
            tokio::time::sleep_until(at).await;
            somebody_moves(world, &scenario.images[*image], *at_target);
        }
    };
    let other = async {
        let Some(after) = second else { return Ok(Vec::new()) };
        sleep(after).await;
        process(Arc::clone(world), scenario, 100, mapping()).await
    };
    let own = async {
        for (number, after) in kills.iter().enumerate() {
            let process = process(Arc::clone(world), scenario, number, mapping());
            if let Ok(ended) = timeout(*after, process).await {
                return ended;
            }
            lock(world).journal.note("the process dies");
        }
        process(Arc::clone(world), scenario, kills.len(), mapping()).await
    };
    let (own, other, ()) = tokio::join!(own, other, somebody);
    let (own, other) = (own?, other?);
    let failed = own.iter().chain(&other).filter(|outcome| outcome.result.is_err()).count();
    let images = own.len() + other.len();
    let is_disturbed = !moves.is_empty() || second.is_some();
    for outcome in own.iter().chain(&other) {
        check(world, scenario, outcome, is_disturbed)?;
    }
    // The state becomes visible everywhere, and incomplete work is completed.
    lock(world).calm();
    sleep(Duration::from_secs(60)).await;
    let last = process(Arc::clone(world), scenario, 200, mapping()).await?;
    for (number, (wanted, outcome)) in scenario.images.iter().zip(&last).enumerate() {
        let copied = outcome.result.as_ref().map_err(|error| format!("without any fault: {error}"))?;
        let world = lock(world);
        let source = world.source.store.tagged(&wanted.source.0, &wanted.source.1).unwrap();
        let there = world.target.store.tagged(&wanted.target.0, &wanted.target.1);
        if there != Some(expected(wanted, source)) || there != Some(copied.digest) {
            return Err(format!("{} is {there:?} at the end, the source {source}", outcome.job.target));
        }
        if let Some(artifact) = world.lost_artifact(number) {
            return Err(format!("{} is there, and {artifact} about it is not", outcome.job.target));
        }
    }
    Ok((images, failed))
}

fn somebody_moves(world: &Shared, wanted: &Wanted, at_target: bool) {
    let mut world = lock(world);
    let ((repository, tag), image) = match at_target {
        false => (&wanted.source, wanted.next.clone()),
        true => (&wanted.target, crate::images::image("somebody else's", &[b"theirs".to_vec()])),
    };
    let store = &mut world.site(at_target).store;
    store.seed(repository, &image);
    store.tag(repository, tag, image.digest(), Instant::now());
    world.journal.note(&format!("somebody moves {repository}:{tag}"));
}

/// The result that a process reports for an image, compared with what exists.
fn check(world: &Shared, scenario: &Scenario, outcome: &Outcome, is_disturbed: bool) -> Result<(), String> {
    let target = &outcome.job.target;
    let world = lock(world);
    match &outcome.result {
        Ok(copied) => {
            let there = world.target.store.tagged(target.repository(), target.tag().unwrap_or_default());
            if there != Some(copied.digest) && !is_disturbed {
                return Err(format!("{target} is said to be {}, and is {there:?}", copied.digest));
            }
            Ok(())
        }
        Err(error) => {
            let subject = error.subject();
            let names =
                [outcome.job.source.repository(), target.repository(), "source.example", "target.example"];
            if !names.iter().any(|name| subject.contains(name)) {
                return Err(format!("a failure that names nothing: {error}"));
            }
            if is_repairable(&world.fired, scenario) && !is_disturbed {
                return Err(format!("a retry would have repaired it: {error}"));
            }
            Ok(())
        }
    }
}

/// Whether so few accidents of such kinds happened that nothing may fail.
fn is_repairable(fired: &[Fault], scenario: &Scenario) -> bool {
    let corrupt =
        fired.iter().filter(|fault| matches!(fault, Fault::Corrupt(_) | Fault::Truncate(_))).count();
    let passes = |fault: &Fault| {
        !matches!(fault, Fault::Status(400 | 403 | 404 | 416) | Fault::WrongRange | Fault::Down(_))
    };
    // A request is repeated once with a fresh login: if that one has expired as well, it looks like one without permission.
    let expired = fired.iter().filter(|fault| matches!(fault, Fault::Expire)).count();
    let lag = scenario.target.lag.max(scenario.source.lag);
    // All tries of a request have one deadline, and all of these accidents may have met one request. A pause between tries is
    // short.
    let waited = fired.iter().map(longest_wait).sum::<Duration>() + Duration::from_secs(10);
    fired.len() <= 3
        && waited <= RetryPolicy::default().give_up_after
        && corrupt <= 1
        && expired <= 1
        && fired.iter().all(passes)
        && lag <= Duration::from_secs(3)
}

/// The longest time that a fault delays its request.
fn longest_wait(fault: &Fault) -> Duration {
    match fault {
        Fault::Hang | Fault::Trickle => Timeouts::default().reply,
        Fault::Delay(wait) => *wait,
        Fault::TooMany(Some(seconds)) => Duration::from_secs(*seconds),
        _ => Duration::ZERO,
    }
}
