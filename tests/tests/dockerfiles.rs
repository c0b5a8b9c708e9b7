//! The build key covers everything that docker takes from elsewhere for a Dockerfile: docker itself builds the corpus of the tool's
//! Dockerfile parser, with a registry that records the requests.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use e2e::{Builder, Engine, command, digest as sha256, on_each_builder, program, root, skip};
use serde_json::json;

const STATIC: &str = "/bin/busybox";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A registry that has every image under every name, and a file server; it records the requests.
struct Double {
    host: String,
    layer: Arc<Layer>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// The layer of all images.
struct Layer {
    bytes: Vec<u8>,
    digest: String,
}

/// An image's configuration and manifest. Each repository has another one: engines cache by digest.
fn image(layer: &Layer, repository: &str, host: &str) -> (Vec<u8>, Vec<u8>) {
    let name = repository.rsplit('/').next().unwrap();
    let group = repository.split('/').next().unwrap();
    let triggers = if name == "triggers" {
        json!([format!("ADD http://{host}/files/{group}/trigger /t")])
    } else {
        json!(null)
    };
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {
            "Labels": {"repository": repository}, "OnBuild": triggers,
            "Env": ["PATH=/bin", format!("FROM_THE_BASE=http://{host}/files/{group}/one")],
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"}],
    });
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": sha256(&config)},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": layer.bytes.len(), "digest": layer.digest}],
    });
    (config, serde_json::to_vec(&manifest).unwrap())
}

impl Double {
    fn start(bytes: Vec<u8>) -> Self {
        let layer = Arc::new(Layer { digest: sha256(&bytes), bytes });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let double = Self { host, layer, asked };
        let (host, layer, asked) =
            (double.host.clone(), Arc::clone(&double.layer), Arc::clone(&double.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let (host, layer, asked) = (host.clone(), Arc::clone(&layer), Arc::clone(&asked));
                // An engine that closes the connection is not an error here.
                std::thread::spawn(move || drop(serve(stream, &host, &layer, &asked)));
            }
        });
        double
    }

    fn manifest(&self, repository: &str) -> String {
        sha256(&image(&self.layer, repository, &self.host).1)
    }

    /// The requests below `group` since the last call, in the format of the table.
    fn asked(&self, group: &str) -> BTreeSet<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        let mut images: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut found = BTreeSet::new();
        for path in asked {
            if let Some(file) = path.strip_prefix(&format!("/files/{group}")) {
                found.insert(file.to_owned());
            } else if let Some(rest) = path.strip_prefix(&format!("/v2/{group}/"))
                && let Some((name, reference)) = rest.split_once("/manifests/")
            {
                images.entry(name.to_owned()).or_default().insert(reference.to_owned());
            }
        }
        for (name, references) in images {
            // A tag is looked up first, and its digest follows.
            let tags: Vec<&String> = references.iter().filter(|reference| !reference.contains(':')).collect();
            found.extend(tags.iter().map(|tag| format!("{name}:{tag}")));
            if tags.is_empty() {
                found.insert(format!("{name}@"));
            }
        }
        found
    }
}

fn serve(
    mut stream: TcpStream,
    host: &str,
    layer: &Layer,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    // A client that tries TLS first continues without it when it reads plain HTTP.
    if reader.fill_buf()?.first() == Some(&0x16) {
        return stream.write_all(b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut field = String::new();
            reader.read_line(&mut field)?;
            if field.trim().is_empty() {
                break;
            }
            if let Some(value) = field.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        asked.lock().unwrap().push(path.to_owned());
        let answer = answer(path, host, layer);
        let (status, kind, body) = match &answer {
            Some((kind, body)) => ("200 OK", kind.as_str(), body.as_slice()),
            None => ("404 Not Found", "text/plain", &b"none"[..]),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\r\n",
            body.len(),
            sha256(body)
        )?;
        if method != "HEAD" {
            stream.write_all(body)?;
        }
    }
}

fn answer(path: &str, host: &str, layer: &Layer) -> Option<(String, Vec<u8>)> {
    if path.starts_with("/files/") {
        return Some(("text/plain".to_owned(), format!("{host}{path}").into_bytes()));
    }
    let rest = path.strip_prefix("/v2/")?;
    if rest.is_empty() {
        return Some(("application/json".to_owned(), b"{}".to_vec()));
    }
    let (repository, reference) = rest.split_once("/manifests/").or_else(|| rest.split_once("/blobs/"))?;
    let (config, manifest) = image(layer, repository, host);
    if rest.contains("/manifests/") {
        return (!reference.contains(':') || reference == sha256(&manifest))
            .then(|| (MANIFEST.to_owned(), manifest));
    }
    let blob = if reference == layer.digest {
        layer.bytes.clone()
    } else {
        Some(config).filter(|config| sha256(config) == reference)?
    };
    Some(("application/octet-stream".to_owned(), blob))
}

/// A layer in which a shell runs.
fn layer(dir: &Path) -> Vec<u8> {
    let bin = dir.join("layer/bin");
    std::fs::create_dir_all(&bin).unwrap();
    for name in ["sh", "cat", "true", "chmod"] {
        std::fs::copy(STATIC, bin.join(name)).unwrap();
    }
    std::fs::write(dir.join("layer/content"), "content\n").unwrap();
    let packed = command("tar").arg("-C").arg(dir.join("layer")).args(["-c", "."]).output().unwrap();
    assert!(packed.status.success());
    packed.stdout
}

/// A client of this builder with its own configuration.
fn client(engine: &Engine, config: &Path) -> Command {
    let mut client = engine.own_client();
    client.env("DOCKER_CONFIG", config);
    client
}

on_each_builder!(everything_that_docker_fetches_is_in_the_build_key);

fn everything_that_docker_fetches_is_in_the_build_key(builder: Builder) {
    // The image store makes no difference for the requests.
    if builder == Builder::BuildxContainerd {
        return;
    }
    if !Path::new(STATIC).exists() || program("tar").is_none() {
        return skip("/bin/busybox, statically linked (busybox-static), or tar is missing");
    }
    let Some(engine) = builder.engine() else { return };
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(layer(dir.path()));
    let folder = root().join("crates/dockerfile/corpus");
    let table = std::fs::read_to_string(folder.join("table.txt")).unwrap();
    let mut wrong = Vec::new();
    let (context, config) = (dir.path().join("context"), dir.path().join("config"));
    std::fs::create_dir_all(context.join("dir")).unwrap();
    std::fs::create_dir(&config).unwrap();
    engine.configure(&config);
    for name in ["f", "start", "dir/f"] {
        std::fs::write(context.join(name), "#!/bin/sh\n").unwrap();
    }
    for (number, row) in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).enumerate() {
        let columns: Vec<&str> = row.split(" | ").collect();
        let [name, ours, legacy, buildx, verdict] = columns[..] else { panic!("{row}") };
        let group = format!("n{number}");
        let text = std::fs::read_to_string(folder.join(format!("{name}.Dockerfile"))).unwrap();
        let target = text.strip_prefix("# target: ").and_then(|rest| rest.lines().next()).map(str::to_owned);
        std::fs::write(dir.path().join("Dockerfile"), rendered(&text, &group, &double)).unwrap();
        let tag = format!("e2e-corpus-{}:{group}", double.host.replace([':', '.'], "-"));
        let base = format!("{}/{group}/base", double.host);
        let base = format!("{base}@{}", double.manifest(&format!("{group}/base")));
        let mut build = client(&engine, &config);
        build
            .args(["build", "--quiet", "--force-rm", "--tag", &tag, "--file"])
            .arg(dir.path().join("Dockerfile"));
        for argument in ["BASE_IMAGE", "HTCGRID_ECR_REPO"] {
            build.arg("--build-arg").arg(format!("{argument}={base}"));
        }
        build.args(target.iter().flat_map(|target| ["--target", target])).arg(&context);
        let output = build.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let _ = engine.client().args(["image", "rm", "--force", &tag]).output();
        let expected = match if builder == Builder::Legacy { legacy } else { buildx } {
            "=" => ours,
            other => other,
        };
        let expected: BTreeSet<String> =
            expected.split(' ').filter(|word| *word != "-").map(str::to_owned).collect();
        let found = double.asked(&group);
        let is_pinned = |what: &String| {
            let covered = ours.split(' ').any(|ours| ours == what);
            what == "base@" || covered
        };
        let unseen = verdict == "ok" && name != "onbuild-of-the-base" && !found.iter().all(is_pinned);
        if found != expected || unseen {
            wrong.push(format!(
                "{builder:?}, {name}: asked for {found:?}, the table says {expected:?}\n    {}",
                said.trim().lines().last().unwrap_or_default()
            ));
        }
    }
    clean(&engine, &double.host);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Fills in `{{...}}`.
fn rendered(text: &str, group: &str, double: &Double) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap();
        out.push_str(before);
        let host = &double.host;
        out.push_str(&match name {
            "host" => format!("{host}/{group}"),
            "http" => format!("http://{host}/files/{group}"),
            // A builder that has the content already sends no request: each Dockerfile gets other content.
            "sum" => sha256(format!("{host}/files/{group}/one").as_bytes()),
            name => match name.strip_suffix('@') {
                Some(name) => {
                    format!("{host}/{group}/{name}@{}", double.manifest(&format!("{group}/{name}")))
                }
                None => format!("{host}/{group}/{name}"),
            },
        });
        rest = after;
    }
    out + rest
}

/// Removes the images that the engine has pulled.
fn clean(engine: &Engine, host: &str) {
    let format = "{{.Repository}}:{{.Tag}}@{{.Digest}}";
    let listed = engine.client().args(["image", "ls", "--digests", "--format", format]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let own = format!("{host}/");
    let pulled: Vec<String> = listed
        .lines()
        .filter(|image| image.starts_with(&own))
        .map(|image| image.replace(":<none>", "").replace("@<none>", ""))
        .collect();
    if !pulled.is_empty() {
        let _ = engine.client().args(["image", "rm", "--force"]).args(pulled).output();
    }
}

/// BuildKit's own checks (<https://docs.docker.com/reference/build-checks/>) have no warning for the runtimes' Dockerfile.
#[test]
fn buildkit_has_no_warnings_for_the_runtimes_dockerfile() {
    let Some(engine) = Builder::Buildx.engine() else { return };
    let config = tempfile::tempdir().unwrap();
    engine.configure(config.path());
    let checked = client(&engine, config.path())
        .args(["build", "--check"])
        .arg(root().join("runtimes"))
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.contains("no warnings found"), "{said}");
}
