//! moto (<https://docs.getmoto.org>), an emulated AWS that nobody here wrote, in a virtual environment of its own.

use std::path::Path;

use process::{Cmd, Killer};

use super::PrerequisiteError;

/// What pip is asked for. `crates/local-aws/tests/scenarios.md` says what this version answers.
pub(super) const PACKAGE: &str = "moto[server]==5.2.5";

/// Whether the server stands in `dir` or in PATH.
pub(super) fn is_there(dir: &Path) -> bool {
    dir.join("bin/moto_server").is_file() || which::which("moto_server").is_ok()
}

/// Installs it into `dir` with pip, which takes about 40 s; the next run finds it there.
pub(super) async fn install(dir: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<(), PrerequisiteError> {
    say(&format!("installing {PACKAGE} with pip in {}", dir.display()));
    let failed =
        |source| PrerequisiteError::Program { action: format!("install {PACKAGE} with pip"), source };
    let log = |line: &str| tracing::debug!("pip: {line}");
    let environment = Cmd::new("python3").args(["-m", "venv", "--clear"]).arg(dir);
    environment.stream(Killer::default(), log).await.map_err(failed)?;
    let pip = Cmd::new(dir.join("bin/python")).args(["-m", "pip", "install", "--quiet", PACKAGE]);
    pip.stream(Killer::default(), log).await.map_err(failed)
}
