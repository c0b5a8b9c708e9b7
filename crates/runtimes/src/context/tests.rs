use super::*;

/// A context directory with these files.
pub(crate) fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    root
}

#[test]
fn the_copy_has_the_hashed_files_with_two_modes_and_one_time() {
    let root = directory(&[
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (".dockerignore", "Dockerfile\n*.md\n!keep.md\n"),
        ("a/b/run.sh", "#!/bin/sh\n"),
        ("notes.md", "x"),
        ("keep.md", "y"),
    ]);
    std::fs::create_dir(root.path().join("empty")).unwrap();
    std::fs::set_permissions(root.path().join("a/b/run.sh"), std::fs::Permissions::from_mode(0o740)).unwrap();
    std::os::unix::fs::symlink("../gone", root.path().join("a/link")).unwrap();
    let context = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap();
    let seen: Vec<_> = context.files().into_iter().map(|file| (file.path, file.mode)).collect();
    assert_eq!(
        seen,
        [
            (".dockerignore".to_owned(), Mode::File),
            ("a/b/run.sh".to_owned(), Mode::Executable),
            ("a/link".to_owned(), Mode::Symlink),
            ("keep.md".to_owned(), Mode::File),
        ]
    );
    let copy = tempfile::tempdir().unwrap();
    let staging = Staging::new(copy.path().join("store"));
    let rooms = ["one", "two"].map(|name| copy.path().join(name));
    let staged = rooms.each_ref().map(|room| {
        std::fs::create_dir(room).unwrap();
        staging.stage(&context, room).unwrap()
    });
    assert_ne!(staged[0].root.file_name(), staged[1].root.file_name(), "a builder would know it again");
    assert_eq!(staging.copied.lock().unwrap().len(), 3, "each file is copied once");
    for Staged { root, dockerfile, .. } in &staged {
        assert_eq!(std::fs::read(dockerfile).unwrap(), context.dockerfile);
        assert!(!root.join("Dockerfile").exists() && !root.join("empty").exists());
        let times: BTreeSet<i64> = [("a/b/run.sh", 0o755), ("keep.md", 0o644), ("a/link", 0o777)]
            .into_iter()
            .map(|(path, mode)| {
                let metadata = std::fs::symlink_metadata(root.join(path)).unwrap();
                assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
                std::os::unix::fs::MetadataExt::mtime(&metadata)
            })
            .collect();
        assert_eq!(times.len(), 3, "a time follows from the content");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(root), mode(&root.join("a"))), (0o755, 0o755));
    }
}

#[test]
fn a_file_that_changed_since_it_was_hashed_is_named() {
    let root = directory(&[("Dockerfile", "FROM scratch\n"), ("f", "one")]);
    let context = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap();
    std::fs::write(root.path().join("f"), "two").unwrap();
    let copy = tempfile::tempdir().unwrap();
    let error = Staging::new(copy.path().join("store")).stage(&context, copy.path()).unwrap_err();
    assert!(error.to_string().ends_with("/f has changed since it was hashed"), "{error}");
}

#[test]
fn a_file_with_an_archives_magic_may_be_unpacked() {
    let tar = || {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        tar.append_data(&mut header, "name", &b""[..]).unwrap();
        tar.into_inner().unwrap()
    };
    for (content, wanted) in [(&b"#!/bin/sh\n"[..], false), (b"", false), (b"BZh9", true), (&tar(), true)] {
        assert_eq!(may_unpack(&content[..content.len().min(MAGIC)]), wanted, "{content:?}");
    }
}

#[test]
fn a_socket_is_named() {
    let root = directory(&[("Dockerfile", "FROM scratch\n")]);
    let _listener = std::os::unix::net::UnixListener::bind(root.path().join("s")).unwrap();
    let error = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "/s cannot be part of a build context: it is neither a file, a directory nor a symlink"
        ),
        "{error}"
    );
}

#[test]
fn a_dockerfile_may_have_its_own_ignore_file() {
    let root = directory(&[
        ("Dockerfile", "FROM scratch\n"),
        (".dockerignore", "a\n"),
        ("Dockerfile.dockerignore", "*\n!a\n"),
        ("a", ""),
        ("b", ""),
    ]);
    let context = BuildContext::read(root.path(), "Dockerfile", &Reads::default()).unwrap();
    assert_eq!(context.files().into_iter().map(|file| file.path).collect::<Vec<_>>(), ["a"]);
}
