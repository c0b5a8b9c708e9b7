//! A run always shows that it is alive: whatever the network, AWS and other runs do, no command prints nothing for more than five
//! seconds, and `doctor` ends within 15. The short form stops each run after a while; `SOAK=1` runs them to the end.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use e2e::faulty_servers::{answering_status, read_head, serve, silent_server, without_names};
use e2e::{BUCKET, DebianRegistry, Gate, INIT, Images, Run, STATE, World};
use rustix::process::Signal;
use serde_json::json;

/// The longest time that a command may print nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a run is observed in the short form: twice the allowed silence, and a bit more.
const LOOK: Duration = Duration::from_secs(12);
/// Time limit of `doctor`.
const DOCTOR: Duration = Duration::from_secs(15);

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "docker.io/kedacore/keda:2.11.2"
"#;

/// An address that never accepts a connection: its queue is full.
fn unanswered(kept: &mut Vec<(TcpListener, Vec<TcpStream>)>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(client) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(client);
    }
    kept.push((listener, waiting));
    address.to_string()
}

/// A registry's answers, one byte every half second.
fn dripping() -> String {
    serve(|mut client| {
        if !read_head(&mut client) {
            return;
        }
        for byte in b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
            .iter()
            .chain([b' '; 1000].iter())
        {
            if client.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    })
}

const ONE: &str = "schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n";

/// A fault of the network, by its name, and how a command meets it.
struct Trouble {
    name: &'static str,
    /// The address of docker.io.
    url: String,
    variables: Vec<(&'static str, String)>,
}

fn troubles(kept: &mut Vec<(TcpListener, Vec<TcpStream>)>) -> Vec<Trouble> {
    let plain = |name, host: String| Trouble { name, url: format!("http://{host}"), variables: Vec::new() };
    let token = format!(
        "www-authenticate: Bearer realm=\"http://{}/token\",service=\"registry\"\r\n",
        silent_server()
    );
    let cut = serve(|mut client| {
        if read_head(&mut client) {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\
                        content-length: 1000\r\n\r\n{\"schemaVersion\"";
            let _ = client.write_all(head.as_bytes());
        }
    });
    vec![
        plain("a connection that does not come about", unanswered(kept)),
        plain("a server that says nothing", silent_server()),
        plain("a server that drips", dripping()),
        plain(
            "a server that wants to be left alone",
            answering_status("429 Too Many Requests", "retry-after: 30\r\n"),
        ),
        plain("a server that is not well", answering_status("503 Service Unavailable", "")),
        plain("a body that ends early", cut),
        plain("a name that nobody knows", "registry.invalid:5000".to_owned()),
        Trouble {
            name: "no TLS where TLS should be",
            url: format!("https://{}", silent_server()),
            variables: Vec::new(),
        },
        Trouble {
            name: "a proxy that says nothing",
            url: "https://registry.example".to_owned(),
            variables: vec![("HTTPS_PROXY", format!("http://{}", silent_server()))],
        },
        plain("a token service that says nothing", answering_status("401 Unauthorized", &token)),
    ]
}

/// The longest duration of a short sleep here: this machine may be busy, and its commands too.
struct Lag {
    longest: Arc<Mutex<Duration>>,
    over: Arc<AtomicBool>,
}

impl Lag {
    fn watch() -> Self {
        let (longest, over) = (Arc::<Mutex<Duration>>::default(), Arc::<AtomicBool>::default());
        let (seen, ended) = (Arc::clone(&longest), Arc::clone(&over));
        std::thread::spawn(move || {
            let moment = Duration::from_millis(10);
            while !ended.load(Ordering::SeqCst) {
                let began = Instant::now();
                std::thread::sleep(moment);
                let late = began.elapsed().saturating_sub(moment);
                let mut longest = seen.lock().unwrap();
                *longest = late.max(*longest);
            }
        });
        Self { longest, over }
    }

    fn end(self) -> Duration {
        self.over.store(true, Ordering::SeqCst);
        *self.longest.lock().unwrap()
    }
}

/// The observation of a run.
struct Seen {
    /// The longest silence, the last line before it, and the total duration.
    silence: Duration,
    before: String,
    took: Duration,
    text: String,
}

/// Runs it to its end, or in the short form until it was observed for long enough.
fn watched(run: Run) -> Seen {
    watched_from(run, "")
}

/// The same, observed from the first line on that contains this text.
fn watched_from(run: Run, words: &str) -> Seen {
    let mut run = run.start();
    let started = Instant::now();
    let mut looked_at = None;
    let (mut last, mut before) = (started, "its start".to_owned());
    let mut seen =
        Seen { silence: Duration::ZERO, before: before.clone(), took: Duration::ZERO, text: String::new() };
    let mut is_signalled = std::env::var_os("SOAK").is_some();
    loop {
        let line = run.next_line();
        let silence = last.elapsed();
        if silence > seen.silence {
            (seen.silence, seen.before) = (silence, before);
        }
        let Some(line) = line else { break };
        seen.text += &format!("{:>5.1}  {line}\n", started.elapsed().as_secs_f64());
        if looked_at.is_none() && line.contains(words) {
            looked_at = Some(Instant::now());
        }
        (last, before) = (Instant::now(), line);
        if looked_at.is_some_and(|since| since.elapsed() > LOOK) && !is_signalled {
            is_signalled = true;
            run.signal(Signal::INT);
        }
    }
    seen.took = started.elapsed();
    seen
}

#[test]
fn no_command_is_silent_for_more_than_five_seconds_whatever_the_network_does() {
    let _alone = alone();
    let Some(mut world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let mut kept = Vec::new();
    let troubles = troubles(&mut kept);
    let lag = Lag::watch();
    // An empty target.
    let empty = answering_status("404 Not Found", "");
    let mut runs = Vec::new();
    for Trouble { name, url, variables } in troubles {
        world.sources.route("docker.io", url);
        for command in ["transfer-images --dry-run", "lock", "list-images", "doctor"] {
            let run = world.sourced().arg("--registry").arg(&empty).args(command);
            let run = variables.iter().fold(run, |run, (name, value)| run.env(name, value));
            // Its own cache: the results of one run are not known to the others.
            let target = world.path(&format!("target-{}", runs.len()));
            let run = run.env("CARGO_TARGET_DIR", target);
            runs.push((name, command, std::thread::spawn(move || watched(run))));
        }
    }
    judge(runs, lag);
}

/// Each test starts many programs: two tests at the same time would delay each other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

type Watching = (&'static str, &'static str, std::thread::JoinHandle<Seen>);

/// Waits for the runs, and fails with those that were silent for too long; returns the observations.
#[track_caller]
fn judge(runs: Vec<Watching>, lag: Lag) -> Vec<Seen> {
    let seen: Vec<_> =
        runs.into_iter().map(|(name, command, run)| (name, command, run.join().unwrap())).collect();
    let lag = lag.end();
    let mut wrong = String::new();
    for (name, command, Seen { silence, before, took, text }) in &seen {
        if *silence > SILENCE + lag {
            wrong += &format!("{name}: {command} was silent for {silence:.1?} after {before:?}:\n{text}\n");
        }
        if *command == "doctor" && *took > DOCTOR + lag {
            wrong += &format!("{name}: doctor took {took:.1?}:\n{text}\n");
        }
    }
    assert!(wrong.is_empty(), "a sleep of a moment took {lag:.1?} longer than it should; {wrong}");
    seen.into_iter().map(|(_, _, seen)| seen).collect()
}

/// Keys of no user, so that only AWS itself is called.
fn with_keys(run: Run) -> Run {
    let run = run.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", "secret");
    run.env("AWS_EC2_METADATA_DISABLED", "true").env("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME", BUCKET)
}

/// Commands that call AWS first.
const OF_AWS: [&str; 5] =
    ["init-images --dry-run", "transfer-images --dry-run", "list-images", "status", "doctor"];

#[test]
fn no_command_is_silent_while_aws_does_not_answer() {
    let _alone = alone();
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let lag = Lag::watch();
    let (silent, dripping) = (silent_server(), dripping());
    let mut runs = Vec::new();
    for (name, service, host) in [
        ("STS that says nothing", "AWS_ENDPOINT_URL_STS", &silent),
        ("STS that drips", "AWS_ENDPOINT_URL_STS", &dripping),
        ("AWS that says nothing", "AWS_ENDPOINT_URL", &silent),
    ] {
        for command in OF_AWS {
            let run = with_keys(world.sourced().args(command)).env(service, format!("http://{host}"));
            runs.push((name, command, std::thread::spawn(move || watched(run))));
        }
    }
    for seen in judge(runs, lag) {
        assert!(seen.text.contains("waiting for 127.0.0.1: its reply"), "nobody is named:\n{}", seen.text);
        // A signal ends the wait.
        let is_cut = std::env::var_os("SOAK").is_none();
        assert!(!is_cut || seen.took < 2 * LOOK, "it went on for {:?}:\n{}", seen.took, seen.text);
    }
}

#[test]
fn no_command_is_silent_during_a_failing_name_lookup() {
    let _alone = alone();
    let Some(mut world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    world.sources.route("docker.io", "http://registry.example:5000".to_owned());
    let Some(server) = without_names(&mut world) else { return };
    let lag = Lag::watch();
    let empty = answering_status("404 Not Found", "");
    let mut runs = Vec::new();
    let mut watch = |command, run| {
        runs.push(("a name server that says nothing", command, std::thread::spawn(move || watched(run))));
    };
    for command in ["transfer-images --dry-run", "lock", "list-images", "doctor"] {
        watch(command, world.sourced().arg("--registry").arg(&empty).args(command));
    }
    for command in OF_AWS {
        watch(command, with_keys(world.sourced().args(command)));
    }
    judge(runs, lag);
    server.set_nonblocking(true).unwrap();
    assert!(server.recv(&mut [0; 512]).is_ok(), "no name was asked for");
}

#[test]
fn a_stalled_copy_is_reported_with_its_progress() {
    let _alone = alone();
    let (Some(mut world), Some(target)) = (World::new(Images::Small), DebianRegistry::start()) else {
        return;
    };
    world.write("images.toml", ONE);
    let is_blob = |line: &str| line.starts_with("GET") && line.contains("/blobs/");
    let source = Gate::before(&world.sources.host, is_blob);
    let end = Gate::before(target.host(), |line| !line.starts_with("GET") && line.contains("/uploads/"));
    let real = format!("http://{}/docker.io", world.sources.host);
    let lag = Lag::watch();
    let stands = [
        ("a source that stands still", format!("http://{}/docker.io", source.host()), target.host()),
        ("a target that stands still", real, end.host()),
    ];
    let runs = stands.map(|(name, url, target)| {
        world.sources.route("docker.io", url);
        let run = world.sourced().arg("--registry").arg(target).args("transfer-images --auto-approve");
        let run = run.env("CARGO_TARGET_DIR", world.path(name));
        (name, "transfer-images", std::thread::spawn(move || watched_from(run, "0 of 1 image, ")))
    });
    for seen in judge(runs.into(), lag) {
        let told = |line: &&str| line.contains("0 of 1 image, ") && line.contains(" of 39.4 KiB");
        assert!(seen.text.lines().filter(told).count() >= 2, "how far it is is not said:\n{}", seen.text);
    }
}

/// The holder that the runs below wait for.
const WHO: &str = "ada on laptop (process 7)";

#[test]
fn no_command_is_silent_while_another_run_holds_the_lease() {
    let _alone = alone();
    let Some(world) = World::grid(ONE) else { return };
    world.xtask(INIT).ok();
    world.xtask("auto-transfer-images").ok();
    // Something to copy, and something to prune.
    world.write(
        "images.toml",
        "schema_version = 1\n[images]\n\"another/curl\" = \"curlimages/curl:7.85.0\"\n",
    );
    let lease = json!({
        "who": WHO, "grid": "mainline", "since": "2026-11-22T10:00:00Z", "expires": "2999-01-01T00:00:00Z",
    });
    let key = format!("{STATE}.transfer.lock");
    world.aws().s3.put(BUCKET, &key, lease.to_string().as_bytes());
    let lag = Lag::watch();
    let commands = ["transfer-images --auto-approve", "watch", "prune --yes", "auto-destroy-images"];
    let runs = commands.map(|command| {
        let run = world.xtask(command).args("--lock-timeout 60");
        let run = std::thread::spawn(move || watched_from(run, &format!("for {WHO}")));
        ("a lease that somebody else holds", command, run)
    });
    for seen in judge(runs.into(), lag) {
        says_for_whom(&seen, &format!("waiting for {WHO}: its lease, "));
    }
    // It is still held by the other user.
    assert_eq!(world.aws().s3.get(BUCKET, &key).unwrap(), lease.to_string().as_bytes());

    // Terraform's own lock, for which terraform waits.
    let lock = json!({
        "ID": "11111111-2222-3333-4444-555555555555", "Operation": "OperationTypePlan", "Info": "", "Who": "ada@laptop",
        "Version": "1.11.4", "Created": "2026-11-22T10:00:00.123456Z", "Path": format!("{BUCKET}/{STATE}"),
    });
    world.aws().s3.put(BUCKET, &format!("{STATE}.tflock"), lock.to_string().as_bytes());
    let lag = Lag::watch();
    let command = "transfer-images --auto-approve";
    let run = world.xtask(command).args("--lock-timeout 40");
    let run = std::thread::spawn(move || watched_from(run, "waiting for ada@laptop"));
    for seen in judge(vec![("a state that somebody else has locked", command, run)], lag) {
        says_for_whom(&seen, "waiting for ada@laptop: its lock on the terraform state, ");
    }
}

/// The holder is reported repeatedly, each time with the longest remaining time.
#[track_caller]
fn says_for_whom(seen: &Seen, words: &str) {
    let told: Vec<&str> = seen.text.lines().filter(|line| line.contains(words)).collect();
    let is_bounded = |line: &&str| line.contains(" s, at most ") && line.ends_with(" s more");
    assert!(told.len() >= 2 && told.iter().all(is_bounded), "{words:?} is not said:\n{}", seen.text);
}

#[test]
fn every_wait_is_reported_with_its_cause_and_longest_time() {
    let _alone = alone();
    let Some(mut world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let silent = silent_server();
    world.sources.route("docker.io", format!("http://{silent}"));
    let empty = answering_status("404 Not Found", "");
    let mut run = world.sourced().arg("--registry").arg(&empty).args("transfer-images --dry-run").start();
    let host = silent.split(':').next().unwrap();
    let line = run.wait_for("waiting for ");
    assert!(line.contains(host) && line.contains("its reply") && line.contains("at most "), "{line}");
    run.signal(Signal::INT);
    run.end().failed(130, &["error: interrupted", "hint: nothing was changed"]);

    let busy = answering_status("429 Too Many Requests", "retry-after: 30\r\n");
    world.sources.route("docker.io", format!("http://{busy}"));
    let mut run = world.sourced().arg("--registry").arg(&empty).args("transfer-images --dry-run").start();
    let line = run.wait_for("waiting for docker.io: to try again (too many requests");
    assert!(line.contains("at most 2"), "{line}");
    run.signal(Signal::INT);
    run.end().failed(130, &["error: interrupted"]);
}
