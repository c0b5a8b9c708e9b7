//! Shared code of the tests: registries in this process, small images, clients with short retries.

mod ecr;
pub mod fake;
pub mod faults;
pub mod images;
pub mod log;
pub mod odd;
mod protocol;
mod spoil;
pub mod store;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry::mirror::{Check, Checked, Copied, Job, Mirror, Plan, Platforms};
use registry::{
    BoxError, BoxFuture, Builder, Client, Credential, Credentials, Digest, Error, Profile, Reference,
    RetryPolicy, Route, Server, Timeouts,
};

pub use ecr::ECR;
pub use fake::{Auth, Fake, Quirks};
pub use faults::Fault;
pub use images::TestImage;

/// A builder with pauses of milliseconds.
pub fn builder() -> Builder {
    Client::builder()
        .retry(RetryPolicy {
            attempts: 6,
            base: Duration::from_millis(8),
            max_pause: Duration::from_millis(200),
            max_wait: Duration::from_secs(5),
            give_up_after: Duration::from_secs(10),
        })
        .timeouts(Timeouts {
            connect: Duration::from_secs(2),
            reply: Duration::from_millis(1_500),
            idle: Duration::from_millis(400),
            news: Duration::from_millis(300),
        })
}

pub fn client() -> Client {
    builder().build().unwrap()
}

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A client that has this profile for `fake`, and none for other registries.
pub fn knowing(fake: &Fake, profile: Profile) -> Client {
    let own = fake.host();
    builder().profiles(move |host| (host == own).then_some(profile)).build().unwrap()
}

/// A client for which `hub` counts pulls like Docker Hub.
pub fn counting(hub: &Fake) -> Client {
    builder().route(&hub.host(), Route::default().counts_pulls()).build().unwrap()
}

/// The profile of ECR, or of any other registry.
pub fn profile(ecr: bool) -> Profile {
    if ecr { ECR } else { Profile::default() }
}

pub fn only(platforms: &[&str]) -> Platforms {
    Platforms::Only(platforms.iter().map(|platform| platform.parse().unwrap()).collect())
}

/// A source with the image as `r:1`, and an empty target.
pub async fn pair(image: &TestImage) -> (Fake, Fake) {
    let (source, target) = (Fake::plain().await, Fake::plain().await);
    source.store(|store| store.seed("r", "1", image));
    (source, target)
}

/// Copies `r:1`, and returns its digest at the target.
pub async fn copied(source: &Fake, target: &Fake) -> Result<Digest, Error> {
    let job = Job::new(source.name("r:1"), target.name("r:1"));
    copy(&Mirror::new(client()), job).await.map(|copied| copied.digest)
}

pub fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fault {
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Fault::Reply { status, headers, body: body.to_owned() }
}

/// An ECR with these repositories, and a mirror that knows which quotas apply there.
pub async fn ecr(repositories: &[&str], quirks: Quirks) -> (Fake, Mirror) {
    let fake = Fake::start(Quirks { ecr: true, ..quirks }).await;
    fake.store(|store| {
        for name in repositories {
            store.repository(name);
        }
    });
    let client = knowing(&fake, ECR);
    (fake, Mirror::new(client))
}

pub async fn source(image: &TestImage) -> Fake {
    let fake = Fake::plain().await;
    fake.store(|store| store.seed("r", "1", image));
    fake
}

pub fn small() -> TestImage {
    images::image("small", &[images::bytes("layer", 70_000)])
}

/// A redirect.
pub fn location(status: u16, to: &str) -> Fault {
    Fault::Reply { status, headers: vec![("location", to.to_owned())], body: String::new() }
}

/// Plans and applies one job.
pub async fn copy(mirror: &Mirror, job: Job) -> Result<Copied, Error> {
    copy_all(mirror, vec![job]).await.remove(0)
}

/// Plans and applies jobs.
pub async fn copy_all(mirror: &Mirror, jobs: Vec<Job>) -> Vec<Result<Copied, Error>> {
    let plan: Plan = mirror.plan(jobs).await;
    mirror.apply(&plan).await.into_iter().map(|outcome| outcome.result).collect()
}

/// Reads `target` back: everything of `digest` exists.
pub async fn whole(mirror: &Mirror, target: &Reference, digest: Digest) -> Checked {
    let checked = Check::new(mirror, false).image(0, target, digest).await.unwrap();
    assert_eq!(checked.differences, [], "{target}");
    checked
}

/// One password after the other, counted.
#[derive(Clone)]
pub struct Passwords {
    pub current: Arc<Mutex<String>>,
    pub asked: Arc<AtomicUsize>,
}

impl Passwords {
    pub fn new(password: &str) -> Self {
        Self { current: Arc::new(Mutex::new(password.to_owned())), asked: Arc::default() }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Credentials for Passwords {
    fn get<'a>(
        &'a self,
        _server: &'a Server,
        _stale: Option<&'a Credential>,
    ) -> BoxFuture<'a, Result<Option<Credential>, BoxError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let password = self.current.lock().unwrap().clone();
        // Slow, so that others arrive while it is in progress.
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Ok(Some(Credential::Basic { username: "AWS".to_owned(), password }))
        })
    }
}

/// Runs a test on a runtime like the binary's, and ends it if it hangs.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(120), test).await.expect("the test hangs");
    });
}
