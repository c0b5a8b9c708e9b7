//! The rate of requests: pulls that are counted, quotas, and 429s.

use std::sync::Arc;
use std::time::Duration;

use registry::ErrorKind;
use registry::mirror::{Action, Job, Mapping, MemoryMapping, Mirror, Platforms};

use crate::support::faults::Rule;
use crate::support::images::{self, bytes, image, two_platforms};
use crate::support::{
    Auth, ECR, Fake, Fault, Quirks, client, copy, copy_all, counting, knowing, only, pair, profile, reply,
    run,
};

#[test]
fn no_copy_starts_without_enough_pulls_left() {
    run(async {
        let hub = Fake::start(Quirks { pulls_left: Some(1), ..Quirks::default() }).await;
        let (other, target) = (Fake::plain().await, Fake::plain().await);
        for name in ["a", "b"] {
            hub.store(|store| store.seed(name, "1", &image(name, &[])));
        }
        other.store(|store| store.seed("c", "1", &image("c", &[])));
        let jobs = vec![
            Job::new(hub.name("a:1"), target.name("a:1")),
            Job::new(hub.name("b:1"), target.name("b:1")),
            Job::new(other.name("c:1"), target.name("c:1")),
        ];
        let mirror = Mirror::new(counting(&hub));
        let plan = mirror.plan(jobs).await;
        assert_eq!((hub.log.count("GET manifests"), hub.log.count("HEAD manifests")), (0, 2));
        let pulls = plan.pulls.iter().find(|pulls| pulls.registry == hub.host()).unwrap();
        assert_eq!((pulls.needed, pulls.limit.unwrap().remaining), (2, 1));
        let results: Vec<_> = mirror.apply(&plan).await.into_iter().map(|outcome| outcome.result).collect();
        let ErrorKind::PullsExhausted { needed: 2, remaining: 1, limit: 100, window } =
            results[0].as_ref().unwrap_err().kind()
        else {
            panic!("{results:?}");
        };
        assert_eq!(*window, Some(Duration::from_secs(21_600)));
        assert!(results[1].is_err() && results[2].is_ok());
    });
}

#[test]
fn one_image_under_many_names_is_one_pull() {
    run(async {
        // Three names at the source, and more at the target: one image, and one platform of an index.
        let hub = Fake::start(Quirks { pulls_left: Some(4), ..Quirks::default() }).await;
        let target = Fake::plain().await;
        let (single, index) = (image("single", &[bytes("layer", 10)]), two_platforms());
        for tag in ["1", "1.2", "latest"] {
            hub.store(|store| store.seed("single", tag, &single));
            hub.store(|store| store.seed("index", tag, &index));
        }
        let names = |source: &'static str| {
            let tags = ["1", "1.2", "latest"].into_iter().cycle().take(40).enumerate();
            tags.map(move |(at, tag)| (format!("{source}:{tag}"), format!("{source}-{at}:1")))
                .collect::<Vec<_>>()
        };
        let jobs = [("single", Platforms::All), ("index", only(&["linux/amd64"]))].into_iter().flat_map(
            |(name, platforms)| names(name).into_iter().map(move |(from, to)| (from, to, platforms.clone())),
        );
        let jobs: Vec<Job> = jobs
            .map(|(from, to, platforms)| Job { platforms, ..Job::new(hub.name(&from), target.name(&to)) })
            .collect();
        let mirror = Mirror::new(counting(&hub));
        let plan = mirror.plan(jobs).await;
        let [pulls] = plan.pulls.as_slice() else { panic!("{:?}", plan.pulls) };
        assert_eq!((pulls.needed, pulls.limit.unwrap().remaining), (3, 4));
        let outcomes = mirror.apply(&plan).await;
        assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()), "{outcomes:?}");
        assert_eq!(hub.log.count("GET manifests"), 3);
        // A blob is fetched once and mounted by all others: two of the one, three of the other.
        assert_eq!(hub.log.count("GET blobs"), 5);
    });
}

#[test]
fn exactly_enough_pulls_are_enough() {
    run(async {
        let index = two_platforms();
        let hub = Fake::start(Quirks { pulls_left: Some(6), ..Quirks::default() }).await;
        let target = Fake::plain().await;
        hub.store(|store| store.seed("r", "1", &index));
        // The index and its four children; one pull is left for the image of one platform, which would need two more.
        let mirror = Mirror::new(counting(&hub));
        let plan = mirror.plan(vec![Job::new(hub.name("r:1"), target.name("r:1"))]).await;
        let [pulls] = plan.pulls.as_slice() else { panic!("{:?}", plan.pulls) };
        assert_eq!((pulls.needed, pulls.limit.unwrap().remaining), (5, 6));
        assert_eq!(mirror.apply(&plan).await.remove(0).result.unwrap().digest, index.digest());
        let one =
            Job { platforms: only(&["linux/amd64"]), ..Job::new(hub.name("r:1"), target.name("one:1")) };
        // On a machine that has read nothing of it.
        let plan = mirror.mapping(Arc::new(MemoryMapping::default())).plan(vec![one]).await;
        assert_eq!((plan.pulls[0].needed, plan.pulls[0].limit.unwrap().remaining), (2, 1));
        assert!(matches!(plan.images[0].action, Action::Failed(_)));
    });
}

#[test]
fn a_repeated_plan_costs_its_pulls_once() {
    run(async {
        let index = two_platforms();
        let hub = Fake::start(Quirks { pulls_left: Some(2), ..Quirks::default() }).await;
        let target = Fake::plain().await;
        hub.store(|store| store.seed("r", "1", &index));
        let mapping = Arc::new(MemoryMapping::default());
        // A new client each time, like a new process; only the data on disk is shared.
        let mirror = || {
            let client = counting(&hub);
            Mirror::new(client).mapping(Arc::clone(&mapping) as Arc<dyn Mapping>)
        };
        let job =
            || Job { platforms: only(&["linux/amd64"]), ..Job::new(hub.name("r:1"), target.name("r:1")) };
        for needed in [2, 0, 0] {
            let plan = mirror().plan(vec![job()]).await;
            assert_eq!(plan.pulls.iter().map(|pulls| pulls.needed).sum::<u64>(), needed);
            assert_eq!(hub.log.count("GET manifests"), 2);
        }
        // None is left, and none is needed.
        copy(&mirror(), job()).await.unwrap();
        assert_eq!(hub.log.count("GET manifests"), 2);
    });
}

#[test]
fn a_manifest_in_the_mapping_costs_no_pull() {
    run(async {
        let index = two_platforms();
        let (source, target) = pair(&index).await;
        let mapping = Arc::new(MemoryMapping::default());
        mapping.put(index.digest(), &only(&["linux/arm64"]), index.children[2].digest());
        let job =
            Job { platforms: only(&["linux/arm64"]), ..Job::new(source.name("r:1"), target.name("r:1")) };
        copy(&Mirror::new(client()).mapping(mapping), job).await.unwrap();
        assert_eq!(source.log.count("GET manifests"), 1);
    });
}

#[test]
fn images_are_put_to_ecr_no_faster_than_the_quota() {
    run(async {
        let (source, target) =
            (Fake::plain().await, Fake::start(Quirks { ecr: true, ..Quirks::default() }).await);
        let mut jobs = Vec::new();
        for number in 0..25 {
            source.store(|store| store.seed("s", &number.to_string(), &image(&format!("i{number}"), &[])));
            jobs.push(Job::new(source.name(&format!("s:{number}")), target.name(&format!("t:{number}"))));
        }
        target.store(|store| {
            store.repository("t");
        });
        // In addition, three in ten replies are throttled.
        let mut random = fastrand::Rng::with_seed(5);
        for skip in 0..25 {
            if random.u8(0..10) < 3 {
                target.on(Rule::new("PUT", "/manifests/", Fault::too_many(None)).skip(skip));
            }
        }
        let client = knowing(&target, ECR);
        for result in copy_all(&Mirror::new(client), jobs).await {
            result.unwrap();
        }
        assert_never_more_than_ten_images_a_second(&target);
    });
}

/// Images that share a layer, each in its own repository, while three in ten replies of both sides are a 429.
async fn throttled(target: &Fake, images: usize, mirror: &Mirror) -> (Fake, u64) {
    let source = Fake::start(Quirks { throttled: 30, ..Quirks::default() }).await;
    target.quirks(|quirks| quirks.throttled = 30);
    let mut jobs = Vec::new();
    for number in 0..images {
        let image = image(&format!("i{number}"), &[bytes("base", 40_000)]);
        source.store(|store| store.seed(&format!("s{number}"), "1", &image));
        target.store(|store| {
            store.repository(&format!("t{number}"));
        });
        jobs.push(Job::new(source.name(&format!("s{number}:1")), target.name(&format!("t{number}:1"))));
    }
    let results = copy_all(mirror, jobs).await;
    assert_eq!(target.broken_tag(), None);
    (source, results.into_iter().map(|result| result.unwrap().bytes).sum())
}

#[test]
fn with_three_in_ten_replies_429_everything_is_copied_once() {
    let images = if std::env::var_os("SOAK").is_some() { 25 } else { 4 };
    run(async {
        let cases = [(true, true), (true, false), (false, true), (false, false)];
        futures_util::future::join_all(cases.map(|(ecr, mounts)| three_in_ten(images, ecr, mounts))).await;
    });
}

async fn three_in_ten(images: usize, ecr: bool, mounts: bool) {
    let target = Fake::start(Quirks { ecr, mounts, ..Quirks::default() }).await;
    let client = knowing(&target, profile(ecr));
    let (source, sent) = throttled(&target, images, &Mirror::new(client)).await;
    let configurations: u64 = (0..images).map(|number| image(&format!("i{number}"), &[]).bytes()).sum();
    let layers = if mounts { 1 } else { images };
    assert_eq!(sent, configurations + 40_000 * layers as u64, "ecr {ecr}, mounts {mounts}");
    // A blob that the target refused is fetched again; nothing else is.
    let refused = target.log.answered("PUT uploads", 429);
    assert!(source.log.answered("GET blobs", 200) <= images + layers + refused, "ecr {ecr}, mounts {mounts}");
    if ecr {
        assert_never_more_than_ten_images_a_second(&target);
    }
}

/// By the server's clock, in every window of a second.
fn assert_never_more_than_ten_images_a_second(target: &Fake) {
    let seen = target.log.seen();
    let puts = seen.iter().filter(|seen| seen.method == "PUT" && seen.kind == "manifests");
    let puts: Vec<_> = puts.map(|seen| seen.at).collect();
    for first in &puts {
        let second = puts.iter().filter(|at| **at >= *first && **at < *first + Duration::from_secs(1));
        assert!(second.count() <= 10);
    }
}

#[test]
fn status_codes_of_proxies_are_retried_at_every_request() {
    run(async {
        let index = two_platforms();
        let signature = images::image_of(images::OCI_IMAGE, "s", &[bytes("s", 20)], Some(&index.manifest));
        let page = |status| reply(status, &[("content-type", "text/html")], "<html>error</html>");
        for status in [425, 429, 507, 520, 530] {
            for (at_target, method, path) in [
                (false, "GET", "/token"),
                (false, "HEAD", "/manifests/1"),
                (false, "GET", "/manifests/"),
                (false, "GET", "/blobs/"),
                (false, "GET", "/referrers/"),
                (true, "GET", "/token"),
                (true, "HEAD", "/manifests/sha256"),
                (true, "POST", "/uploads/"),
                (true, "PUT", "/uploads/"),
                (true, "PUT", "/manifests/sha256"),
                (true, "PUT", "/manifests/1"),
            ] {
                let quirks = Quirks { auth: Auth::Bearer(None), referrers: true, ..Quirks::default() };
                let (source, target) = (Fake::start(quirks.clone()).await, Fake::start(quirks).await);
                source.store(|store| {
                    store.seed("r", "1", &index);
                    store.seed_untagged("r", &signature);
                });
                let side = if at_target { &target } else { &source };
                side.on(Rule::new(method, path, page(status)));
                let job = Job { artifacts: true, ..Job::new(source.name("r:1"), target.name("r:1")) };
                let copied = copy(&Mirror::new(client()), job).await;
                let copied = copied.unwrap_or_else(|error| panic!("{status} at {method} {path}: {error}"));
                assert_eq!(
                    (copied.digest, side.log.fired()),
                    (index.digest(), 1),
                    "{status} at {method} {path}"
                );
                assert_eq!(copied.warnings, Vec::<String>::new(), "{status} at {method} {path}");
                assert!(target.store(|store| store.manifest("r", &signature.digest().to_string()).is_some()));
            }
        }
    });
}
