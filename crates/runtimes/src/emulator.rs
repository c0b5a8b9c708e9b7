//! Checks whether programs of another platform can run on the build machine.

use docker::{Docker, DockerError};
use registry::Platform;

use super::planned::{Planned, same_machine};
use super::{Context, RuntimeError};

/// Reports before the build that a platform's programs cannot run here. A Dockerfile without `RUN` runs no programs.
pub(super) async fn check_platforms(context: &Context, planned: &Planned) -> Result<(), RuntimeError> {
    let engine = context.engine().await?;
    let foreign: Vec<&Platform> = planned
        .runtime
        .platforms
        .iter()
        .filter(|platform| !same_machine(platform, &engine.platform))
        .collect();
    if foreign.is_empty() || !planned.dockerfile.runs_programs() {
        return Ok(());
    }
    let named = engine.docker.builder_platforms(context.builder.as_deref()).await?;
    for platform in foreign {
        let can = match &named {
            Some(named) => named
                .iter()
                .filter_map(|name| name.parse().ok())
                .any(|found: Platform| same_machine(&found, platform)),
            None => emulated(&platform.architecture, std::path::Path::new("/proc/sys/fs/binfmt_misc")),
        };
        if !can {
            return Err(no_emulator(&engine.docker, platform));
        }
    }
    Ok(())
}

fn no_emulator(docker: &Docker, platform: &Platform) -> RuntimeError {
    RuntimeError::Docker(DockerError::NoEmulator {
        program: docker.name(),
        platform: platform.to_string(),
        architecture: platform.architecture.clone(),
    })
}

/// Whether the kernel runs another architecture's programs in an emulator. An engine on another machine (remote, or the virtual machine of
/// macOS) cannot be checked: it is assumed to work, and its own error is shown.
fn emulated(architecture: &str, registered: &std::path::Path) -> bool {
    let remote =
        std::env::var("DOCKER_HOST").is_ok_and(|host| !host.is_empty() && !host.starts_with("unix://"));
    if remote || !cfg!(target_os = "linux") {
        return true;
    }
    is_registered(architecture, registered)
}

fn is_registered(architecture: &str, registered: &std::path::Path) -> bool {
    let qemu = match architecture {
        "amd64" => "qemu-x86_64",
        "arm64" => "qemu-aarch64",
        "386" => "qemu-i386",
        other => &format!("qemu-{other}"),
    };
    std::fs::read_to_string(registered.join(qemu)).is_ok_and(|text| text.starts_with("enabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_is_only_found_while_it_is_enabled() {
        let room = tempfile::tempdir().unwrap();
        assert!(!is_registered("arm64", room.path()));
        std::fs::write(room.path().join("qemu-aarch64"), "enabled\ninterpreter /x\n").unwrap();
        assert!(is_registered("arm64", room.path()));
        std::fs::write(room.path().join("qemu-aarch64"), "disabled\n").unwrap();
        assert!(!is_registered("arm64", room.path()));
    }
}
