//! Independent programs for comparison, in their own virtual environment: moto (<https://docs.getmoto.org>), another emulated AWS;
//! the aws CLI and boto3, AWS's own clients; and AWS's published service models, which come with botocore.

use std::path::Path;

use process::{KillHandle, cmd};

use super::PrerequisiteError;

/// The packages for pip: name, extra, version. `crates/local-aws/tests/scenarios.md` has the answers of this moto. botocore reads
/// sessions of `aws login` only with awscrt, in the version that it requires.
const PACKAGES: [(&str, &str, &str); 4] = [
    ("moto", "[server]", "5.2.5"),
    ("awscli", "", "1.46.3"),
    ("boto3", "", "1.44.8"),
    ("awscrt", "", "0.38.0"),
];

/// The packages as arguments of pip.
fn wanted() -> [String; 4] {
    PACKAGES.map(|(name, extra, version)| format!("{name}{extra}=={version}"))
}

/// The packages as text.
pub(super) fn names() -> String {
    wanted().join(", ")
}

/// Whether all of them are in `dir` in these versions.
pub(super) fn is_there(dir: &Path) -> bool {
    let Ok(versions) = dir.join("lib").read_dir() else { return false };
    let mut places = versions.filter_map(|version| Some(version.ok()?.path().join("site-packages")));
    places.any(|place| {
        PACKAGES.iter().all(|(name, _, version)| place.join(format!("{name}-{version}.dist-info")).is_dir())
    })
}

/// Installs them into `dir` with pip, which takes about 40 s. Later runs find them there.
pub(super) async fn install(dir: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<(), PrerequisiteError> {
    say(&format!("installing {} with pip in {}", names(), dir.display()));
    let failed =
        |source| PrerequisiteError::Program { action: format!("install {} with pip", names()), source };
    let log = |line: &str| tracing::debug!("pip: {line}");
    let (python, packages) = (dir.join("bin/python"), wanted());
    let steps = process::shell().map(|sh| {
        [cmd!(sh, "python3 -m venv --clear {dir}"), cmd!(sh, "{python} -m pip install --quiet {packages...}")]
    });
    for step in steps.map_err(failed)? {
        step.stream(KillHandle::default(), log).await.map_err(failed)?;
    }
    Ok(())
}
