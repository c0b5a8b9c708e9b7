//! The tool's own information: its commands, its options, its settings and their origin.

use e2e::{Images, World, command, root, text};
use serde_json::Value;

#[test]
fn without_arguments_the_five_most_used_commands_are_shown() {
    let Some(world) = World::new(Images::Small) else { return };
    let shown = world.bare().ok();
    assert_eq!(shown.stdout.matches("\n  cargo xtask ").count(), 5, "{shown}");
    assert!(shown.stderr.is_empty(), "{shown}");
    let options = world.bare().args("help options").ok();
    assert!(options.stdout.contains("--state-bucket <BUCKET>"), "{options}");
    let own = world.bare().args("transfer-images --help").ok();
    assert!(own.stdout.contains("--dry-run") && !own.stdout.contains("--state-bucket"), "{own}");
    assert!(own.stdout.contains("`cargo xtask help options`"), "{own}");
    // They work as before at every position.
    world.bare().args("--state-key /x list-images").end().failed(2, &["--state-key \"/x\""]);
    world.bare().args("list-images --state-key /x").end().failed(2, &["--state-key \"/x\""]);
}

/// The texts that `run-xtask` prints if the tool is not compiled yet.
#[test]
fn help_is_the_same_before_the_tool_is_compiled() {
    let Some(world) = World::new(Images::Small) else { return };
    for (line, file) in [("", "short.txt"), ("--help", "all.txt"), ("help", "all.txt")] {
        let shown = world.bare().args(line).ok();
        let path = root().join("crates/run-xtask/src/help").join(file);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &shown.stdout).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(shown.stdout, kept, "UPDATE=1 writes {} anew", path.display());
    }
}

#[test]
fn each_setting_is_shown_with_its_origin() {
    let Some(world) = World::new(Images::Small) else { return };
    let mirror = "[upstream.\"quay.io\"]\nurl = \"https://mirror.example/quay\"\n";
    world.write("images.toml", &format!("schema_version = 1\naccount = \"123456789012\"\n{mirror}"));
    let run = world
        .bare()
        .arg("--images")
        .arg(world.path("images.toml"))
        .args("--upstream ghcr.io=https://other.example --format json config show REGION=eu-west-2")
        .env("TAG", "prod")
        .env("REGION", "us-east-1")
        .env("AWS_DEFAULT_PROFILE", "ops")
        .env("AWS_PROFILE", "not this one")
        .env("HTTPS_PROXY", "http://me:secret@proxy:3128");
    let shown = run.ok();
    assert!(!shown.stdout.contains("secret"), "{shown}");
    let all = shown.json()["settings"].clone();
    let of = |name: &str| {
        let setting = all.as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap();
        (setting["value"].clone(), setting["from"].as_str().unwrap().to_owned())
    };
    let is = |value: &str, from: &str| (Value::from(value), from.to_owned());
    assert_eq!(of("tag"), is("prod", "TAG"));
    assert_eq!(of("region"), is("eu-west-2", "argument"));
    assert_eq!(of("AWS profile"), is("ops", "AWS_DEFAULT_PROFILE"));
    assert_eq!(of("state key"), is(".terraform/terraform.tfstate", "default"));
    assert_eq!(of("HTTPS_PROXY"), is("http://***@proxy:3128", "environment"));
    assert_eq!(of("upstream ghcr.io"), is("https://other.example", "argument"));
    assert_eq!(of("upstream quay.io").0, "https://mirror.example/quay");
    assert_eq!(of("expected account").0, "123456789012");
    let plain = world.bare().args("config show").ok();
    assert!(plain.stdout.starts_with("SETTING "), "{plain}");
}

#[test]
fn bash_completes_commands_and_options() {
    let Some(world) = World::new(Images::Small) else { return };
    let script = world.write("completions.bash", &world.bare().args("completions bash").ok().stdout);
    let completes = |words: &str, last: usize| {
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; _xtask xtask \"${{COMP_WORDS[$COMP_CWORD]}}\" \
             \"${{COMP_WORDS[$COMP_CWORD-1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        text(command("bash").args(["--norc", "-c", &line]))
    };
    assert_eq!(completes("xtask transfer-im", 1), "transfer-images");
    assert!(completes("xtask verify --d", 2).split(' ').any(|word| word == "--deep"));
    assert!(completes("xtask verify --state", 2).contains("--state-bucket"));
}
