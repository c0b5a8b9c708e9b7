//! Real terraform on a copy of a configuration, with only the stand-in provider to install.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) const VERSION: &str = "6.66.0+standin";
const HOSTS: [&str; 2] = ["registry.terraform.io", "registry.opentofu.org"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

pub(crate) fn module() -> PathBuf {
    repository().join("deployment/image_repository/terraform")
}

/// A copy of a configuration, and a terraform that can only install the stand-in provider.
pub(crate) struct Workspace {
    folder: TempDir,
}

/// The output of a program.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Workspace {
    pub(crate) fn of(configuration: &Path) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        copy(configuration, &folder.path().join("configuration"));
        let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let mirror = folder.path().join("mirror");
        for host in HOSTS {
            let place = mirror.join(host).join("hashicorp/aws").join(VERSION).join(format!("{os}_{arch}"));
            std::fs::create_dir_all(&place).unwrap();
            let name = format!("terraform-provider-aws_v{VERSION}");
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_provider-standin"), place.join(name)).unwrap();
        }
        let include = HOSTS.map(|host| format!("\"{host}/hashicorp/aws\"")).join(", ");
        let config = format!(
            "provider_installation {{\n  filesystem_mirror {{\n    path = {:?}\n    include = [{include}]\n  }}\n}}\n",
            mirror.display().to_string()
        );
        std::fs::write(folder.path().join("cli.tfrc"), config).unwrap();
        Self { folder }
    }

    pub(crate) fn terraform(&self, arguments: &[&str], endpoint: Option<&str>) -> Ran {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder.path().join("configuration"))
            .env("TF_CLI_CONFIG_FILE", self.folder.path().join("cli.tfrc"))
            .env("CHECKPOINT_DISABLE", "1")
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_ENDPOINT_URL")
            .env_remove("TF_CLI_ARGS")
            .env_remove("TF_DATA_DIR")
            .env_remove("TF_WORKSPACE");
        if let Some(endpoint) = endpoint {
            command.env("AWS_ENDPOINT_URL", endpoint);
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Ran { code: output.status.code(), text: String::from_utf8(text).unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("configuration")
    }
}

impl Ran {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

/// Terraform or OpenTofu, whichever this machine has.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = ["terraform", "tofu"].map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)));
    let found = all.into_iter().flatten().find(|candidate| candidate.is_file());
    found.expect("these tests run terraform 1.11 or newer, or OpenTofu 1.10 or newer: put one into PATH")
}

/// Everything except the files of an earlier terraform run.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(".terraform") {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}
