//! The commands around transfer-images.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeMap;

use base64::Engine as _;
use e2e::{
    BUCKET, Builder, DebianRegistry, Ended, Engine, Images, LocalBuilds, World, aws_cli, digest, docker,
    engine, get, programs, read, root, text,
};
use serde_json::{Value, json};

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
ecr-public = "public.ecr.aws"
[repositories]
extra = ["awshpc"]
"#;

/// A grid of two images that was transferred.
fn transferred() -> Option<World> {
    let world = World::grid(IMAGES)?;
    world.xtask("init-images --create-state-bucket").ok();
    world.xtask("transfer-images --auto-approve").ok();
    Some(world)
}

/// A world with one runtime, that no other test and no earlier run has built.
fn with_runtime(engine: &Engine) -> Option<(World, String)> {
    let world = World::on(Images::Full, engine)?;
    let name = format!("e2e-{}", world.path("").file_name().unwrap().to_string_lossy().to_lowercase());
    let toml = format!(
        "schema_version = 1\n[runtimes]\n\"{name}\" = {{ base = \"public.ecr.aws/lambda/python:3.12\", epoch = \"{name}\" }}\n\
         [pull_through]\necr-public = \"public.ecr.aws\"\n"
    );
    world.write("images.toml", &toml);
    Some((world, name))
}

fn by_name(listed: &Value) -> BTreeMap<String, Value> {
    let all = listed.as_array().unwrap().iter();
    let name = |image: &Value| match image["tag"].as_str() {
        Some(tag) => format!("{}:{tag}", image["repository"].as_str().unwrap()),
        None => image["repository"].as_str().unwrap().to_owned(),
    };
    all.map(|image| (name(image), image.clone())).collect()
}

#[test]
fn import_config_gives_an_images_toml_that_works_and_overwrites_nothing() {
    let Some(world) = World::new(Images::Small) else { return };
    let fixture = root().join("tests/tests/fixtures/images_config.json");
    let shown = world.bare().args("import-config").arg(&fixture).ok();
    let output = world.path("imported.toml");
    world.bare().args("import-config").arg(&fixture).arg("--output").arg(&output).ok();
    assert_eq!(std::fs::read_to_string(&output).unwrap(), shown.stdout);

    // As the list of a run: the repositories are those that HTC-Grid knows.
    let uris = world
        .bare()
        .args("list-images --uris --registry registry.example:5000/htc --images")
        .arg(&output)
        .ok();
    let mut names: Vec<_> =
        uris.stdout.lines().map(|uri| uri.strip_prefix("registry.example:5000/htc/").unwrap()).collect();
    names.sort_unstable();
    let config: Value = serde_json::from_slice(&std::fs::read(&fixture).unwrap()).unwrap();
    let mut wanted: Vec<_> =
        config["repository"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);

    world.write("imported.toml", "mine");
    let again = world.bare().args("import-config").arg(&fixture).arg("--output").arg(&output).end();
    again.failed(3, &["imported.toml", "is there already", "hint: "]);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine");
    let broken = world.write("broken.json", "{\"image_to_copy\": [");
    world.bare().args("import-config").arg(&broken).end().failed(3, &["broken.json"]);
}

#[test]
fn list_images_shows_what_stands_as_text_as_uris_and_as_json() {
    let Some(world) = transferred() else { return };
    let aws = world.aws();
    let listed = by_name(&world.xtask("list-images --format json").ok().json()["images"]);
    let whole: BTreeMap<_, _> = aws.whole_tags().into_iter().collect();
    for name in ["curl:7.85.0", "kedacore/keda:2.11.2"] {
        let image = &listed[name];
        assert_eq!(image["digest"], whole[name].as_str(), "{image}");
        assert_eq!(image["upstream"], "same", "{image}");
        assert!(image["size"].as_u64().unwrap() > 0 && image["age"].as_u64().unwrap() < 3600, "{image}");
    }
    assert_eq!(listed["awshpc"]["digest"], Value::Null);
    let table = world.xtask("list-images").ok();
    for (name, digest) in &whole {
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let line =
            table.stdout.lines().find(|line| line.contains(&format!("/{repository} ")) && line.contains(tag));
        assert!(line.is_some_and(|line| line.contains(digest)), "{name}: {table}");
    }

    world.store().touch("docker.io/curlimages/curl:7.85.0").unwrap();
    let listed = by_name(&world.xtask("list-images --format json").ok().json()["images"]);
    assert_eq!(
        (&listed["curl:7.85.0"]["upstream"], &listed["kedacore/keda:2.11.2"]["upstream"]),
        (&"behind".into(), &"same".into())
    );

    let mut uris: Vec<_> = world.xtask("list-images --uris").ok().stdout.lines().map(str::to_owned).collect();
    uris.sort();
    if aws_cli().is_some() {
        let mut cli =
            aws.cli("ecr describe-repositories --output text --query repositories[*].repositoryUri");
        let mut known: Vec<_> = text(&mut cli).split_whitespace().map(str::to_owned).collect();
        known.sort();
        assert_eq!(uris, known);
        // At the end of this world all of it is checked against AWS's service models, whoever asked.
        if let Some(traffic) = world.traffic() {
            for caller in ["aws-sdk-rust/", "aws-cli/", "APN/", "provider-standin/"] {
                assert!(
                    traffic.callers.keys().any(|known| known.starts_with(caller)),
                    "{:?}",
                    traffic.callers
                );
            }
        }
    }
    assert!(uris.contains(&format!("{}/kedacore/keda", aws.host)), "{uris:?}");
}

#[test]
fn a_lock_holds_the_digests_until_it_is_updated() {
    let Some(world) = World::new(Images::Small) else { return };
    let Some(registry) = DebianRegistry::start() else { return };
    world.write("images.toml", IMAGES);
    let transfer = |line: &str| {
        world.sourced().arg("--registry").arg(registry.host()).args("transfer-images").args(line)
    };
    transfer("--locked --auto-approve").end().failed(3, &["no images.lock", "cargo xtask lock"]);

    let written = world.sourced().args("lock").ok();
    assert!(written.stdout.contains("curlimages/curl:7.85.0"), "{written}");
    transfer("--locked --auto-approve").ok();
    let curl = || {
        let accept = ("accept", "application/vnd.docker.distribution.manifest.v2+json");
        let url = format!("http://{}/v2/curl/manifests/7.85.0", registry.host());
        digest(&e2e::request("GET", &url, &[accept], b"").body)
    };
    let (locked, lock) = (curl(), std::fs::read(world.path("images.lock")).unwrap());

    let (old, new) = world.store().touch("docker.io/curlimages/curl:7.85.0").unwrap();
    let moved = transfer("--locked --auto-approve").end();
    moved.failed(7, &["curlimages/curl:7.85.0", &old, &new, "hint: ", "lock --update"]);
    assert!(!moved.stderr.contains(": copied"), "{moved}");
    let held = transfer("--format json").ok();
    assert_eq!(held.json()["changed"], false, "{held}");
    assert!(held.stderr.contains("images.lock decides"), "{held}");
    assert_eq!(curl(), locked);

    let check = world.sourced().args("lock --update --check").end();
    check.failed(3, &["images.lock", "lock --update"]);
    assert_eq!(std::fs::read(world.path("images.lock")).unwrap(), lock, "a check writes nothing");
    let short = |digest: &str| digest.trim_start_matches("sha256:")[..12].to_owned();
    let update = world.sourced().args("lock --update curl").ok();
    assert!(update.stdout.contains(&short(&old)) && update.stdout.contains(&short(&new)), "{update}");
    assert!(!update.stdout.contains("keda"), "{update}");
    let taken = transfer("--locked --auto-approve").ok();
    assert_ne!(curl(), locked, "{taken}");
    assert_eq!(transfer("--locked --format json").ok().json()["changed"], false);
    world.sourced().args("lock --update nothing").end().failed(2, &["nothing"]);
}

#[test]
fn destroy_images_removes_what_it_created_and_nothing_else() {
    let Some(world) = transferred() else { return };
    let aws = world.aws();
    aws.ecr("CreateRepository", &json!({ "repositoryName": "quay-of-others" }));
    // What ECR's cache made by itself is other people's too, the original's destroy took it along.
    let (user, password) = aws.login();
    if programs(&["skopeo"]) {
        let mut pull = e2e::command("skopeo");
        pull.args(["inspect", "--raw", "--tls-verify=false", "--creds", &format!("{user}:{password}")]);
        read(pull.arg(format!("docker://{}/ecr-public/lambda/python:3.12", aws.host)));
    }
    let before = aws.repositories();
    assert!(before.len() >= 5, "{before:?}");

    for answer in ["no\n", "yes\n", "\n"] {
        let run = world.xtask("destroy-images").stdin(answer).end();
        run.failed(6, &["nothing was changed"]);
        assert_eq!(aws.repositories(), before, "{run}");
    }
    world
        .xtask("destroy-images")
        .end()
        .failed(6, &["this needs a confirmation and there is no terminal", "hint: `auto-destroy-images`"]);
    world.xtask("auto-destroy-images --dry-run").ok();
    let dry = world.xtask("destroy-images --dry-run").ok();
    assert_eq!(aws.repositories(), before, "{dry}");

    let run = world.xtask("destroy-images").stdin("mainline\n").ok();
    let after: Vec<_> = aws.repositories();
    let left: Vec<_> = before
        .iter()
        .filter(|name| name.starts_with("quay-of-others") || name.starts_with("ecr-public/"))
        .cloned()
        .collect();
    assert_eq!(after, left, "{run}");
    let rules = aws.ecr("DescribePullThroughCacheRules", &json!({}));
    assert_eq!(rules["pullThroughCacheRules"], json!([]), "{run}");
    let state: Value =
        serde_json::from_slice(&aws.object(BUCKET, ".terraform/terraform.tfstate").unwrap()).unwrap();
    assert_eq!(state["resources"], json!([]), "{run}");
    for left in ["tflock", "transfer.lock"] {
        assert!(
            aws.object(BUCKET, &format!(".terraform/terraform.tfstate.{left}")).is_none(),
            "{left}: {run}"
        );
    }

    let nothing = world.xtask("auto-destroy-images --format json").ok();
    assert!(nothing.stderr.contains("nothing to destroy"), "{nothing}");
    assert_eq!(nothing.json()["repositories"], json!([]), "{nothing}");
    // And it can all come back.
    world.xtask("transfer-images --auto-approve").ok();
    assert_eq!(aws.whole_tags().iter().filter(|(name, _)| !name.starts_with("ecr-public/")).count(), 2);
}

#[test]
fn two_grids_share_an_account_and_destroying_one_leaves_the_other_whole() {
    let Some(world) = transferred() else { return };
    let aws = world.aws();
    // Other people's, with nobody's mark.
    aws.ecr("CreateRepository", &json!({ "repositoryName": "team/quay-proxy" }));
    let rule = json!({ "ecrRepositoryPrefix": "team-quay", "upstreamRegistryUrl": "quay.io" });
    aws.ecr("CreatePullThroughCacheRule", &rule);
    let foreign = || {
        let names = json!({ "repositoryNames": ["team/quay-proxy"] });
        let prefixes = json!({ "ecrRepositoryPrefixes": ["team-quay"] });
        (aws.ecr("DescribeRepositories", &names), aws.ecr("DescribePullThroughCacheRules", &prefixes))
    };
    let before = foreign();
    let second = "TAG=prod --state-key .terraform/prod.tfstate";
    let joined = world.xtask(&format!("transfer-images --auto-approve --format json {second}")).ok();
    assert_eq!(joined.json()["tag"], "prod");
    let tags = aws.whole_tags();

    let destroyed = world.xtask("auto-destroy-images").ok();
    // What was kept is listed, each with the reason.
    for name in ["curl", "kedacore/keda", "awshpc", "lambda"] {
        let mut lines = destroyed.stderr.lines();
        let kept = |line: &str| line.starts_with(&format!("{name} ")) && line.contains("keep: used by prod");
        assert!(lines.any(kept), "{name}: {destroyed}");
    }
    for words in ["pull-through rule ecr-public: keep: ", "KMS key ecr/mainline-htc: keep: "] {
        assert!(destroyed.stderr.contains(words), "{words}: {destroyed}");
    }
    assert_eq!(foreign(), before, "{destroyed}");
    assert_eq!(aws.whole_tags(), tags, "{destroyed}");
    if programs(&["skopeo"]) {
        let (user, password) = aws.login();
        for (name, _) in &tags {
            let to = world.path("pulled").join(name.replace(['/', ':'], "-"));
            std::fs::create_dir_all(&to).unwrap();
            let mut pull = e2e::command("skopeo");
            pull.args(["copy", "--src-tls-verify=false", "--src-creds", &format!("{user}:{password}")]);
            let image = format!("docker://{}/{name}", aws.host);
            read(pull.arg(image).arg(format!("dir:{}", to.display())));
        }
    }
    assert!(aws.repositories().contains(&"awshpc".to_owned()));
    let rules = aws.ecr("DescribePullThroughCacheRules", &json!({}));
    assert_eq!(rules["pullThroughCacheRules"].as_array().unwrap().len(), 2, "{rules}");
    // The key that the repositories are encrypted with still works.
    let keys: Value = serde_json::from_slice(&read(&mut aws.cli("kms list-keys"))).unwrap();
    for key in keys["Keys"].as_array().unwrap() {
        let line = format!("kms describe-key --key-id {}", key["KeyId"].as_str().unwrap());
        let key: Value = serde_json::from_slice(&read(&mut aws.cli(&line))).unwrap();
        assert_eq!(key["KeyMetadata"]["KeyState"], "Enabled", "{destroyed}");
    }
    let marks = |name: &str| {
        let arn = format!("arn:aws:ecr:{}:{}:repository/{name}", e2e::REGION, e2e::ACCOUNT);
        let answer = aws.ecr("ListTagsForResource", &json!({ "resourceArn": arn }));
        answer["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag["Key"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let curl = marks("curl");
    assert!(
        curl.iter().any(|key| key == "htc-grid/prod") && !curl.iter().any(|key| key == "htc-grid/mainline"),
        "{curl:?}"
    );
    let still = world.xtask(&format!("transfer-images --format json --auto-approve {second}")).ok();
    assert_eq!(still.json()["images"][0]["action"], "up to date", "{still}");
}

e2e::on_each_builder!(rebuild_runtimes_builds_into_the_local_docker_without_aws);

fn rebuild_runtimes_builds_into_the_local_docker_without_aws(builder: Builder) {
    let Some(engine) = builder.engine() else { return };
    let Some((world, name)) = with_runtime(&engine) else { return };
    let _local = LocalBuilds { engine: engine.clone(), name: name.clone() };
    let engine = || engine.client();
    let run = world.sourced().args("rebuild-runtimes --smoke --format json").ok();
    assert_eq!(run.json()["runtimes"][0]["result"], "built", "{run}");
    assert!(run.stderr.contains(&format!("{name} answered HTTP 200: ")), "{run}");
    assert!(!world.path("local/local-aws").exists());
    let image = format!("lambda:{name}");
    assert_eq!(
        text(engine().args([
            "run",
            "--rm",
            "--entrypoint",
            "/bin/sh",
            &image,
            "-c",
            "id -u; id -g; jq -n 7"
        ])),
        "99\n99\n7"
    );
    let label = "{{index .Config.Labels \"org.opencontainers.image.revision\"}}";
    let revision = e2e::command("git").args(["rev-parse", "HEAD"]).current_dir(root()).output();
    if let Some(revision) = revision.ok().filter(|output| output.status.success()) {
        let said = text(engine().args(["image", "inspect", "--format", label, &image]));
        assert_eq!(said, String::from_utf8_lossy(&revision.stdout).trim());
    }
    let id = || text(engine().args(["image", "inspect", "--format", "{{.Id}}", &image]));
    let first = id();
    world.sourced().args("rebuild-runtimes").ok();
    assert_eq!(id(), first, "the same inputs are the same build");
    world.sourced().args("rebuild-runtimes nothing").end().failed(2, &["nothing", &name]);
}

/// What no output and no file may hold.
fn secrets(world: &World) -> Vec<String> {
    let (user, password) = world.aws().login();
    // Every token starts alike: account and region come first in it.
    let basic = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
    vec![password[..24].to_owned(), basic[..24].to_owned()]
}

fn tells_none(world: &World, run: &Ended) {
    for secret in secrets(world) {
        assert!(!run.stdout.contains(&secret) && !run.stderr.contains(&secret), "{run}");
        assert_eq!(
            world.files_with(&["home", "local", "target/xtask"], &secret),
            Vec::<std::path::PathBuf>::new()
        );
    }
}

#[test]
fn only_the_login_writes_dockers_configuration_and_nothing_tells_a_secret() {
    if !docker() {
        return;
    }
    let Some(world) = World::grid(IMAGES) else { return };
    let files = || world.path("docker").read_dir().unwrap().count();
    for line in [
        "init-images --create-state-bucket",
        "transfer-images --auto-approve",
        "transfer-images",
        "list-images",
        "destroy-images --dry-run",
    ] {
        let run = world.xtask(line).arg("--verbose").ok();
        tells_none(&world, &run);
        assert_eq!(files(), 0, "{line} wrote docker's configuration");
    }
    let login = world.xtask("ecr-login --verbose").ok();
    tells_none(&world, &login);
    let config: Value =
        serde_json::from_slice(&std::fs::read(world.path("docker/config.json")).unwrap()).unwrap();
    assert!(config["auths"][&world.aws().host].is_object(), "{config}");
    assert_eq!(files(), 1);
    assert!(!world.path("home/.docker").exists());
    // Docker itself can pull with it, and a transfer leaves it as it is.
    let before = std::fs::read(world.path("docker/config.json")).unwrap();
    let image = format!("{}/curl:7.85.0", world.aws().host);
    read(
        engine()
            .args(["manifest", "inspect", "--insecure", &image])
            .env("DOCKER_CONFIG", world.path("docker")),
    );
    world.store().touch("docker.io/curlimages/curl:7.85.0").unwrap();
    world.xtask("transfer-images --auto-approve").ok();
    assert_eq!(std::fs::read(world.path("docker/config.json")).unwrap(), before);
    assert_eq!(get(&format!("http://{}/_local/requests", world.aws().host)).status, 200);
}

/// A docker client that notes its arguments and what it is told at a login, and leaves the rest to the real one.
fn listening_docker(world: &World) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir(world.path("bin")).unwrap();
    let heard = world.path("heard");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *' login '*) echo \"$*\" >>'{0}.args'; cat >>'{0}.stdin'; echo >>'{0}.stdin' ;; \
         *) exec '{1}' \"$@\" ;; esac\n",
        heard.display(),
        e2e::program("docker").unwrap().display()
    );
    let client = world.write("bin/docker", &script);
    std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap())
}

#[test]
fn the_logins_hand_docker_the_token_through_stdin_alone() {
    if !programs(&["docker"]) {
        return;
    }
    let Some(world) = World::new(Images::Small) else { return };
    world.write("images.toml", IMAGES);
    let path = listening_docker(&world);
    let run = world.xtask("docker-registry-login --verbose").env("PATH", &path).ok();
    tells_none(&world, &run);
    let arguments = std::fs::read_to_string(world.path("heard.args")).unwrap();
    let logins: Vec<&str> = arguments.lines().collect();
    assert_eq!(logins.len(), 2, "{arguments}");
    for (login, host) in logins.iter().zip([world.aws().host.as_str(), "public.ecr.aws"]) {
        assert!(
            login.contains("--username AWS") && login.contains("--password-stdin") && login.ends_with(host),
            "{login}"
        );
    }
    let told = std::fs::read_to_string(world.path("heard.stdin")).unwrap();
    assert_eq!(told.lines().filter(|line| !line.is_empty()).count(), 2);
    let ours = &secrets(&world)[0];
    assert!(told.contains(ours) && !arguments.contains(ours));
    for command in ["ecr-login", "public-ecr-login"] {
        world.xtask(command).env("PATH", &path).ok();
    }
    let arguments = std::fs::read_to_string(world.path("heard.args")).unwrap();
    assert_eq!(
        arguments.lines().map(|line| line.ends_with("public.ecr.aws")).collect::<Vec<_>>(),
        [false, true, false, true]
    );
}

#[test]
fn the_makefiles_variables_reach_the_grid_by_argument_and_by_environment() {
    let Some(world) = World::grid(IMAGES) else { return };
    let bucket = "S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME";
    let by_argument = world
        .xtask("init-images --create-state-bucket TAG=dev REGION=eu-west-2")
        .arg(format!("{bucket}=a-bucket"))
        .ok();
    assert!(
        by_argument
            .stderr
            .contains("region eu-west-2, grid dev, state s3://a-bucket/.terraform/terraform.tfstate"),
        "{by_argument}"
    );
    let by_environment = world
        .xtask("transfer-images --dry-run")
        .env("TAG", "dev")
        .env("HTCGRID_REGION", "eu-west-2")
        .env(bucket, "a-bucket")
        .ok();
    let first = by_environment.stderr.lines().next().unwrap();
    assert!(first.contains("region eu-west-2") && first.contains("grid dev"), "{by_environment}");
    let both = world
        .xtask("transfer-images --dry-run REGION=eu-west-2 TAG=dev")
        .env("REGION", "eu-west-3")
        .env("TAG", "x")
        .env(bucket, "a-bucket")
        .ok();
    let first = both.stderr.lines().next().unwrap();
    assert!(first.contains("region eu-west-2") && first.contains("grid dev"), "{both}");
    world.xtask("auto-transfer-images TAG=dev REGION=eu-west-2").env(bucket, "a-bucket").ok();
    let aliases: Value =
        serde_json::from_slice(&read(&mut world.aws().cli("kms list-aliases --region eu-west-2"))).unwrap();
    assert!(
        aliases["Aliases"].as_array().unwrap().iter().any(|alias| alias["AliasName"] == "alias/ecr/dev-htc"),
        "{aliases}"
    );
    assert_eq!(
        world.aws().repositories(),
        Vec::<String>::new(),
        "nothing stands in the region that nobody chose"
    );
}

#[test]
fn local_starts_points_at_and_ends_the_emulated_aws_and_reset_forgets_terraforms_directory() {
    let Some(world) = transferred() else { return };
    let status = world.xtask("local status --format json").ok().json();
    assert_eq!(
        (&status["running"], &status["url"]),
        (&true.into(), &format!("http://{}", world.aws().host).into())
    );
    let environment = world.xtask("local env").ok().stdout;
    if let Some(aws) = aws_cli() {
        let mut shell = e2e::command("sh");
        let asks = "ecr describe-repositories --output text --query 'length(repositories)'";
        shell.args(["-c", &format!("{environment}\nexec '{}' {asks}", aws.display())]);
        shell.env("HOME", world.path("home"));
        assert_eq!(text(&mut shell), "4");
    }

    let module = world.path("local/terraform/module/.terraform");
    assert!(module.is_dir());
    world.xtask("reset-images-deployment").ok();
    assert!(!module.exists());
    // Nothing in AWS changes by that, and the next run initialises by itself.
    let refreshed = world.xtask("transfer-images --refresh --format json").ok();
    assert_eq!(refreshed.json()["changed"], false, "{refreshed}");
    assert!(module.is_dir());

    world.xtask("local down").ok();
    assert_eq!(world.xtask("local status --format json").ok().json()["running"], false);
    world.xtask("local env").end().failed(3, &["is not running", "hint: "]);
    world.xtask("local up").ok();
    assert_eq!(world.aws().whole_tags().len(), 2);
}

#[test]
fn prune_deletes_what_the_list_no_longer_names_and_nobody_else_uses() {
    let Some(world) = transferred() else { return };
    let aws = world.aws();
    let keda = "\"kedacore/keda\" = \"ghcr.io/kedacore/keda:2.11.2\"\n";
    world.write(
        "images.toml",
        &IMAGES
            .replace(keda, "")
            .replace("\"awshpc\"", "")
            .replace("[pull_through]\necr-public = \"public.ecr.aws\"\n", ""),
    );
    aws.ecr("CreateRepository", &json!({ "repositoryName": "foreign" }));
    let arn = |name: &str| format!("arn:aws:ecr:{}:{}:repository/{name}", e2e::REGION, e2e::ACCOUNT);
    aws.ecr(
        "TagResource",
        &json!({ "resourceArn": arn("awshpc"), "tags": [{ "Key": "htc-grid/prod", "Value": "" }] }),
    );
    let before = aws.repositories();

    // A transfer only tells of it.
    let told = world.xtask("transfer-images --auto-approve").ok();
    assert!(told.stderr.contains("no longer in images.toml, and kept"), "{told}");
    assert_eq!(aws.repositories(), before);
    world.xtask("prune --dry-run").ok();
    world.xtask("prune").stdin("yes\n").end().failed(6, &["nothing was changed"]);
    let silent = world.xtask("prune").end();
    silent.failed(6, &["nothing was changed", "hint: `prune --yes`"]);
    assert!(!silent.stderr.contains("auto-destroy-images"), "{silent}");
    assert_eq!(aws.repositories(), before);

    let run = world.xtask("prune --yes").ok();
    assert_eq!(aws.repositories(), ["awshpc", "curl", "foreign", "lambda"], "{run}");
    assert_eq!(aws.whole_tags().len(), 1, "{run}");
    // Another grid is in the account, and nothing on a rule says who pulls through it.
    let rules = aws.ecr("DescribePullThroughCacheRules", &json!({}));
    assert_eq!(rules["pullThroughCacheRules"].as_array().unwrap().len(), 1, "{run}");
    let nothing = world.xtask("prune --format json").ok();
    let said = nothing.json();
    assert_eq!((&said["repositories"], &said["changed"]), (&json!([]), &json!(false)), "{nothing}");
    let nothing = world.xtask("transfer-images --format json").ok();
    assert_eq!(nothing.json()["images"][0]["action"], "up to date", "{nothing}");
}
