//! `min_age`: a digest is locked, copied or used as a base only after this project has known it for long enough.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use e2e::{DebianRegistry, Images, Run, TestRepository, World, digest, docker};
use serde_json::{Value, json};

const CONFIGURATION: i32 = 3;
const REFUSED: i32 = 6;
const UPSTREAM: i32 = 7;
const CHANGED: i32 = 11;
/// Long enough ago.
const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// A world with a source and an empty target.
struct Place {
    world: World,
    source: DebianRegistry,
    target: DebianRegistry,
}

fn named(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

impl Place {
    fn new(list: &str) -> Option<Self> {
        let (world, source) = (World::new(Images::Small)?, DebianRegistry::start()?);
        std::fs::create_dir_all(world.path("grid/.git")).unwrap();
        let place = Self { world, source, target: DebianRegistry::start()? };
        place.list(list);
        Some(place)
    }

    /// Writes images.toml.
    fn list(&self, list: &str) {
        let list = list.replace("SOURCE", self.source.host());
        self.world.write("grid/images.toml", &format!("schema_version = 1\n{list}\n"));
    }

    fn shelf(&self) -> TestRepository {
        TestRepository::new(self.source.host(), "team/x")
    }

    /// The image that a tag has at the target.
    fn manifest(&self, repository: &str, tag: &str) -> Option<Vec<u8>> {
        let accept = ("accept", "application/vnd.oci.image.manifest.v1+json");
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.target.host());
        let found = e2e::request("GET", &url, &[accept], b"");
        (found.status == 200).then_some(found.body)
    }

    fn file(&self) -> PathBuf {
        self.world.path("grid/images.lock")
    }

    fn lock_text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// Writes into images.lock that everything was first seen at this time.
    fn seen(&self, moment: &str) {
        let line = |line: &str| match line.strip_prefix("first_seen = ") {
            Some(_) => format!("first_seen = {moment}\n"),
            None => format!("{line}\n"),
        };
        let text: String = self.lock_text().lines().map(line).collect();
        std::fs::write(self.file(), text).unwrap();
    }

    fn run(&self, line: &str) -> Run {
        self.world.bare().arg("--images").arg(self.world.path("grid/images.toml")).args(line)
    }

    fn transfer(&self, words: &str) -> Run {
        self.run(&format!("transfer-images --auto-approve --registry {} {words}", self.target.host()))
    }
}

const ALL: &str = "min_age = \"3d\"\n[images]\nimg = { source = \"SOURCE/team/x:1\", platforms = \"all\" }";

#[test]
fn an_image_is_locked_and_copied_after_three_days_and_the_older_one_is_used_until_then() {
    let Some(place) = Place::new(ALL) else { return };
    let (shelf, name) = (place.shelf(), format!("{}/team/x:1", place.source.host()));
    let one = named(&shelf.image(Some("1"), b"one"));

    // Without images.lock it is not known since when a digest has been known.
    for line in ["", "--dry-run", "--keep-going"] {
        place.transfer(line).end().with_code(CONFIGURATION).failed(
            CONFIGURATION,
            &[
                "min_age 3d of images.toml, line 2: there is no images.lock",
                "hint: `cargo xtask lock` begins it",
            ],
        );
    }
    let begun = place.run("lock --format json").ok();
    let document = begun.json();
    assert_eq!(document["waiting"][0]["digest"], one.as_str(), "{begun}");
    assert_eq!(document["waiting"][0]["using"], Value::Null, "{begun}");
    assert_eq!(document["changes"][0]["what"], "waiting", "{begun}");
    let until = document["waiting"][0]["until"].as_str().unwrap().to_owned();
    assert!(place.lock_text().contains(&format!("[waiting.\"{name}\"]\ndigest = \"{one}\"\nfirst_seen = ")));
    assert!(!place.lock_text().contains("[sources."), "{}", place.lock_text());
    let checked = place.run("lock --check").ok();
    assert!(checked.stderr.contains(&format!("waits until {}", &until[..16])), "{checked}");

    // It is reported with the time until which it waits, and nothing is written.
    for line in ["", "--dry-run", "--keep-going"] {
        let waits = place.transfer(line).end().with_code(REFUSED);
        let words = format!("{one} is too new: first seen ");
        assert!(waits.stderr.contains(&words) && waits.stderr.contains("img:1"), "{line}: {waits}");
        assert!(waits.stderr.contains("it waits until") && waits.stderr.contains("--allow-fresh"), "{waits}");
    }
    let export =
        place.run("export-images --from-sources").arg(place.world.path("layout")).end().with_code(REFUSED);
    assert!(export.stderr.contains(&format!("{one} is too new")), "{export}");
    assert_eq!(place.target.files(), Vec::<String>::new(), "something was written to the target");

    // Three days later the check reports it, and the lock accepts it.
    place.seen(LONG_AGO);
    let ready = place.transfer("").end().with_code(REFUSED);
    assert!(ready.stderr.contains("`cargo xtask lock --update` takes it"), "{ready}");
    place.run("lock --check").end().with_code(CONFIGURATION);
    let locked = place.run("lock --format json").ok();
    assert_eq!(
        (&locked.json()["changes"][0]["what"], &locked.json()["waiting"]),
        (&"added".into(), &json!([]))
    );
    assert!(place.lock_text().contains(&format!("first_seen = {LONG_AGO}")), "{}", place.lock_text());
    place.run("lock --check").ok();
    place.transfer("").ok();
    let listed = place.run(&format!("list-images --registry {}", place.target.host())).ok();
    assert!(!listed.to_string().contains(" waits until "), "{listed}");
    let copied = place.manifest("img", "1").unwrap();
    assert_eq!(digest(&copied), one);

    // A newer one: the older one is still used, also with --locked and by `watch`.
    let two = named(&shelf.image(Some("1"), b"two"));
    let update = place.run("lock --update").ok();
    assert!(update.stdout.contains(" waits  (first seen "), "{update}");
    assert!(update.stderr.contains(&format!("; until then it is {one}")), "{update}");
    let plan = place.transfer("--locked").ok();
    assert!(plan.stderr.contains(&two) && plan.stderr.contains("waits until"), "{plan}");
    for command in ["list-images", "outdated"] {
        let run =
            |more: &str| place.run(&format!("{command} --registry {} {more}", place.target.host())).ok();
        let said = &run("--format json").json()["images"][0]["waiting"];
        assert_eq!(
            (&said["digest"], &said["using"]),
            (&two.as_str().into(), &one.as_str().into()),
            "{command}"
        );
        let text = run("");
        assert!(text.stderr.contains(&format!("{two}, first seen ")), "{text}");
        let short = format!("{} waits until 20", &two["sha256:".len()..][..12]);
        assert_eq!(text.stdout.contains(&short), command == "list-images", "{text}");
    }
    let watch = place.run(&format!("watch --registry {}", place.target.host())).ok().json();
    assert_eq!(
        (&watch["waiting"][0]["digest"], &watch["waiting"][0]["using"]),
        (&two.as_str().into(), &one.as_str().into())
    );
    assert_eq!(place.manifest("img", "1").unwrap(), copied);

    // It was replaced before it was old enough, and was never copied anywhere.
    shelf.image(Some("1"), b"one");
    let gone = place.run("lock --check --format json").end().with_code(CONFIGURATION);
    assert_eq!(gone.json()["vanished"][0]["digest"], two.as_str(), "{gone}");
    assert!(gone.stderr.contains(&format!("{two} has vanished upstream")), "{gone}");
    place.run("lock --update").ok();
    assert!(!place.lock_text().contains(&two), "{}", place.lock_text());

    // The tag itself is gone.
    place.source.forget("team/x", "1");
    let gone = place.run("lock --check --format json").end().with_code(UPSTREAM);
    assert_eq!(gone.json()["vanished"][0]["digest"], one.as_str(), "{gone}");
    let words = format!("{name} has vanished upstream: it was {one}, first seen {LONG_AGO}");
    assert!(gone.stderr.contains(&words), "{gone}");
}

#[test]
fn an_urgent_fix_is_allowed_by_name_and_recorded_in_the_lock() {
    let list = "[images]\nimg = { source = \"SOURCE/team/x:1\", platforms = \"all\" }\nother = { source = \"SOURCE/team/x:2\", platforms = \"all\" }\n[min_age]\n\"*\" = \"2w\"\n\"SOURCE/team/mine\" = \"0d\"";
    let Some(place) = Place::new(list) else { return };
    let shelf = place.shelf();
    let one = named(&shelf.image(Some("1"), b"one"));
    let two = named(&shelf.image(Some("2"), b"two"));
    place
        .transfer("--allow-fresh imgg")
        .end()
        .with_code(2)
        .failed(2, &["images.toml has no `imgg` (did you mean `img`?)"]);
    // Allowing one of two does not allow the other, and if both are allowed no lock is needed.
    place.transfer("--allow-fresh img").end().with_code(CONFIGURATION);
    place.transfer("--allow-fresh img --allow-fresh other --dry-run").ok();

    let locked = place.run("lock --allow-fresh img").ok();
    assert!(locked.stdout.contains("before it is old enough (--allow-fresh)"), "{locked}");
    assert!(place.lock_text().contains("allow_fresh = true"), "{}", place.lock_text());
    assert!(place.lock_text().contains(&format!("digest = \"{two}\"\nfirst_seen")), "{}", place.lock_text());
    let ended = place.transfer("--keep-going").end().with_code(REFUSED);
    assert!(ended.stderr.contains(&format!("{two} is too new")), "{ended}");
    assert!(!ended.stderr.contains(&format!("{one} is too new")), "{ended}");
    assert_eq!(digest(&place.manifest("img", "1").unwrap()), one);
    assert_eq!(place.manifest("other", "2"), None);
    let watch = place.run(&format!("watch --allow-fresh other --registry {}", place.target.host()));
    watch.end().with_code(CHANGED);
    assert_eq!(digest(&place.manifest("other", "2").unwrap()), two);
}

#[test]
fn a_base_is_not_used_before_it_is_old_enough() {
    if !docker() {
        return;
    }
    let Some(place) = Place::new("min_age = \"3d\"\n[runtimes]\njava21 = \"SOURCE/team/x:1\"") else {
        return;
    };
    let base = named(&place.shelf().image(Some("1"), b"one"));
    // A rollback needs no lock.
    let back = place.run(&format!("rebuild-runtimes --builds java21 --registry {}", place.target.host()));
    assert!(!back.end().stderr.contains("min_age"));
    place.run("rebuild-runtimes java21 --dry-run").end().with_code(CONFIGURATION);
    place.run("rebuild-runtimes java21 --dry-run --allow-fresh java21").ok();
    place.run("lock").ok();
    let plan = |line: &str| place.run(&format!("{line} --registry {}", place.target.host()));
    for line in ["transfer-images --dry-run", "rebuild-runtimes --push --dry-run"] {
        plan(line)
            .end()
            .with_code(REFUSED)
            .failed(REFUSED, &["runtime java21", &format!("{base} is too new"), "--allow-fresh"]);
        plan(&format!("{line} --allow-fresh java21")).ok();
    }
    place.seen(LONG_AGO);
    place.run("lock").ok();
    let build = plan("transfer-images --dry-run").ok();
    assert!(build.stderr.contains("build 1 runtime"), "{build}");
    assert_eq!(place.target.files(), Vec::<String>::new());
}

#[test]
fn only_old_enough_images_are_imported_through_an_air_gap() {
    let Some(place) = Place::new(ALL) else { return };
    let one = named(&place.shelf().image(Some("1"), b"one"));
    let layout = place.world.path("layout");
    place.run("export-images --from-sources --allow-fresh img").arg(&layout).ok();
    let import = |words: &str| {
        let run =
            place.run(&format!("import-images --auto-approve --registry {} {words}", place.target.host()));
        run.arg(&layout)
    };
    import("").end().with_code(CONFIGURATION);
    place.run("lock").ok();
    let waits = import("").end().with_code(REFUSED);
    assert!(waits.stderr.contains(&format!("{one} is too new")) && waits.stderr.contains("img:1"), "{waits}");
    assert_eq!(place.target.files(), Vec::<String>::new());
    place.seen(LONG_AGO);
    place.run("lock").ok();
    import("").ok();
    assert_eq!(digest(&place.manifest("img", "1").unwrap()), one);
}

#[test]
fn a_wrong_clock_is_reported_and_nothing_waits_for_ever() {
    let Some(place) = Place::new(ALL) else { return };
    place.shelf().image(Some("1"), b"one");
    place.run("lock").ok();
    // Recorded by a user whose clock is years ahead.
    place.seen("2099-01-01T00:00:00Z");
    let before = place.run("lock --format json").ok().json();
    let first_seen = before["waiting"][0]["first_seen"].as_str().unwrap();
    assert!(first_seen < "2099", "{before}");
    assert!(!place.lock_text().contains("2099"), "{}", place.lock_text());

    // This machine's clock is far ahead of the registry's: everything would be old enough.
    let text = place.lock_text();
    let behind = answering("Sun, 06 Nov 1994 08:49:37 GMT");
    let route = format!("--upstream {}={behind}", place.source.host());
    let told = place.run(&format!("lock --update {route}")).end().with_code(CONFIGURATION);
    told.failed(
        CONFIGURATION,
        &["this machine's clock is", "ahead of that of", "min_age cannot be checked", "set the clock"],
    );
    assert_eq!(place.lock_text(), text);
    let ahead = answering("Wed, 06 Nov 2999 08:49:37 GMT");
    let told = place.run(&format!("lock --update --upstream {}={ahead}", place.source.host()));
    told.end().with_code(CONFIGURATION).failed(CONFIGURATION, &["this machine's clock is", "behind that of"]);
}

/// A registry with this date that has a manifest under every name.
fn answering(date: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = format!(
        "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: 400\r\n\
         Docker-Content-Digest: {}\r\nConnection: close\r\n\r\n",
        digest(b"manifest")
    );
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}
