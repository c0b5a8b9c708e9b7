//! Programs that nobody here wrote, in a virtual environment of their own: moto (<https://docs.getmoto.org>), another emulated
//! AWS; the aws CLI and boto3, AWS's own clients; and with these AWS's published service models (botocore's).

use std::path::Path;

use process::{Killer, cmd};

use super::PrerequisiteError;

/// What pip is asked for: name, extra, version. `crates/local-aws/tests/scenarios.md` says what this moto answers.
/// botocore reads sessions of `aws login` with awscrt alone, in the version that it names.
const PACKAGES: [(&str, &str, &str); 4] = [
    ("moto", "[server]", "5.2.5"),
    ("awscli", "", "1.46.3"),
    ("boto3", "", "1.44.8"),
    ("awscrt", "", "0.38.0"),
];

/// The packages as pip is told them.
fn wanted() -> [String; 4] {
    PACKAGES.map(|(name, extra, version)| format!("{name}{extra}=={version}"))
}

/// The packages in words.
pub(super) fn names() -> String {
    wanted().join(", ")
}

/// Whether all of them stand in `dir` in these versions.
pub(super) fn is_there(dir: &Path) -> bool {
    let Ok(versions) = dir.join("lib").read_dir() else { return false };
    let mut places = versions.filter_map(|version| Some(version.ok()?.path().join("site-packages")));
    places.any(|place| {
        PACKAGES.iter().all(|(name, _, version)| place.join(format!("{name}-{version}.dist-info")).is_dir())
    })
}

/// Installs them into `dir` with pip, which takes about 40 s; the next run finds them there.
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
        step.stream(Killer::default(), log).await.map_err(failed)?;
    }
    Ok(())
}
