//! Commands that delete or change something ask first, and say so if there is no terminal.

use super::{IMAGES, initialised, reads};

#[test]
fn no_terminal_for_the_confirmation() {
    let Some(world) = initialised() else { return };
    let transfer = || world.xtask("transfer-images");
    reads(&world, "transfer-nobody-there", &transfer().end());
    reads(&world, "transfer-answered-no", &transfer().stdin("no\n").end());
    world.xtask("auto-transfer-images").ok();
    let prune = || world.xtask("prune");
    world.write("images.toml", &IMAGES.replace("curl =", "\"another/curl\" ="));
    reads(&world, "prune-nobody-there", &prune().end());
    reads(&world, "prune-answered-yes", &prune().stdin("yes\n").end());
    reads(&world, "destroy-nobody-there", &world.xtask("destroy-images").end());
    // Nothing was deleted meanwhile.
    assert_eq!(world.aws().repositories(), ["curl", "lambda"]);
}
