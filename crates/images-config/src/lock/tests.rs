//! Locks read, written, merged and compared.

use super::update::Select;
use super::waiting::waits;
use super::*;
use crate::Config;

const SHIPPED: &str = include_str!("../../../../deployment/image_repository/images.toml");

fn config(text: &str) -> Config {
    Config::parse(text, Path::new("images.toml"), None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn moment(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

fn image(platform: &str, content: &str, size: u64) -> LockedPlatform {
    LockedPlatform { platform: platform.parse().unwrap(), digest: Digest::of(content.as_bytes()), size }
}

/// An index of two platforms, of which linux/amd64 is wanted.
fn locked(content: &str, day: u8) -> Locked {
    let platforms = vec![
        image("linux/amd64", &format!("{content}-amd64"), 5_000_000),
        image("linux/arm64/v8", content, 900),
    ];
    Locked {
        digest: Digest::of(format!("index of {content}").as_bytes()),
        media_type: "application/vnd.oci.image.index.v1+json".to_owned(),
        resolved_at: moment(&format!("2026-11-{day:02}T12:00:00Z")),
        first_seen: None,
        allow_fresh: false,
        targets: BTreeMap::from([(PlatformSet("linux/amd64".to_owned()), platforms[0].digest)]),
        platforms,
    }
}

fn everything(config: &Config, suffix: &str, day: u8) -> Vec<(Reference, Locked)> {
    config
        .wants()
        .into_iter()
        .map(|want| {
            let locked = locked(&format!("{}{suffix}", want.source), day);
            (want.source, locked)
        })
        .collect()
}

fn full(config: &Config) -> Lock {
    Lock::default().merged(config, &Select::Missing, everything(config, "", 1))
}

#[test]
fn the_text_is_stable_and_is_read_back() {
    let config = config(
        "schema_version = 1\n[images]\ncurl = \"curlimages/curl:7.85.0\"\n[runtimes]\njava17 = \"public.ecr.aws/lambda/java:17\"\n",
    );
    let mut lock = full(&config);
    let hold = Hold {
        build: Digest::of(b"build"),
        since: moment("2026-11-22T12:00:00.75Z"),
        by: "arn:aws:iam::123456789012:user/\"me\"".to_owned(),
    };
    lock.set_hold("java17", hold);
    let curl = lock.sources.get_mut(&reference("curlimages/curl:7.85.0")).unwrap();
    (curl.first_seen, curl.allow_fresh) = (Some(moment("2026-10-29T12:00:00.5Z")), true);
    let seen = Seen { digest: Digest::of(b"java"), first_seen: moment("2026-11-20T12:00:00Z") };
    lock.waiting.insert(reference("public.ecr.aws/lambda/java:17"), seen);
    let text = lock.to_string();
    assert_eq!(text, include_str!("../../testdata/images.lock"));
    let read = Lock::parse(&text, Path::new("images.lock")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(read.sources.keys().collect::<Vec<_>>(), lock.sources.keys().collect::<Vec<_>>());
    assert_eq!(read.waiting, lock.waiting);
    let curl = &read.sources[&reference("curlimages/curl:7.85.0")];
    assert_eq!((curl.first_seen, curl.allow_fresh), (Some(moment("2026-10-29T12:00:00Z")), true));
    assert_eq!(read.to_string(), text);
    assert_eq!(read.hold("java17").map(|hold| hold.since), Some(moment("2026-11-22T12:00:00Z")));
}

#[test]
fn entries_are_found() {
    let config = config(SHIPPED);
    let lock = full(&config);
    let curl = reference("curlimages/curl:7.85.0");
    let amd64 = Platforms::Only(vec!["linux/amd64".parse().unwrap()]);
    assert_eq!(lock.source_digest(&curl), Some(Digest::of(b"index of docker.io/curlimages/curl:7.85.0")));
    assert_eq!(lock.expected(&curl, &amd64), Some(Digest::of(b"docker.io/curlimages/curl:7.85.0-amd64")));
    assert_eq!(lock.expected(&curl, &Platforms::All), None);
    assert_eq!(lock.source_digest(&reference("x/y:1")), None);
}

#[test]
fn all_errors_of_a_lock_are_reported_at_once() {
    let text = "schema_version = 1
[sources.\"curl:1\"]
digest = \"sha256:12\"
media_type = \"m\"
resolved_at = \"yesterday\"
size = 1
[sources.\"docker.io/library/x:1\"]
digest = \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"
resolved_at = 2026-11-22
platforms.amd64 = { digest = \"sha512:00\", size = -1 }
targets.\"linux/b,linux/a\" = 1
[holds.\"a b\"]
build = \"\"
[waiting.\"curl:1\"]
digest = \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"
first_seen = 2026-11-22
";
    let errors = Lock::parse(text, Path::new("images.lock")).unwrap_err().to_string();
    assert_eq!(errors, include_str!("../../testdata/lock_errors.txt").trim_end());
}

#[test]
fn a_merge_conflict_is_recognised() {
    let text = "schema_version = 1\n<<<<<<< HEAD\n=======\n>>>>>>> other\n";
    let errors = Lock::parse(text, Path::new("images.lock")).unwrap_err().to_string();
    assert_eq!(
        errors,
        "images.lock has an error\n  images.lock:2:1: has a merge conflict\n      \
         help: take either side; `cargo xtask lock` adds what is missing then"
    );
}

#[test]
fn a_missing_file_means_no_lock_and_a_saved_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("images.lock");
    assert_eq!(Lock::load(&path, &path).unwrap(), None);
    let lock = full(&config(SHIPPED));
    lock.save(&path).unwrap();
    assert_eq!(Lock::load(&path, &path).unwrap(), Some(lock));
    std::fs::write(&path, "schema_version = 9\n").unwrap();
    assert!(Lock::load(&path, &path).unwrap_err().to_string().contains("written for schema version 9"));
}

fn names(wants: &[Want]) -> Vec<String> {
    wants.iter().map(|want| want.source.to_string()).collect()
}

#[test]
fn only_missing_or_named_entries_are_resolved() {
    let config = config(SHIPPED);
    let mut lock = full(&config);
    assert_eq!(lock.to_resolve(&config, &Select::Missing).unwrap(), []);
    assert_eq!(lock.to_resolve(&config, &Select::All).unwrap().len(), 5 + 15 + 12);
    let select = |names: &[&str]| Select::Named(names.iter().map(|name| (*name).to_owned()).collect());
    let by = |lock: &Lock, list: &[&str]| names(&lock.to_resolve(&config, &select(list)).unwrap());
    assert_eq!(
        by(&lock, &["curl", "python3.8"]),
        ["docker.io/curlimages/curl:7.85.0", "public.ecr.aws/lambda/python:3.8"]
    );
    for name in ["grafana:10.1.1", "grafana/grafana:10.1.1", "docker.io/grafana/grafana:10.1.1"] {
        assert_eq!(by(&lock, &[name]), ["docker.io/grafana/grafana:10.1.1"], "{name}");
    }
    assert_eq!(by(&lock, &["ecr-public/sam/build-python3.11"]), ["public.ecr.aws/sam/build-python3.11:1"]);
    lock.sources.remove(&reference("grafana/grafana:10.1.1"));
    assert_eq!(
        by(&lock, &["curl"]),
        ["docker.io/curlimages/curl:7.85.0", "docker.io/grafana/grafana:10.1.1"]
    );
    let unknown = lock.to_resolve(&config, &select(&["crul", "curl", "nothing"])).unwrap_err();
    assert_eq!(unknown.to_string(), "images.toml has no `crul` (did you mean `curl`?), no `nothing`");
}

#[test]
fn merging_keeps_entries_that_were_not_resolved() {
    let config = config(SHIPPED);
    let mut old = full(&config);
    old.sources.insert(reference("gone/gone:1"), locked("gone", 1));
    let hold = |day| Hold { build: Digest::of(b"b"), since: moment(day), by: "me".into() };
    old.set_hold("java17", hold("2026-11-01T00:00:00Z"));
    old.set_hold("python3.8", hold("2026-11-01T00:00:00Z"));
    old.set_hold("no-more", hold("2026-11-01T00:00:00Z"));
    let curl = reference("curlimages/curl:7.85.0");
    let select = Select::Named(vec!["curl".into(), "lambda:java17".into()]);
    let new = old.merged(&config, &select, [(curl.clone(), locked("newer", 9))]);
    assert_eq!(new.sources[&curl], locked("newer", 9));
    assert_eq!(new.sources.len(), old.sources.len() - 1, "what images.toml no longer names goes");
    let grafana = reference("grafana/grafana:10.1.1");
    assert_eq!(new.sources[&grafana], old.sources[&grafana]);
    assert_eq!(new.holds.keys().collect::<Vec<_>>(), ["python3.8"], "a named runtime is let go");
    assert_eq!(old.merged(&config, &Select::All, []).holds.len(), 2, "an update of all holds on");

    let again = new.merged(&config, &Select::All, everything(&config, "", 20));
    assert_eq!(again.sources[&grafana], old.sources[&grafana], "what did not move keeps its time");
    assert_eq!(again.sources[&curl].resolved_at, moment("2026-11-20T12:00:00Z"));
}

#[test]
fn a_complete_lock_has_every_name_of_the_list() {
    let config = config(SHIPPED);
    let mut lock = full(&config);
    assert_eq!(lock.check_complete(&config), Ok(()));
    let curl = reference("curlimages/curl:7.85.0");

    // The lock has no result for the wanted platform.
    let text = SHIPPED.replace("platforms = [\"linux/amd64\"]", "platforms = [\"linux/s390x\"]");
    let other = self::config(&text);
    assert_eq!(
        lock.check_complete(&other).unwrap_err().missing.len(),
        20,
        "all but the primed ones, of which none is copied"
    );
    lock.sources.remove(&curl);
    assert_eq!(
        lock.check_complete(&config).unwrap_err().to_string(),
        "images.lock does not know docker.io/curlimages/curl:7.85.0: `cargo xtask lock` adds what is missing"
    );
}

#[test]
fn a_waiting_digest_is_reported_with_the_one_in_use() {
    let text = "schema_version = 1\nmin_age = \"3d\"\n[images]\naa = \"x/aa:1\"\nbb = \"x/bb:1\"\ncc = \"x/cc:1\"\ndd = \"x/dd:1\"\n";
    let config = config(text);
    let mut lock = full(&config);
    let [aa, bb, cc, dd] = ["aa", "bb", "cc", "dd"].map(|name| reference(&format!("x/{name}:1")));
    lock.sources.remove(&aa);
    for (source, first_seen) in [(&aa, "2026-11-08T12:00:00Z"), (&bb, "2026-11-05T12:00:00Z")] {
        let seen = Seen { digest: Digest::of(b"new"), first_seen: moment(first_seen) };
        lock.waiting.insert(source.clone(), seen);
    }
    lock.sources.get_mut(&cc).unwrap().first_seen = Some(moment("2026-11-07T12:00:00Z"));
    let taken = lock.sources.get_mut(&dd).unwrap();
    (taken.first_seen, taken.allow_fresh) = (Some(moment("2026-11-08T12:00:00Z")), true);
    let (new, old) = (Digest::of(b"new"), lock.sources[&bb].digest);
    let told: Vec<String> =
        waits(&lock, &config, moment("2026-11-09T12:00:00Z")).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            format!(
                "{aa}: {new}, first seen 2026-11-08T12:00:00Z, waits until 2026-11-11T12:00:00Z (min_age 3d of images.toml, line 2)"
            ),
            format!(
                "{bb}: {new} has waited since 2026-11-05T12:00:00Z; `cargo xtask lock --update` takes it"
            ),
            format!(
                "{cc}: {}, first seen 2026-11-07T12:00:00Z, waits until 2026-11-10T12:00:00Z (min_age 3d of images.toml, line 2)",
                lock.sources[&cc].digest
            ),
        ]
    );
    let earlier = waits(&lock, &config, moment("2026-11-06T12:00:00Z"));
    assert!(earlier[1].to_string().ends_with(&format!("; until then it is {old}")), "{}", earlier[1]);
}

#[test]
fn waiting_and_missing_digests_are_differences() {
    let config = config("schema_version = 1\nmin_age = \"3d\"\n[images]\naa = \"x/aa:1\"\nbb = \"x/bb:1\"\n");
    let (aa, bb) = (reference("x/aa:1"), reference("x/bb:1"));
    let seen = |content: &str, first_seen: &str| Seen {
        digest: Digest::of(content.as_bytes()),
        first_seen: moment(first_seen),
    };
    let mut old = full(&config);
    old.waiting.insert(aa.clone(), seen("one", "2026-11-07T12:00:00Z"));
    old.waiting.insert(bb.clone(), seen("one", "2026-11-07T12:00:00Z"));
    old.waiting.insert(reference("x/gone:1"), seen("one", "2026-11-07T12:00:00Z"));
    assert!(old.diff(&old).is_empty());
    // Digests of names that are no longer in images.toml are dropped; others that are not resolved continue to wait.
    let mut new = old.merged(&config, &Select::Missing, []);
    assert_eq!(new.waiting.keys().collect::<Vec<_>>(), [&aa, &bb]);
    new.waiting.insert(aa.clone(), seen("two", "2026-11-09T12:00:00Z"));
    new.waiting.remove(&bb);
    let taken = Locked { allow_fresh: true, ..locked("one", 9) };
    new.sources.insert(bb.clone(), Locked { digest: Digest::of(b"one"), ..taken });
    let short = |content: &str| Digest::of(content.as_bytes()).short();
    let (one, two) = (short("one"), short("two"));
    let (aa_now, bb_then) = (old.sources[&aa].digest.short(), old.sources[&bb].digest.short());
    let lines = old.diff(&new).lines();
    let whole: Vec<&String> = lines.iter().filter(|line| !line.starts_with("    ")).collect();
    assert_eq!(
        whole,
        [
            &format!("! docker.io/x/aa:1  {one} has vanished upstream  (first seen 2026-11-07)"),
            &format!("? docker.io/x/aa:1  {aa_now} -> {two} waits  (first seen 2026-11-09)"),
            &format!(
                "~ docker.io/x/bb:1  {bb_then} -> {one}  (since 2026-11-01)  before it is old enough (--allow-fresh)"
            ),
            &format!("- docker.io/x/gone:1  {one} waited"),
        ]
    );
    let mut fixed = new.clone();
    fixed.sources.get_mut(&aa).unwrap().first_seen = Some(moment("2026-11-09T12:00:00Z"));
    assert_eq!(new.diff(&fixed).lines(), [format!("~ docker.io/x/aa:1  {aa_now}  (first seen 2026-11-09)")]);
}

#[test]
fn differences_are_listed_line_by_line() {
    let config = config(SHIPPED);
    let old = full(&config);
    assert!(old.diff(&old).is_empty());
    let mut new = old.clone();
    let keda = reference("ghcr.io/kedacore/keda:2.11.2");
    let mut entries = |name: &str, content: &str| new.sources.insert(reference(name), locked(content, 9));
    entries("curlimages/curl:7.85.0", "moved");
    entries("ghcr.io/kedacore/keda:2.12.0", "2.12");
    entries("quay.io/a/b:1", "b");
    new.sources.remove(&keda);
    new.sources.remove(&reference("public.ecr.aws/lambda/java:17"));
    new.sources.remove(&reference("public.ecr.aws/lambda/java:21"));
    if let Some(grafana) = new.sources.get_mut(&reference("grafana/grafana:10.1.1")) {
        grafana.targets = BTreeMap::from([(PlatformSet("all".into()), grafana.digest)]);
        grafana.platforms.remove(1);
    }
    let hold = Hold { build: Digest::of(b"b"), since: moment("2026-11-09T00:00:00Z"), by: "me".into() };
    new.set_hold("java21", hold);
    let diff = old.diff(&new);
    assert_eq!(diff.lines().join("\n"), include_str!("../../testdata/diff.txt").trim_end());
    let back: Vec<String> = new.diff(&old).lines();
    assert!(back.iter().any(|line| line.starts_with("~ java21  no longer held at")), "{back:#?}");
}
