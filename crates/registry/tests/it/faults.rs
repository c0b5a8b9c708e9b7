//! A fault at a random place of each run, from a seed that is printed. Whatever happens: the copy is whole, or fails with a
//! name and leaves no tag that lacks a part; and it ends.
//!
//! A few rounds by default; `SOAK=1` for a thousand, with every kind at least sixty times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use registry::mirror::{Job, Mirror};
use registry::{Digest, ErrorKind};

use crate::support::faults::Rule;
use crate::support::images::{self, TestImage, bytes};
use crate::support::{Auth, Fake, Fault, Passwords, Quirks, builder, copy, copy_all, run};

const KINDS: [&str; 16] = [
    "cut reply",
    "cut request",
    "corrupt reply",
    "corrupt request",
    "truncate",
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
    let at = random.usize(0..60_000);
    match kind {
        "cut reply" => Fault::CutReply(at),
        "cut request" => Fault::CutRequest(at),
        "corrupt reply" => Fault::CorruptReply(at),
        "corrupt request" => Fault::CorruptRequest(at),
        "truncate" => Fault::Truncate(random.usize(1..2_000)),
        "429" => Fault::too_many(None),
        "429 with wait" => Fault::too_many(Some(random.u64(0..2))),
        "500" => Fault::status(500),
        "503" => Fault::status(503),
        "expired" => Fault::Expire,
        "redirect" => Fault::Elsewhere,
        "trickle" => Fault::Trickle,
        "hang" => Fault::Hang,
        "refused" => Fault::Refuse(Duration::from_millis(random.u64(1..60))),
        "lost reply" => Fault::LoseReply,
        _ => Fault::CorruptReply(usize::MAX),
    }
}

/// Where a kind of fault can happen: any request, or one with a body that it changes.
fn place(kind: &str, random: &mut fastrand::Rng) -> (&'static str, &'static str) {
    match kind {
        "redirect" => ("GET", "/blobs/"),
        "cut request" | "corrupt request" => {
            *random.choice(&[("PUT", "/blobs/"), ("PUT", "/manifests/")]).unwrap()
        }
        "cut reply" | "corrupt reply" | "truncate" | "trickle" => {
            *random.choice(&[("GET", "/blobs/"), ("GET", "/manifests/")]).unwrap()
        }
        _ => ("*", ""),
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

/// Credentials that know what the fake made of its password.
fn client_for(fakes: [&Fake; 2]) -> registry::Client {
    struct Known(Vec<(String, Passwords)>);
    impl registry::Credentials for Known {
        fn get<'a>(
            &'a self,
            registry: &'a str,
            stale: Option<&'a registry::Credential>,
        ) -> registry::BoxFuture<'a, Result<Option<registry::Credential>, registry::BoxError>> {
            let known = self.0.iter().find(|(host, _)| host == registry).map(|(_, known)| known);
            match (known, stale) {
                (Some(known), Some(_)) => known.current.lock().unwrap().push('+'),
                (Some(_), None) => {}
                (None, _) => return Box::pin(async { Ok(None) }),
            }
            known.unwrap().get(registry, stale)
        }
    }
    let known = fakes.into_iter().map(|fake| (fake.host(), Passwords::new("p"))).collect();
    builder().credentials(Arc::new(Known(known))).build().unwrap()
}

/// One run: `Ok(true)` complete, `Ok(false)` failed by name, `Err` what must not be.
async fn round(kind: &str, seed: u64) -> Result<bool, String> {
    let random = &mut fastrand::Rng::with_seed(seed);
    let source = Fake::start(some_quirks(random)).await;
    let target = Fake::start(some_quirks(random)).await;
    let image = some_image(random);
    source.store(|store| store.seed("r", "1", &image));
    let (method, path) = place(kind, random);
    let reads = method == "GET";
    let side = if reads || (method == "*" && random.bool()) { &source } else { &target };
    // A credential that is refused as soon as it is new is no accident, and one 401 too many is an answer.
    let times = if kind == "expired" { 1 } else { random.usize(1..4) };
    let rule = Rule::new(method, path, fault(kind, random)).skip(random.usize(0..4)).times(times);
    if kind != "none" {
        side.on(rule);
    }
    let mirror = Mirror::new(client_for([&source, &target]));
    let job = Job::new(source.name("r:1"), target.name("r:1"));
    let began = Instant::now();
    let result = tokio::time::timeout(LIMIT, copy(&mirror, job)).await.map_err(|_| "it hangs".to_owned())?;
    if let Some(broken) = target.broken_tag() {
        return Err(format!("{broken} after {result:?}"));
    }
    let tag = target.store(|store| store.manifest("r", "1").map(registry::Manifest::digest));
    match result {
        Ok(_) if tag == Some(image.digest()) => Ok(true),
        Ok(_) => Err(format!("success, and the tag is {tag:?}")),
        Err(error) if error.to_string().is_empty() => Err("a failure without a name".to_owned()),
        Err(error) => {
            println!("seed {seed}, {kind}: {error} after {:?}", began.elapsed());
            Ok(false)
        }
    }
}

#[test]
fn any_fault_is_survived_or_named() {
    let soak = std::env::var_os("SOAK").is_some();
    let rounds = if soak { 63 } else { 2 };
    let base = match std::env::var("FAULT_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed,
        None => fastrand::u64(0..1 << 40),
    };
    println!("FAULT_SEED={base}: {rounds} rounds of each of {} kinds", KINDS.len());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut complete: BTreeMap<&str, usize> = BTreeMap::new();
    // Several of each kind side by side: most of the time is waiting.
    let all: Vec<(&str, u64)> =
        KINDS.iter().copied().cycle().zip(base..).take(rounds * KINDS.len()).collect();
    for some in all.chunks(4 * KINDS.len()) {
        let runs = some.iter().map(|(kind, seed)| async { (*kind, *seed, round(kind, *seed).await) });
        for (kind, seed, result) in runtime.block_on(futures_util::future::join_all(runs)) {
            match result {
                Ok(is_complete) => *complete.entry(kind).or_default() += usize::from(is_complete),
                Err(what) => panic!("seed {seed}, {kind}: {what}"),
            }
        }
    }
    println!("complete, of {rounds} each: {complete:?}");
    // What a retry repairs is repaired: a failure is the exception even under faults.
    let all: usize = complete.values().sum();
    assert!(all * 100 >= rounds * KINDS.len() * 90, "{complete:?}");
    assert_eq!(complete.get("none"), Some(&rounds));
}

#[test]
fn the_control_shows_that_corruption_would_be_seen() {
    // A target that believes everything, and bytes that are changed behind our digest check, on the way there: what the
    // rounds above look at must tell.
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

#[test]
fn bytes_that_are_wrong_at_the_source_never_reach_a_target_that_believes_everything() {
    run(async {
        let (source, target) =
            (Fake::plain().await, Fake::start(Quirks { gullible: true, ..Quirks::default() }).await);
        let image = images::image("a", &[bytes("l", 500_000)]);
        source.store(|store| store.seed("r", "1", &image));
        source.on(Rule::new("GET", "/blobs/", Fault::CorruptReply(400_000)).times(99));
        let error =
            copy(&Mirror::new(builder().build().unwrap()), Job::new(source.name("r:1"), target.name("r:1")))
                .await
                .unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::DigestMismatch { .. }), "{error}");
        let wrong = Digest::of(&image.blobs[0]);
        assert!(target.store(|store| !store.contents.contains_key(&wrong)), "the last piece was held back");
    });
}

#[test]
fn a_broken_download_goes_on_inside_the_same_upload() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        let image = images::image("a", &[bytes("l", 500_000)]);
        source.store(|store| store.seed("r", "1", &image));
        let layer = Digest::of(&image.blobs[0]).to_string();
        source.on(Rule::new("GET", &layer, Fault::CutReply(300_000)));
        copy(&Mirror::new(builder().build().unwrap()), Job::new(source.name("r:1"), target.name("r:1")))
            .await
            .unwrap();
        let ranges: Vec<String> = source
            .seen()
            .iter()
            .filter_map(|seen| seen.headers.get("range"))
            .map(|range| range.to_str().unwrap().to_owned())
            .collect();
        let [range] = ranges.as_slice() else { panic!("{ranges:?}") };
        assert_ne!(range, "bytes=0-");
        assert_eq!(target.count("PUT uploads"), 2);
    });
}

#[test]
fn a_source_that_knows_no_ranges_begins_anew_inside_the_same_upload() {
    run(async {
        let source = Fake::start(Quirks { no_range: true, ..Quirks::default() }).await;
        let target = Fake::plain().await;
        let image = images::image("a", &[bytes("l", 500_000)]);
        source.store(|store| store.seed("r", "1", &image));
        let layer = Digest::of(&image.blobs[0]).to_string();
        source.on(Rule::new("GET", &layer, Fault::CutReply(300_000)));
        copy(&Mirror::new(builder().build().unwrap()), Job::new(source.name("r:1"), target.name("r:1")))
            .await
            .unwrap();
        assert_eq!((target.count("PUT uploads"), target.broken_tag()), (2, None));
    });
}

#[test]
fn a_trickle_is_broken_off() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        let image = images::image("a", &[bytes("l", 100_000)]);
        source.store(|store| store.seed("r", "1", &image));
        source.on(Rule::new("GET", "/blobs/", Fault::Trickle));
        let began = Instant::now();
        copy(&Mirror::new(builder().build().unwrap()), Job::new(source.name("r:1"), target.name("r:1")))
            .await
            .unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "at 50 bytes a second it would take half an hour");
    });
}

#[test]
fn one_bad_image_does_not_harm_the_others() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        let mut jobs = Vec::new();
        for number in 0..5 {
            let image = images::image(&format!("i{number}"), &[bytes(&format!("l{number}"), 1_000)]);
            source.store(|store| store.seed(&format!("s{number}"), "1", &image));
            jobs.push(Job::new(source.name(&format!("s{number}:1")), target.name(&format!("t{number}:1"))));
        }
        source.on(Rule::new("GET", "/v2/s2/blobs/", Fault::status(403)).times(99));
        let results = copy_all(&Mirror::new(builder().build().unwrap()), jobs).await;
        let failed: Vec<usize> = (0..5).filter(|number| results[*number].is_err()).collect();
        assert_eq!(failed, [2]);
        assert_eq!(target.broken_tag(), None);
    });
}
