//! The page's content for real runs.

use std::net::TcpListener;
use std::path::Path;

use e2e::{DebianRegistry, Gate, INIT, INTERRUPTED, Images, KeyHolder, Project, Run, TestRepository, World};
use rustix::process::Signal;
use serde_json::json;

const IMAGES: &str = r#"schema_version = 1
[images]
curl = "curlimages/curl:7.85.0"
"kedacore/keda" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
"kedacore/again" = { source = "ghcr.io/kedacore/keda:2.11.2", platforms = "all" }
"#;
const USAGE: i32 = 2;

/// A run with `--report page.html` in the world.
fn reported(world: &World, line: &str) -> Run {
    world.xtask(line).arg("--report").arg(world.path("page.html"))
}

/// The page that a run wrote, complete, with all of `words`; nothing else is left next to it.
fn page(world: &World, words: &[&str]) -> String {
    let page = std::fs::read_to_string(world.path("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
    for words in words {
        assert!(page.contains(words), "no {words:?} in\n{page}");
    }
    let referrers = world.path("").read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = referrers.filter(|name| name.to_string_lossy().starts_with(".xtask-")).collect();
    assert!(left.is_empty(), "{left:?}");
    page
}

/// The table row of an image.
fn row<'a>(page: &'a str, image: &str) -> &'a str {
    let rows = page
        .split("<tr role=\"row\">")
        .find(|row| row.starts_with(&format!("<th scope=\"row\">{image}<span")));
    rows.unwrap_or_else(|| panic!("no row of {image} in\n{page}"))
}

#[test]
fn a_plan_a_run_and_an_empty_run_are_shown_with_ecrs_findings() {
    let Some(world) = World::grid(IMAGES) else { return };
    world.xtask(INIT).ok();
    let run = reported(&world, "transfer-images --dry-run").ok();
    assert!(run.stderr.contains("report of this run: "), "{run}");
    let plan = page(
        &world,
        &[
            "<title>Plan of transfer-images: grid mainline</title>",
            "<h1>Plan for grid mainline</h1>",
            "Nothing was changed. 3 images to bring.",
            "<h2 id=\"images-title\">What would be done</h2>",
            "<dt>exit code</dt><dd>0 (done)</dd>",
            "<dt>account</dt><dd>123456789012 (emulated on this machine)</dd>",
            "Resources, as planned",
            ", in 2 images</title>",
        ],
    );
    assert!(row(&plan, "curl:7.85.0").contains("to copy"), "{plan}");
    assert!(!plan.contains("id=\"timeline\"") && !plan.contains("id=\"findings\""), "{plan}");

    reported(&world, "auto-transfer-images").ok();
    let done = page(
        &world,
        &[
            "<strong>Done</strong> 3 images in place and verified.",
            "<dt>images copied</dt><dd>3</dd>",
            "aria-label=\"resources: begun after",
            "aria-label=\"copy: begun after",
            "No findings in 3 scanned images.",
            "24 shared, A, B, C",
        ],
    );
    let digest = world.aws().registry("GET", "curl/manifests/7.85.0");
    assert!(
        row(&done, "curl:7.85.0").contains(&format!("<code>{}</code>", e2e::digest(&digest.body))),
        "{done}"
    );
    assert!(row(&done, "curl:7.85.0").contains("copied</span>"), "{done}");

    world.aws().emulator.findings("curl", "7.85.0", &json!({ "HIGH": 2, "LOW": 5 }));
    reported(&world, "watch").ok();
    let same = page(
        &world,
        &[
            "<strong>Nothing to do</strong> 3 images in place; nothing was changed.",
            "aria-label=\"2 high, 5 low\"",
            "24 shared, A, B, C",
        ],
    );
    assert!(
        row(&same, "curl:7.85.0").contains("up to date</span>") && !same.contains("id=\"timeline\""),
        "{same}"
    );

    // A caller that may not read findings gets a page that says so, and the run succeeds as before.
    let statement =
        |effect: &str, action: &str| json!({ "Effect": effect, "Action": action, "Resource": "*" });
    let denied = [statement("Allow", "*"), statement("Deny", "ecr:DescribeImageScanFindings")];
    world.aws().emulator.caller("anna", &json!({ "Statement": denied }));
    reported(&world, "auto-transfer-images").ok();
    page(&world, &["The scans of 3 images could not be read: ecr:DescribeImageScanFindings is not allowed<"]);
}

#[test]
fn a_failed_run_shows_what_was_done_and_what_was_not() {
    let (Some(mut world), Some(registry)) = (World::new(Images::Small), DebianRegistry::start()) else {
        return;
    };
    world.write("images.toml", IMAGES);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.sources.route("docker.io", format!("http://{nobody}"));
    let at = |world: &World, line: &str| {
        world
            .sourced()
            .arg("--registry")
            .arg(registry.host())
            .args(line)
            .arg("--report")
            .arg(world.path("page.html"))
            .end()
    };
    // Before anything is changed.
    at(&world, "auto-transfer-images").with_code(7);
    let early = page(
        &world,
        &["<strong>Failed</strong> Nothing was changed.", "<dd>7 (upstream)</dd>", "What to do:"],
    );
    assert!(row(&early, "curl:7.85.0").contains("failed</span>"), "{early}");
    assert!(row(&early, "kedacore/keda:2.11.2").contains("not begun</span>"), "{early}");

    at(&world, "auto-transfer-images --keep-going").with_code(7);
    let late =
        page(&world, &["<strong>Failed</strong> 2 of 3 images done", "docker.io/curlimages/curl:7.85.0"]);
    assert!(row(&late, "kedacore/keda:2.11.2").contains("copied</span>"), "{late}");
    assert!(!late.contains("id=\"findings\""), "only ECR scans: {late}");
}

#[test]
fn an_interrupted_run_shows_what_was_done() {
    let (Some(mut world), Some(registry)) = (World::new(Images::Small), DebianRegistry::start()) else {
        return;
    };
    world.write("images.toml", IMAGES);
    let gate = Gate::before(&world.sources.host, |line| line.contains("/blobs/"));
    world.sources.route("docker.io", format!("http://{}/docker.io", gate.host()));
    world.write("page.html", "the page of another run");
    let run = world.sourced().arg("--registry").arg(registry.host()).args("auto-transfer-images");
    let mut run = run.arg("--report").arg(world.path("page.html")).start();
    gate.wait();
    run.wait_for_all(&["kedacore/keda:2.11.2: copied", "kedacore/again:2.11.2: copied"]);
    assert_eq!(std::fs::read_to_string(world.path("page.html")).unwrap(), "the page of another run");
    run.signal(Signal::INT);
    run.end().with_code(INTERRUPTED);
    let page = page(
        &world,
        &[
            "<strong>Interrupted</strong> 2 of 3 images done, which is kept",
            "<dd>130 (interrupted)</dd>",
            "2 of 3 images done; the same command continues from there",
            "not done\"",
        ],
    );
    assert!(row(&page, "curl:7.85.0").contains("not finished</span>"), "{page}");
    assert!(row(&page, "kedacore/keda:2.11.2").contains("copied</span>"), "{page}");
}

#[test]
fn an_unwritable_report_is_named_before_any_question_or_change() {
    let (Some(world), Some(registry)) = (World::new(Images::Small), DebianRegistry::start()) else { return };
    world.write("images.toml", IMAGES);
    let kept = world.write("kept.html", "kept");
    let mut permissions = std::fs::metadata(&kept).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&kept, permissions).unwrap();
    let run = |line: &str, place: &Path| {
        world.sourced().arg("--registry").arg(registry.host()).args(line).arg("--report").arg(place).end()
    };
    for (place, words) in [
        (world.path("missing/page.html"), "cannot be written"),
        (world.path("home"), "is a directory"),
        (kept.clone(), "is read-only"),
        ("/proc/page.html".into(), "cannot be written"),
    ] {
        for line in ["transfer-images --dry-run", "auto-transfer-images", "watch"] {
            run(line, &place).failed(USAGE, &[&format!("--report {}", place.display()), words]);
        }
    }
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "kept");
    assert!(!world.path("missing").exists());
    assert_eq!((registry.files(), world.sources.requests().len()), (Vec::<String>::new(), 0));
}

#[test]
fn an_images_signer_is_shown_and_a_hostile_name_is_escaped() {
    let (Some(world), Some(source), Some(target)) =
        (World::new(Images::Small), DebianRegistry::start(), DebianRegistry::start())
    else {
        return;
    };
    let (shelf, holder) = (TestRepository::new(source.host(), "team/x"), KeyHolder::new());
    let image = shelf.image(Some("1"), b"one");
    let digest = image["digest"].as_str().unwrap();
    shelf.tag(digest, &holder.sign(digest));
    std::fs::create_dir_all(world.path("grid/.git")).unwrap();
    world.write("grid/key<script>&.pub", &holder.public());
    world.write(
        "grid/images.toml",
        &format!(
            "schema_version = 1\n[images]\nimg = {{ source = \"{0}/team/x:1\", platforms = \"all\" }}\n[trust]\n\
             \"{0}/*\" = {{ signed_by = {{ key = \"key<script>&.pub\" }} }}\n",
            source.host()
        ),
    );
    let again = || {
        let run = world.bare().arg("--images").arg(world.path("grid/images.toml"));
        let run = run.arg("--registry").arg(target.host());
        run.args("auto-transfer-images --report").arg(world.path("page.html"))
    };
    again().ok();
    let page = page(
        &world,
        &[
            "<tr><th scope=\"row\">key&lt;script&gt;&amp;.pub</th><td class=\"num\">1</td>",
            "signed by key&lt;script&gt;&amp;.pub; beside it: 1 signature",
        ],
    );
    assert!(!page.contains("<script"), "{page}");

    // As at a registry that reads the tag as the digest in it: the result is the image itself, not a signature.
    let shelf = TestRepository::new(target.host(), "img");
    let itself =
        shelf.manifest(Some(&format!("{}.sig", digest.replace(':', "-"))), &shelf.read("1").unwrap());
    assert_eq!(itself["digest"], image["digest"]);
    again().ok();
    let page = self::page(&world, &["signed by key&lt;script&gt;&amp;.pub"]);
    assert!(!page.contains("1 signature"), "{page}");
}

#[test]
fn a_runtime_is_shown_with_its_build_sbom_and_provenance() {
    let Some(project) = Project::new() else { return };
    let run = project.xtask("").arg("--registry").arg(project.registry.host()).args("auto-transfer-images");
    run.arg("--report").arg(project.world.path("page.html")).ok();
    let page = page(
        &project.world,
        &[
            "<dt>runtimes brought</dt><dd>1</dd>",
            "aria-label=\"build: begun after",
            "<th scope=\"row\">Runtimes</th>",
        ],
    );
    let row = row(&page, &format!("lambda:{}", project.name));
    for words in ["built</span>", "beside it: 1 SBOM, 1 provenance", &project.tags()[&project.name]] {
        assert!(row.contains(words), "no {words:?} in {row}");
    }
}
