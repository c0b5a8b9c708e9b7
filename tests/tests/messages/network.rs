//! Servers that do not answer, reject the caller, or throttle.

use std::os::unix::fs::PermissionsExt as _;

use e2e::faulty_servers::{answering, answering_status, deny_names, silent_server, without_names};
use e2e::{DebianRegistry, Run, World};

use super::{IMAGES, at, reads, reads_at, reads_whole, with_keys, world};

const DRY: &str = "transfer-images --dry-run";

/// Two images of one registry.
fn two() -> Option<(World, DebianRegistry)> {
    let found = (world()?, DebianRegistry::start()?);
    found.0.write("images.toml", &format!("{IMAGES}\"a/b\" = \"curlimages/curl:7.86.0\"\n"));
    Some(found)
}

#[test]
fn one_cause_for_several_images_is_reported_once() {
    let Some((mut world, registry)) = two() else { return };
    world.sources.route("docker.io", "http://127.0.0.1:1".to_owned());
    reads_at(&world, "mirror-away", &at(&world, registry.host(), DRY).end(), registry.host());
    world.sources.route("docker.io", "https://registry.example".to_owned());
    let run = at(&world, registry.host(), DRY).env("HTTPS_PROXY", "http://user:hush-hush@127.0.0.1:1").end();
    assert!(!run.stderr.contains("hush"), "{run}");
    reads_at(&world, "proxy-away", &run, registry.host());
}

#[test]
fn an_unreachable_proxy_is_named_for_aws_too() {
    let Some(world) = world() else { return };
    let run = with_keys(world.sourced().args("list-images REGION=eu-west-1"), "AKIA");
    let run = run.env("AWS_EC2_METADATA_DISABLED", "true");
    let run = run.env("HTTPS_PROXY", "http://user:hush-hush@127.0.0.1:1").end();
    assert!(!run.to_string().contains("hush"), "{run}");
    reads(&world, "proxy-away-aws", &run);
}

#[test]
fn a_registry_with_a_retry_after_of_an_hour_is_an_error() {
    let Some((mut world, registry)) = two() else { return };
    let busy = answering_status("429 Too Many Requests", "retry-after: 3600\r\n");
    world.sources.route("docker.io", format!("http://{busy}"));
    let run = at(&world, registry.host(), DRY).end();
    reads_at(&world, "upstream-asks-for-an-hour", &run, &busy);
}

#[test]
fn a_server_that_is_not_a_registry_or_has_an_unsupported_challenge() {
    let Some((mut world, registry)) = two() else { return };
    for (name, server) in [
        ("upstream-speaks-no-http", answering("220 mail.example ESMTP\r\n")),
        ("upstream-wants-another-login", answering_status("401 No", "www-authenticate: Negotiate\r\n")),
    ] {
        world.sources.route("docker.io", format!("http://{server}"));
        reads_at(&world, name, &at(&world, registry.host(), DRY).end(), &server);
    }
}

/// Minutes each: the full form measures the longest duration.
#[test]
fn a_registry_that_never_answers_or_is_always_busy_is_an_error() {
    if std::env::var_os("SOAK").is_none() {
        return;
    }
    let Some((mut world, registry)) = two() else { return };
    let (busy, silent) = (answering_status("429 Too Many Requests", "retry-after: 30\r\n"), silent_server());
    let mut runs = Vec::new();
    for (name, host, only) in
        [("upstream-always-busy", busy, "--only curl"), ("upstream-never-answers", silent, "")]
    {
        world.sources.route("docker.io", format!("http://{host}"));
        let run = at(&world, registry.host(), DRY).args(only).env("CARGO_TARGET_DIR", world.path(name));
        runs.push((name, host, std::thread::spawn(move || run.end())));
    }
    for (name, host, run) in runs {
        reads_at(&world, name, &run.join().unwrap(), &host);
    }
}

#[test]
fn an_unknown_host_name() {
    let Some(mut world) = world() else { return };
    world.sources.route("docker.io", "https://registry.example".to_owned());
    let Some(server) = without_names(&mut world) else { return };
    deny_names(server);
    reads(&world, "upstream-unknown", &at(&world, &answering_status("404 Not Found", ""), DRY).end());
    let aws = |line: &str| -> Run {
        let run = with_keys(world.sourced().args(line), "AKIA").env("AWS_EC2_METADATA_DISABLED", "true");
        run.env("S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME", "a-bucket")
    };
    reads(&world, "region-unknown", &aws("transfer-images REGION=eu-west-9").end());
    reads(&world, "login-without-network", &aws("public-ecr-login").end());
}

#[test]
fn a_docker_login_without_a_reachable_registry() {
    let Some(world) = world() else { return };
    std::fs::create_dir(world.path("bin")).unwrap();
    let words = "Error response from daemon: Get \"https://public.ecr.aws/v2/\": dial tcp: lookup public.ecr.aws: no such host";
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' login '*) cat >/dev/null; echo '{words}' >&2; exit 1 ;; esac\necho 28.0.0\n"
    );
    let client = world.write("bin/docker", &script);
    std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    reads(&world, "login-not-taken", &world.xtask("public-ecr-login").env("PATH", path).end());
}

#[test]
fn nothing_is_claimed_without_a_request() {
    let Some((mut world, registry)) = (|| Some((world()?, DebianRegistry::start()?)))() else { return };
    reads(&world, "lock-check-no-lock", &world.sourced().args("lock --check").end());
    world.sourced().args("lock").ok();
    at(&world, registry.host(), "transfer-images --auto-approve").ok();
    world.sources.store.touch("docker.io/curlimages/curl:7.85.0").unwrap();
    reads_whole(&world, "lock-check-moved", &world.sourced().args("lock --check").end(), &[]);
    world.sources.route("docker.io", "http://127.0.0.1:1".to_owned());
    reads_whole(&world, "lock-check-upstream-away", &world.sourced().args("lock --check").end(), &[]);
    std::fs::remove_file(world.path("images.lock")).unwrap();
    let run = at(&world, registry.host(), "list-images").end();
    reads_whole(&world, "list-upstream-away", &run, &[(registry.host(), "REGISTRY")]);
}

#[test]
fn each_problem_of_doctor_has_a_fix() {
    let Some(mut world) = world() else { return };
    world.sources.route("docker.io", "http://127.0.0.1:1".to_owned());
    std::fs::create_dir(world.path("bin")).unwrap();
    let run = at(&world, "127.0.0.1:1", "doctor").env("PATH", world.path("bin")).end();
    let disk = run.stdout.lines().find(|line| line.contains("  disk  ")).unwrap_or_default();
    reads_whole(&world, "doctor", &run, &[(disk, "ok       disk              N GiB free")]);
}

#[test]
fn no_text_of_a_registry_is_a_github_workflow_command() {
    let (Some(mut world), Some(registry)) = (world(), DebianRegistry::start()) else { return };
    // Long enough that a line break before the command is possible.
    let message =
        format!("{}::add-mask::x ##[add-mask]x\n::stop-commands::x", "no entry to this place ".repeat(4));
    let body = serde_json::json!({ "errors": [{ "code": "DENIED", "message": message }] }).to_string();
    let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: ";
    let evil = answering(format!("{refusal}{}\r\n\r\n{body}", body.len()));
    world.sources.route("docker.io", format!("http://{evil}"));
    let (mut obeyed, mut quoted) = (Vec::new(), 0);
    for target in [registry.host(), &evil] {
        for command in
            ["doctor", "lock", "list-images", "outdated", "verify", "transfer-images --auto-approve"]
        {
            let run = at(&world, target, command).env("GITHUB_ACTIONS", "true").end();
            let all = format!("{}{}", run.stdout, run.stderr);
            quoted += usize::from(all.contains("no entry to this place"));
            let commands =
                all.lines().filter(|line| line.contains("##[") || line.trim_start().starts_with("::"));
            // The tool's own commands.
            let commands = commands.filter(|line| !line.starts_with("::group::") && *line != "::endgroup::");
            obeyed.extend(commands.map(|line| format!("{command}: {line}")));
        }
    }
    assert!(
        obeyed.is_empty() && quoted > 8,
        "{quoted} runs quote the registry; commands:\n{}",
        obeyed.join("\n")
    );
}
