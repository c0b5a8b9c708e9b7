//! Compares the context's files with those that docker itself uses, with both of its builders.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use process::Cmd;

use super::world::skipped;
use crate::context::tests::directory;
use crate::context::{BuildContext, Reads, Staging};
use crate::ignore::Ignore;

/// A client that supports BuildKit, and one with the legacy builder.
fn clients() -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    for path in which::which_all("docker").into_iter().flatten() {
        let up = Cmd::new(&path).args(["version", "--format", "{{.Server.Version}}"]).read().is_ok();
        let help =
            |buildkit| Cmd::new(&path).env("DOCKER_BUILDKIT", buildkit).args(["build", "--help"]).read();
        if !up {
            continue;
        }
        if help("1").is_ok_and(|help| help.contains("--progress"))
            && !found.iter().any(|(name, _)| *name == "1")
        {
            found.push(("1", path.clone()));
        }
        if !found.iter().any(|(name, _)| *name == "0") {
            found.push(("0", path));
        }
    }
    for (buildkit, what) in [("0", "a docker engine"), ("1", "a docker client with BuildKit")] {
        if !found.iter().any(|(name, _)| *name == buildkit) {
            skipped("the context against docker's", what);
        }
    }
    found
}

/// Builds `FROM scratch`, `COPY . /` and lists the files of the image's only layer.
fn taken(client: &Path, buildkit: &str, root: &Path, dockerfile: &Path) -> BTreeSet<String> {
    let image = format!("context-test:{}-{buildkit}", std::process::id());
    let docker =
        |args: &[&str]| Cmd::new(client).env("DOCKER_BUILDKIT", buildkit).args(args.to_vec()).read().unwrap();
    let (root, dockerfile) = (root.display().to_string(), dockerfile.display().to_string());
    docker(&["build", "--no-cache", "--quiet", "--tag", &image, "--file", &dockerfile, &root]);
    let room = tempfile::tempdir().unwrap();
    let saved = room.path().join("image.tar");
    docker(&["save", "--output", &saved.display().to_string(), &image]);
    docker(&["rmi", &image]);
    let mut outer = tar::Archive::new(std::fs::File::open(&saved).unwrap());
    let mut files = BTreeSet::new();
    for entry in outer.entries().unwrap() {
        let entry = entry.unwrap();
        if entry.path().unwrap().ends_with("layer.tar") {
            for entry in tar::Archive::new(entry).entries().unwrap() {
                let entry = entry.unwrap();
                if !entry.header().entry_type().is_dir() {
                    files.insert(entry.path().unwrap().display().to_string());
                }
            }
        }
    }
    files
}

/// (the ignore file, whether docker may include fewer files: see the module `ignore`)
const IGNORES: &[(&str, bool)] = &[
    ("", false),
    ("Dockerfile\n.dockerignore\n", false),
    ("# a comment\n*.md\n!README.md\n", false),
    ("*\n!run.sh\n!d/e/keep.txt\n", false),
    ("d\n!d/e/keep.txt\n", false),
    ("**/*.txt\n", false),
    ("**/keep.txt\n", false),
    ("*/*.txt\n", false),
    ("d/**\n", false),
    ("/d/e/\n", false),
    ("d/*/keep.txt\n", false),
    ("./run.sh\n  top.txt  \n", false),
    ("?un.sh\n[a-n]ink\n", false),
    ("**\n!**/*.sh\n", true),
    (".dockerignore\nd\n!**/keep.txt\n", true),
    ("!run.sh\n*.sh\n", false),
    ("*\n!d\nd/e\n!d/e/other.txt\n", false),
    ("a\\ b\n", false),
    ("a b\nétat\n", false),
];

#[test]
fn the_context_has_the_same_files_as_dockers() {
    let clients = clients();
    if clients.is_empty() {
        return;
    }
    for (ignore, may_see_less) in IGNORES {
        let root = directory(&[
            ("Dockerfile", "FROM scratch\nCOPY . /\n"),
            (".dockerignore", ignore),
            ("run.sh", ""),
            ("top.txt", ""),
            ("README.md", ""),
            ("other.md", ""),
            ("a b", ""),
            ("état", ""),
            ("d/file", ""),
            ("d/top.txt", ""),
            ("d/e/keep.txt", ""),
            ("d/e/other.txt", ""),
            ("d/e/f/keep.txt", ""),
            ("d/run.sh", ""),
        ]);
        std::os::unix::fs::symlink("run.sh", root.path().join("link")).unwrap();
        // At least one file has to be left, or the builders reject the COPY; for some of them the Dockerfile itself does not count.
        let context = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap();
        let ours: BTreeSet<String> = context.files().into_iter().map(|file| file.path).collect();
        let staged = tempfile::tempdir().unwrap();
        let copy = Staging::new(staged.path().join("store")).stage(&context, staged.path()).unwrap();
        for (buildkit, client) in &clients {
            let docker = taken(client, buildkit, root.path(), &root.path().join("Dockerfile"));
            if *may_see_less {
                assert!(docker.is_subset(&ours), "{ignore:?}: {docker:?} {ours:?}");
                // Every builder copies all files of the copy.
                let docker = taken(client, buildkit, &copy.root, &copy.dockerfile);
                assert_eq!(docker, ours, "the copy of {ignore:?} with DOCKER_BUILDKIT={buildkit}");
            } else {
                assert_eq!(docker, ours, "{ignore:?} with DOCKER_BUILDKIT={buildkit}");
            }
        }
        let parsed = Ignore::parse(".dockerignore", ignore.as_bytes()).unwrap();
        assert!(ours.iter().all(|path| !parsed.excludes(path)));
    }
}
