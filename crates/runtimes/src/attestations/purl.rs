//! Package URLs (<https://github.com/package-url/purl-spec>).

use registry::{Digest, Reference};

use crate::packages::{Manager, Package, System};

/// A package of an image's system; `None` if the system is unknown.
pub(super) fn package(package: &Package, system: Option<&System>) -> Option<String> {
    let system = system?;
    let kind = match package.manager {
        Manager::Dpkg => "deb",
        Manager::Rpm => "rpm",
        Manager::Apk => "apk",
    };
    let distribution = match &system.version {
        Some(version) => format!("{}-{version}", system.id),
        None => system.id.clone(),
    };
    let epoch = package.epoch.map(|epoch| epoch.to_string());
    let source = package.source.as_deref().filter(|_| package.manager == Manager::Rpm);
    let qualifiers = [
        ("arch", package.arch.as_deref()),
        ("distro", Some(distribution.as_str())),
        ("epoch", epoch.as_deref()),
        ("upstream", source),
    ];
    let (id, name, version) = (encoded(&system.id), encoded(&package.name), encoded(&package.version));
    Some(format!("pkg:{kind}/{id}/{name}@{version}{}", query(&qualifiers)))
}

/// An image of a registry, by its digest.
pub(super) fn image(name: &Reference, digest: &Digest) -> String {
    let last = name.repository().rsplit('/').next().unwrap_or_default();
    let repository = format!("{}/{}", name.registry(), name.repository());
    let qualifiers = [("repository_url", Some(repository.as_str())), ("tag", name.tag())];
    format!("pkg:oci/{}@{}{}", encoded(last), encoded(&digest.to_string()), query(&qualifiers))
}

/// An image that does not belong to a registry.
pub(super) fn local_image(repository: &str, digest: &Digest, arch: &str, tag: &str) -> String {
    let qualifiers = [("arch", Some(arch)), ("tag", Some(tag))];
    format!("pkg:oci/{}@{}{}", encoded(repository), encoded(&digest.to_string()), query(&qualifiers))
}

/// The qualifiers that have a value; the caller sorts them by name.
fn query(qualifiers: &[(&str, Option<&str>)]) -> String {
    let given = qualifiers.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?))));
    let given: Vec<String> = given.collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(byte.into());
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}
