//! What changes a key and what does not, on real files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::context::tests::directory;
use crate::context::{BuildContext, Reads};
use crate::key::{ContextFile, Inputs, Mode, VERSION, sha256};

fn inputs(root: &Path) -> Inputs {
    let context = BuildContext::read(root, "Dockerfile", &Reads::default()).unwrap();
    Inputs {
        args: [("ENTRY_POINT".to_owned(), "run.sh".to_owned())].into(),
        platforms: vec!["linux/amd64".to_owned()],
        base: Some(format!("sha256:{}", "a".repeat(64))),
        ..Inputs::new(&context.dockerfile, context.files())
    }
}

/// What a row of the table changes.
enum Step {
    Files(fn(&Path)),
    Inputs(fn(&mut Inputs)),
}
use Step::{Files, Inputs as Other};

#[test]
fn only_inputs_change_the_key() {
    // (what is done, how, what `--why` reports: empty if the key stays the same)
    let table: &[(&str, Step, &str)] = &[
        ("touch", Files(|root| touch(&root.join("run.sh"))), ""),
        ("an ignored file", Files(|root| std::fs::write(root.join("notes.md"), "new").unwrap()), ""),
        ("an empty directory", Files(|root| std::fs::create_dir(root.join("empty")).unwrap()), ""),
        ("group and other bits", Files(|root| chmod(&root.join("run.sh"), 0o600)), ""),
        ("the same again", Files(|_| {}), ""),
        (
            "chmod +x",
            Files(|root| chmod(&root.join("run.sh"), 0o755)),
            "file run.sh changed its mode from 100644 to 100755",
        ),
        (
            "a byte",
            Files(|root| std::fs::write(root.join("run.sh"), "echo 2").unwrap()),
            "file run.sh changed",
        ),
        (
            "moved to another directory",
            Files(|root| {
                std::fs::create_dir(root.join("e")).unwrap();
                std::fs::rename(root.join("d/data"), root.join("e/data")).unwrap();
            }),
            "file d/data was removed; file e/data was added",
        ),
        (
            "a symlink's target",
            Files(|root| {
                std::fs::remove_file(root.join("link")).unwrap();
                std::os::unix::fs::symlink("elsewhere", root.join("link")).unwrap();
            }),
            "file link changed",
        ),
        (
            "a file in the place of a symlink, same bytes",
            Files(|root| {
                std::fs::remove_file(root.join("link")).unwrap();
                std::fs::write(root.join("link"), "run.sh").unwrap();
            }),
            "file link changed its mode from 120000 to 100644",
        ),
        (
            "the Dockerfile",
            Files(|root| std::fs::write(root.join("Dockerfile"), "FROM scratch\n#\n").unwrap()),
            "the Dockerfile changed",
        ),
        (
            "an argument",
            Other(|inputs| drop(inputs.args.insert("ENTRY_POINT".into(), "x".into()))),
            "argument ENTRY_POINT changed from run.sh to x",
        ),
        (
            "an argument more",
            Other(|inputs| drop(inputs.args.insert("B".into(), String::new()))),
            "argument B changed from nothing to ",
        ),
        ("the base", Other(|inputs| inputs.base = None), "base moved from sha256:aaaaa"),
        (
            "the platform",
            Other(|inputs| inputs.platforms = vec!["linux/arm64".into()]),
            "platforms changed from linux/amd64 to linux/arm64",
        ),
        ("the target", Other(|inputs| inputs.target = Some("t".into())), "target changed from nothing to t"),
        (
            "a flag",
            Other(|inputs| inputs.flags.push("--network=host".into())),
            "builder flags changed from  to --network=host",
        ),
        (
            "the epoch",
            Other(|inputs| inputs.epoch = Some("2026-W47".into())),
            "epoch changed from nothing to 2026-W47",
        ),
    ];
    for (name, step, why) in table {
        let root = directory(&[
            ("Dockerfile", "FROM scratch\n"),
            (".dockerignore", "Dockerfile\n.dockerignore\n*.md\n"),
            ("run.sh", "echo 1"),
            ("d/data", "x"),
            ("notes.md", "old"),
        ]);
        chmod(&root.path().join("run.sh"), 0o644);
        std::os::unix::fs::symlink("run.sh", root.path().join("link")).unwrap();
        let before = inputs(root.path());
        if let Files(step) = step {
            step(root.path());
        }
        let mut after = inputs(root.path());
        if let Other(step) = step {
            step(&mut after);
        }
        assert_eq!(before.key() == after.key(), why.is_empty(), "{name}");
        let said: Vec<String> = after.changes_since(&before).iter().map(ToString::to_string).collect();
        assert!(said.join("; ").starts_with(why) && said.is_empty() == why.is_empty(), "{name}: {said:?}");
        let label = Inputs::from_label(&after.to_label()).unwrap();
        assert_eq!((label.key(), &label), (after.key(), &after), "{name}");
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn touch(path: &Path) {
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
}

#[test]
fn the_test_vector_of_the_document() {
    let document = include_str!("../../../../docs/build-key.md");
    let file = |path: &str, mode, content: &str| ContextFile {
        path: path.to_owned(),
        mode,
        sha256: sha256(content.as_bytes()),
    };
    let inputs = Inputs {
        args: [("ENTRY_POINT".to_owned(), "run.sh".to_owned()), ("EMPTY".to_owned(), String::new())].into(),
        target: None,
        platforms: vec!["linux/amd64".to_owned(), "linux/arm64".to_owned()],
        base: Some(format!("sha256:{}", "ab".repeat(32))),
        epoch: Some("2026-W47".to_owned()),
        ..Inputs::new(
            b"ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY . /\n",
            vec![
                file("run.sh", Mode::Executable, "#!/bin/sh\n"),
                file("link", Mode::Symlink, "run.sh"),
                file("data/é", Mode::File, ""),
            ],
        )
    };
    for value in [&inputs.context, &hex::encode(inputs.encode()), &inputs.key(), &inputs.to_label()] {
        let unwrapped: String = document.lines().map(str::trim).collect();
        assert!(unwrapped.contains(value.as_str()), "docs/build-key.md lacks {value}");
    }
}

#[test]
fn a_context_too_large_for_a_label_is_kept_as_its_digest() {
    let files = (0..2000)
        .map(|n| ContextFile { path: format!("file{n}"), mode: Mode::File, sha256: sha256(b"") })
        .collect();
    let inputs = Inputs::new(b"", files);
    let label = Inputs::from_label(&inputs.to_label()).unwrap();
    assert!(inputs.to_label().len() < 1024 && label.files.is_none());
    assert_eq!(label.key(), inputs.key());
    let other = Inputs::new(b"", Vec::new());
    let said: Vec<_> = other.changes_since(&label).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["a file of the context changed"]);
}

#[test]
fn a_label_of_another_version_is_not_read() {
    let mut inputs = Inputs::new(b"", Vec::new());
    for version in [VERSION - 1, VERSION + 1] {
        inputs.version = version;
        assert_eq!(Inputs::from_label(&inputs.to_label()), None);
    }
    assert_eq!(Inputs::from_label("{}"), None);
}
