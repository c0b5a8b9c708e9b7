//! The commands around transfer-images.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod lists;
mod logins;
mod removal;
mod settings;

use e2e::World;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = "ghcr.io/kedacore/keda:2.11.2"
[pull_through]
ecr-public = "public.ecr.aws"
[repositories]
extra = ["awshpc"]
"#;

/// A grid with two transferred images.
fn transferred() -> Option<World> {
    let world = World::grid(IMAGES)?;
    world.xtask("init-images --create-state-bucket").ok();
    world.xtask("transfer-images --auto-approve").ok();
    Some(world)
}
