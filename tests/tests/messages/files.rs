//! Unusable files and directories.

use super::{at, reads, world};

#[test]
fn an_unusable_file_or_directory() {
    let Some(world) = world() else { return };
    let transfer = || at(&world, "127.0.0.1:1", "transfer-images --dry-run");
    world.write("images.lock", "garbage = ");
    reads(&world, "lock-broken", &transfer().end());
    std::fs::remove_file(world.path("images.lock")).unwrap();
    reads(&world, "lock-missing", &transfer().arg("--locked").end());
    // It fails like a directory without write permission, for root too.
    let file = world.write("no-directory", "");
    reads(&world, "target-not-writable", &transfer().env("CARGO_TARGET_DIR", file).end());

    world.write(
        "images.toml",
        "schema_version = 1\ncolour = \"blue\"\n[images]\ncurl = 1\nkeda = \"ghcr.io//keda:2\"\n",
    );
    reads(&world, "images-wrong", &transfer().end());
    std::fs::remove_file(world.path("images.toml")).unwrap();
    reads(&world, "images-missing", &transfer().end());
}
