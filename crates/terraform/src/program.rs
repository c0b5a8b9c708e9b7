//! Finds the program that runs the module.

use std::fmt;
use std::path::{Path, PathBuf};

use process::{Cmd, env_remove_all};

use super::TerraformError;

/// The programs that can run the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HashiCorp's terraform.
    Terraform,
    /// The Linux Foundation's tofu.
    OpenTofu,
}

impl Kind {
    /// The program's name.
    pub fn command(self) -> &'static str {
        match self {
            Self::Terraform => "terraform",
            Self::OpenTofu => "tofu",
        }
    }

    /// The first version that locks the state in S3 without DynamoDB and encrypts the lock like the state. OpenTofu 1.10.0 and
    /// 1.10.1 omit the header, and a bucket like HTC-Grid's refuses the lock
    /// (<https://github.com/opentofu/opentofu/blob/v1.10/CHANGELOG.md>).
    fn least(self) -> (u32, u32, u32) {
        match self {
            Self::Terraform => (1, 11, 0),
            Self::OpenTofu => (1, 10, 2),
        }
    }
}

/// A program of a supported version.
#[derive(Clone, Debug)]
pub struct Program {
    kind: Kind,
    path: PathBuf,
    version: String,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.command(), self.version)
    }
}

impl Program {
    /// Finds the first of terraform and tofu in PATH that is new enough.
    ///
    /// # Errors
    /// Neither is in PATH, or only one that is too old.
    pub fn find() -> Result<Self, TerraformError> {
        let mut old = None;
        for kind in [Kind::Terraform, Kind::OpenTofu] {
            let Ok(path) = which::which(kind.command()) else { continue };
            match Self::at(kind, path) {
                Ok(program) => return Ok(program),
                Err(error) => old = old.or(Some(error)),
            }
        }
        Err(old.unwrap_or(TerraformError::Missing))
    }

    /// The program at `path`.
    ///
    /// # Errors
    /// It is too old, or the program at `path` is not terraform or tofu.
    pub fn at(kind: Kind, path: PathBuf) -> Result<Self, TerraformError> {
        // A broken configuration file is reported by the command that needs it.
        let cmd = Cmd::new(&path).args(["version", "-json"]).env("CHECKPOINT_DISABLE", "1");
        let cmd = env_remove_all(cmd, "TF_CLI_ARGS");
        let version = Self::version_of(&cmd.read()?)?;
        let (least, found) = (kind.least(), numbers(&version));
        if found.is_none_or(|found| found < least) {
            return Err(TerraformError::TooOld {
                program: kind.command(),
                version,
                least: format!("{}.{}.{}", least.0, least.1, least.2),
            });
        }
        Ok(Self { kind, path, version })
    }

    fn version_of(json: &str) -> Result<String, TerraformError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            // OpenTofu uses the same field name.
            terraform_version: String,
        }
        super::event::parse::<Answer>(json, "the version").map(|answer| answer.terraform_version)
    }

    /// The path of the program.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn numbers(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).map_or(part, |end| &part[..end]);
        digits.parse().ok()
    });
    Some((parts.next()??, parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn fake(version: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("terraform");
        let script = format!(
            "#!/bin/sh\necho '{{\"terraform_version\": \"{version}\", \"platform\": \"linux_amd64\"}}'\n"
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_new_version_is_accepted_and_an_old_one_refused_by_name() {
        let (_dir, path) = fake("1.11.4");
        assert_eq!(Program::at(Kind::Terraform, path).unwrap().to_string(), "terraform 1.11.4");
        let (_dir, path) = fake("1.10.9");
        assert_eq!(Program::at(Kind::OpenTofu, path.clone()).unwrap().to_string(), "tofu 1.10.9");
        let error = Program::at(Kind::Terraform, path).unwrap_err();
        assert_eq!(error.to_string(), "terraform 1.10.9 is too old: 1.11.0 is needed");
        assert!(error.hint().unwrap().contains("https://"), "{error}");
        for (version, new) in [("1.10.0", false), ("1.10.1", false), ("1.10.2", true), ("1.12.0-rc1", true)] {
            let (_dir, path) = fake(version);
            let found = Program::at(Kind::OpenTofu, path);
            assert_eq!(found.is_ok(), new, "{version}");
            if let Err(error) = found {
                assert_eq!(error.to_string(), format!("tofu {version} is too old: 1.10.2 is needed"));
                assert!(error.hint().unwrap().contains("lock of the state without encryption"), "{error}");
            }
        }
        assert_eq!([numbers("2"), numbers("1.x.0"), numbers("1.11.0+x")], [None, None, Some((1, 11, 0))]);
    }
}
