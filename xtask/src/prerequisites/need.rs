//! What a command may need on the machine, and how to install it.

use terraform::TerraformError;

use super::packages::System;

/// Something that a command needs on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A docker client, and an engine that answers.
    Docker,
    /// terraform or OpenTofu in a supported version.
    Terraform,
    /// To create the sample bases; requires root.
    Debootstrap,
    /// To read copies back.
    Skopeo,
    /// Debian's registry, an independent implementation as source and target.
    DockerRegistry,
    /// To check the runtimes' entry points.
    ShellCheck,
    /// A static program, the content of the smallest images that can run.
    Busybox,
    /// A second container client, without an engine.
    Podman,
    /// The terminal that the tests read.
    Tmux,
    /// To create the bridges of the tests' own engines.
    Ip,
    /// To connect those bridges to the network.
    Iptables,
    /// The browser for the tests of report pages.
    Chromium,
    /// Another emulated AWS, AWS's own clients and AWS's service models, for comparison with this project's. Installed below the
    /// target directory.
    Python,
}

impl Need {
    /// The needs of `demo`.
    pub const DEMO: &[Self] = &[Self::Docker, Self::Terraform, Self::Debootstrap];
    /// The needs of `test`.
    pub const TEST: &[Self] = &[
        Self::Docker,
        Self::Terraform,
        Self::Debootstrap,
        Self::Skopeo,
        Self::DockerRegistry,
        Self::ShellCheck,
        Self::Busybox,
        Self::Podman,
        Self::Tmux,
        Self::Ip,
        Self::Iptables,
        Self::Chromium,
        Self::Python,
    ];
    /// Other programs that satisfy [`Need::Chromium`].
    pub(super) const BROWSERS: [&str; 3] = ["google-chrome", "google-chrome-stable", "chromium-browser"];

    /// The program to find in PATH.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Terraform => "terraform",
            Self::Debootstrap => "debootstrap",
            Self::Skopeo => "skopeo",
            Self::DockerRegistry => "docker-registry",
            Self::ShellCheck => "shellcheck",
            Self::Busybox => "busybox",
            Self::Podman => "podman",
            Self::Tmux => "tmux",
            Self::Ip => "ip",
            Self::Iptables => "iptables",
            Self::Chromium => "chromium",
            Self::Python => "python3",
        }
    }

    /// Its packages in Debian and Ubuntu. Those of docker are chosen in [`docker`](super::docker).
    pub(super) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["docker.io"],
            Self::Debootstrap => &["debootstrap"],
            Self::Skopeo => &["skopeo"],
            Self::DockerRegistry => &["docker-registry"],
            Self::ShellCheck => &["shellcheck"],
            Self::Busybox => &["busybox-static"],
            // The tests run it with runc: crun requires more than a nested container has.
            Self::Podman => &["podman", "runc"],
            Self::Tmux => &["tmux"],
            Self::Ip => &["iproute2"],
            Self::Iptables => &["iptables"],
            // Without a font it shows no text.
            Self::Chromium => &["chromium", "fonts-dejavu-core"],
            Self::Python => &["python3-venv"],
            // Not in the archives.
            Self::Terraform => &[],
        }
    }

    /// The step to install it if apt does not.
    pub(super) fn step(self, system: &System) -> String {
        let packages = self.packages();
        match (self, system) {
            (Self::Terraform, _) => TerraformError::Missing.hint().unwrap_or_default(),
            (Self::Python, System::Debian { .. }) => "as root: apt-get install python3-venv".to_owned(),
            (Self::Python, _) => "install Python 3 with its venv".to_owned(),
            (_, System::Debian { .. }) => format!("as root: apt-get install {}", packages[0]),
            (Self::Ip | Self::Iptables, System::MacOs) => "the tests' own engines run on Linux only".to_owned(),
            (Self::Docker, System::MacOs) => {
                "install and start Docker Desktop, or: brew install colima docker && colima start".to_owned()
            }
            (Self::Debootstrap, System::MacOs) | (Self::Debootstrap, System::Other) => {
                "the sample bases are made on Debian or Ubuntu only: run this there, for example in a virtual machine"
                    .to_owned()
            }
            (Self::DockerRegistry, System::MacOs | System::Other) => {
                "put `registry` of https://github.com/distribution/distribution/releases into PATH as docker-registry"
                    .to_owned()
            }
            (_, System::MacOs) => format!("brew install {}", self.program()),
            (Self::Docker, System::Other) => {
                "install docker (https://docs.docker.com/engine/install/) and start it".to_owned()
            }
            (_, System::Other) => format!("install {} with this system's package manager", self.program()),
        }
    }
}
