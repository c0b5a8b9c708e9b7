//! Checks the requests and answers of the emulated AWS with AWS's published models.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use service_models::{Checked, Models};

use crate::{command, skip, target};

/// The variable that makes the emulated AWS log its requests and answers, however it is started.
pub(crate) const VARIABLE: &str = "LOCAL_AWS_TRAFFIC";

fn models() -> Option<&'static Models> {
    static MODELS: OnceLock<Option<Models>> = OnceLock::new();
    let models = MODELS.get_or_init(|| {
        let installed = Models::installed(target());
        if installed.is_none() {
            skip("AWS's service models are not in target/python: `cargo xtask test` installs them");
        }
        installed
    });
    models.as_ref()
}

/// The calls in a log, checked; `None` if there is no log or there are no models.
pub(crate) fn checked(log: &Path) -> Option<Checked> {
    let text = std::fs::read_to_string(log).ok()?;
    Some(Checked::log(models()?, &text).unwrap_or_else(|error| panic!("{error}")))
}

/// The aws CLI installed by `cargo xtask test`, else the one in PATH.
pub fn aws_cli() -> Option<PathBuf> {
    let installed = target().join("python/bin/aws");
    if installed.is_file() { Some(installed) } else { crate::program("aws") }
}

/// A command of the aws CLI.
pub(crate) fn aws_command() -> std::process::Command {
    command(aws_cli().unwrap_or_else(|| "aws".into()))
}
