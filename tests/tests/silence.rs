//! Nobody has to wonder whether a run still lives: whatever the network, AWS and others do, no command is silent for more than five
//! seconds, and `doctor` ends within 15. The short form stops each run after a while; `SOAK=1` lets them come to their own ends.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::{BUCKET, Images, Run, World, built, command, skip};
use rustix::process::Signal;

/// The longest that a command may say nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a run is looked at in the short form: twice the silence that is allowed, and some.
const LOOK: Duration = Duration::from_secs(12);
/// Within which `doctor` ends.
const DOCTOR: Duration = Duration::from_secs(15);

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "docker.io/kedacore/keda:2.11.2"
"#;

/// A server on 127.0.0.1 that does with each connection what `answer` does; for as long as the tests run.
fn serve(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || answer(client));
        }
    });
    host
}

/// Reads a request's head; false at the end of the connection.
fn heard(client: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Gives each request this answer.
fn answering(answer: impl Into<String>) -> String {
    let answer = answer.into();
    serve(move |mut client| while heard(&mut client) && client.write_all(answer.as_bytes()).is_ok() {})
}

/// Takes connections and says nothing.
fn silent() -> String {
    serve(|mut client| {
        let _ = std::io::copy(&mut client, &mut std::io::sink());
    })
}

/// An address whose connections do not come about: nobody takes those that wait already.
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

/// A registry's answers, a byte every half second.
fn dripping() -> String {
    serve(|mut client| {
        if !heard(&mut client) {
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

/// What the network does, by its name, and how a command meets it.
struct Trouble {
    name: &'static str,
    /// Where docker.io is.
    url: String,
    variables: Vec<(&'static str, String)>,
}

fn troubles(kept: &mut Vec<(TcpListener, Vec<TcpStream>)>) -> Vec<Trouble> {
    let plain = |name, host: String| Trouble { name, url: format!("http://{host}"), variables: Vec::new() };
    let status =
        |line: &str, more: &str| answering(format!("HTTP/1.1 {line}\r\n{more}content-length: 0\r\n\r\n"));
    let token =
        format!("www-authenticate: Bearer realm=\"http://{}/token\",service=\"registry\"\r\n", silent());
    let cut = serve(|mut client| {
        if heard(&mut client) {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\
                        content-length: 1000\r\n\r\n{\"schemaVersion\"";
            let _ = client.write_all(head.as_bytes());
        }
    });
    vec![
        plain("a connection that does not come about", unanswered(kept)),
        plain("a server that says nothing", silent()),
        plain("a server that drips", dripping()),
        plain("a server that wants to be left alone", status("429 Too Many Requests", "retry-after: 30\r\n")),
        plain("a server that is not well", status("503 Service Unavailable", "")),
        plain("a body that ends early", cut),
        plain("a name that nobody knows", "registry.invalid:5000".to_owned()),
        Trouble {
            name: "no TLS where TLS should be",
            url: format!("https://{}", silent()),
            variables: Vec::new(),
        },
        Trouble {
            name: "a proxy that says nothing",
            url: "https://registry.example".to_owned(),
            variables: vec![("HTTPS_PROXY", format!("http://{}", silent()))],
        },
        plain("a token service that says nothing", status("401 Unauthorized", &token)),
    ]
}

/// The longest that a sleep of a moment takes here: this machine may be busy, and its commands with it.
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

/// What was seen of a run.
struct Seen {
    /// The longest silence, the last line before it, and how long all of it took.
    silence: Duration,
    before: String,
    took: Duration,
    text: String,
}

/// Runs it to its end, or in the short form until it was looked at for long enough.
fn watched(run: Run) -> Seen {
    let mut run = run.start();
    let started = Instant::now();
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
        (last, before) = (Instant::now(), line);
        if started.elapsed() > LOOK && !is_signalled {
            is_signalled = true;
            run.signal(Signal::INT);
        }
    }
    seen.took = started.elapsed();
    seen
}

#[test]
fn no_command_is_silent_for_more_than_five_seconds_whatever_the_network_does() {
    let Some(mut world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let mut kept = Vec::new();
    let troubles = troubles(&mut kept);
    let lag = Lag::watch();
    // A target that has nothing.
    let empty = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let mut runs = Vec::new();
    for Trouble { name, url, variables } in troubles {
        world.route("docker.io", url);
        for command in ["transfer-images --dry-run", "lock", "list-images", "doctor"] {
            let run = world.sourced().arg("--registry").arg(&empty).args(command);
            let run = variables.iter().fold(run, |run, (name, value)| run.env(name, value));
            // A cache of its own: what one has learned the others do not know.
            let target = world.path(&format!("target-{}", runs.len()));
            let run = run.env("CARGO_TARGET_DIR", target);
            runs.push((name, command, std::thread::spawn(move || watched(run))));
        }
    }
    judge(runs, lag);
}

type Watching = (&'static str, &'static str, std::thread::JoinHandle<Seen>);

/// Waits for the runs, and fails with what was too long of them; gives what was seen.
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

/// Keys of nobody's, so that nothing but AWS itself is asked.
fn with_keys(run: Run) -> Run {
    let run = run.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", "secret");
    run.env("AWS_EC2_METADATA_DISABLED", "true").env("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME", BUCKET)
}

/// What asks AWS first of all.
const OF_AWS: [&str; 5] =
    ["init-images --dry-run", "transfer-images --dry-run", "list-images", "status", "doctor"];

#[test]
fn no_command_is_silent_while_aws_does_not_answer() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let lag = Lag::watch();
    let (silent, dripping) = (silent(), dripping());
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

/// Makes the world's program one whose names are asked of a server that says nothing, which is given; says aloud where this
/// machine cannot do that.
fn without_names(world: &mut World) -> Option<UdpSocket> {
    // A resolver's port cannot be chosen, its address can.
    let address = format!("127.53.{}.{}", std::process::id() / 250 % 250, std::process::id() % 250 + 1);
    let Ok(server) = UdpSocket::bind((address.as_str(), 53)) else {
        skip("the right to listen at port 53");
        return None;
    };
    let resolver = world.write("resolv.conf", &format!("nameserver {address}\n"));
    let order = world.write("nsswitch.conf", "hosts: files dns\n");
    let mount = |from: &std::path::Path, to: &str| {
        format!("if [ -e {to} ]; then mount --bind {} {to}; fi", from.display())
    };
    let mounts = [mount(&resolver, "/etc/resolv.conf"), mount(&order, "/etc/nsswitch.conf")].join(" && ");
    let script = format!(
        "#!/bin/sh\nexec unshare --map-root-user --mount sh -c '{mounts} && exec \"$0\" \"$@\"' \"$@\"\n"
    );
    let script = world.write("without-names", &script);
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    if !command(&script).arg("true").status().is_ok_and(|status| status.success()) {
        skip("unshare with mounts of its own");
        return None;
    }
    let program = built().join("xtask").display().to_string();
    let run = format!("#!/bin/sh\nexec {} {program} \"$@\"\n", script.display());
    let run = world.write("xtask-without-names", &run);
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.run_program(run);
    Some(server)
}

#[test]
fn no_command_is_silent_while_a_name_is_looked_up_in_vain() {
    let Some(mut world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    world.route("docker.io", "http://registry.example:5000".to_owned());
    let Some(server) = without_names(&mut world) else { return };
    let lag = Lag::watch();
    let empty = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
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
fn whoever_is_waited_for_is_named_with_the_longest_that_it_can_take() {
    let Some(mut world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let silent = silent();
    world.route("docker.io", format!("http://{silent}"));
    let empty = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let mut run = world.sourced().arg("--registry").arg(&empty).args("transfer-images --dry-run").start();
    let host = silent.split(':').next().unwrap();
    let line = run.wait_for("waiting for ");
    assert!(line.contains(host) && line.contains("its reply") && line.contains("at most "), "{line}");
    run.signal(Signal::INT);
    run.end().failed(130, &["error: interrupted", "hint: nothing was changed"]);

    let busy = answering("HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n");
    world.route("docker.io", format!("http://{busy}"));
    let mut run = world.sourced().arg("--registry").arg(&empty).args("transfer-images --dry-run").start();
    let line = run.wait_for("waiting for docker.io: to try again (too many requests");
    assert!(line.contains("at most 2"), "{line}");
    run.signal(Signal::INT);
    run.end().failed(130, &["error: interrupted"]);
}
