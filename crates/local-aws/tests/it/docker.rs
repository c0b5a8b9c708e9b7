//! Docker's own clients and engine with the registry: login, push, pull, run, and the well-known refusal.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::common::programs::{command, find, text};
use crate::common::{Local, digest};
use serde_json::json;

/// Every docker client of this machine: an old one may be installed in addition to a new one.
fn clients() -> Vec<PathBuf> {
    let mut clients: Vec<PathBuf> = find("docker").into_iter().collect();
    let debian = PathBuf::from("/usr/bin/docker");
    if debian.is_file() && !clients.contains(&debian) {
        clients.push(debian);
    }
    clients
}

struct Docker {
    client: PathBuf,
    config: tempfile::TempDir,
    host: Option<String>,
}

impl Docker {
    fn run(&self, arguments: &[&str]) -> Output {
        self.input(arguments, "")
    }

    fn input(&self, arguments: &[&str], input: &str) -> Output {
        use std::io::Write as _;
        let config = self.config.path().to_str().unwrap();
        let mut environment = vec![("DOCKER_CONFIG", config)];
        environment.extend(self.host.as_deref().map(|host| ("DOCKER_HOST", host)));
        let mut child = command(&self.client, &environment)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A client that reads no input may have ended already.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    }

    /// Runs a command that must succeed and returns its output. Builds use no cache: docker's legacy builder fails if an image that
    /// it considers as a cache is removed at that moment by another test.
    fn works(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{} {arguments:?}: {}", self.client.display(), text(&output));
        text(&output)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_push_pull_and_run() {
    let clients = clients();
    let Some(busybox) = find("busybox") else { return };
    for client in clients {
        let docker =
            Docker { client, config: tempfile::tempdir().unwrap(), host: std::env::var("DOCKER_HOST").ok() };
        let engine = docker.run(&["version", "--format", "{{.Client.Version}} to {{.Server.Version}}"]);
        if !engine.status.success() {
            assert!(std::env::var_os("HTC_GRID_TEST_COMPLETE").is_none(), "no docker engine");
            crate::common::programs::say(&format!(
                "SKIPPED: this test needs a docker engine; the client says: {}",
                text(&engine)
            ));
            return;
        }
        crate::common::programs::say(&format!("docker {}", text(&engine).trim()));
        round_trip(&docker, &busybox).await;
    }
}

async fn round_trip(docker: &Docker, busybox: &Path) {
    let local = Local::start();
    let caller = local.caller();
    let host = local.server.registry_host();
    let data = caller.ecr("GetAuthorizationToken", json!({})).await;
    let token = data["authorizationData"][0]["authorizationToken"].as_str().unwrap();
    let pair = {
        use base64::Engine as _;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(token).unwrap()).unwrap()
    };
    let login = docker.input(
        &["login", "--username", "AWS", "--password-stdin", &host],
        pair.strip_prefix("AWS:").unwrap(),
    );
    assert!(login.status.success() && text(&login).contains("Login Succeeded"), "{}", text(&login));
    let wrong = docker.input(&["login", "--username", "AWS", "--password-stdin", &host], "nonsense");
    assert!(!wrong.status.success(), "{}", text(&wrong));
    let login = docker.input(
        &["login", "--username", "AWS", "--password-stdin", &host],
        pair.strip_prefix("AWS:").unwrap(),
    );
    assert!(login.status.success());

    let context = tempfile::tempdir().unwrap();
    std::fs::copy(busybox, context.path().join("busybox")).unwrap();
    // Unique bytes, so that they have to be transferred; more than one of docker's own chunks.
    let unique: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(3_000_000).collect();
    std::fs::write(context.path().join("unique"), &unique).unwrap();
    std::fs::write(
        context.path().join("Dockerfile"),
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY unique /unique\nENTRYPOINT [\"/bin/busybox\", \"sha256sum\", \"/unique\"]\n",
    )
    .unwrap();
    let (image, absent) = (format!("{host}/team/app:1"), format!("{host}/team/absent:1"));
    docker.works(&["build", "--quiet", "--no-cache", "--tag", &image, context.path().to_str().unwrap()]);
    docker.works(&["tag", &image, &absent]);

    let refused = docker.run(&["push", &absent]);
    assert!(!refused.status.success());
    let words = "name unknown: The repository with name 'team/absent' does not exist in the registry with id '123456789012'";
    assert!(text(&refused).contains(words), "{}", text(&refused));

    caller.repository("team/app").await;
    let pushed = docker.works(&["push", &image]);
    let described = caller.ecr("DescribeImages", json!({ "repositoryName": "team/app" })).await;
    let in_ecr = described["imageDetails"][0]["imageDigest"].as_str().unwrap();
    assert!(pushed.contains(in_ecr), "{pushed}");
    docker.works(&["rmi", "--force", &image, &absent]);

    let pulled = docker.works(&["pull", &image]);
    assert!(pulled.contains(in_ecr), "{pulled}");
    let ran = docker.works(&["run", "--rm", "--network=none", &image]);
    assert!(ran.contains(&digest(&unique)["sha256:".len()..]), "{ran}");

    caller
        .ecr(
            "PutImageTagMutability",
            json!({ "repositoryName": "team/app", "imageTagMutability": "IMMUTABLE" }),
        )
        .await;
    let immutable = docker.run(&["push", &image]);
    assert!(!immutable.status.success());
    let words = "tag invalid: The image tag '1' already exists in the 'team/app' repository and cannot be overwritten because the \
                 repository is immutable.";
    assert!(text(&immutable).contains(words), "{}", text(&immutable));
    docker.works(&["rmi", "--force", &image]);
    let log = local.local(reqwest::Method::GET, "log", None).await;
    let carried: Vec<_> =
        log.as_array().unwrap().iter().filter(|e| e["service"] == "layers" && e["status"] != 200).collect();
    assert!(carried.is_empty(), "no credentials at the layer bucket: {carried:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_through_the_cache() {
    let Some(registry_program) = find("docker-registry") else { return };
    let Some(busybox) = find("busybox") else { return };
    let Some(client) = clients().into_iter().next() else { return };
    let docker =
        Docker { client, config: tempfile::tempdir().unwrap(), host: std::env::var("DOCKER_HOST").ok() };
    let engine = docker.run(&["version"]);
    if !engine.status.success() {
        assert!(std::env::var_os("HTC_GRID_TEST_COMPLETE").is_none(), "no docker engine");
        crate::common::programs::say(&format!(
            "SKIPPED: this test needs a docker engine; the client says: {}",
            text(&engine)
        ));
        return;
    }
    let upstream = Upstream::start(&registry_program).await;
    let url = format!("http://{}/public.ecr.aws", upstream.host);
    let local = Local::with(|config| config.upstreams = vec![("public.ecr.aws".to_owned(), url)]);
    let caller = local.caller();
    let host = local.server.registry_host();

    let context = tempfile::tempdir().unwrap();
    std::fs::copy(busybox, context.path().join("busybox")).unwrap();
    std::fs::write(context.path().join("unique"), fastrand::u64(..).to_string()).unwrap();
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY unique /unique\nENTRYPOINT [\"/bin/busybox\", \"echo\", \"pulled through\"]\n";
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let there = format!("{}/public.ecr.aws/lambda/base:1", upstream.host);
    docker.works(&["build", "--quiet", "--no-cache", "--tag", &there, context.path().to_str().unwrap()]);
    docker.works(&["push", &there]);
    docker.works(&["rmi", "--force", &there]);

    let password = {
        use base64::Engine as _;
        let token = caller.registry().await.token;
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(token).unwrap()).unwrap()
    };
    let login = docker.input(
        &["login", "--username", "AWS", "--password-stdin", &host],
        password.strip_prefix("AWS:").unwrap(),
    );
    assert!(login.status.success(), "{}", text(&login));
    let here = format!("{host}/ecr-public/lambda/base:1");
    let refused = docker.run(&["pull", &here]);
    assert!(
        text(&refused).contains("The repository with name 'ecr-public/lambda/base' does not exist"),
        "{}",
        text(&refused)
    );
    let rule = json!({ "ecrRepositoryPrefix": "ecr-public", "upstreamRegistryUrl": "public.ecr.aws" });
    caller.ecr("CreatePullThroughCacheRule", rule).await;
    docker.works(&["pull", &here]);
    let ran = docker.works(&["run", "--rm", "--network=none", &here]);
    assert!(ran.contains("pulled through"), "{ran}");
    docker.works(&["rmi", "--force", &here]);
}

/// Debian's docker-registry: an independent registry.
struct Upstream {
    process: std::process::Child,
    host: String,
    _data: tempfile::TempDir,
}

impl Upstream {
    async fn start(program: &Path) -> Self {
        let data = tempfile::tempdir().unwrap();
        // The program does not accept port 0: a free port is found first, and another one if it was taken meanwhile.
        for _ in 0..10 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let configuration = data.path().join("config.yml");
            let text = format!(
                "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {}/registry }} }}\nhttp: {{ addr: \"{free}\" }}\n",
                data.path().display()
            );
            std::fs::write(&configuration, text).unwrap();
            let mut process = command(program, &[])
                .arg("serve")
                .arg(&configuration)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let url = format!("http://{free}/v2/");
            while process.try_wait().unwrap().is_none() {
                if crate::common::client().get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
                    return Self { process, host: free.to_string(), _data: data };
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        panic!("docker-registry does not start");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
