//! Wrong or meaningless arguments.

use e2e::World;

use super::{at, reads, with_keys, world};

#[test]
fn a_mistyped_command_suggests_nothing_that_deletes() {
    let Some(world) = world() else { return };
    for typed in ["transfer-image", "destroy-image", "auto-destroy", "prun", "reset-images"] {
        reads(&world, &format!("typo-{typed}"), &world.xtask(typed).end());
    }
}

#[test]
fn an_invalid_value() {
    let Some(world) = world() else { return };
    let transfer = |words: &[&str]| {
        let run = at(&world, "127.0.0.1:1", "transfer-images --dry-run");
        words.iter().fold(run, |run, word| run.arg(word)).end()
    };
    reads(&world, "state-key-empty", &transfer(&["--state-key", ""]));
    reads(&world, "region-of-no-shape", &transfer(&["REGION=Ireland"]));
    reads(&world, "region-is-a-zone", &transfer(&["REGION=eu-west-1a"]));
    reads(&world, "lock-timeout-no-number", &transfer(&["--lock-timeout", "soon"]));
    reads(&world, "tag-twice", &transfer(&["--tag", "a", "TAG=b"]));
    reads(&world, "tag-empty", &transfer(&["TAG="]));
    reads(&world, "variable-unknown", &transfer(&["TAGS=x"]));
    reads(&world, "only-unknown", &transfer(&["--only", "nothing"]));
    let run = with_keys(world.sourced().args("list-images --profile nobody"), "x").end();
    reads(&world, "profile-missing", &run);
}

#[test]
fn another_registry_for_a_command_of_the_account() {
    let Some(world) = world() else { return };
    let refused = |world: &World, command: &str| at(world, "registry.example:5000", command).end();
    for command in ["init-images", "prune", "ecr-login"] {
        reads(&world, &format!("registry-for-{command}"), &refused(&world, command));
    }
}
