//! The sample images: names, tags, media types and layers.

/// The format of an image's index and manifests; registries have both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    /// An OCI index with an attestation for every platform, as BuildKit pushes it.
    Oci,
    /// A Docker manifest list.
    Docker,
}

/// The content of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content {
    /// Random bytes for this name, in KiB on linux/amd64: images with the same name share the layer.
    Noise(&'static str, u64),
    /// The root file system that all bases share.
    RootFs,
    /// Entry point, emulator and runtime for the managed bases.
    Managed,
    /// Emulator and a bootstrap for the provided bases.
    Provided,
}

/// One image: a repository with a tag.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub(crate) registry: &'static str,
    pub(crate) repository: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) format: Format,
    pub(crate) layers: &'static [Content],
    pub(crate) entry_point: &'static [&'static str],
}

impl Image {
    /// The registry's host.
    pub fn registry(&self) -> &'static str {
        self.registry
    }

    /// The repository at the registry.
    pub fn repository(&self) -> &'static str {
        self.repository
    }

    /// The tag.
    pub fn tag(&self) -> &'static str {
        self.tag
    }

    /// `registry/repository`, its path on the server.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Whether it is a runtime's base or build image, with a file system of Lambda.
    pub(crate) fn is_lambda(&self) -> bool {
        self.layers.contains(&Content::RootFs)
    }
}

/// `os/architecture[/variant]` of every image; only the first one has its full size.
pub(crate) const PLATFORMS: [(&str, &str, Option<&str>); 4] = [
    ("linux", "amd64", None),
    ("linux", "arm64", None),
    ("linux", "arm", Some("v7")),
    ("linux", "s390x", None),
];

const KIB: u64 = 1;
const MIB: u64 = 1024 * KIB;

const ALPINE: Content = Content::Noise("alpine", 3 * MIB);
const DISTROLESS: Content = Content::Noise("distroless static", 2 * MIB);
const KEDA_COMMON: Content = Content::Noise("keda common", 7 * MIB);

/// The images that an HTC-Grid mirrors: 190 MiB for linux/amd64, shared layers counted once.
pub const MIRRORED: [Image; 5] = [
    Image {
        registry: "docker.io",
        repository: "curlimages/curl",
        tag: "7.85.0",
        format: Format::Docker,
        layers: &[ALPINE, Content::Noise("curl", 5 * MIB), Content::Noise("curl entrypoint", KIB)],
        entry_point: &["/entrypoint.sh"],
    },
    Image {
        registry: "docker.io",
        repository: "grafana/grafana",
        tag: "10.1.1",
        format: Format::Oci,
        layers: &[
            ALPINE,
            Content::Noise("grafana packages", 6 * MIB),
            Content::Noise("grafana home", 58 * MIB),
            Content::Noise("grafana bin", 28 * MIB),
            Content::Noise("grafana run.sh", 2 * KIB),
        ],
        entry_point: &["/run.sh"],
    },
    Image {
        registry: "ghcr.io",
        repository: "kedacore/keda",
        tag: "2.11.2",
        format: Format::Oci,
        layers: &[DISTROLESS, KEDA_COMMON, Content::Noise("keda", 32 * MIB)],
        entry_point: &["/keda", "--zap-log-level=info"],
    },
    Image {
        registry: "ghcr.io",
        repository: "kedacore/keda-metrics-apiserver",
        tag: "2.11.2",
        format: Format::Oci,
        layers: &[DISTROLESS, KEDA_COMMON, Content::Noise("keda-adapter", 27 * MIB)],
        entry_point: &["/keda-adapter", "--logtostderr=true"],
    },
    Image {
        registry: "ghcr.io",
        repository: "kedacore/keda-admission-webhooks",
        tag: "2.11.2",
        format: Format::Docker,
        layers: &[DISTROLESS, KEDA_COMMON, Content::Noise("keda-admission-webhooks", 22 * MIB)],
        entry_point: &["/keda-admission-webhooks", "--zap-log-level=info"],
    },
];

const fn base(
    repository: &'static str,
    tag: &'static str,
    format: Format,
    layers: &'static [Content],
) -> Image {
    Image {
        registry: "public.ecr.aws",
        repository,
        tag,
        format,
        layers,
        entry_point: &["/lambda-entrypoint.sh"],
    }
}

/// The bases of the Lambda runtimes, and the build image for Lambda functions.
pub const RUNTIME_BASES: [Image; 16] = [
    base("lambda/provided", "al2", Format::Docker, &[Content::RootFs, Content::Provided]),
    base(
        "lambda/provided",
        "al2023",
        Format::Oci,
        &[Content::RootFs, Content::Provided, Content::Noise("provided al2023", 4 * KIB)],
    ),
    base(
        "lambda/python",
        "3.8",
        Format::Docker,
        &[Content::RootFs, Content::Managed, Content::Noise("python 3.8", 2 * MIB)],
    ),
    base(
        "lambda/python",
        "3.12",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("python 3.12", 2 * MIB)],
    ),
    base(
        "lambda/python",
        "3.13",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("python 3.13", 2 * MIB)],
    ),
    base(
        "lambda/dotnet",
        "5.0",
        Format::Docker,
        &[Content::RootFs, Content::Managed, Content::Noise("dotnet 5", 3 * MIB)],
    ),
    base(
        "lambda/dotnet",
        "8",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("dotnet 8", 3 * MIB)],
    ),
    base(
        "lambda/java",
        "17",
        Format::Docker,
        &[Content::RootFs, Content::Managed, Content::Noise("java 17", 4 * MIB)],
    ),
    base(
        "lambda/java",
        "21",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("java 21", 4 * MIB)],
    ),
    base(
        "lambda/nodejs",
        "22",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("nodejs 22", 2 * MIB)],
    ),
    base(
        "lambda/python",
        "3.14",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("python 3.14", 2 * MIB)],
    ),
    base(
        "lambda/java",
        "25",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("java 25", 4 * MIB)],
    ),
    base(
        "lambda/nodejs",
        "24",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("nodejs 24", 2 * MIB)],
    ),
    base(
        "lambda/dotnet",
        "10",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("dotnet 10", 3 * MIB)],
    ),
    base(
        "lambda/java",
        "17.al2023",
        Format::Oci,
        &[Content::RootFs, Content::Managed, Content::Noise("java 17 al2023", 4 * MIB)],
    ),
    Image {
        registry: "public.ecr.aws",
        repository: "sam/build-python3.11",
        tag: "1",
        format: Format::Docker,
        layers: &[
            Content::RootFs,
            Content::Noise("python 3.11", 2 * MIB),
            Content::Noise("sam cli", 3 * MIB),
        ],
        entry_point: &[],
    },
];

const fn chart(
    registry: &'static str,
    repository: &'static str,
    tag: &'static str,
    layers: &'static [Content],
) -> Image {
    Image { registry, repository, tag, format: Format::Docker, layers, entry_point: &["/run"] }
}

/// The images that the charts of an HTC-Grid pull through ECR's cache.
pub const CHARTS: [Image; 11] = [
    chart(
        "public.ecr.aws",
        "eks/aws-load-balancer-controller",
        "v2.7.1",
        &[Content::Noise("load balancer controller", 64 * KIB)],
    ),
    chart(
        "public.ecr.aws",
        "cloudwatch-agent/cloudwatch-agent",
        "1.247350.0b251780",
        &[Content::Noise("cloudwatch agent", 64 * KIB)],
    ),
    chart(
        "public.ecr.aws",
        "aws-observability/aws-for-fluent-bit",
        "2.31.11",
        &[Content::Noise("fluent bit", 64 * KIB)],
    ),
    chart(
        "public.ecr.aws",
        "docker/library/influxdb",
        "1.8.10-alpine",
        &[Content::Noise("influxdb", 64 * KIB)],
    ),
    chart("public.ecr.aws", "docker/library/busybox", "1.31.1", &[Content::Noise("busybox", 64 * KIB)]),
    chart("quay.io", "kiwigrid/k8s-sidecar", "1.25.1", &[Content::Noise("k8s sidecar", 64 * KIB)]),
    chart("quay.io", "prometheus/prometheus", "v2.46.0", &[Content::Noise("prometheus", 64 * KIB)]),
    chart(
        "quay.io",
        "prometheus-operator/prometheus-config-reloader",
        "v0.67.0",
        &[Content::Noise("config reloader", 64 * KIB)],
    ),
    chart("quay.io", "prometheus/node-exporter", "v1.6.0", &[Content::Noise("node exporter", 64 * KIB)]),
    chart(
        "registry.k8s.io",
        "kube-state-metrics/kube-state-metrics",
        "v2.9.2",
        &[Content::Noise("kube-state-metrics", 64 * KIB)],
    ),
    chart(
        "registry.k8s.io",
        "autoscaling/cluster-autoscaler",
        "v1.31.0",
        &[Content::Noise("cluster autoscaler", 64 * KIB)],
    ),
];

/// Every image.
pub fn images() -> impl Iterator<Item = &'static Image> {
    MIRRORED.iter().chain(&RUNTIME_BASES).chain(&CHARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirrored_images_have_the_documented_sizes() {
        let mut seen = std::collections::BTreeMap::new();
        for layer in MIRRORED.iter().flat_map(|image| image.layers) {
            if let Content::Noise(name, kib) = layer {
                assert_eq!(*seen.entry(name).or_insert(kib), kib, "{name} must mean one layer");
            }
        }
        assert_eq!(seen.values().copied().sum::<u64>() / MIB, 190);
    }

    #[test]
    fn no_two_images_have_the_same_name_and_both_formats_occur() {
        let names: std::collections::BTreeSet<_> = images().map(|image| (image.path(), image.tag)).collect();
        assert_eq!(names.len(), 32);
        for format in [Format::Oci, Format::Docker] {
            assert!(MIRRORED.iter().any(|image| image.format == format));
            assert!(RUNTIME_BASES.iter().any(|image| image.format == format));
        }
    }
}
