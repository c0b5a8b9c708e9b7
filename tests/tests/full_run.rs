//! The whole job with the whole default file, read back by independent clients.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use e2e::{
    Builder, Container, Ended, Engine, Images, LocalBuilds, Run, World, aws_cli, command, digest, docker,
    get, programs, read, request, text,
};
use sample_upstreams::MIRRORED;
use serde_json::Value;

const RUNTIMES: [&str; 15] = [
    "provided",
    "python3.8",
    "dotnet5.0",
    "java17",
    "provided.al2023",
    "python3.12",
    "python3.13",
    "java21",
    "dotnet8",
    "nodejs22",
    "python3.14",
    "java25",
    "nodejs24",
    "dotnet10",
    "java17.al2023",
];

#[test]
fn the_demo_copies_everything_and_a_second_run_has_nothing_to_do() {
    if !programs(&["terraform", "skopeo"]) || aws_cli().is_none() || !docker() {
        return;
    }
    let Some(mut world) = World::new(Images::Full) else { return };
    // The demo serves the samples itself; they are already built.
    world.sources.store.copy_to(&world.path("local/sample-upstreams")).unwrap();
    let calls = recorded_docker(&world);

    let first = demo(&world).ok();
    let listed = table(&first);
    // The location of the project is not important.
    let project = e2e::root().display().to_string();
    assert!(!first.stdout.contains(&project) && !first.stderr.contains(&project), "{first}");
    let samples: Value =
        serde_json::from_slice(&std::fs::read(world.path("local/sample-upstreams/server.json")).unwrap())
            .unwrap();
    let samples = format!("127.0.0.1:{}", samples["port"]);
    for host in ["docker.io", "ghcr.io", "public.ecr.aws", "quay.io", "registry.k8s.io"] {
        world.sources.route(host, format!("http://{samples}/{host}"));
    }

    the_mirrored_images_are_the_sources_own(&world, &samples, &listed);
    the_aws_cli_agrees(&world, &listed);
    the_runtimes_keep_the_contract(&world);
    again(&world, &samples, &calls);

    // The last command that it printed ends everything that it started.
    let dir = world.path("local").display().to_string();
    for line in ["local env", "transfer-images --local", "local down"] {
        assert!(first.stderr.contains(&format!("cargo xtask {line} --local-dir {dir}")), "{line}: {first}");
    }
    let down = world.bare().args("local down --local-dir").arg(&dir).ok();
    assert!(down.stderr.contains("emulated AWS") && down.stderr.contains("sample upstreams"), "{down}");
    let status = world.bare().args("local status --format json --local-dir").arg(&dir).ok().json();
    for server in [&status, &status["samples"], &status["engine"]] {
        assert_eq!(server["running"], false, "{status}");
    }
    assert!(!world.path("local/setup.json").exists());
}

fn demo(world: &World) -> Run {
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    world.bare().args("demo --yes --sample-upstreams --local-dir").arg(world.path("local")).env("PATH", path)
}

/// A docker client that records its arguments and then calls the real one.
fn recorded_docker(world: &World) -> std::path::PathBuf {
    std::fs::create_dir(world.path("bin")).unwrap();
    let (calls, real) = (world.path("docker-calls"), e2e::program("docker").unwrap());
    let script =
        format!("#!/bin/sh\necho \"$*\" >>'{}'\nexec '{}' \"$@\"\n", calls.display(), real.display());
    let client = world.write("bin/docker", &script);
    std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
    calls
}

/// `repository:tag` and digest of every image in the table of `list-images`.
fn table(run: &Ended) -> BTreeMap<String, String> {
    let mut listed = BTreeMap::new();
    for line in run.stdout.lines().filter(|line| line.starts_with("127.0.0.1:") && line.contains("sha256:")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, repository) = words[0].split_once('/').unwrap();
        listed.insert(format!("{repository}:{}", words[1]), (*words.last().unwrap()).to_owned());
    }
    for image in MIRRORED {
        let name = target(&image);
        assert!(listed.contains_key(&name), "{name} is not in\n{run}");
    }
    for runtime in RUNTIMES {
        assert!(listed.contains_key(&format!("lambda:{runtime}")), "{runtime} is not in\n{run}");
    }
    listed
}

/// The repository of a mirrored image in images.toml.
fn target(image: &sample_upstreams::Image) -> String {
    let repository = match image.repository() {
        "curlimages/curl" => "curl",
        "grafana/grafana" => "grafana",
        other => other,
    };
    format!("{repository}:{}", image.tag())
}

fn skopeo(image: &str, login: Option<(&str, &str)>) -> Vec<u8> {
    let mut skopeo = command("skopeo");
    skopeo.args(["inspect", "--raw", "--tls-verify=false"]);
    match login {
        Some((user, password)) => skopeo.arg("--creds").arg(format!("{user}:{password}")),
        None => skopeo.arg("--no-creds"),
    };
    read(skopeo.arg(format!("docker://{image}")))
}

fn the_mirrored_images_are_the_sources_own(world: &World, samples: &str, listed: &BTreeMap<String, String>) {
    let (user, password) = world.aws().login();
    for image in MIRRORED {
        let (name, repository) =
            (target(&image), format!("{samples}/{}/{}", image.registry(), image.repository()));
        let mirrored = skopeo(&format!("{}/{name}", world.aws().host), Some((&user, &password)));
        assert_eq!(digest(&mirrored), listed[&name], "{name}");

        let index: Value =
            serde_json::from_slice(&skopeo(&format!("{repository}:{}", image.tag()), None)).unwrap();
        let amd64 = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|child| child["platform"]["architecture"] == "amd64");
        let amd64 = amd64.unwrap()["digest"].as_str().unwrap();
        assert_eq!(listed[&name], amd64, "{name}");
        assert_eq!(mirrored, skopeo(&format!("{repository}@{amd64}"), None), "{name}");
    }
    // Everything that the tags refer to exists, byte for byte.
    let whole: BTreeMap<String, String> = world.aws().whole_tags().into_iter().collect();
    for (name, digest) in listed {
        assert_eq!(whole.get(name), Some(digest), "{name}");
    }
}

fn the_aws_cli_agrees(world: &World, listed: &BTreeMap<String, String>) {
    let aws = world.aws();
    let answer: Value = serde_json::from_slice(&read(&mut aws.cli("ecr describe-repositories"))).unwrap();
    let repositories = answer["repositories"].as_array().unwrap();
    for name in [
        "awshpc",
        "awshpc-lambda",
        "awshpc-local",
        "lambda",
        "lambda-init",
        "submitter",
        "curl",
        "grafana",
        "kedacore/keda",
        "kedacore/keda-metrics-apiserver",
        "kedacore/keda-admission-webhooks",
    ] {
        let repository = repositories.iter().find(|repository| repository["repositoryName"] == name);
        let repository = repository.unwrap_or_else(|| panic!("no repository {name}"));
        assert_eq!(repository["encryptionConfiguration"]["encryptionType"], "KMS", "{name}");
        assert_eq!(repository["imageScanningConfiguration"]["scanOnPush"], true, "{name}");
    }
    let aliases: Value = serde_json::from_slice(&read(&mut aws.cli("kms list-aliases"))).unwrap();
    let aliases = aliases["Aliases"].as_array().unwrap();
    assert!(aliases.iter().any(|alias| alias["AliasName"] == "alias/ecr/mainline-htc"), "{aliases:?}");
    let rules: Value =
        serde_json::from_slice(&read(&mut aws.cli("ecr describe-pull-through-cache-rules"))).unwrap();
    let mut rules: Vec<_> = rules["pullThroughCacheRules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["ecrRepositoryPrefix"].as_str().unwrap())
        .collect();
    rules.sort_unstable();
    assert_eq!(rules, ["ecr-public", "quay", "registry-k8s-io"]);
    let mut images: BTreeMap<&str, Value> = BTreeMap::new();
    for (name, digest) in listed {
        let (repository, tag) = name.rsplit_once(':').unwrap();
        // Each repository is listed once: starting the CLI takes half a second of CPU.
        let images = images.entry(repository).or_insert_with(|| {
            let line = format!("ecr list-images --repository-name {repository}");
            serde_json::from_slice(&read(&mut aws.cli(&line))).unwrap()
        });
        let found =
            images["imageIds"].as_array().unwrap().iter().find(|image| image["imageTag"] == tag).cloned();
        assert_eq!(found.unwrap_or_default()["imageDigest"], digest.as_str(), "{name}");
    }
    // The images that the grid's next step pulls were pulled through once.
    assert!(
        repositories
            .iter()
            .any(|repository| repository["repositoryName"] == "ecr-public/sam/build-python3.11")
    );
}

/// A runtime, pulled from the emulated ECR as the grid does; removed when dropped.
struct Pulled(Engine, String);

impl Pulled {
    fn new(world: &World, tag: &str) -> Self {
        let (aws, name) = (world.aws(), format!("{}/lambda:{tag}", world.aws().host));
        let (user, password) = aws.login();
        let config = world.path("client");
        let client = || world.engine.client();
        let mut login = client();
        login
            .args(["login", "--username", &user, "--password", &password, &aws.host])
            .env("DOCKER_CONFIG", &config);
        read(&mut login);
        read(client().args(["pull", "--quiet", &name]).env("DOCKER_CONFIG", &config));
        Self(world.engine.clone(), name)
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        let _ = self.0.client().args(["image", "rm", "--force", &self.1]).output();
    }
}

fn shell(engine: &Engine, image: &str, line: &str) -> String {
    text(engine.client().args(["run", "--rm", "--entrypoint", "/bin/sh", image, "-c", line]))
}

/// The behaviour of every runtime in a container; `provided` is one whose entry point forwards signals.
fn keeps_the_contract(engine: &Engine, image: &str, provided: bool) {
    assert_eq!(shell(engine, image, "id -u; id -g"), "99\n99", "{image}");
    assert_eq!(shell(engine, image, r#"echo '{"a": [7]}' | jq '.a[0]'"#), "7", "{image}");
    assert_eq!(shell(engine, image, "ps -p 1 -o pid=").trim(), "1", "{image}");
    assert_eq!(shell(engine, image, "stat -c '%a' /lambda_entrypoint_signal.sh"), "755", "{image}");

    let mut worker = Container::start(engine, image);
    let task = worker.invoke(r#"{"until": "/tmp/go"}"#);
    worker.wait_for("task started");
    let signals: &[&str] = if provided { &["TERM", "INT", "HUP", "QUIT", "ALRM"] } else { &["TERM"] };
    for signal in signals {
        worker.signal(signal);
        if provided {
            worker.wait_for(&format!("SIG{signal}"));
        }
    }
    assert!(worker.runs() && !task.is_finished(), "{image}: a signal ended the task");
    worker.shell("touch /tmp/go");
    let answer = task.join().unwrap();
    assert_eq!(
        (&answer["handler"], &answer["uid"]),
        (&Value::from("app.handler"), &Value::from(99)),
        "{image}"
    );
    worker.wait_for("task finished");
    for arguments in [&[][..], &["a", "b"]].into_iter().filter(|_| provided) {
        let output = engine.client().args(["run", "--rm", image]).args(arguments).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(142), "{message}");
        assert!(message.contains("argument"), "{message}");
    }
}

fn the_runtimes_keep_the_contract(world: &World) {
    for tag in ["python3.12", "provided"] {
        let runtime = Pulled::new(world, tag);
        keeps_the_contract(&world.engine, &runtime.1, tag == "provided");
    }
}

e2e::on_each_builder!(runtimes_of_every_builder_keep_the_contract);

fn runtimes_of_every_builder_keep_the_contract(builder: Builder) {
    let Some(engine) = builder.engine() else { return };
    let Some(world) = World::on(Images::Full, &engine) else { return };
    let name = format!("e2e-{}", world.path("").file_name().unwrap().to_string_lossy().to_lowercase());
    let _built = LocalBuilds { engine: engine.clone(), name: name.clone() };
    let mut toml = "schema_version = 1\n[runtimes]\n".to_owned();
    for (base, entry_point) in
        [("python:3.12", "lambda_entry_point.sh"), ("provided:al2", "lambda_entry_point_provided.sh")]
    {
        let runtime = base.split(':').next().unwrap();
        toml += &format!(
            "\"{name}-{runtime}\" = {{ base = \"public.ecr.aws/lambda/{base}\", entry_point = \"{entry_point}\", \
             epoch = \"{name}\" }}\n"
        );
    }
    world.write("images.toml", &toml);
    world.sourced().args("rebuild-runtimes").ok();
    for runtime in ["python", "provided"] {
        keeps_the_contract(&engine, &format!("lambda:{name}-{runtime}"), runtime == "provided");
    }
}

/// The requests to the sample registries except HEADs.
fn spent(samples: &str) -> BTreeMap<String, u64> {
    let all: BTreeMap<String, u64> =
        serde_json::from_value(get(&format!("http://{samples}/_local/requests")).json()).unwrap();
    all.into_iter().filter(|(kind, _)| kind.contains("GET manifest") || kind.contains("GET blob")).collect()
}

fn again(world: &World, samples: &str, calls: &Path) {
    let forget = || {
        request("POST", &format!("http://{samples}/_local/reset-requests"), &[], b"");
        world.aws().emulator.forget();
    };
    let tags = world.aws().whole_tags();

    // The demo once more: nothing is changed, copied or built.
    std::fs::write(calls, "").unwrap();
    forget();
    let mut fastest = demo(world).ok().took;
    assert_eq!(world.aws().emulator.changes(), Vec::<String>::new());
    assert_eq!(spent(samples), BTreeMap::new());
    let called = std::fs::read_to_string(calls).unwrap();
    assert!(
        !called.lines().any(|line| line.split(' ').any(|word| word == "build" || word == "push")),
        "{called}"
    );
    // A busy machine does not make the tool slow: the best of three counts.
    for _ in 0..2 {
        if fastest < Duration::from_secs(3) {
            break;
        }
        fastest = fastest.min(demo(world).ok().took);
    }
    assert!(fastest < Duration::from_secs(3), "a demo with nothing to do takes {fastest:?}");

    // The command itself needs no other program for that, nor options for the sources that the demo used.
    let transfer = |line: &str| {
        let run = world.bare().arg("--local").arg("--local-dir").arg(world.path("local"));
        run.args(line).env("PATH", "/nonexistent")
    };
    forget();
    let second = transfer("transfer-images --format json").ok();
    assert_eq!(second.json()["changed"], false, "{second}");
    assert_eq!(second.json()["images"].as_array().unwrap().len(), MIRRORED.len());
    assert_eq!(second.json()["runtimes"].as_array().unwrap().len(), RUNTIMES.len());
    assert_eq!(world.aws().emulator.changes(), Vec::<String>::new());
    assert_eq!(spent(samples), BTreeMap::new());

    let doctor = world.bare().args("doctor --local --format json --local-dir").arg(world.path("local"));
    let checks = doctor.ok().json();
    assert!(checks["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{checks}");

    // Another user without a cache: an image costs at most one GET of its index.
    let target = world.path("second-operator");
    std::fs::create_dir(&target).unwrap();
    forget();
    let other = transfer("transfer-images --format json").env("CARGO_TARGET_DIR", &target).ok();
    assert_eq!(other.json()["changed"], false, "{other}");
    assert_eq!(world.aws().emulator.changes(), Vec::<String>::new());
    let spent = spent(samples);
    assert!(spent.keys().all(|kind| kind.contains("manifest")), "{spent:?}");
    assert!(spent.values().sum::<u64>() <= (MIRRORED.len() + RUNTIMES.len()) as u64, "{spent:?}");
    assert_eq!(world.aws().whole_tags(), tags);
}
