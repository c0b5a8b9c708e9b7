//! Exit codes, and that nothing is claimed that was not checked: for a dry run, a source that does not answer, a tag that has
//! moved, `doctor`, a login without a network, and `--registry` where it has no effect.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use e2e::{DebianRegistry, Ended, Images, Run, World};

const USAGE: i32 = 2;
const CONFIG: i32 = 3;
const CREDENTIALS: i32 = 5;
const UPSTREAM: i32 = 7;
const REGISTRY: i32 = 8;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
"#;

fn at(world: &World, target: &str, line: &str) -> Run {
    world.sourced().arg("--registry").arg(target).args(line)
}

/// An address where no server listens: a port that was free a moment ago.
fn closed_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A world with two images and a registry for them.
fn world() -> Option<(World, DebianRegistry)> {
    let found = (World::new(Images::Small)?, DebianRegistry::start()?);
    found.0.write("images.toml", IMAGES);
    Some(found)
}

#[test]
fn a_dry_run_with_keep_going_has_the_real_runs_exit_code() {
    let Some((mut world, target)) = world() else { return };
    let real = format!("http://{}/docker.io", world.sources.host);
    world.sources.route("docker.io", format!("http://{}", closed_address()));
    let line = "transfer-images --keep-going --format json";
    let dry = at(&world, target.host(), line).arg("--dry-run").end();
    dry.failed(UPSTREAM, &["docker.io/curlimages/curl:7.85.0", "copy", "dry run: nothing was changed"]);
    assert!(!dry.stderr.contains("what succeeded is kept"), "{dry}");
    let report = dry.json();
    assert_eq!(
        (&report["images"][0]["action"], &report["images"][1]["action"]),
        (&"failed".into(), &"copy".into())
    );
    assert_eq!(report["changed"], false, "{dry}");
    let run = at(&world, target.host(), line).arg("--auto-approve").end();
    assert_eq!((run.code, run.json()["changed"].as_bool()), (dry.code, Some(true)), "{run}");
    // One image failed, the other one exists: nothing was changed.
    let again = at(&world, target.host(), line).arg("--auto-approve").end();
    assert_eq!((again.code, again.json()["changed"].as_bool()), (Some(UPSTREAM), Some(false)), "{again}");

    world.sources.route("docker.io", real);
    let away = closed_address();
    let dry = at(&world, &away, line).arg("--dry-run").end();
    dry.failed(REGISTRY, &[&away, "dry run: nothing was changed"]);
    at(&world, target.host(), line).arg("--dry-run").ok();
}

/// A registry that has nothing and accepts nothing; its address.
fn takes_nothing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().filter_map(Result::ok) {
            let mut request = [0; 4096];
            let length = client.read(&mut request).unwrap_or_default();
            let reads = [&b"GET "[..], b"HEAD "].iter().any(|method| request[..length].starts_with(method));
            let status = if reads { "404 Not Found" } else { "403 Forbidden" };
            let _ = write!(client, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    host
}

#[test]
fn changed_is_false_if_everything_failed() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let target = takes_nothing();
    let run = at(&world, &target, "transfer-images --auto-approve --keep-going --format json").end();
    assert_eq!((run.code, run.json()["changed"].as_bool()), (Some(REGISTRY), Some(false)), "{run}");
}

#[test]
fn an_image_that_was_not_compared_is_not_called_the_same() {
    let Some((mut world, target)) = world() else { return };
    at(&world, target.host(), "transfer-images --auto-approve").ok();
    let upstream =
        |run: &Ended, index: usize| run.json()["images"][index]["upstream"].as_str().unwrap().to_owned();
    let list = "list-images --format json";
    let all = at(&world, target.host(), list).ok();
    assert_eq!((upstream(&all, 0), upstream(&all, 1)), ("same".into(), "same".into()), "{all}");
    assert!(!all.stderr.contains("warning"), "{all}");
    world.sources.route("docker.io", format!("http://{}", closed_address()));
    let away = at(&world, target.host(), list).ok();
    assert_eq!((upstream(&away, 0), upstream(&away, 1)), ("unknown".into(), "same".into()), "{away}");
    let warning = "warning: docker.io does not answer (";
    assert!(away.stderr.contains(warning), "{away}");
    assert!(away.stderr.contains("not compared with upstream: curl:7.85.0\n"), "{away}");
    let table = at(&world, target.host(), "list-images").ok();
    assert!(table.stdout.contains("unknown") && table.stderr.contains(warning), "{table}");
    // Without any result of an earlier run.
    std::fs::remove_dir_all(world.path("target/xtask")).unwrap();
    let away = at(&world, target.host(), list).ok();
    assert_eq!((upstream(&away, 0), upstream(&away, 1)), ("unknown".into(), "same".into()), "{away}");
    assert!(away.stderr.contains(warning), "{away}");
}

#[test]
fn lock_check_distinguishes_a_moved_tag_from_no_answer() {
    let Some((mut world, _target)) = world() else { return };
    world.sourced().args("lock --check").end().failed(CONFIG, &["images.lock", "cargo xtask lock`"]);
    world.sourced().args("lock").ok();
    let lock = std::fs::read(world.path("images.lock")).unwrap();
    let check = world.sourced().args("lock --check").ok();
    assert!(check.stderr.contains("is up to date"), "{check}");

    world.sources.store.touch("docker.io/curlimages/curl:7.85.0").unwrap();
    let moved = world.sourced().args("lock --check").end();
    moved.failed(CONFIG, &["images.lock is not what upstream has", "lock --update"]);
    assert!(moved.stdout.contains("~ docker.io/curlimages/curl:7.85.0"), "{moved}");

    world.sources.route("docker.io", format!("http://{}", closed_address()));
    let silent = world.sourced().args("lock --check").end();
    silent.failed(UPSTREAM, &["docker.io/curlimages/curl:7.85.0 cannot be resolved"]);
    assert!(!silent.stderr.contains("is not what upstream has"), "{silent}");
    assert_eq!(std::fs::read(world.path("images.lock")).unwrap(), lock);
}

#[test]
fn other_platforms_are_not_a_change_of_upstream() {
    let Some((world, target)) = world() else { return };
    let keda = |platforms: &str| {
        let line = format!(
            "kedacore-keda = {{ source = \"ghcr.io/kedacore/keda:2.11.2\", platforms = {platforms} }}"
        );
        world.write("images.toml", &format!("schema_version = 1\n[images]\n{line}\n"));
    };
    let why = |line: &str| {
        let run = at(&world, target.host(), line).arg("--format").arg("json").ok();
        run.json()["images"][0]["why"].as_str().unwrap().to_owned()
    };
    keda("[\"linux/amd64\"]");
    at(&world, target.host(), "transfer-images --auto-approve").ok();
    for platforms in ["\"all\"", "[\"linux/amd64\", \"linux/arm64\"]", "[\"linux/arm64\"]", "\"all\""] {
        keda(platforms);
        let said = why("transfer-images --auto-approve");
        assert!(said.starts_with("other platforms are wanted: was sha256:"), "{platforms}: {said}");
    }
    world.sources.store.touch("ghcr.io/kedacore/keda:2.11.2").unwrap();
    let said = why("transfer-images --dry-run");
    assert!(said.starts_with("upstream has moved: was sha256:"), "{said}");
}

#[test]
fn doctor_ends_with_the_code_of_the_first_problem_and_fits_a_terminal() {
    let Some((world, target)) = world() else { return };
    let credentials =
        world.sourced().args("doctor --region eu-west-1").env("AWS_EC2_METADATA_DISABLED", "true");
    let run = credentials.end();
    assert!(matches!(run.code, Some(CREDENTIALS | 4 | 10)), "{run}");
    fits(&run);
    world.write("images.toml", "schema_version = 1\n[images]\ncurl = 1\n");
    let run =
        world.sourced().args("doctor --region eu-west-1").env("AWS_EC2_METADATA_DISABLED", "true").end();
    run.failed(CONFIG, &["problem"]);
    fits(&run);
    assert!(run.stdout.lines().any(|line| line.starts_with("PROBLEM  images.toml ")), "{run}");

    // For another registry, neither terraform nor AWS is checked.
    world.write("images.toml", IMAGES);
    let subjects = |run: &Ended| -> Vec<String> {
        let all = run.json()["checks"].clone();
        all.as_array().unwrap().iter().map(|check| check["subject"].as_str().unwrap().to_owned()).collect()
    };
    let run = at(&world, target.host(), "doctor --format json").end();
    let looked_at = subjects(&run);
    assert!(looked_at.iter().any(|subject| subject == target.host()), "{run}");
    for left_out in ["terraform", "credentials", "ECR", "state bucket"] {
        assert!(!looked_at.iter().any(|subject| subject == left_out), "{run}");
    }
    let away = closed_address();
    let run = at(&world, &away, "doctor --format json").end();
    let all = run.json()["checks"].clone();
    let check = all.as_array().unwrap().iter().find(|check| check["subject"] == away.as_str()).unwrap();
    assert_eq!((&check["ok"], check["fix"].is_string()), (&false.into(), true), "{run}");
}

/// 80 columns, and the fix of each problem on separate lines.
fn fits(run: &Ended) {
    let mut problems = 0;
    let mut fixes = 0;
    for line in run.stdout.lines() {
        // Text without a space is not broken, so that it can be copied.
        let words = line.split_whitespace().count();
        assert!(line.chars().count() <= 80 || words == 1, "{line}\n{run}");
        problems += usize::from(line.starts_with("PROBLEM"));
        fixes += usize::from(line.trim_start().starts_with("fix: "));
    }
    assert!(problems > 0 && fixes == problems, "{run}");
    assert!(!run.stdout.contains("see the message"), "{run}");
}

#[test]
fn a_login_to_an_unreachable_registry_is_a_registry_failure() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    std::fs::create_dir(world.path("bin")).unwrap();
    let client = |words: &str| {
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *' login '*) cat >/dev/null; echo '{words}' >&2; exit 1 ;; esac\necho 28.0.0\n"
        );
        let path = world.write("bin/docker", &script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
        world.xtask("public-ecr-login").env("PATH", path).end()
    };
    let run = client(
        "Error response from daemon: Get \"https://public.ecr.aws/v2/\": dial tcp: lookup public.ecr.aws: no such host",
    );
    run.failed(REGISTRY, &["public.ecr.aws", "no such host", "hint: is the network up"]);
    let run = client("Error saving credentials: error storing credentials - err: exit status 1");
    run.failed(10, &["Error saving credentials"]);
    let run = client(
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
    );
    run.failed(10, &["does not answer"]);
}

#[test]
fn an_unneeded_or_impossible_login_is_reported() {
    let Some(world) = World::new(Images::Small) else { return };
    world.xtask("local up").ok();
    let helper = serde_json::json!({ "credHelpers": { world.aws().host: "ecr-login" } });
    world.write("docker/config.json", &helper.to_string());
    let run = world.xtask("ecr-login").ok();
    assert!(
        run.stderr.contains("no login is needed: docker's configuration names docker-credential-ecr-login"),
        "{run}"
    );
    world.xtask("public-ecr-login REGION=cn-north-1").end().failed(
        CREDENTIALS,
        &[
            "ECR Public is of the partition aws, and these credentials are of aws-cn",
            "hint: use credentials of an account",
        ],
    );
}

#[test]
fn another_registry_is_refused_for_commands_of_the_account() {
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    for command in [
        "init-images",
        "prune --dry-run",
        "destroy-images --dry-run",
        "auto-destroy-images --dry-run",
        "ecr-login",
        "public-ecr-login",
        "docker-registry-login",
        "reset-images-deployment",
    ] {
        let name = command.split(' ').next().unwrap();
        let run = at(&world, "registry.example:5000", command).end();
        run.failed(USAGE, &["--registry", &format!("`{name}`"), "hint: leave --registry out"]);
    }
}
