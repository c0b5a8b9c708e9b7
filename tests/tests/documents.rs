//! The pages for users: the messages that they explain exist, the commands in them are accepted, and their links work.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::path::{Path, PathBuf};

use e2e::{INIT, Images, World, checkout, root};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README.md, and the pages of docs/.
fn pages() -> Vec<PathBuf> {
    let docs = root().join("docs").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        docs.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.push(root().join("README.md"));
    pages.sort();
    assert!(pages.len() > 8, "{pages:?}");
    pages
}

/// Every Rust file that may contain a message for users.
fn sources() -> String {
    let mut all = String::new();
    let mut open = vec![root().join("xtask/src"), root().join("crates")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            all += &read(&path);
        }
    }
    all
}

#[test]
fn the_explained_messages_exist() {
    let sources = sources();
    let page = read(&root().join("docs/troubleshooting.md"));
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() > 10, "{rows:?}");
    for row in rows {
        let message = row.split(" | ").next().unwrap();
        for words in message.split('`').skip(1).step_by(2) {
            assert!(sources.contains(words), "nothing says {words:?}");
        }
    }
}

/// The arguments of each command line on a page: indented, or in a list of shell lines. A line is read up to its first shell
/// syntax.
fn command_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("    ") || line.trim_start().starts_with("- ")) {
        let Some((before, arguments)) = line.split_once("cargo xtask ") else { continue };
        // Text may be indented, too: before a command there may be a list's mark, variables and the end of another command.
        let before = before.trim().trim_start_matches("- ");
        if !["", "-"].contains(&before) && !before.split(' ').all(|word| word.contains('=')) {
            continue;
        }
        let words = arguments.split_whitespace();
        let words = words.take_while(|word| !["#", "|", "&&", "||", ">", ";", "--"].contains(word));
        let line: Vec<&str> = words.map(|word| word.trim_matches(['`', '"', ')', ';'])).collect();
        // A placeholder, not a line to be typed.
        if !line.iter().any(|word| word.contains(['[', '$']) || word.contains("..") || *word == "NAME") {
            lines.push(line.join(" "));
        }
    }
    lines
}

#[test]
fn the_commands_on_the_pages_are_accepted() {
    let Some(world) = World::new(Images::Small) else { return };
    let mut tried = 0;
    for page in pages() {
        for line in command_lines(&read(&page)) {
            // Everything before it is read first, and rejected if it is wrong.
            let run = world.bare().args(&line).arg("--help").end();
            assert_eq!(run.code, Some(0), "{}: {line}\n{run}", page.display());
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
}

/// Commands that are not for the emulated AWS of a test: those that set their own target, compile, or have another list.
const ELSEWHERE: [&str; 6] = ["--local", "demo", "test", "local ", "--shard", "mirror.example"];

/// The exit codes that a line of a page may have here.
fn codes(line: &str) -> &'static [i32] {
    match line.split(' ').next().unwrap() {
        // It checks this machine, which may have no container engine.
        "doctor" => &[0, 4, 10],
        // Their exit codes show whether something changes.
        "watch" => &[0, 11],
        _ if line.contains("--exit-code") => &[0, 11],
        _ => &[0],
    }
}

#[test]
fn the_commands_on_the_pages_work_in_order() {
    let Some(world) = World::grid("schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n") else {
        return;
    };
    world.xtask(INIT).arg("TAG=prod").ok();
    checkout(&world);
    let here = world.path("project");
    let config = root().join("tests/tests/fixtures/images_config.json").display().to_string();
    let mut run = 0;
    for page in pages() {
        // Each page starts with a new account.
        let _ = std::fs::remove_file(here.join("grid.tar"));
        for line in command_lines(&read(&page)) {
            if ELSEWHERE.iter().any(|words| line.contains(words)) {
                continue;
            }
            let line = line.replace("../htc-grid/deployment/image_repository/images_config.json", &config);
            // All pages are about one grid, unless they name another one.
            let grid = if line.contains("TAG=") { "" } else { "--tag prod" };
            let ended = world.xtask(&line).args(grid).within(&here).stdin("yes\n").end();
            let code = ended.code.unwrap();
            assert!(codes(&line).contains(&code), "{}: {line}\n{ended}", page.display());
            run += 1;
        }
    }
    assert!(run > 25, "{run}");
}

#[test]
fn the_links_on_the_pages_work() {
    let mut followed = 0;
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") || link.starts_with('#') || link.contains(' ') {
                continue;
            }
            let file = link.split('#').next().unwrap();
            assert!(page.parent().unwrap().join(file).exists(), "{}: {link}", page.display());
            followed += 1;
        }
    }
    assert!(followed > 30, "{followed}");
}
