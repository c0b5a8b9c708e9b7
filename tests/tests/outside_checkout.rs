//! The program of a release: one file, without Rust and without a checkout, with a grid's files in it or written out by it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use e2e::{INIT, Images, World, outside, outside_at_aws};
use serde_json::Value;

const PROGRAM: &str = "htc-grid-images";
const IMAGES: &str = "deployment/image_repository/images.toml";
/// Commands that compile programs of the workspace.
const OF_THE_WORKSPACE: [&str; 4] = ["bench", "demo", "local up", "test"];
/// Exit codes.
const USAGE: i32 = 2;
const CONFIGURATION: i32 = 3;
const MISSING_TOOL: i32 = 4;

/// All files and folders below `folder`, with relative paths.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in folder.read_dir().unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    let mut found: Vec<PathBuf> =
        found.iter().map(|path| path.strip_prefix(folder).unwrap().to_owned()).collect();
    found.sort();
    found
}

/// `text` contains cargo's alias only before a command that only the alias has.
fn names_this_program(text: &str) {
    for rest in text.split("cargo xtask").skip(1) {
        let has = OF_THE_WORKSPACE
            .iter()
            .any(|command| rest.trim_start().starts_with(command.split(' ').next().unwrap()));
        assert!(has, "{text}");
    }
}

/// The value of a setting, and its origin.
fn setting(document: &Value, name: &str) -> (String, String) {
    let all = document["settings"].as_array().unwrap();
    let setting = all.iter().find(|setting| setting["name"] == name).unwrap();
    let word = |field: &str| setting[field].as_str().unwrap().to_owned();
    (word("value"), word("from"))
}

#[test]
fn without_arguments_the_program_shows_its_own_name_and_files() {
    let Some(world) = World::new(Images::Small) else { return };
    let folder = world.path("outside");
    let run = |line: &str| outside(&world, &folder).args(line);
    let help = run("--help").ok().stdout;
    assert!(help.contains("Usage: htc-grid-images "), "{help}");
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands: Vec<&str> = list
        .lines()
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 20 && commands.contains(&"write-files"), "{help}");
    let mut texts = vec![help.clone(), run("").ok().stdout, run("help options").ok().stdout];
    texts.extend(commands.iter().map(|name| run(&format!("help {name}")).ok().stdout));
    texts.iter().for_each(|text| names_this_program(text));
    assert!(texts[1].contains("\n  htc-grid-images transfer-images "), "{}", texts[1]);
    assert!(run("--version").ok().stdout.starts_with("htc-grid-images "));
    run("lock --bogus").end().failed(USAGE, &["Usage: htc-grid-images lock"]);
    assert!(run("completions bash").ok().stdout.contains("complete -F _htc__grid__images "));
    assert_eq!(files(&world.path("home")), [""; 0].map(PathBuf::from), "nothing is unpacked for that");

    let shown = run("--format json config show").ok().json();
    let (value, from) = setting(&shown, "files");
    assert_eq!(value, "this program's own");
    assert!(from.contains("`htc-grid-images write-files`"), "{from}");
    let (cache, from) = setting(&shown, "cache");
    assert!(cache.starts_with(world.path("home/.cache/htc-grid-images/").to_str().unwrap()), "{cache}");
    assert_eq!(from, "home directory");
    assert_eq!(setting(&shown, "list of images"), (IMAGES.to_owned(), "default".to_owned()));
    assert!(Path::new(&cache).join("files").join(IMAGES).is_file());
    let elsewhere =
        run("--format json config show").env("XDG_CACHE_HOME", world.path("elsewhere")).ok().json();
    assert!(setting(&elsewhere, "cache").0.starts_with(world.path("elsewhere").to_str().unwrap()));

    // A lock file that no run would read.
    run("lock").end().failed(USAGE, &["hint: `htc-grid-images write-files` writes it into a folder"]);
    for command in OF_THE_WORKSPACE {
        run(command)
            .end()
            .failed(MISSING_TOOL, &["compiles programs", "`cargo xtask demo` is a good beginning"]);
    }
    run("list-images --local").end().failed(MISSING_TOOL, &["error: --local compiles programs"]);
    assert_eq!(files(&folder), [PathBuf::from(PROGRAM)]);
}

#[test]
fn files_are_written_for_editing_and_never_overwritten() {
    let Some(world) = World::new(Images::Small) else { return };
    let folder = world.path("outside");
    let run = |line: &str| outside(&world, &folder).args(line);
    let written = run("--format json write-files grid").ok().json();
    assert_eq!(written["unchanged"], Value::Array(vec![]), "{written}");
    let names =
        |field: &Value| field.as_array().unwrap().iter().map(|name| name.as_str().unwrap().into()).collect();
    let names: Vec<PathBuf> = names(&written["written"]);
    let on_disk =
        files(&folder.join("grid")).into_iter().filter(|path| folder.join("grid").join(path).is_file());
    assert_eq!(on_disk.collect::<Vec<_>>(), {
        let mut names = names.clone();
        names.sort();
        names
    });
    assert!(names.contains(&IMAGES.into()) && names.contains(&"runtimes/.dockerignore".into()), "{names:?}");
    let again = run("init grid").ok();
    assert!(again.stderr.contains("grid has all files already"), "{again}");
    assert!(files(&world.path("home")).is_empty(), "nothing is unpacked for that");

    // They are used from then on, in any folder below.
    let list = folder.join("grid").join(IMAGES);
    std::fs::write(&list, "schema_version = 1\naccount = \"123456789012\"\n").unwrap();
    let below = folder.join("grid/runtimes");
    let shown = outside(&world, &below).args("--format json config show").ok().json();
    let (value, from) = setting(&shown, "files");
    assert_eq!(Path::new(&value), folder.join("grid").canonicalize().unwrap());
    assert_eq!(from, "the nearest folder with deployment/image_repository/images.toml");
    assert_eq!(setting(&shown, "expected account").0, "123456789012");
    // Other files in a build's context are not checked.
    std::fs::remove_file(below.join(PROGRAM)).unwrap();

    std::fs::remove_file(folder.join("grid/runtimes/Dockerfile")).unwrap();
    let refused = run("write-files grid").end();
    refused.failed(
        CONFIGURATION,
        &["error: grid has files that differ from this program's: ", IMAGES, "hint: nothing was written"],
    );
    assert!(!folder.join("grid/runtimes/Dockerfile").exists(), "{refused}");
    assert_eq!(std::fs::read_to_string(&list).unwrap().lines().count(), 2, "{refused}");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let Some(world) = World::new(Images::Small) else { return };
    let folder = world.path("outside");
    let run = |line: &str| outside(&world, &folder).args(line);
    std::fs::create_dir_all(folder.join("grid")).unwrap();
    std::fs::write(folder.join("grid/runtimes"), "").unwrap();
    run("write-files grid")
        .end()
        .failed(CONFIGURATION, &["error: could not write grid/runtimes/", "Not a directory"]);
    assert_eq!(files(&folder.join("grid")), [PathBuf::from("runtimes")]);
    // No user can write there, not even root.
    let closed =
        if rustix::process::geteuid().is_root() { PathBuf::from("/sys/grid") } else { folder.join("closed") };
    if !rustix::process::geteuid().is_root() {
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let message = format!("could not write {}/{IMAGES}", closed.display());
    run("write-files")
        .arg(&closed)
        .end()
        .failed(CONFIGURATION, &[&message, "hint: nothing was written; name a folder"]);

    // A file instead of the cache directory.
    std::fs::write(world.path("home/.cache"), "").unwrap();
    run("config show")
        .end()
        .failed(CONFIGURATION, &["could not unpack this program's files into ", "XDG_CACHE_HOME"]);
}

#[test]
fn the_whole_job_works_with_the_programs_own_files() {
    let Some(world) = World::grid("schema_version = 1\n") else { return };
    world.xtask(INIT).ok();
    let aws = world.aws();
    let folder = world.path("outside");
    let run = |line: &str| outside_at_aws(&world, &folder).args(line);
    run("init-images").ok();
    let first = run("transfer-images --auto-approve --only curl --format json").ok();
    assert_eq!(first.json()["changed"], true, "{first}");
    assert!(aws.repositories().contains(&"kedacore/keda".to_owned()), "{first}");
    assert_eq!(aws.registry("GET", "curl/manifests/7.85.0").status, 200, "{first}");
    let second = run("transfer-images --only curl --format json").ok();
    assert_eq!(second.json()["changed"], false, "{second}");
    assert_eq!(files(&folder), [PathBuf::from(PROGRAM)], "what a run keeps is in the cache");
}

#[test]
fn the_whole_job_works_with_files_of_an_older_program() {
    let Some(world) = World::grid("schema_version = 1\n") else { return };
    world.xtask(INIT).ok();
    let folder = world.path("outside");
    outside(&world, &folder).args("write-files").ok();
    std::fs::write(folder.join(IMAGES), "schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n")
        .unwrap();
    let module = folder.join("deployment/image_repository/terraform/outputs.tf");
    let older = format!(
        "{}\noutput \"older\" {{\n  value = \"kept\"\n}}\n",
        std::fs::read_to_string(&module).unwrap()
    );
    std::fs::write(&module, &older).unwrap();
    let below = folder.join("deployment");
    let run = |line: &str| outside_at_aws(&world, &below).args(line);
    run("init-images").ok();
    let first = run("transfer-images --auto-approve --format json").ok();
    assert_eq!(first.json()["changed"], true, "{first}");
    let state = world.aws().s3.get(e2e::BUCKET, e2e::STATE).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["outputs"]["older"]["value"], "kept", "{first}");
    let second = run("transfer-images --format json").ok();
    assert_eq!(second.json()["changed"], false, "{second}");
    run("lock").ok();
    assert!(folder.join("deployment/image_repository/images.lock").is_file());
    assert_eq!(std::fs::read_to_string(&module).unwrap(), older);
}
