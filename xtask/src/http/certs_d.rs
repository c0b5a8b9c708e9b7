//! Docker's certificates per host: `certs.d/HOST:PORT/` with CAs (`*.crt`) and client certificates (`*.cert` with `*.key`),
//! <https://docs.docker.com/engine/security/certificates/>. Podman uses the same format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificates for one host.
#[derive(Debug, Default)]
pub(super) struct HostCertificates {
    pub(super) host: String,
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    /// Why they cannot be used.
    pub(super) problem: Option<String>,
}

/// The directories of docker and podman, the user's own before the machine's.
pub(super) fn directories() -> Vec<PathBuf> {
    let home = std::env::home_dir();
    let set = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set.or_else(|| home.as_ref().map(|home| home.join(".config")));
    let own = config.into_iter().flat_map(|config| ["docker", "containers"].map(|name| config.join(name)));
    let own = own.chain(home.map(|home| home.join(".docker")));
    let machines = ["/etc/docker", "/etc/containers"].map(PathBuf::from);
    own.chain(machines).map(|directory| directory.join("certs.d")).collect()
}

/// Reads these directories. The first one with a host counts.
pub(super) fn read(directories: &[PathBuf]) -> Vec<HostCertificates> {
    let mut hosts = BTreeMap::new();
    for directory in directories {
        // Most machines have none, and some may not be readable.
        for entry in directory.read_dir().into_iter().flatten().flatten() {
            let Ok(host) = entry.file_name().into_string() else { continue };
            let files = files(&entry.path());
            if !files.is_empty() && !hosts.contains_key(&host) {
                hosts.insert(host.clone(), own(host, &files));
            }
        }
    }
    hosts.into_values().collect()
}

/// The files with certificates and keys, in order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let is_ours = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default();
        ["crt", "cert", "key"].iter().any(|known| extension == *known)
    };
    let mut files: Vec<PathBuf> = entries.filter(is_ours).collect();
    files.sort();
    files
}

fn own(host: String, files: &[PathBuf]) -> HostCertificates {
    let mut own = HostCertificates { host, ..HostCertificates::default() };
    for path in files {
        if let Err(problem) = own.take(path, files) {
            own.problem.get_or_insert(problem);
        }
    }
    own
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file's content. Errors show its name without its directory.
fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|why| format!("{}: {why}", name(path)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = bytes(path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().unwrap_or_default();
    if found.is_empty() { Err(format!("{} holds no PEM certificates", name(path))) } else { Ok(found) }
}

impl HostCertificates {
    fn take(&mut self, path: &Path, files: &[PathBuf]) -> Result<(), String> {
        let beside = |extension: &str| {
            let wanted = path.with_extension(extension);
            let problem = format!("{} has no {} next to it", name(path), name(&wanted));
            if files.contains(&wanted) { Ok(wanted) } else { Err(problem) }
        };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => self.authorities.extend(certificates(path)?),
            Some("cert") => {
                let key = beside("key")?;
                // Without the parser's reason, which may quote the key.
                let key = PrivateKeyDer::from_pem_slice(&bytes(&key)?)
                    .map_err(|_| format!("{} holds no PEM key", name(&key)))?;
                self.identity.get_or_insert((certificates(path)?, key));
            }
            _ => drop(beside("cert")?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn authorities_and_client_certificates_are_read_by_host() {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let pem = CertificateParams::new(["x".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("own/reg.corp:5000/ca.crt", &pem);
        write("own/reg.corp:5000/more.crt", &format!("{pem}{pem}"));
        write("own/reg.corp:5000/client.cert", &pem);
        write("own/reg.corp:5000/client.key", &key.serialize_pem());
        write("own/empty.corp/README", "nothing");
        write("own/hosts.toml", "");
        write("machine/reg.corp:5000/ca.crt", "hidden by the user's own");
        write("machine/broken.corp/ca.crt", "no certificate");
        write("machine/keyless.corp/client.cert", &pem);
        write("machine/certless.corp/client.key", "hunter2");
        write("machine/badkey.corp/client.cert", &pem);
        write("machine/badkey.corp/client.key", "hunter2");
        let directories = ["own", "machine", "absent"].map(|name| dir.path().join(name));
        let found = read(&directories);
        let summary: Vec<_> = found
            .iter()
            .map(|own| {
                let problem = own.problem.clone().unwrap_or_default();
                (own.host.as_str(), own.authorities.len(), own.identity.is_some(), problem)
            })
            .collect();
        let told = |text: &str| text.to_owned();
        assert_eq!(
            summary,
            [
                ("badkey.corp", 0, false, told("client.key holds no PEM key")),
                ("broken.corp", 0, false, told("ca.crt holds no PEM certificates")),
                ("certless.corp", 0, false, told("client.key has no client.cert next to it")),
                ("keyless.corp", 0, false, told("client.cert has no client.key next to it")),
                ("reg.corp:5000", 3, true, String::new()),
            ]
        );
    }
}
