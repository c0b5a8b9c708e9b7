//! Debian's docker-registry: an independent registry.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::{command, get, program};

/// A running registry; it ends when dropped.
#[derive(Debug)]
pub struct DebianRegistry {
    child: Child,
    host: String,
    data: TempDir,
}

impl DebianRegistry {
    /// Starts a registry on a port chosen by the kernel, or reports that it is not installed.
    pub fn start() -> Option<Self> {
        let program = program("docker-registry")?;
        let data = tempfile::tempdir().unwrap();
        let config = data.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: text\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n",
            data.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let mut serve = command(program);
        serve.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = serve.spawn().unwrap();
        // It logs its address: `msg="listening on 127.0.0.1:40123"`.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = loop {
            let line = lines.next().expect("docker-registry ended").unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(['"', ' ', ',']).next().unwrap().to_owned();
            }
        };
        // A full pipe would block it.
        std::thread::spawn(move || lines.for_each(drop));
        let registry = Self { child, host, data };
        assert_eq!(get(&format!("http://{}/v2/", registry.host)).status, 200);
        Some(registry)
    }

    /// Its host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// All files of its storage.
    pub fn files(&self) -> Vec<String> {
        let mut folders = vec![self.data.path().join("data")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().into_iter().flatten().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => files.push(entry.path().display().to_string()),
                }
            }
        }
        files
    }

    /// A blob's file (<https://github.com/distribution/distribution/blob/v2.8.2/registry/storage/paths.go>).
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.data.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    /// Removes a tag, as the owner of a preview does.
    pub fn forget(&self, repository: &str, tag: &str) {
        let manifests = format!("data/docker/registry/v2/repositories/{repository}/_manifests");
        std::fs::remove_dir_all(self.data.path().join(manifests).join("tags").join(tag)).unwrap();
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
