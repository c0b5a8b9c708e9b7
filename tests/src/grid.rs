//! A small grid: what the tests of interrupted and simultaneous runs have in common.

use std::path::PathBuf;

use crate::{Aws, Images, World, programs, root};

/// The state's bucket.
pub const BUCKET: &str = "htc-grid-local-state";
/// The state's key.
pub const STATE: &str = ".terraform/terraform.tfstate";
/// The exit code of a run that was interrupted.
pub const INTERRUPTED: i32 = 130;
/// The exit code where terraform, or a lock, is in the way.
pub const TERRAFORM: i32 = 9;
/// Makes the bucket, and connects terraform with it.
pub const INIT: &str = "init-images --create-state-bucket";

/// Two images, one of them an index; four repositories, one rule.
const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
[pull_through]
ecr-public = "public.ecr.aws"
[repositories]
extra = ["awshpc", "submitter"]
"#;

impl World {
    /// A world with this images.toml and an account that has nothing of it; none without terraform.
    pub fn grid(images: &str) -> Option<Self> {
        if !programs(&["terraform"]) {
            return None;
        }
        let world = Self::new(Images::Small)?;
        world.write("images.toml", images);
        Some(world)
    }

    /// The same with a small grid's.
    pub fn small_grid() -> Option<Self> {
        Self::grid(IMAGES)
    }
}

impl Aws {
    /// A lock beside the state, by what its name ends with: `tflock` is terraform's, `transfer.lock` the lease.
    pub fn lock(&self, suffix: &str) -> Option<Vec<u8>> {
        self.object(BUCKET, &format!("{STATE}.{suffix}"))
    }
}

/// A checkout of this project in the world, without a lock file of terraform's; gives the directory of its module.
pub fn checkout(world: &World) -> PathBuf {
    let module = world.path("project/deployment/image_repository/terraform");
    for directory in [&module, &world.path("project/xtask"), &world.path("project/runtimes")] {
        std::fs::create_dir_all(directory).unwrap();
    }
    for file in root().join("deployment/image_repository/terraform").read_dir().unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "tf") {
            std::fs::copy(&file, module.join(file.file_name().unwrap())).unwrap();
        }
    }
    module
}
