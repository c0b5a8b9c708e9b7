use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::*;

const HOSTILE: &str =
    "</title></style><script>alert(1)</script><img src=x onerror=\"alert('2')\">&\u{1b}[2J\u{202e}";

fn image(name: &str, state: State) -> Image {
    Image {
        name: name.to_owned(),
        is_runtime: false,
        from: format!("docker.io/{name}"),
        state,
        result: "copied".to_owned(),
        why: "not there yet".to_owned(),
        digest: Some(format!("sha256:{}", "a".repeat(64))),
        sent: 3 << 20,
        error: None,
        signed_by: None,
        referrers: None,
        layers: None,
        span: None,
        scan: Scan::NotAsked,
    }
}

fn layers(sizes: &[(&str, u64)]) -> Option<Vec<Layer>> {
    Some(
        sizes
            .iter()
            .map(|(digest, size)| Layer { digest: format!("sha256:{digest}"), size: *size })
            .collect(),
    )
}

fn span(begin: u64, end: u64) -> Option<Span> {
    Some(Span { begin: Duration::from_millis(begin), end: Some(Duration::from_millis(end)) })
}

fn page(images: Vec<Image>) -> Page {
    Page {
        grid: "prod".to_owned(),
        ending: Ending::Done,
        begun: true,
        exit_code: 0,
        exit_name: "done".to_owned(),
        version: "0.1.0".to_owned(),
        began: "2026-11-28T06:00:00Z".to_owned(),
        took: Duration::from_secs(12),
        place: vec![("region", "eu-west-1".to_owned())],
        failure: None,
        resources: Vec::new(),
        notes: Vec::new(),
        images,
        phases: Vec::new(),
        is_scanned: true,
    }
}

/// Whether each element is closed in the right place.
fn is_balanced(page: &str) -> bool {
    const VOID: [&str; 3] = ["!doctype", "meta", "br"];
    let mut open = Vec::new();
    let without_style = page.split_once("<style>").unwrap();
    let (_, after) = without_style.1.split_once("</style>").unwrap();
    let text = format!("{}{after}", without_style.0);
    for tag in text.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        let name: &str = tag.split_whitespace().next().unwrap().trim_end_matches('/');
        match name.strip_prefix('/') {
            Some(name) if open.pop() != Some(name) => return false,
            Some(_) => {}
            None if VOID.contains(&name) || tag.ends_with('/') => {}
            None => open.push(name),
        }
    }
    open.is_empty()
}

#[test]
fn the_policy_allows_this_style_and_nothing_else() {
    let digest = format!("sha256-{}", STANDARD.encode(Sha256::digest(STYLE)));
    assert_eq!(STYLE_DIGEST, digest, "the style has changed: write its digest anew");
    let text = render(&page(Vec::new()));
    assert!(text.contains(&format!("default-src 'none'; style-src '{digest}'")), "{text}");
    for outside in ["http:", "https:", "//", "@import", "<script", "<link", "style=\"", "src="] {
        assert!(!text.contains(outside), "{outside}: {text}");
    }
}

#[test]
fn text_from_outside_is_escaped_everywhere() {
    let word = || HOSTILE.to_owned();
    let hostile = |is_runtime| Image {
        is_runtime,
        name: word(),
        from: word(),
        result: word(),
        why: word(),
        digest: Some(word()),
        error: Some(word()),
        signed_by: Some(word()),
        layers: Some(vec![Layer { digest: word(), size: 1 << 20 }]),
        span: span(0, 5),
        scan: Scan::Found(BTreeMap::from([(word(), 1), ("HIGH".to_owned(), 2)])),
        ..image("x", State::Failed)
    };
    let unread = Image { name: format!("unread {HOSTILE}"), scan: Scan::Unread(word()), ..hostile(false) };
    let not_scanned = Image { name: format!("not {HOSTILE}"), scan: Scan::NotScanned, ..hostile(false) };
    let failure = Failure { message: word(), causes: vec![word()], hints: vec![word()] };
    let page = Page {
        grid: word(),
        exit_name: word(),
        version: word(),
        began: word(),
        place: vec![("registry", word())],
        failure: Some(failure),
        resources: vec![word()],
        notes: vec![word()],
        phases: vec![(word(), Span { begin: Duration::ZERO, end: None })],
        ending: Ending::Failed,
        ..page(vec![hostile(false), hostile(true), unread, not_scanned])
    };
    let text = render(&page);
    assert!(is_balanced(&text), "{text}");
    assert!(!text.contains("<script") && !text.contains("<img"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    // All of them are shown.
    let shown = text.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count();
    assert!(shown > 40, "{shown}: {text}");
    // No attribute ends early.
    assert!(!text.contains("onerror=\""), "{text}");
}

#[test]
fn each_result_of_a_run_is_shown() {
    let done = || image("curl:1", State::Done);
    let all = |state| vec![done(), image("keda:2", state)];
    let failure = || Failure {
        message: "interrupted".to_owned(),
        causes: Vec::new(),
        hints: vec!["run it again".to_owned()],
    };
    for (ending, begun, images, words) in [
        (Ending::Done, true, all(State::UpToDate), "<strong>Done</strong> 2 images in place and verified."),
        (
            Ending::NothingToDo,
            false,
            vec![image("curl:1", State::UpToDate)],
            "<strong>Nothing to do</strong> 1 image in place; nothing was changed.",
        ),
        (
            Ending::Plan,
            false,
            vec![image("curl:1", State::Planned), image("keda:2", State::UpToDate)],
            "<strong>Plan</strong> Nothing was changed. 1 image to bring.",
        ),
        (
            Ending::Plan,
            false,
            vec![image("curl:1", State::Failed)],
            "Nothing was changed. 1 image cannot be looked up or built.",
        ),
        (Ending::Failed, false, Vec::new(), "<strong>Failed</strong> Nothing was changed."),
        (
            Ending::Failed,
            true,
            all(State::Failed),
            "<strong>Failed</strong> 1 of 2 images done, which is kept",
        ),
        (
            Ending::Interrupted,
            true,
            all(State::Unfinished),
            "<strong>Interrupted</strong> 1 of 2 images done",
        ),
    ] {
        let failed = matches!(ending, Ending::Failed | Ending::Interrupted);
        let page = Page { ending, begun, failure: failed.then(failure), ..page(images) };
        let text = render(&page);
        assert!(text.contains(words), "{words}: {text}");
        assert!(is_balanced(&text), "{text}");
        assert_eq!(
            text.contains("<title>Plan of transfer-images: grid prod</title>"),
            ending == Ending::Plan
        );
        assert_eq!(text.contains("run it again"), failed, "{text}");
    }
}

#[test]
fn a_shared_layer_has_one_letter() {
    let with =
        |name: &str, sizes: &[(&str, u64)]| Image { layers: layers(sizes), ..image(name, State::Done) };
    let text = render(&page(vec![
        with("one:1", &[("base", 40 << 20), ("own", 10 << 20), ("base", 40 << 20)]),
        with("two:1", &[("base", 40 << 20), ("small", 2 << 20), ("tiny", 1)]),
        with("three:1", &[("small", 2 << 20), ("else", 30 << 20)]),
        image("four:1", State::UpToDate),
    ]));
    assert!(
        text.contains("3 images, 124.0 MiB of layers. 2 layers are in more than one image: with each counted once, they are 82.0 MiB."),
        "{text}"
    );
    assert!(text.contains("The layers of 1 image were not read in this run."), "{text}");
    assert_eq!(
        text.matches("fill=\"url(#layer-A)\"><title>A: sha256:base, 40.0 MiB, in 2 images</title>").count(),
        2
    );
    assert!(text.contains("aria-label=\"50.0 MiB in 2 layers, 1 shared, A among them\""), "{text}");
    assert!(text.contains("<title>sha256:own, 10.0 MiB, in this image alone</title>"), "{text}");
    assert!(text.contains("in 2 images: one:1, two:1"), "{text}");
    // The largest one first.
    assert!(
        text.find("<span class=\"name\">one:1").unwrap() < text.find("<span class=\"name\">three:1").unwrap()
    );
}

#[test]
fn the_timeline_has_copies_builds_and_interrupted_ones() {
    let copied = Image { span: span(1_000, 4_000), ..image("curl:1", State::Done) };
    let failed = Image { span: span(1_000, 2_000), ..image("keda:2", State::Failed) };
    let built = Image {
        is_runtime: true,
        span: Some(Span { begin: Duration::from_secs(6), end: None }),
        ..image("lambda:java", State::Unfinished)
    };
    let phases = vec![("terraform apply".to_owned(), span(0, 1_000).unwrap())];
    let text = render(&Page { phases, ..page(vec![copied, failed, built]) });
    for words in [
        "aria-label=\"copy: begun after 1.0 s, took 3.0 s\"",
        "aria-label=\"copy: begun after 1.0 s, took 1.0 s, failed\"",
        "aria-label=\"build: begun after 6.0 s, took 6.0 s, not done\"",
        "class=\"time-build\" x=\"50%\" y=\"3\" width=\"50%\"",
        "class=\"time-phase\" x=\"0%\"",
        "✗ failed</b>",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!render(&page(vec![image("curl:1", State::UpToDate)])).contains("id=\"timeline\""));
}

#[test]
fn findings_are_counted_by_severity_the_worst_image_first() {
    let found = |counts: &[(&str, u64)]| {
        Scan::Found(counts.iter().map(|(severity, count)| ((*severity).to_owned(), *count)).collect())
    };
    let of = |name: &str, scan| Image { scan, ..image(name, State::Done) };
    let images = vec![
        of("low:1", found(&[("LOW", 900)])),
        of("bad:1", found(&[("CRITICAL", 1), ("UNDEFINED", 4)])),
        of("clean:1", found(&[])),
        of("new:1", Scan::NotScanned),
        of("denied:1", Scan::Unread("ecr:DescribeImageScanFindings is denied".to_owned())),
    ];
    let text = render(&page(images.clone()));
    assert!(
        text.contains("In 3 scanned images:") && text.contains("aria-label=\"1 critical, 900 low, 4 other\""),
        "{text}"
    );
    let row = "<tr><th scope=\"row\">bad:1</th><td class=\"num\">1</td>";
    assert!(
        text.find(row).unwrap() < text.find("<th scope=\"row\">low:1</th><td class=\"num none\">").unwrap()
    );
    assert!(text.contains("Not scanned, or the scan has not ended: new:1."), "{text}");
    assert!(
        text.contains("The scans of 1 image could not be read: ecr:DescribeImageScanFindings is denied"),
        "{text}"
    );
    assert!(!render(&Page { is_scanned: false, ..page(images) }).contains("id=\"findings\""));
}

#[test]
fn signers_and_artifacts_are_named_and_counted() {
    let referrers = Some(Referrers { sboms: 1, provenances: 1, ..Referrers::default() });
    let signed = |name: &str| Image { signed_by: Some("cosign.pub".to_owned()), ..image(name, State::Done) };
    let runtime = Image { is_runtime: true, referrers, ..image("lambda:java", State::Done) };
    let text = render(&page(vec![signed("one:1"), signed("two:1"), runtime]));
    assert!(text.contains("<tr><th scope=\"row\">cosign.pub</th><td class=\"num\">2</td>"), "{text}");
    assert!(
        text.contains("beside it: 1 SBOM, 1 provenance") && text.contains("signed by cosign.pub"),
        "{text}"
    );
    assert!(!render(&page(vec![image("one:1", State::Done)])).contains("id=\"signatures\""));
}

#[test]
fn a_page_of_ten_thousand_images_stays_small() {
    let digest = |n: usize| format!("{n:0>64x}");
    let long = "a-team-with-a-long-name/a-service-with-a-long-name";
    let images = (0..10_000_usize).map(|n| {
        let own: Vec<Layer> = (0..12)
            .map(|layer| Layer { digest: digest(n * 12 + layer), size: 1 << (10 + layer + n % 8) })
            .chain([Layer { digest: digest(usize::MAX - n % 50), size: 30 << 20 }])
            .collect();
        Image {
            layers: Some(own),
            span: span(n as u64, n as u64 * 3),
            signed_by: Some(format!("https://ci.example/{}.yml@refs/heads/main", n % 3)),
            scan: Scan::Found(BTreeMap::from([("HIGH".to_owned(), n as u64)])),
            ..image(&format!("{long}-{n}:1.2.3"), State::Done)
        }
    });
    let text = render(&page(images.collect()));
    assert!(text.len() < 9 << 20, "{}", text.len());
    for words in [
        "The 40 largest of 10000 images are drawn.",
        "The 60 longest of 10000 are drawn.",
        "The 100 worst of 9999 are listed",
    ] {
        assert!(text.contains(words), "{words}");
    }
    assert_eq!(text.matches("<svg class=\"bar\"").count(), 40 + 60 + 1);
    assert_eq!(text.matches("<th scope=\"row\">a-team").count(), 10_000 + 100);
}
