//! A sample page of a grid: fifteen images, five runtimes.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::{digest, root};
use report::{Ending, Failure, Image, Layer, Page, Referrers, Scan, Span, State};

const MIB: u64 = 1 << 20;

/// Name, source, action, MiB of the image's own layers, letters of its shared layers, seconds of start and end.
type Row = (&'static str, &'static str, &'static str, &'static [u64], &'static str, [f64; 2]);

const IMAGES: [Row; 15] = [
    (
        "aws-for-fluent-bit:2.31.11",
        "public.ecr.aws/aws-observability/aws-for-fluent-bit:2.31.11",
        "copy",
        &[62, 28, 9, 4],
        "a",
        [6.1, 21.4],
    ),
    (
        "cloudwatch-agent:1.247350.0b251780",
        "docker.io/amazon/cloudwatch-agent:1.247350.0b251780",
        "copy",
        &[71, 3],
        "",
        [6.1, 18.9],
    ),
    ("curl:7.85.0", "docker.io/curlimages/curl:7.85.0", "same", &[3, 2], "p", [0.0, 0.0]),
    ("grafana:9.5.6", "docker.io/grafana/grafana:9.5.6", "copy", &[58, 21, 3], "p", [6.1, 19.2]),
    (
        "grafana/grafana-image-renderer:3.7.1",
        "docker.io/grafana/grafana-image-renderer:3.7.1",
        "copy",
        &[141, 38],
        "p",
        [6.2, 27.7],
    ),
    ("influxdb:1.8.10", "docker.io/library/influxdb:1.8.10", "copy", &[37, 25, 12], "d", [6.2, 17.3]),
    (
        "ingress-nginx/controller:v1.8.1",
        "registry.k8s.io/ingress-nginx/controller:v1.8.1",
        "replace",
        &[74, 19, 6, 3, 1],
        "p",
        [6.2, 20.0],
    ),
    ("kedacore/keda:2.11.2", "ghcr.io/kedacore/keda:2.11.2", "copy", &[31], "sk", [6.3, 12.6]),
    (
        "kedacore/keda-admission-webhooks:2.11.2",
        "ghcr.io/kedacore/keda-admission-webhooks:2.11.2",
        "copy",
        &[17],
        "sk",
        [6.3, 11.0],
    ),
    (
        "kedacore/keda-metrics-apiserver:2.11.2",
        "ghcr.io/kedacore/keda-metrics-apiserver:2.11.2",
        "copy",
        &[24],
        "sk",
        [6.3, 11.8],
    ),
    (
        "kiwigrid/k8s-sidecar:1.24.6",
        "quay.io/kiwigrid/k8s-sidecar:1.24.6",
        "copy",
        &[15, 11, 2],
        "p",
        [6.4, 12.1],
    ),
    (
        "kube-state-metrics/kube-state-metrics:v2.9.2",
        "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.9.2",
        "copy",
        &[14],
        "s",
        [6.4, 10.2],
    ),
    (
        "prometheus/alertmanager:v0.25.0",
        "quay.io/prometheus/alertmanager:v0.25.0",
        "complete",
        &[26, 4],
        "b",
        [6.4, 8.0],
    ),
    (
        "prometheus/node-exporter:v1.6.0",
        "quay.io/prometheus/node-exporter:v1.6.0",
        "copy",
        &[9, 2],
        "b",
        [6.5, 9.1],
    ),
    (
        "prometheus/prometheus:v2.45.0",
        "quay.io/prometheus/prometheus:v2.45.0",
        "copy",
        &[46, 42, 3],
        "b",
        [6.5, 20.6],
    ),
];
const RUNTIMES: [Row; 5] = [
    ("lambda:java21", "public.ecr.aws/lambda/java:21", "build", &[1], "wj", [6.0, 58.3]),
    ("lambda:nodejs22", "public.ecr.aws/lambda/nodejs:22", "build", &[1], "wn", [6.0, 49.8]),
    ("lambda:provided.al2023", "public.ecr.aws/lambda/provided:al2023", "promote", &[1], "w", [49.9, 51.0]),
    ("lambda:python3.12", "public.ecr.aws/lambda/python:3.12", "build", &[4, 1], "wy", [6.0, 44.2]),
    ("lambda:python3.13", "public.ecr.aws/lambda/python:3.13", "build", &[4, 1], "wy", [44.3, 71.6]),
];

/// Shared layers, by letter: the layer's MiB.
fn shared(letter: char) -> Layer {
    let size = match letter {
        'a' => 60,
        'd' => 52,
        'p' => 3,
        's' => 1,
        'k' => 7,
        'b' => 2,
        'w' => 104,
        'j' => 92,
        'n' => 44,
        _ => 61,
    };
    Layer { digest: digest(letter.to_string().as_bytes()), size: size * MIB + u64::from(letter) * 4_099 }
}

fn image((name, from, action, own, letters, [begin, end]): &Row, is_runtime: bool) -> Image {
    let own = own.iter().enumerate().map(|(position, size)| Layer {
        digest: digest(format!("{name} {position}").as_bytes()),
        size: size * MIB + name.len() as u64 * 7_919,
    });
    let config = Layer { digest: digest(format!("{name} config").as_bytes()), size: 7_312 };
    let layers: Vec<Layer> = letters.chars().map(shared).chain(own).chain([config]).collect();
    let (result, why) = match *action {
        "copy" => ("copied", "not there yet"),
        "replace" => ("replaced", "upstream has moved: was sha256:4a3c1f6b0f8e"),
        "complete" => ("completed", "1 referrer missing (signatures, attestations)"),
        "build" => ("built", "no build of these inputs exists"),
        "promote" => ("promoted", "the build is at the registry; its tag moves"),
        _ => ("up to date", ""),
    };
    let is_same = *action == "same";
    let sent = layers
        .iter()
        .filter(|_| matches!(*action, "copy" | "replace" | "build"))
        .map(|layer| layer.size)
        .sum();
    let moment = |seconds: f64| Duration::from_secs_f64(seconds);
    let signed = name.starts_with("prometheus") || name.starts_with("kedacore");
    Image {
        name: (*name).to_owned(),
        is_runtime,
        from: (*from).to_owned(),
        state: if is_same { State::UpToDate } else { State::Done },
        result: result.to_owned(),
        why: why.to_owned(),
        digest: Some(digest(name.as_bytes())),
        sent,
        error: None,
        signed_by: signed.then(|| match name.starts_with("kedacore") {
            true => "https://github.com/kedacore/keda/.github/workflows/release-build.yml@refs/tags/v2.11.2"
                .to_owned(),
            false => "cosign.pub".to_owned(),
        }),
        referrers: match (is_runtime, signed) {
            (true, _) => Some(Referrers { sboms: 1, provenances: 1, ..Referrers::default() }),
            (false, true) => Some(Referrers { signatures: 1, ..Referrers::default() }),
            (false, false) => None,
        },
        layers: Some(layers),
        span: (!is_same).then(|| Span { begin: moment(*begin), end: Some(moment(*end)) }),
        scan: scan(name),
    }
}

fn scan(name: &str) -> Scan {
    let found = |counts: &[(&str, u64)]| {
        Scan::Found(
            counts
                .iter()
                .map(|(severity, count)| ((*severity).to_owned(), *count))
                .collect::<BTreeMap<_, _>>(),
        )
    };
    match name {
        "influxdb:1.8.10" => found(&[("CRITICAL", 2), ("HIGH", 19), ("MEDIUM", 47), ("LOW", 88)]),
        "grafana/grafana-image-renderer:3.7.1" => {
            found(&[("HIGH", 7), ("MEDIUM", 21), ("LOW", 12), ("INFORMATIONAL", 3)])
        }
        "cloudwatch-agent:1.247350.0b251780" => found(&[("HIGH", 3), ("MEDIUM", 8), ("UNDEFINED", 1)]),
        "ingress-nginx/controller:v1.8.1" => found(&[("CRITICAL", 1), ("MEDIUM", 4)]),
        "lambda:java21" | "lambda:python3.13" => Scan::NotScanned,
        _ => found(&[]),
    }
}

/// The page of a successful run.
pub fn page() -> Page {
    let images =
        IMAGES.iter().map(|row| image(row, false)).chain(RUNTIMES.iter().map(|row| image(row, true)));
    Page {
        grid: "prod".to_owned(),
        ending: Ending::Done,
        begun: true,
        exit_code: 0,
        exit_name: "done".to_owned(),
        version: "0.1.0".to_owned(),
        began: "2026-11-28T06:14:09Z".to_owned(),
        took: Duration::from_millis(72_400),
        place: vec![
            ("account", "123456789012".to_owned()),
            ("region", "eu-west-1".to_owned()),
            ("registry", "123456789012.dkr.ecr.eu-west-1.amazonaws.com".to_owned()),
        ],
        failure: None,
        resources: vec![
            "aws_ecr_repository.managed[\"prometheus/node-exporter\"]: create".to_owned(),
            "aws_ecr_repository.managed[\"kiwigrid/k8s-sidecar\"]: create".to_owned(),
            "aws_ecr_pull_through_cache_rule.managed[\"quay\"]: create".to_owned(),
        ],
        notes: vec!["docker.io: 8 pulls needed, 92 of 100 left".to_owned()],
        images: images.collect(),
        phases: vec![(
            "terraform apply".to_owned(),
            Span { begin: Duration::from_millis(1_300), end: Some(Duration::from_millis(5_900)) },
        )],
        is_scanned: true,
    }
}

/// The page of the same run with a wrong signature, a failed build, and an interrupt.
pub fn interrupted() -> Page {
    let mut page = page();
    page.ending = Ending::Interrupted;
    (page.exit_code, page.exit_name) = (130, "interrupted".to_owned());
    page.failure = Some(Failure {
        message: "interrupted".to_owned(),
        causes: Vec::new(),
        hints: vec![
            "11 of 14 images and 2 of 5 runtimes done; the same command continues from there".to_owned(),
        ],
    });
    for image in &mut page.images {
        let failed = match image.name.as_str() {
            "influxdb:1.8.10" => {
                "docker.io/library/influxdb:1.8.10: the registry answers 503 Service Unavailable, for the 5th time"
            }
            "lambda:nodejs22" => {
                "step 7 of 9, RUN npm ci --omit=dev, failed with exit code 1:\n  npm error code E401\n  npm error Incorrect or missing password.\nthe whole output: target/xtask/logs/nodejs22.log"
            }
            "lambda:python3.13" => {
                (image.state, image.result) = (State::Unfinished, "not finished".to_owned());
                image.span = image.span.map(|span| Span { end: None, ..span });
                continue;
            }
            "lambda:provided.al2023" => {
                (image.state, image.result, image.span) = (State::NotBegun, "not begun".to_owned(), None);
                continue;
            }
            _ => continue,
        };
        (image.state, image.result, image.error) =
            (State::Failed, "failed".to_owned(), Some(failed.to_owned()));
    }
    page
}

#[test]
fn the_sample_page_is_generated() {
    let (file, wanted) = (root().join("docs/report.html"), report::render(&page()));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    assert!(std::fs::read_to_string(&file).unwrap() == wanted, "UPDATE=1 writes {} anew", file.display());
}
