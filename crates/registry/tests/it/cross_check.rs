//! With an independent registry: Debian's docker-registry. If it is not installed the tests report it; their prefix (`cross_check`)
//! is for counting them.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use registry::mirror::{Job, Mirror, Platforms};

use crate::support::images::{self, bytes};
use crate::support::{Fake, client, copy, copy_all, reference, run, whole};

/// A separate docker-registry, which ends with the test.
struct DockerRegistry {
    child: Child,
    host: String,
    directory: tempfile::TempDir,
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join("docker-registry"))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("HTC_GRID_TEST_COMPLETE").is_none(), "docker-registry is missing");
        println!("SKIPPED: docker-registry is not installed (Debian: apt install docker-registry)");
    }
    found
}

impl DockerRegistry {
    async fn start(program: &Path) -> Self {
        // The program cannot choose a port and report it. Another program may take the port meanwhile, so there are a few tries.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(registry) = Self::try_start(program, port).await {
                return registry;
            }
        }
        panic!("docker-registry does not start");
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own server; the crate starts nothing")]
    async fn try_start(program: &Path, port: u16) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            directory.path().join("data").display()
        );
        std::fs::File::create(&config).unwrap().write_all(text.as_bytes()).unwrap();
        let child = Command::new(program)
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Self { child, host: format!("127.0.0.1:{port}"), directory };
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until && registry.child.try_wait().unwrap().is_none() {
            if tokio::net::TcpStream::connect(&registry.host).await.is_ok() {
                return Some(registry);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    fn name(&self, name: &str) -> registry::Reference {
        reference(&format!("{}/{name}", self.host))
    }

    /// The blobs on the registry's disk, by digest.
    fn stored_blobs(&self) -> usize {
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs/sha256");
        std::fs::read_dir(blobs)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| std::fs::read_dir(entry.path()).ok())
            .map(Iterator::count)
            .sum()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn cross_check_images_and_indexes_are_complete() {
    let Some(program) = program() else { return };
    run(async {
        let (source, target) = (DockerRegistry::start(&program).await, DockerRegistry::start(&program).await);
        let fake = Fake::plain().await;
        let index = images::index(&[
            (Some("linux/amd64"), images::image("a", &[bytes("la", 700_000), bytes("common", 90_000)])),
            (Some("linux/arm64"), images::image("b", &[bytes("lb", 5), bytes("common", 90_000)])),
        ]);
        fake.store(|store| store.seed("r", "1", &index));
        let mirror = Mirror::new(client());
        // Into it, from one to the other, and again with nothing to do.
        copy(&mirror, Job::new(fake.name("r:1"), source.name("team/r:1"))).await.unwrap();
        let copied = copy(&mirror, Job::new(source.name("team/r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!((copied.digest, copied.sent), (index.digest(), 5));
        whole(&mirror, &target.name("r:1"), index.digest()).await;
        assert!(
            copy(&mirror, Job::new(source.name("team/r:1"), target.name("r:1")))
                .await
                .unwrap()
                .was_up_to_date
        );
        assert_eq!(target.stored_blobs(), 5 + 3, "blobs and manifests");
        // One platform, and a tag that has moved.
        let only = Platforms::Only(vec!["linux/arm64".parse().unwrap()]);
        let job = Job { platforms: only, ..Job::new(source.name("team/r:1"), target.name("one:1")) };
        let copied = copy(&mirror, job).await.unwrap();
        assert_eq!(copied.digest, index.children[1].digest());
        mirror.client().retag(&target.name("one:1"), "2").await.unwrap();
        let mut tags = registry::lists::tags(mirror.client(), &target.name("one")).await.unwrap();
        tags.sort();
        assert_eq!(tags, ["1", "2"]);
    });
}

#[test]
fn cross_check_shared_layers_are_mounted_and_present_ones_skipped() {
    let Some(program) = program() else { return };
    run(async {
        let target = DockerRegistry::start(&program).await;
        let fake = Fake::plain().await;
        let mut jobs = Vec::new();
        for number in 0..6 {
            let image = images::image(&format!("i{number}"), &[bytes("base", 300_000)]);
            fake.store(|store| store.seed(&format!("s{number}"), "1", &image));
            jobs.push(Job::new(fake.name(&format!("s{number}:1")), target.name(&format!("t{number}:1"))));
        }
        let results = copy_all(&Mirror::new(client()), jobs).await;
        let mounted: usize = results.iter().map(|result| result.as_ref().unwrap().mounted).sum();
        assert_eq!((mounted, fake.log.count("GET blobs")), (5, 7));
        // Another tag of the same image: all blobs exist, which one POST each shows.
        fake.log.forget();
        let copied =
            copy(&Mirror::new(client()), Job::new(fake.name("s0:1"), target.name("t0:2"))).await.unwrap();
        assert_eq!((copied.skipped, fake.log.count("GET blobs")), (2, 0));
    });
}

#[test]
fn cross_check_wrong_bytes_are_refused_by_the_target_too() {
    let Some(program) = program() else { return };
    run(async {
        let target = DockerRegistry::start(&program).await;
        let image = images::image("a", &[bytes("l", 1_000)]);
        // A manifest without its blobs.
        let error = client().put_manifest(&target.name("r:1"), &image.manifest).await.unwrap_err();
        assert!(matches!(error.kind(), registry::ErrorKind::PartUnknown { .. }), "{error}");
        assert_eq!(client().head(&target.name("r:1")).await.unwrap(), None);
    });
}
