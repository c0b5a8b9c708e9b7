//! The released program, on a machine with neither Rust nor a checkout.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::run::Run;
use crate::world::World;
use crate::{BUCKET, REGION, built, cargo, command, compile, program, read, target};

/// The variable with the program to be released; without it one is compiled.
pub const RELEASED: &str = "HTC_GRID_IMAGES";

/// The released program.
pub fn released() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        std::env::var_os(RELEASED).map_or_else(
            || {
                // Their common dependencies are compiled with the other programs.
                built();
                let mut cargo = cargo();
                cargo.arg("build");
                compile(cargo, &["htc-grid-images"], target())
            },
            PathBuf::from,
        )
    })
}

/// The released program, alone in `folder`, which is created: started there as `./htc-grid-images`, with an empty home, and only the
/// programs that it runs in PATH.
pub fn outside(world: &World, folder: &Path) -> Run {
    std::fs::create_dir_all(folder).unwrap();
    let (copy, bin) = (folder.join("htc-grid-images"), world.path("bin"));
    if !copy.exists() {
        // Not by this process: a child of another thread could inherit the open file, and then the program could not be started.
        read(command("cp").arg(released()).arg(&copy));
    }
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        for name in ["terraform", "docker"] {
            if let Some(program) = program(name) {
                std::os::unix::fs::symlink(program, bin.join(name)).unwrap();
            }
        }
    }
    let mut command = command("./htc-grid-images");
    command.current_dir(folder).env_clear().env("HOME", world.path("home")).env("PATH", bin);
    Run::new(command)
}

/// The same, with the emulated account as AWS, and sample images instead of the real ones.
pub fn outside_at_aws(world: &World, folder: &Path) -> Run {
    let run = outside(world, folder)
        .env("TF_CLI_CONFIG_FILE", world.path("local/terraform/terraform.tfrc"))
        .env("AWS_ENDPOINT_URL", format!("http://{}", world.aws().host))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "local")
        .env("AWS_SECRET_ACCESS_KEY", "local");
    world.sources.for_run(run.args(&format!("--state-bucket {BUCKET} --region {REGION}")))
}
