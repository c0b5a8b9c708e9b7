//! A saved world.

use std::path::PathBuf;

use crate::background::{end, start_again};
use crate::{World, command, read};

/// The saved files.
const FILES: [&str; 3] = ["local", "target", "images.toml"];

/// A world's account, the tool's cache, and images.toml, as they were when this was created.
#[derive(Debug)]
pub struct Saved<'a> {
    world: &'a World,
    folder: PathBuf,
}

impl<'a> Saved<'a> {
    /// Saves `world`, replacing what was saved with this name.
    pub fn of(world: &'a World, name: &str) -> Self {
        let folder = world.path("saved").join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        std::fs::create_dir_all(&folder).unwrap();
        for file in FILES {
            read(command("cp").arg("-a").arg(world.path(file)).arg(&folder));
        }
        Self { world, folder }
    }

    /// Restores the saved files; then the emulated AWS runs, and no caller has a policy.
    pub fn restore(&self) {
        let data = self.world.path("local/local-aws");
        end(&data);
        read(command("rm").arg("-rf").args(FILES.map(|file| self.world.path(file))));
        read(command("cp").arg("-a").args(FILES.map(|file| self.folder.join(file))).arg(self.world.path("")));
        start_again(&data);
    }
}
