//! `[trust]`: nothing is copied, locked or used as a base unless it has a valid signature for exactly its digest.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod air_gap;

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use e2e::{DebianRegistry, Gate, Images, KeyHolder, Run, Sigstore, TestRepository, World, of_rekor_2};
use serde_json::Value;

const JOB: &str = "https://ci.example/job.yml@refs/tags/v1";
const TOKEN: &str = "https://token.example";
const REFUSED: i32 = 6;

/// A world with a source and an empty target.
struct Place {
    world: World,
    source: DebianRegistry,
    target: DebianRegistry,
    /// The number of requests to other hosts.
    others: Arc<AtomicUsize>,
    proxy: String,
}

fn named(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap()
}

impl Place {
    fn new() -> Option<Self> {
        let (world, source) = (World::new(Images::Small)?, DebianRegistry::start()?);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://{}", listener.local_addr().unwrap());
        let others = Arc::<AtomicUsize>::default();
        let seen = Arc::clone(&others);
        // It closes the connection: each request is counted and gets no answer.
        std::thread::spawn(move || {
            listener.incoming().for_each(|_| {
                seen.fetch_add(1, Ordering::SeqCst);
            });
        });
        std::fs::create_dir_all(world.path("grid/.git")).unwrap();
        Some(Self { world, source, target: DebianRegistry::start()?, others, proxy })
    }

    fn shelf(&self) -> TestRepository {
        TestRepository::new(self.source.host(), "team/x")
    }

    /// Writes images.toml: the image `team/x:1` of the source, and this rule for all images there.
    fn rule(&self, rule: &str) {
        self.list("img = { source = \"SOURCE/team/x:1\", platforms = \"all\" }\n[runtimes]", rule);
    }

    fn list(&self, images: &str, rule: &str) {
        let images = images.replace("SOURCE", self.source.host());
        let text = format!(
            "schema_version = 1\n[images]\n{images}\n[trust]\n\"{}/*\" = {rule}\n",
            self.source.host()
        );
        self.world.write("grid/images.toml", &text);
    }

    fn file(&self, name: &str, text: &str) {
        self.world.write(&format!("grid/{name}"), text);
    }

    /// `xtask` with this target. Loopback is reached directly, and everything else through a proxy that counts.
    fn run(&self, line: &str) -> Run {
        let run = self.world.bare().env("HTTPS_PROXY", &self.proxy).env("HTTP_PROXY", &self.proxy);
        run.arg("--images").arg(self.world.path("grid/images.toml")).args(line)
    }

    fn transfer(&self, words: &str) -> Run {
        self.run(&format!("transfer-images --auto-approve --registry {} {words}", self.target.host()))
    }

    /// A run that is refused with this text before anything is written to the target, whatever the command is.
    fn refused(&self, what: &str, words: &str) {
        for line in ["", "--dry-run", "--keep-going"] {
            let ended = self.transfer(line).end().with_code(REFUSED);
            assert!(ended.stderr.contains(words), "{what} {line}: {ended}");
            assert!(ended.stderr.contains("img:1"), "{what} {line}: {ended}");
        }
        let locked = self.run("lock").end().with_code(REFUSED);
        assert!(locked.stderr.contains(words), "{what}: {locked}");
        assert!(!self.world.path("grid/images.lock").exists(), "{what}");
        assert_eq!(self.target.files(), Vec::<String>::new(), "{what}: something was written to the target");
    }
}

#[test]
fn an_image_not_signed_by_the_key_is_refused_before_anything_is_written() {
    let Some(place) = Place::new() else { return };
    let (shelf, holder, other) = (place.shelf(), KeyHolder::new(), KeyHolder::new());
    place.file("cosign.pub", &holder.public());
    place.rule("{ signed_by = { key = \"cosign.pub\" } }");

    let image = shelf.image(Some("1"), b"one");
    let image = named(&image);
    place.refused("missing", &format!("{image} is rejected: it has no signature"));

    shelf.tag(image, &other.sign(image));
    place.refused("another key", "it is signed by another key than cosign.pub");

    let elsewhere = format!("sha256:{}", "5".repeat(64));
    shelf.tag(image, &holder.sign(&elsewhere));
    place.refused("moved from another digest", &format!("its signature is for {elsewhere}"));

    // The correctly signed one, with a changed layer.
    shelf.tag(image, &holder.sign(image));
    shelf.image(Some("1"), b"two");
    place.refused("a tampered layer", "it has no signature");
    assert_eq!(place.others.load(Ordering::SeqCst), 0, "somebody else was asked");
}

#[test]
fn a_layer_changed_by_its_registry_is_never_copied() {
    let Some(place) = Place::new() else { return };
    let (shelf, holder) = (place.shelf(), KeyHolder::new());
    place.file("cosign.pub", &holder.public());
    place.rule("{ signed_by = { key = \"cosign.pub\" } }");
    let image = shelf.image(Some("1"), b"layer one");
    shelf.tag(named(&image), &holder.sign(named(&image)));
    let layer = e2e::digest(b"layer one");
    std::fs::write(place.source.blob(&layer), b"layer two").unwrap();
    let ended = place.transfer("").end().with_code(7);
    let other = e2e::digest(b"layer two");
    assert!(ended.stderr.contains(&format!("the content has digest {other}, not {layer}")), "{ended}");
    assert!(!place.target.blob(&layer).exists() && !place.target.blob(&other).exists());
    assert!(TestRepository::new(place.target.host(), "img").read("1").is_none());
}

#[test]
fn a_keyless_signature_logged_while_its_certificate_was_valid_is_accepted() {
    let Some(place) = Place::new() else { return };
    let (shelf, sigstore) = (place.shelf(), Sigstore::new());
    place.file("root.json", &sigstore.root());
    let rule = "{ signed_by = { identity = \"https://ci.example/job.yml@refs/tags/*\", issuer = \"ISSUER\", root = \"root.json\" } }";
    place.rule(&rule.replace("ISSUER", TOKEN));
    let image = shelf.image(Some("1"), b"one");
    let image = named(&image);

    shelf.tag(image, &sigstore.sign(image, JOB, TOKEN, Some(601)));
    let ended = "the certificate of its signature ended 2026-03-01T00:10:00Z, and the transparency log took it 2026-03-01T00:10:01Z";
    place.refused("an expired certificate", ended);
    shelf.tag(image, &sigstore.sign(image, JOB, TOKEN, None));
    let unlogged = "its signature has no entry of a transparency log of root.json that says when it was made";
    place.refused("an expired certificate without a log's word", unlogged);
    shelf.tag(image, &Sigstore::new().sign(image, JOB, TOKEN, Some(60)));
    place.refused(
        "another log",
        "the transparency log's entry of its signature is invalid: it is of another log",
    );
    let else_job = "https://ci.example/other.yml@refs/tags/v1";
    shelf.tag(image, &sigstore.sign(image, else_job, TOKEN, Some(60)));
    place.refused("somebody else", &format!("its signer is {else_job}, not"));
    shelf.tag(image, &sigstore.sign(image, JOB, "https://elsewhere.example", Some(60)));
    place.refused(
        "another issuer",
        "the OIDC issuer of its certificate is https://elsewhere.example, not https://token.example",
    );

    shelf.tag(image, &sigstore.sign(image, JOB, TOKEN, Some(60)));
    place.transfer("").ok();
    assert_eq!(place.others.load(Ordering::SeqCst), 0, "somebody else was asked");
}

#[test]
fn a_signed_image_is_copied_with_its_signature_and_verified_once() {
    let Some(place) = Place::new() else { return };
    let (shelf, holder) = (place.shelf(), KeyHolder::new());
    place.file("cosign.pub", &holder.public());
    place.file("old.pub", &KeyHolder::new().public());
    place.list(
        "tagged = { source = \"SOURCE/team/x:1\", platforms = \"all\" }\n\
         bundled = { source = \"SOURCE/team/x:2\", platforms = \"all\" }\n\
         child = \"SOURCE/team/x:3\"",
        "{ signed_by = [{ key = \"old.pub\" }, { key = \"cosign.pub\" }] }",
    );
    let one = shelf.image(Some("1"), b"one");
    shelf.tag(named(&one), &holder.sign(named(&one)));
    let two = shelf.image(Some("2"), b"two");
    let bundle = shelf.attach(&two, &holder.bundle(named(&two)));
    // The index is signed, and the image of one platform is selected from it.
    let [index, child] = shelf.index("3", b"three");
    shelf.tag(named(&index), &holder.sign(named(&index)));

    let plan = place.transfer("--dry-run").ok();
    assert_eq!(plan.stderr.matches("signed by cosign.pub").count(), 3, "{plan}");
    let ended = place.transfer("--format json").ok();
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    for image in report["images"].as_array().unwrap() {
        assert_eq!(image["signed_by"], "cosign.pub", "{report}");
    }
    let at = |repository: &str| TestRepository::new(place.target.host(), repository);
    assert!(at("tagged").read(&format!("{}.sig", named(&one).replace(':', "-"))).is_some());
    assert!(at("bundled").read(&bundle).is_some());
    assert!(at("bundled").read(&named(&two).replace(':', "-")).is_some());
    assert!(at("child").read(named(&child)).is_some());

    // After that no signature is requested: such a request would be held, and the run would not end.
    let gate =
        Gate::before(place.source.host(), |line| line.contains(".sig ") || line.contains("/referrers/"));
    let run = || place.transfer(&format!("--upstream {}=http://{}", place.source.host(), gate.host()));
    let again = run().ok();
    assert!(again.stderr.contains("nothing to do"), "{again}");
    let listed = place.run(&format!("list-images --format json --registry {}", place.target.host())).ok();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    for image in listed["images"].as_array().unwrap().iter().filter(|image| image["repository"] != "lambda") {
        assert_eq!((&image["signed"], &image["signed_by"]), (&true.into(), &"cosign.pub".into()), "{listed}");
    }

    // Another key: signatures of the old one are no longer valid, although nothing is to be copied.
    place.file("cosign.pub", &KeyHolder::new().public());
    let refused = place.transfer("").end().with_code(REFUSED);
    assert_eq!(refused.stderr.matches("caused by: ").count(), 3, "{refused}");
    assert!(refused.stderr.contains("3 images not signed as images.toml asks"), "{refused}");
    let listed = place.run(&format!("list-images --registry {}", place.target.host())).ok();
    assert_eq!(listed.stdout.matches("not signed").count(), 3, "{listed}");
    assert_eq!(place.others.load(Ordering::SeqCst), 0, "somebody else was asked");
}

#[test]
fn a_platform_images_signature_is_not_valid_for_its_index() {
    let Some(place) = Place::new() else { return };
    let (shelf, holder) = (place.shelf(), KeyHolder::new());
    place.file("cosign.pub", &holder.public());
    place.list("img = \"SOURCE/team/x:1\"", "{ signed_by = { key = \"cosign.pub\" } }");
    let [index, child] = shelf.index("1", b"one");
    shelf.tag(named(&child), &holder.sign(named(&child)));
    place.refused("the index", &format!("{} is rejected: it has no signature", named(&index)));
}

#[test]
fn an_unsigned_base_is_not_used() {
    let Some(place) = Place::new() else { return };
    let (shelf, holder) = (place.shelf(), KeyHolder::new());
    place.file("cosign.pub", &holder.public());
    let base = shelf.image(Some("1"), b"one");
    place.list("[runtimes]\njava21 = \"SOURCE/team/x:1\"", "{ signed_by = { key = \"cosign.pub\" } }");
    let words = format!("{} is rejected: it has no signature", named(&base));
    for line in
        ["transfer-images --auto-approve", "transfer-images --dry-run", "rebuild-runtimes --dry-run --push"]
    {
        let ended = place.run(&format!("{line} --registry {}", place.target.host())).end().with_code(REFUSED);
        assert!(ended.stderr.contains(&words) && ended.stderr.contains("runtime java21"), "{line}: {ended}");
    }
    assert_eq!(place.target.files(), Vec::<String>::new());
}

#[test]
fn no_pull_is_used_for_a_missing_signature_and_an_existing_one_is_counted() {
    let Some(place) = Place::new() else { return };
    let (shelf, holder) = (place.shelf(), KeyHolder::new());
    place.file("cosign.pub", &holder.public());
    let image = shelf.image(Some("1"), b"one");
    // Requests are forwarded and recorded; those that are not pulls are not recorded.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let gate = Gate::before(place.source.host(), move |line| {
        if line.starts_with("GET ") && line.contains("/manifests/") {
            heard.lock().unwrap().push(line.to_owned());
        }
        false
    });
    let images = format!(
        "schema_version = 1\n[images]\nimg = {{ source = \"hub.example/team/x:1\", platforms = \"all\" }}\n[runtimes]\n\
         [upstream.\"hub.example\"]\nurl = \"http://{}\"\ncounts_pulls = true\n\
         [trust]\n\"hub.example/*\" = {{ signed_by = {{ key = \"cosign.pub\" }} }}\n",
        gate.host()
    );
    place.world.write("grid/images.toml", &images);
    let reads = || std::mem::take(&mut *asked.lock().unwrap());
    let refused = place.transfer("--dry-run").end().with_code(REFUSED);
    assert!(refused.stderr.contains("it has no signature"), "{refused}");
    assert_eq!(reads(), [""; 0], "nothing is there, and a GET of nothing is a pull");
    let listed = place.run(&format!("list-images --registry {}", place.target.host())).ok();
    assert!(listed.stdout.contains("not signed"), "{listed}");
    place.run("lock").end().with_code(REFUSED);
    // Both requests read the image itself.
    let lines = reads();
    assert!(lines.iter().all(|line| line.contains(named(&image))), "{lines:?}");

    shelf.tag(named(&image), &holder.sign(named(&image)));
    let plan = place.transfer("--dry-run --format json").ok().json();
    assert_eq!(plan["pulls"][0]["needed"], 2, "the signature, to verify it, and the image: {plan}");
    assert_eq!(reads().len(), 2);
    place.transfer("").ok();
    // This registry does not report how many pulls are left, so what the plan read is not kept: the image is read once more, and
    // its signature.
    assert_eq!(reads().len(), 2);
}

#[test]
fn a_cosign_3_bundle_is_verified_by_its_timestamp_without_other_servers() {
    let Some(place) = Place::new() else { return };
    let (shelf, (bundle, root, job)) = (place.shelf(), of_rekor_2());
    place.file("root.json", &root);
    place.rule(&format!(
        "{{ signed_by = {{ identity = \"{job}\", issuer = \"{TOKEN}\", root = \"root.json\" }} }}"
    ));
    let image = shelf.image(Some("1"), b"one");
    let found = shelf.attach(&image, &bundle);
    let ended = place.transfer("--format json").ok().json();
    assert_eq!(ended["images"][0]["signed_by"], job, "{ended}");
    assert!(TestRepository::new(place.target.host(), "img").read(&found).is_some());
    // The same for another image.
    shelf.attach(&shelf.image(Some("1"), b"two"), &bundle);
    let refused = place.transfer("").end().with_code(REFUSED);
    assert!(refused.stderr.contains(&format!("its signature is for {}", named(&image))), "{refused}");
    assert_eq!(place.others.load(Ordering::SeqCst), 0, "somebody else was asked");
}
