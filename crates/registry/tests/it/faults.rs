//! A fault at a random point of each run, from a printed seed. In every case the copy is complete, or fails with a named error and
//! leaves no incomplete tag; and the run ends.
//!
//! A few rounds by default; `SOAK=1` for a thousand, in which every kind of fault occurred at least sixty times.
//! `cargo test -p registry --features bugs control_` runs such rounds with the digest checks disabled, and expects them to fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::mirror::{Job, Mirror};

use crate::support::faults::Rule;
use crate::support::images::{self, TestImage, bytes};
use crate::support::log::Seen;
use crate::support::{Auth, Fake, Fault, Passwords, Quirks, builder, copy, run};

const KINDS: [&str; 17] = [
    "cut reply",
    "cut request",
    "corrupt reply",
    "corrupt request",
    "truncate",
    "delay",
    "429",
    "429 with wait",
    "500",
    "503",
    "expired",
    "redirect",
    "trickle",
    "hang",
    "refused",
    "lost reply",
    "none",
];

/// Every run ends within this time.
const LIMIT: Duration = Duration::from_secs(30);

fn fault(kind: &str, random: &mut fastrand::Rng) -> Fault {
    let at = random.usize(0..1 << 20);
    match kind {
        "cut reply" => Fault::CutReply(at),
        "cut request" => Fault::CutRequest(at),
        "corrupt reply" => Fault::CorruptReply(at),
        "corrupt request" => Fault::CorruptRequest(at),
        "truncate" => Fault::Truncate(random.usize(1..2_000)),
        "delay" => Fault::Delay(Duration::from_millis(random.u64(1..900))),
        "429" => Fault::too_many(None),
        "429 with wait" => Fault::too_many(Some(random.u64(0..2))),
        "500" => Fault::status(500),
        "503" => Fault::status(503),
        "expired" => Fault::Expire,
        "redirect" => Fault::Elsewhere,
        "trickle" => Fault::Trickle,
        "hang" => Fault::Hang,
        "refused" => Fault::Refuse(Duration::from_millis(random.u64(1..60))),
        _ => Fault::LoseReply,
    }
}

/// Whether a kind of fault can happen to a request: most to any request, some only if there is a body to change.
fn can_meet(kind: &str, seen: &Seen) -> bool {
    match kind {
        "none" => false,
        "redirect" => seen.method == "GET" && seen.kind == "blobs",
        "cut request" | "corrupt request" => seen.method == "PUT",
        "cut reply" | "corrupt reply" | "truncate" | "trickle" => seen.method == "GET",
        _ => true,
    }
}

/// One of the requests of an undisturbed run: a side, then one of the requests to this side. It is found again by method and kind,
/// and by how many of these came before.
fn place(kind: &str, sides: [&[Seen]; 2], random: &mut fastrand::Rng) -> Option<(usize, Rule)> {
    let fault = fault(kind, random);
    let able = |side: &usize| sides[*side].iter().any(|seen| can_meet(kind, seen));
    let side = *random.choice(&[0, 1].into_iter().filter(able).collect::<Vec<usize>>())?;
    let class = |seen: &Seen| (METHODS.into_iter().find(|method| *method == seen.method), part(seen));
    let seen = sides[side];
    let able: Vec<usize> = (0..seen.len()).filter(|at| can_meet(kind, &seen[*at])).collect();
    let at = *random.choice(&able)?;
    let before = seen[..at].iter().filter(|other| class(other) == class(&seen[at])).count();
    let (method, part) = class(&seen[at]);
    // A new credential that is refused is not a transient fault, and a second 401 is a final answer.
    let times = if kind == "expired" { 1 } else { random.usize(1..4) };
    Some((side, Rule::new(method?, part, fault).skip(before).times(times)))
}

const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "PUT"];

/// The common part of the paths of such requests.
fn part(seen: &Seen) -> &'static str {
    match seen.kind {
        "uploads" => "/blobs/uploads/",
        "blobs" | "elsewhere" => "/blobs/",
        "manifests" => "/manifests/",
        "token" => "/token",
        _ => "/v2/",
    }
}

fn some_image(random: &mut fastrand::Rng) -> TestImage {
    let number = random.u32(..);
    let one = |name: &str, random: &mut fastrand::Rng| {
        let layer = bytes(&format!("{name}{number}"), random.usize(1..120_000));
        images::image(name, &[layer, bytes("common", 20_000)])
    };
    match random.bool() {
        true => one("single", random),
        false => images::index(&[
            (Some("linux/amd64"), one("amd64", random)),
            (Some("linux/arm64"), one("arm64", random)),
        ]),
    }
}

fn some_quirks(random: &mut fastrand::Rng) -> Quirks {
    let auth = match random.u8(0..3) {
        0 => Auth::Open,
        1 => Auth::Basic("p".to_owned()),
        _ => Auth::Bearer(None),
    };
    Quirks {
        auth,
        mounts: random.bool(),
        elsewhere: random.bool(),
        no_range: random.u8(0..4) == 0,
        ..Quirks::default()
    }
}

/// Credentials that know the current password of the fake registry.
fn client_for(fakes: [&Fake; 2]) -> registry::Client {
    struct Known(Vec<(String, Passwords)>);
    impl registry::Credentials for Known {
        fn get<'a>(
            &'a self,
            server: &'a registry::Server,
            stale: Option<&'a registry::Credential>,
        ) -> registry::BoxFuture<'a, Result<Option<registry::Credential>, registry::BoxError>> {
            let known = self.0.iter().find(|(host, _)| host == server.host()).map(|(_, known)| known);
            match (known, stale) {
                (Some(known), Some(_)) => known.current.lock().unwrap().push('+'),
                (Some(_), None) => {}
                (None, _) => return Box::pin(async { Ok(None) }),
            }
            known.unwrap().get(server, stale)
        }
    }
    let known = fakes.into_iter().map(|fake| (fake.host(), Passwords::new("p"))).collect();
    builder().credentials(Arc::new(Known(known))).build().unwrap()
}

/// The result of a round that kept the invariants.
struct Round {
    /// Otherwise it failed with a named error.
    is_complete: bool,
    /// Whether the fault happened.
    has_fired: bool,
}

/// Source and target with an image at the source, the same for the same seed.
async fn stage(kind: &str, seed: u64) -> (Fake, Fake, TestImage) {
    let random = &mut fastrand::Rng::with_seed(seed);
    let source = Fake::start(some_quirks(random)).await;
    let target = Fake::start(some_quirks(random)).await;
    // With a target that verifies nothing, only this tool can detect faults of the source.
    target.quirks(|quirks| quirks.gullible = kind != "corrupt request" && random.bool());
    let image = some_image(random);
    source.store(|store| store.seed("r", "1", &image));
    (source, target, image)
}

/// One run; `Err` is a violation.
async fn round(kind: &str, seed: u64) -> Result<Round, String> {
    let (source, target, _) = stage(kind, seed).await;
    let mirror = Mirror::new(client_for([&source, &target]));
    let undisturbed = copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await;
    undisturbed.map_err(|error| format!("without any fault: {error}"))?;
    let random = &mut fastrand::Rng::with_seed(seed ^ 0x5eed);
    let place = place(kind, [&source.log.seen(), &target.log.seen()], random);

    let (source, target, image) = stage(kind, seed).await;
    let side = place.as_ref().map_or(0, |(side, _)| *side);
    if let Some((_, rule)) = place {
        [&source, &target][side].on(rule);
    }
    let mirror = Mirror::new(client_for([&source, &target]));
    let job = Job::new(source.name("r:1"), target.name("r:1"));
    let began = Instant::now();
    let result = tokio::time::timeout(LIMIT, copy(&mirror, job)).await.map_err(|_| "it hangs".to_owned())?;
    if let Some(broken) = target.broken_tag() {
        return Err(format!("{broken} after {result:?}"));
    }
    let tag = target.store(|store| store.manifest("r", "1").map(registry::Manifest::digest));
    let has_fired = [&source, &target][side].log.fired() > 0;
    match result {
        Ok(_) if tag == Some(image.digest()) => Ok(Round { is_complete: true, has_fired }),
        Ok(_) => Err(format!("success, and the tag is {tag:?}")),
        Err(error) if error.to_string().is_empty() => Err("a failure without a name".to_owned()),
        Err(error) => {
            println!("seed {seed}, {kind}: {error} after {:?}", began.elapsed());
            Ok(Round { is_complete: false, has_fired })
        }
    }
}

/// Rounds of each of `kinds`, in parallel, because most of the time is waiting.
fn rounds(
    kinds: &[&'static str],
    count: usize,
    seeds: u64,
) -> Vec<(&'static str, u64, Result<Round, String>)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let all: Vec<(&str, u64)> =
        kinds.iter().copied().cycle().zip(seeds..).take(count * kinds.len()).collect();
    let mut results = Vec::new();
    for some in all.chunks(64) {
        let runs = some.iter().map(|(kind, seed)| async { (*kind, *seed, round(kind, *seed).await) });
        results.extend(runtime.block_on(futures_util::future::join_all(runs)));
    }
    results
}

fn base_seed() -> u64 {
    let base = std::env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    let base = base.unwrap_or_else(|| fastrand::u64(0..1 << 40));
    println!("FAULT_SEED={base}");
    base
}

#[derive(Debug, Default)]
struct Count {
    runs: usize,
    fired: usize,
    complete: usize,
}

#[test]
fn any_fault_ends_in_a_complete_copy_or_a_named_error() {
    let (wanted, fired_at_least) = if std::env::var_os("SOAK").is_some() { (63, 60) } else { (2, 1) };
    let began = Instant::now();
    let mut seeds = base_seed();
    let mut counts: BTreeMap<&str, Count> = KINDS.iter().map(|kind| (*kind, Count::default())).collect();
    let mut kinds = KINDS.to_vec();
    let mut count = wanted;
    // A fault whose request came in another order may not happen: more rounds for the kinds with too few.
    while !kinds.is_empty() {
        for (kind, seed, result) in rounds(&kinds, count, seeds) {
            let round = result.unwrap_or_else(|what| panic!("seed {seed}, {kind}: {what}"));
            let counted = counts.get_mut(kind).unwrap();
            counted.runs += 1;
            counted.fired += usize::from(round.has_fired);
            counted.complete += usize::from(round.is_complete);
        }
        seeds += (count * kinds.len()) as u64;
        kinds.retain(|kind| *kind != "none" && counts[kind].fired < fired_at_least);
        count = fired_at_least;
        assert!(counts.values().all(|counted| counted.runs < 5 * wanted + 20), "{counts:?}");
    }
    let all: usize = counts.values().map(|counted| counted.runs).sum();
    for (kind, Count { runs, fired, complete }) in &counts {
        println!("{kind}: {runs} runs, the fault happened in {fired}, {complete} complete");
    }
    println!("{all} runs in {:.0?}", began.elapsed());
    // Faults that a retry repairs are repaired: failures are rare even under faults.
    let complete: usize = counts.values().map(|counted| counted.complete).sum();
    assert!(complete * 100 >= all * 90, "{counts:?}");
    assert_eq!(counts["none"].complete, counts["none"].runs);
}

/// The control of the test above: a mirror without digest checks must not pass it.
#[cfg(feature = "bugs")]
#[test]
fn control_rounds_without_verification_fail() {
    registry::bugs::inject(Some(registry::bugs::Bug::Unverified));
    let results = rounds(&["corrupt reply"], 40, base_seed());
    registry::bugs::inject(None);
    let told: Vec<&String> = results.iter().filter_map(|(_, _, result)| result.as_ref().err()).collect();
    println!("{} of {} rounds were told from good ones: {:?}", told.len(), results.len(), told.first());
    assert!(!told.is_empty());
}

#[test]
fn the_control_shows_that_corruption_is_detected() {
    // A target that verifies nothing, and bytes that are changed after our digest check: the checks of the rounds above must detect
    // them.
    run(async {
        let (source, target) =
            (Fake::plain().await, Fake::start(Quirks { gullible: true, ..Quirks::default() }).await);
        let image = images::image("a", &[bytes("l", 5_000)]);
        source.store(|store| store.seed("r", "1", &image));
        target.on(Rule::new("PUT", "/blobs/", Fault::CorruptRequest(99)).times(9));
        let _ =
            copy(&Mirror::new(builder().build().unwrap()), Job::new(source.name("r:1"), target.name("r:1")))
                .await;
        assert!(target.broken_tag().is_some());
    });
}
