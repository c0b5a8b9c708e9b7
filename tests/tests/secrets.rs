//! No secret in any file, argument, log or document, during a run or after it.
//!
//! The run is like one with AWS itself: no `--local`, its own checkout, and credentials from the environment. Terraform's provider
//! needs those in its environment, where the user has set them; no other secret may be in a program's environment, and none in an
//! argument or a file.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use e2e::{Aws, REGION, Run, World, root};

const BUCKET: &str = "a-bank-of-its-own";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY4711SECRET";
const SESSION: &str = "FwoGZXIvYXdzEBYaDSESSION4712TOKEN";
const HUB_PASSWORD: &str = "dckr_pat_4713HubPassword";

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
[pull_through]
ecr-public = "public.ecr.aws"
"#;

/// Copies a directory's files, without terraform's own directory.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() && entry.file_name() != ".terraform" {
            copy(&path, &to);
        } else if path.is_file() {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// A program that records its arguments and environment and then becomes the real one.
fn recorded(world: &World, name: &str) {
    let real = e2e::program(name).unwrap();
    let notes = world.path("notes");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >>'{0}/arguments'\nenv >>'{0}/environment'\nexec '{1}' \"$@\"\n",
        notes.display(),
        real.display()
    );
    let program = world.write(&format!("bin/{name}"), &script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn new(aws: &Aws) -> Self {
        let (user, password) = aws.login();
        let encode = |text: String| base64::prelude::BASE64_STANDARD.encode(text);
        Self(vec![
            ("the AWS secret key", SECRET_KEY.to_owned()),
            ("the AWS session token", SESSION.to_owned()),
            ("Docker Hub's password", HUB_PASSWORD.to_owned()),
            ("Docker Hub's login", encode(format!("ada:{HUB_PASSWORD}"))),
            // Account and region come first in every token.
            ("ECR's token", password[..24].to_owned()),
            ("ECR's login", encode(format!("{user}:{password}"))[..24].to_owned()),
        ])
    }

    /// The names of the secrets that `bytes` contain.
    fn told(&self, bytes: &[u8]) -> Vec<&'static str> {
        let within = |secret: &str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        self.0.iter().filter(|(_, secret)| within(secret)).map(|(name, _)| *name).collect()
    }

    /// All files below `places` that contain one.
    fn in_files(&self, places: &[PathBuf], but: &Path) -> BTreeSet<String> {
        let (mut found, mut open) = (BTreeSet::new(), places.to_vec());
        while let Some(path) = open.pop() {
            let Ok(kind) = path.symlink_metadata() else { continue };
            if kind.is_dir() {
                open.extend(path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()));
            } else if kind.is_file() && path != but {
                // It may have been removed meanwhile.
                let told = self.told(&std::fs::read(&path).unwrap_or_default());
                found.extend(told.into_iter().map(|secret| format!("{secret} in {}", path.display())));
            }
        }
        found
    }
}

/// The arguments of this run's processes, as any user of the machine can read them.
fn arguments_of_all(group: u32) -> Vec<u8> {
    let processes = Path::new("/proc").read_dir().unwrap().flatten();
    let ours = processes.filter(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        fields.split(' ').nth(2) == Some(group.to_string().as_str())
    });
    ours.flat_map(|process| std::fs::read(process.path().join("cmdline")).unwrap_or_default()).collect()
}

#[test]
fn a_grid_from_creation_to_destruction_exposes_no_secret() {
    let Some(world) = World::grid(IMAGES) else { return };
    // Starts the emulated AWS, and configures the stand-in provider.
    world.xtask("init-images --create-state-bucket").ok();
    let aws = world.aws();
    let secrets = Arc::new(Secrets::new(&aws));
    let docker = world.path("docker/config.json");
    let hub = base64::prelude::BASE64_STANDARD.encode(format!("ada:{HUB_PASSWORD}"));
    std::fs::write(&docker, format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{hub}"}}}}}}"#))
        .unwrap();
    let checkout = world.path("checkout");
    for part in ["deployment", "runtimes"] {
        copy(&root().join(part), &checkout.join(part));
    }
    for name in ["checkout/xtask", "bin", "notes", "tmp"] {
        std::fs::create_dir(world.path(name)).unwrap();
    }
    recorded(&world, "terraform");
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    let run = |line: &str| -> Run {
        let line = format!(
            "{line} --verbose --format json REGION={REGION} S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME={BUCKET}"
        );
        let run = world.sourced().args(&line).within(&checkout).env("PATH", &path);
        run.env("AWS_ENDPOINT_URL", format!("http://{}", aws.host))
            .env("AWS_ACCESS_KEY_ID", "ASIASECONDOPERATOR00")
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_SESSION_TOKEN", SESSION)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("RUST_LOG", "trace")
            .env("TMPDIR", world.path("tmp"))
            .env("TF_CLI_CONFIG_FILE", world.path("local/terraform/terraform.tfrc"))
    };
    let places: Vec<PathBuf> = ["checkout", "home", "docker", "tmp", "target/xtask", "notes/arguments"]
        .map(|name| world.path(name))
        .into();

    for line in [
        "init-images --create-state-bucket",
        "transfer-images --auto-approve",
        "transfer-images",
        "list-images",
        "auto-destroy-images",
    ] {
        let running = run(line).start();
        let (over, group) = (Arc::new(AtomicBool::new(false)), running.pid());
        let watch = {
            let (over, secrets, places, docker) =
                (Arc::clone(&over), Arc::clone(&secrets), places.clone(), docker.clone());
            std::thread::spawn(move || {
                let mut told = BTreeSet::new();
                let mut looks = 0;
                while !over.load(Ordering::SeqCst) {
                    told.extend(secrets.in_files(&places, &docker));
                    let arguments = secrets.told(&arguments_of_all(group));
                    told.extend(arguments.into_iter().map(|secret| format!("{secret} in an argument")));
                    looks += 1;
                }
                (told, looks)
            })
        };
        let ended = running.end();
        over.store(true, Ordering::SeqCst);
        let (told, looks) = watch.join().unwrap();
        assert_eq!(ended.code, Some(0), "{line}: {ended}");
        assert!(looks > 0);
        assert_eq!(told, BTreeSet::new(), "during {line}");
        assert_eq!(secrets.in_files(&places, &docker), BTreeSet::new(), "after {line}");
        let all = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(secrets.told(all.as_bytes()), Vec::<&str>::new(), "{line} prints it");
    }
    // The search works: it finds the password in docker's own file.
    let found = secrets.in_files(&places, Path::new(""));
    assert_eq!(found, BTreeSet::from([format!("Docker Hub's login in {}", docker.display())]));
    let arguments = std::fs::read_to_string(world.path("notes/arguments")).unwrap();
    assert!(["init", "plan", "apply"].iter().all(|verb| arguments.contains(verb)), "{arguments}");
    // Terraform reads the credentials from the process: its environment has none.
    let environment = std::fs::read(world.path("notes/environment")).unwrap();
    assert_eq!(secrets.told(&environment), Vec::<&str>::new());
    // Everything in the account is in the state, and the state contains no secret either.
    for object in [".terraform/terraform.tfstate", ".terraform/terraform.tfstate.proof.json"] {
        assert_eq!(secrets.told(&aws.s3.get(BUCKET, object).unwrap()), Vec::<&str>::new(), "{object}");
    }
}
