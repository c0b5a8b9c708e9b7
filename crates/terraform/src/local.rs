//! The copy of the module that terraform works in, because the checkout may be read-only or used by another grid. With the emulated
//! AWS, a mirror next to the copy provides the stand-in provider.

use std::path::{Path, PathBuf};

use super::TerraformError;

/// The version of the stand-in provider.
pub const PROVIDER_VERSION: &str = "6.66.0+standin";

/// Terraform and OpenTofu request the same provider from different hosts.
const HOSTS: [&str; 2] = ["registry.terraform.io", "registry.opentofu.org"];

/// The lock file in which `init` records the provider.
const LOCK: &str = ".terraform.lock.hcl";
/// The module's own lock file as it was at the last copy; next to the copy.
const SEEN: &str = "lock";

/// Updates the copy of `module` below `work`, with the providers' lock file, and returns its directory.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy_module(module: &Path, work: &Path) -> Result<PathBuf, TerraformError> {
    let dir = follow(module, work)?;
    // Changes by `init` to the lock file stay until the module's own lock file changes or is deleted.
    let (own, seen, copy) = (module.join(LOCK), work.join(SEEN), dir.join(LOCK));
    match (std::fs::read(&own), std::fs::read(&seen)) {
        (Ok(text), before) if before.as_ref().ok() != Some(&text) => {
            at(&copy, std::fs::write(&copy, &text))?;
            at(&seen, std::fs::write(&seen, &text))?;
        }
        (Err(why), Ok(_)) if why.kind() == std::io::ErrorKind::NotFound => {
            for file in [&copy, &seen] {
                if file.exists() {
                    at(file, std::fs::remove_file(file))?;
                }
            }
        }
        _ => {}
    }
    Ok(dir)
}

/// Copies the lock file that `init` wrote back to the module, so that it can be committed. A read-only checkout stays unchanged.
pub fn keep_lock(module: &Path, copy: &Path) {
    let Ok(text) = std::fs::read(copy.join(LOCK)) else { return };
    let mut kept = Ok(());
    if std::fs::read(module.join(LOCK)).ok().as_ref() != Some(&text) {
        kept = std::fs::write(module.join(LOCK), &text);
    }
    let seen = copy.with_file_name(SEEN);
    if let Err(error) = kept.and_then(|()| std::fs::write(seen, text)) {
        tracing::debug!("{LOCK} could not be copied next to images.toml: {error}");
    }
}

/// Makes the `*.tf` files in the directory `module` below `work` equal to those of `module`.
fn follow(module: &Path, work: &Path) -> Result<PathBuf, TerraformError> {
    let dir = work.join("module");
    at(&dir, std::fs::create_dir_all(&dir))?;
    let wanted = configuration_files(module)?;
    for stale in configuration_files(&dir)? {
        let path = dir.join(&stale);
        if !wanted.contains(&stale) {
            at(&path, std::fs::remove_file(&path))?;
        }
    }
    for name in &wanted {
        let (from, to) = (module.join(name), dir.join(name));
        let text = at(&from, std::fs::read(&from))?;
        // An unchanged file keeps its time, so that it does not cause new work.
        if std::fs::read(&to).ok().as_ref() != Some(&text) {
            at(&to, std::fs::write(&to, &text))?;
        }
    }
    Ok(dir)
}

/// A copy of the module, and a mirror with the stand-in provider.
#[derive(Clone, Debug)]
pub struct LocalModule {
    /// The copy.
    pub dir: PathBuf,
    /// The file to set in `TF_CLI_CONFIG_FILE`.
    pub cli_config: PathBuf,
    /// Whether the provider has changed since the last time, so that `init` must run.
    pub init_needed: bool,
}

impl LocalModule {
    /// Fills `work` with three things: the module's `*.tf` files without the lock file, which has the real provider's checksums;
    /// the mirror; and the configuration that lets terraform install only from the mirror.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn lay_out(module: &Path, work: &Path, provider: &Path) -> Result<Self, TerraformError> {
        let dir = follow(module, work)?;
        let mirror = work.join("mirror");
        for host in HOSTS {
            let place = mirror.join(host).join("hashicorp/aws").join(PROVIDER_VERSION).join(platform());
            at(&place, std::fs::create_dir_all(&place))?;
            let link = place.join(format!("terraform-provider-aws_v{PROVIDER_VERSION}"));
            if std::fs::read_link(&link).ok().as_deref() != Some(provider) {
                let _ = std::fs::remove_file(&link);
                at(&link, std::os::unix::fs::symlink(provider, &link))?;
            }
        }
        let cli_config = work.join("terraform.tfrc");
        at(&cli_config, std::fs::write(&cli_config, configuration(&mirror)))?;

        // The copy's lock file has the provider's checksum, so a new build counts as another provider.
        let (stamp, lock) = (work.join("provider"), dir.join(LOCK));
        let build = at(provider, fingerprint(provider))?;
        let init_needed = std::fs::read_to_string(&stamp).ok().as_ref() != Some(&build)
            || !lock.is_file()
            || !dir.join(".terraform/providers").is_dir();
        if init_needed {
            if lock.exists() {
                at(&lock, std::fs::remove_file(&lock))?;
            }
            at(&stamp, std::fs::write(&stamp, build))?;
        }
        Ok(Self { dir, cli_config, init_needed })
    }
}

/// Terraform's name for this platform.
pub(super) fn platform() -> String {
    let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{os}_{arch}")
}

/// Without a `direct` block, terraform can install only from the mirror.
fn configuration(mirror: &Path) -> String {
    let include = HOSTS.map(|host| format!("\"{host}/hashicorp/aws\"")).join(", ");
    let path = serde_json::Value::from(mirror.display().to_string());
    format!(
        "disable_checkpoint = true\n\nprovider_installation {{\n  filesystem_mirror {{\n    path    = {path}\n    \
         include = [{include}]\n  }}\n}}\n"
    )
}

fn configuration_files(dir: &Path) -> Result<Vec<std::ffi::OsString>, TerraformError> {
    let mut names = Vec::new();
    for entry in at(dir, std::fs::read_dir(dir))? {
        let path = at(dir, entry)?.path();
        if path.extension().is_some_and(|extension| extension == "tf") {
            names.extend(path.file_name().map(ToOwned::to_owned));
        }
    }
    Ok(names)
}

fn fingerprint(file: &Path) -> std::io::Result<String> {
    let metadata = std::fs::metadata(file)?;
    let changed = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} {} {}", file.display(), metadata.len(), changed.as_nanos()))
}

fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T, TerraformError> {
    result.map_err(|source| TerraformError::Files { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_updated_with_the_module_and_a_new_provider_build_needs_init() {
        let work = tempfile::tempdir().unwrap();
        let (module, provider) = (work.path().join("source"), work.path().join("provider-standin"));
        std::fs::create_dir(&module).unwrap();
        std::fs::write(module.join("a.tf"), "a").unwrap();
        std::fs::write(module.join("b.tf"), "b").unwrap();
        std::fs::write(module.join(".terraform.lock.hcl"), "the real provider's").unwrap();
        std::fs::write(&provider, "build 1").unwrap();
        let place = work.path().join("work");

        let first = LocalModule::lay_out(&module, &place, &provider).unwrap();
        assert!(first.init_needed);
        assert!(!first.dir.join(".terraform.lock.hcl").exists());
        let host = place.join("mirror/registry.opentofu.org/hashicorp/aws").join(PROVIDER_VERSION);
        assert!(host.is_dir());

        // Files that `init` creates.
        std::fs::create_dir_all(first.dir.join(".terraform/providers")).unwrap();
        std::fs::write(first.dir.join(".terraform.lock.hcl"), "the stand-in's").unwrap();
        std::fs::remove_file(module.join("b.tf")).unwrap();
        let second = LocalModule::lay_out(&module, &place, &provider).unwrap();
        assert!(!second.init_needed);
        assert!(!second.dir.join("b.tf").exists());

        std::fs::write(&provider, "build number 2").unwrap();
        let third = LocalModule::lay_out(&module, &place, &provider).unwrap();
        assert!(third.init_needed);
        assert!(!third.dir.join(".terraform.lock.hcl").exists());
    }

    #[test]
    fn a_lock_file_is_copied_both_ways_and_a_read_only_checkout_is_not_changed() {
        let work = tempfile::tempdir().unwrap();
        let (module, place) = (work.path().join("source"), work.path().join("work"));
        std::fs::create_dir(&module).unwrap();
        std::fs::write(module.join("a.tf"), "a").unwrap();
        let dir = copy_module(&module, &place).unwrap();
        assert!(!dir.join(LOCK).exists());

        std::fs::write(dir.join(LOCK), "by init").unwrap();
        keep_lock(&module, &dir);
        assert_eq!(std::fs::read_to_string(module.join(LOCK)).unwrap(), "by init");
        copy_module(&module, &place).unwrap();
        // Not even root can write there.
        std::fs::remove_file(module.join(LOCK)).unwrap();
        std::fs::create_dir(module.join(LOCK)).unwrap();
        keep_lock(&module, &dir);
        copy_module(&module, &place).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join(LOCK)).unwrap(), "by init");

        // After deletion, `init` selects the providers again.
        std::fs::remove_dir(module.join(LOCK)).unwrap();
        keep_lock(&module, &dir);
        std::fs::remove_file(module.join(LOCK)).unwrap();
        copy_module(&module, &place).unwrap();
        assert!(!dir.join(LOCK).exists());
        std::fs::write(module.join(LOCK), "by hand").unwrap();
        copy_module(&module, &place).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join(LOCK)).unwrap(), "by hand");
        std::fs::write(dir.join(LOCK), "by hand, and more by init").unwrap();
        copy_module(&module, &place).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join(LOCK)).unwrap(), "by hand, and more by init");
    }
}
