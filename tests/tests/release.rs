//! The content of a release: `.ci/release` packs it, on each machine of the workflow.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::{RELEASED, cargo, command, read, released, root, say, target};

const WORKFLOW: &str = ".github/workflows/release.yml";

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_release_has_the_program_man_pages_and_completions() {
    // Compiled together with the programs of the other tests, and tested by outside_checkout.rs.
    let program = released();
    let dir = tempfile::tempdir().unwrap();
    let environment = |script: &mut std::process::Command| {
        for (name, value) in cargo().get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.env("PROFILE", "dev").env("TESTED", "yes").env("CARGO_TARGET_DIR", target()).arg(dir.path());
    };
    let mut script = command(root().join(".ci/release"));
    environment(&mut script);
    read(script.env_remove("GITHUB_REF"));
    let packed = names(dir.path());
    let [archive] = packed.as_slice() else { panic!("{packed:?}") };
    let name = archive.strip_suffix(".tar.gz").unwrap();
    assert!(
        name.starts_with("htc-grid-images-linux-") || name.starts_with("htc-grid-images-darwin-"),
        "{name}"
    );

    read(command("tar").arg("-xzf").arg(dir.path().join(archive)).arg("-C").arg(dir.path()));
    let folder = dir.path().join(name);
    assert_eq!(names(&folder), ["LICENSE", "completions", "htc-grid-images", "man"]);
    assert!(std::fs::read(folder.join("htc-grid-images")).unwrap() == std::fs::read(program).unwrap());
    assert_eq!(
        std::fs::metadata(folder.join("htc-grid-images")).unwrap().permissions().mode() & 0o111,
        0o111
    );
    let completions = ["bash", "fish", "zsh"].map(|shell| format!("htc-grid-images.{shell}"));
    assert_eq!(names(&folder.join("completions")), completions);
    let bash = std::fs::read_to_string(folder.join("completions/htc-grid-images.bash")).unwrap();
    assert!(bash.contains("complete -F ") && bash.contains(" htc-grid-images\n"), "{bash}");
    rendered(&folder.join("man/man1"));

    // A tag that is not the version does not make a release.
    let mut script = command(root().join(".ci/release"));
    environment(&mut script);
    let refused = script.env("GITHUB_REF", "refs/tags/v999.0.0").output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("v999.0.0 is not v"), "{said}");
}

/// Each page, with man and mandoc if they are installed: neither has a warning.
fn rendered(pages: &Path) {
    let all = names(pages);
    assert!(all.len() > 30 && all.contains(&"htc-grid-images-local-up.1".to_owned()), "{all:?}");
    for page in all {
        let page = pages.join(page);
        for (program, line) in [("man", "--warnings --local-file"), ("mandoc", "-T lint -W warning")] {
            let there = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .any(|dir| dir.join(program).is_file());
            if !there {
                say(&format!("SKIPPED: {program} is not in PATH"));
                continue;
            }
            let run =
                command(program).args(line.split(' ')).arg(&page).env("MANPAGER", "cat").output().unwrap();
            let said = String::from_utf8_lossy(&run.stderr);
            assert!(run.status.success() && said.is_empty(), "{program} {}: {said}", page.display());
            let shown = String::from_utf8_lossy(&run.stdout);
            assert!(program != "man" || shown.contains("SYNOPSIS"), "{}: {shown}", page.display());
        }
    }
}

#[test]
fn the_workflows_programs_and_files_exist() {
    let workflow = std::fs::read_to_string(root().join(WORKFLOW)).unwrap();
    for line in
        workflow.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
    {
        let (action, version) = line.split_once(" # v").unwrap_or_else(|| panic!("{line} has no version"));
        let commit = action.split_once('@').unwrap().1;
        assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{line}");
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    }
    let run: Vec<&str> = workflow
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("run: "))
        .collect();
    assert_eq!(
        run.iter().filter(|line| line.starts_with(".ci/release dist --target ")).count(),
        1,
        "{run:?}"
    );
    // Steps that only a real release runs: the profile, and the test of the program.
    let script = std::fs::read_to_string(root().join(".ci/release")).unwrap();
    assert!(script.contains("${PROFILE:-dist}") && script.contains("--test outside_checkout"), "{script}");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("[profile.dist]\n"));
    assert!(root().join("tests/tests/outside_checkout.rs").is_file());
    assert!(script.contains(RELEASED));
}
