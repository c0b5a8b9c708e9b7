//! The settings of a command: the Makefile's variables, the emulated AWS, a local docker.

use e2e::{Builder, Engine, Images, LocalBuilds, World, aws_cli, read, root, text};
use serde_json::Value;

use super::{IMAGES, transferred};

/// A world with one runtime that was never built by another test or an earlier run.
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
fn local_up_env_and_down_work_and_reset_removes_terraforms_directory() {
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
    // This changes nothing in AWS, and the next run initialises by itself.
    let refreshed = world.xtask("transfer-images --refresh --format json").ok();
    assert_eq!(refreshed.json()["changed"], false, "{refreshed}");
    assert!(module.is_dir());

    world.xtask("local down").ok();
    assert_eq!(world.xtask("local status --format json").ok().json()["running"], false);
    world.xtask("local env").end().failed(3, &["is not running", "hint: "]);
    world.xtask("local up").ok();
    assert_eq!(world.aws().whole_tags().len(), 2);
}
