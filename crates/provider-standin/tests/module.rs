//! The module of `deployment/image_repository/terraform`, judged by real terraform with the real provider's schema.
#![expect(clippy::disallowed_methods, reason = "process.rs is the xtask's; this crate stands below it")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const VERSION: &str = "6.66.0+standin";
const HOSTS: [&str; 2] = ["registry.terraform.io", "registry.opentofu.org"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn module() -> PathBuf {
    repository().join("deployment/image_repository/terraform")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy of a configuration, and a terraform that can only install the stand-in.
struct Workspace {
    folder: TempDir,
}

struct Ran {
    ok: bool,
    text: String,
}

impl Workspace {
    fn of(configuration: &Path) -> Self {
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

    fn terraform(&self, arguments: &[&str]) -> Ran {
        self.terraform_with(arguments, None)
    }

    fn terraform_with(&self, arguments: &[&str], endpoint: Option<&str>) -> Ran {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.folder.path().join("configuration"))
            .env("TF_CLI_CONFIG_FILE", self.folder.path().join("cli.tfrc"))
            .env("CHECKPOINT_DISABLE", "1")
            .env_remove("AWS_ENDPOINT_URL")
            .env_remove("TF_CLI_ARGS")
            .env_remove("TF_DATA_DIR")
            .env_remove("TF_WORKSPACE");
        if let Some(endpoint) = endpoint {
            command.env("AWS_ENDPOINT_URL", endpoint);
        }
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Ran { ok: output.status.success(), text: String::from_utf8(text).unwrap() }
    }

    fn init(&self) {
        let init = self.terraform(&["init", "-backend=false", "-input=false", "-no-color"]);
        assert!(init.ok, "{}", init.text);
        assert!(init.text.contains(VERSION), "{}", init.text);
    }
}

/// Terraform or OpenTofu, whichever this machine has.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = ["terraform", "tofu"].map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)));
    let found = all.into_iter().flatten().find(|candidate| candidate.is_file());
    found.expect("these tests run terraform 1.11 or newer, or OpenTofu 1.10 or newer: put one into PATH")
}

/// Everything but what an earlier run of terraform left behind.
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

fn flat(text: &str) -> String {
    // Terraform draws a border and breaks lines where the terminal ends.
    let words = text.split_whitespace().filter(|word| !matches!(*word, "│" | "╷" | "╵"));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_module_is_formatted() {
    let workspace = Workspace::of(&module());
    let fmt = workspace.terraform(&["fmt", "-check", "-diff", "-recursive", "-no-color", "."]);
    assert!(fmt.ok, "{}", fmt.text);
}

#[test]
fn the_module_is_valid_and_passes_its_own_tests() {
    let workspace = Workspace::of(&module());
    workspace.init();
    let validate = workspace.terraform(&["validate", "-no-color"]);
    assert!(validate.ok, "{}", validate.text);
    assert!(!validate.text.contains("Warning"), "{}", validate.text);
    let test = workspace.terraform(&["test", "-no-color"]);
    assert!(test.ok, "{}", test.text);
    assert!(test.text.contains("Success!"), "{}", test.text);
}

#[test]
fn a_wrong_configuration_fails_in_terraform_s_own_words() {
    for (name, words) in [
        (
            "misspelt-argument",
            "Unsupported argument on main.tf line 14, in resource \"aws_ecr_repository\" \"fixture\": 14: \
             scan_on_pushh = true An argument named \"scan_on_pushh\" is not expected here. Did you mean \
             \"scan_on_push\"?",
        ),
        ("wrong-type", "Inappropriate value for attribute \"force_delete\": a bool is required."),
        ("missing-argument", "The argument \"target_key_id\" is required, but no definition was found."),
    ] {
        let workspace = Workspace::of(&fixture(name));
        workspace.init();
        let validate = workspace.terraform(&["validate", "-no-color"]);
        assert!(!validate.ok, "{name} is accepted");
        assert!(flat(&validate.text).contains(words), "{name}: {}", validate.text);
    }
}

#[test]
fn nothing_but_an_emulator_on_this_machine_is_talked_to() {
    let workspace = Workspace::of(&fixture("no-endpoint"));
    workspace.init();
    for (endpoint, words) in [
        (None, "AWS_ENDPOINT_URL is not set"),
        (Some("https://ecr.eu-west-1.amazonaws.com"), "takes a loopback address only"),
        (Some("http://127.0.0.1.example.com"), "takes a loopback address only"),
    ] {
        let plan = workspace.terraform_with(&["plan", "-input=false", "-no-color"], endpoint);
        assert!(!plan.ok, "{endpoint:?} is accepted");
        assert!(flat(&plan.text).contains(words), "{endpoint:?}: {}", plan.text);
    }
}

#[test]
fn the_module_runs_no_program_and_knows_no_time() {
    let mut files = 0;
    for entry in std::fs::read_dir(module()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "tf") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let words =
            ["null_resource", "local-exec", "remote-exec", "provisioner", "timestamp()", "plantimestamp()"];
        for word in words.into_iter().chain(["data \"external\"", "data \"http\""]) {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
    assert!(files >= 6, "the module has {files} files");
}
