//! How `.terraform.lock.hcl` is created by a user's first init, as described in deployment/image_repository/terraform/README.md.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::path::Path;

use e2e::{BUCKET, INIT, REGION, Run, TERRAFORM, World, checkout};

const IMAGES: &str = "schema_version = 1\n[images]\n\"kedacore/keda\" = \"ghcr.io/kedacore/keda:2.11.2\"\n";

/// `init-images` as with AWS, except for its address; the provider comes from a mirror, as in a company.
fn init(world: &World) -> Run {
    world
        .sourced()
        .env("CARGO_MANIFEST_DIR", world.path("project/xtask"))
        .env("TF_CLI_CONFIG_FILE", world.path("local/terraform/terraform.tfrc"))
        .env("AWS_ENDPOINT_URL", format!("http://{}", world.aws().host))
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local")
        .args("init-images --state-bucket")
        .arg(BUCKET)
        .arg(format!("REGION={REGION}"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_first_init_writes_the_lock_file_and_later_ones_use_it() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    let lock = checkout(&world).join(".terraform.lock.hcl");
    init(&world).ok();
    let written = read(&lock);
    for words in ["provider \"registry.terraform.io/hashicorp/aws\" {", "constraints = \"~> 6.8\"", "\"h1:"] {
        assert!(written.contains(words), "{words}: {written}");
    }
    init(&world).ok();
    assert_eq!(read(&lock), written);

    // Another user's machine, whose provider is of another platform or build: the committed file decides.
    let hash = written.split("\"h1:").nth(1).unwrap().split('"').next().unwrap();
    let other = written.replace(hash, &format!("{}=", "A".repeat(hash.len() - 1)));
    std::fs::write(&lock, &other).unwrap();
    init(&world)
        .end()
        .failed(TERRAFORM, &["is not what .terraform.lock.hcl says", "providers lock -platform="]);
    assert_eq!(read(&lock), other, "nothing was taken out of it");

    // Without it terraform selects again.
    std::fs::remove_file(&lock).unwrap();
    init(&world).ok();
    assert_eq!(read(&lock), written);
}
