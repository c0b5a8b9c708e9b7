//! What the emulated AWS was asked and answered, held against AWS's published models.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use service_models::{Checked, Models};

use crate::{command, skip, target};

/// What makes the emulated AWS write down what it is asked and answers, whoever starts it.
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

/// The calls in a log, checked; none where there is no log, or no models.
pub(crate) fn checked(log: &Path) -> Option<Checked> {
    let text = std::fs::read_to_string(log).ok()?;
    Some(Checked::log(models()?, &text).unwrap_or_else(|error| panic!("{error}")))
}

/// The aws CLI that `cargo xtask test` installs, else the one in PATH.
pub fn aws_cli() -> Option<PathBuf> {
    let installed = target().join("python/bin/aws");
    if installed.is_file() { Some(installed) } else { crate::program("aws") }
}

/// A command of the aws CLI's.
pub(crate) fn aws_command() -> std::process::Command {
    command(aws_cli().unwrap_or_else(|| "aws".into()))
}
