//! The content of a seed: images, the registries' behaviour, and the accidents. Everything is drawn before the run begins, so that
//! single accidents can be omitted again.

use std::time::Duration;

use fastrand::Rng;
use registry::mirror::{Limits, Mounts};

use crate::images::{self, TestImage, bytes};

/// The kind of a request, by which faults select it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    ManifestHead,
    ManifestGet,
    ManifestPut,
    BlobHead,
    BlobGet,
    UploadStart,
    UploadFinish,
    Referrers,
    Token,
}

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection breaks after this number of bytes of the reply's body (modulo its length).
    CutReply(usize),
    /// The connection breaks after this number of bytes of the request's body (modulo its length).
    CutRequest(usize),
    /// The reply's body is truncated without an error.
    Truncate(usize),
    /// A byte of the reply's body is changed.
    Corrupt(usize),
    /// No reply at all.
    Hang,
    /// The reply is late.
    Delay(Duration),
    /// 429, with `Retry-After` in seconds or without.
    TooMany(Option<u64>),
    /// Another status.
    Status(u16),
    /// The request is carried out, and its reply is lost.
    LoseReply,
    /// A range that begins at another byte than the requested one.
    WrongRange,
    /// The upload session is gone.
    LoseSession,
    /// All tokens and passwords so far become invalid.
    Expire,
    /// The body comes a few bytes at a time, every few seconds.
    Trickle,
    /// The server accepts connections again after this time.
    Down(Duration),
}

/// An accident. Each can be omitted.
#[derive(Clone, Debug)]
pub enum Accident {
    /// The request with this kind, side and number has a fault.
    Fault { at_target: bool, op: Op, number: usize, fault: Fault },
    /// The process ends after this time, and another one starts.
    Kill(Duration),
    /// A second process works on the same list from this time on.
    Second(Duration),
    /// The tag of this image is moved at its source.
    MoveSource(Duration, usize),
    /// Another image is put under this image's tag at the target.
    MoveTarget(Duration, usize),
}

/// The authentication that a registry requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Open,
    Basic,
    Bearer { lifetime: u64 },
}

/// A registry's behaviour.
#[derive(Clone, Debug)]
pub struct Ways {
    pub auth: Auth,
    /// Blobs are read from, and sent to, another host.
    pub elsewhere: bool,
    /// Manifests are accepted only after their parts, blobs only with their digest.
    pub is_strict: bool,
    pub mounts: Mounts,
    /// A mount that is not accepted is an error instead of an upload session.
    pub mount_error: Option<u16>,
    /// The longest time until new content is visible.
    pub lag: Duration,
    pub knows_ranges: bool,
    pub has_referrers: bool,
    /// The quotas of ECR apply.
    pub is_ecr: bool,
}

/// An image, and its target.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub source: (String, String),
    pub target: (String, String),
    pub image: TestImage,
    /// The image of the source's tag after the tag was moved.
    pub next: TestImage,
    /// The artifacts that refer to the image.
    pub artifacts: Vec<TestImage>,
    pub one_platform: bool,
}

/// The content of a seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub images: Vec<Wanted>,
    pub source: Ways,
    pub target: Ways,
    pub limits: Limits,
    /// What one process learned is known to the next one.
    pub remembers: bool,
    pub copies_artifacts: bool,
    /// The first process does not copy them.
    pub artifacts_later: bool,
    /// The longest delay of a request, in milliseconds.
    pub distance: u64,
    pub accidents: Vec<Accident>,
}

impl Scenario {
    pub fn draw(seed: u64) -> Self {
        let random = &mut Rng::with_seed(seed);
        let images = draw_images(random);
        let is_ecr = random.u8(0..4) == 0;
        let target = Ways {
            mounts: if is_ecr {
                Mounts::Committed
            } else {
                *pick(random, &[Mounts::Anytime, Mounts::Anytime, Mounts::Never])
            },
            is_ecr,
            ..ways(random)
        };
        let accidents = (0..random.usize(0..7)).map(|_| accident(random, images.len())).collect();
        Self {
            seed,
            source: ways(random),
            target,
            limits: Limits {
                transfers: random.usize(1..4),
                transfers_per_host: random.usize(1..4),
                requests: random.usize(2..9),
                requests_per_host: random.usize(2..9),
            },
            remembers: random.bool(),
            copies_artifacts: random.u8(0..3) == 0,
            distance: *pick(random, &[2, 20, 20, 200]),
            artifacts_later: random.u8(0..3) == 0,
            images,
            accidents,
        }
    }

    /// The scenario without these of its accidents.
    pub fn without(mut self, dropped: &[usize]) -> Self {
        let mut number = 0;
        self.accidents.retain(|_| {
            number += 1;
            !dropped.contains(&(number - 1))
        });
        self
    }
}

pub fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(0..from.len())]
}

fn ways(random: &mut Rng) -> Ways {
    let lifetime = *pick(random, &[60, 60, 300, 3_600]);
    Ways {
        auth: *pick(random, &[Auth::Open, Auth::Basic, Auth::Bearer { lifetime }, Auth::Bearer { lifetime }]),
        elsewhere: random.bool(),
        is_strict: random.bool(),
        mounts: Mounts::Anytime,
        mount_error: pick(random, &[None, None, None, Some(400), Some(404), Some(405)]).to_owned(),
        lag: Duration::from_millis(*pick(random, &[0, 0, 0, 300, 3_000, 30_000])),
        knows_ranges: random.u8(0..5) > 0,
        has_referrers: random.bool(),
        is_ecr: false,
    }
}

fn draw_images(random: &mut Rng) -> Vec<Wanted> {
    let large = random.u8(0..5) == 0;
    let layers: Vec<Vec<u8>> = (0..random.usize(2..7))
        .map(|number| {
            let is_large = large && number < 2;
            let size = if is_large { random.usize(270_000..400_000) } else { random.usize(1..6_000) };
            bytes(&format!("layer {number} {}", random.u8(..)), size)
        })
        .collect();
    let (sources, targets) = (random.usize(1..4), random.usize(1..4));
    let image = |random: &mut Rng, name: &str| {
        let mut chosen = layers.clone();
        random.shuffle(&mut chosen);
        chosen.truncate(random.usize(1..4));
        images::image(name, &chosen)
    };
    (0..random.usize(1..6))
        .map(|number| {
            let is_index = random.u8(0..3) == 0;
            let mut whole = |name: &str| {
                let first = image(random, &format!("{name} a"));
                match is_index {
                    true => images::index(&[
                        (Some("linux/amd64"), first),
                        (Some("linux/arm64"), image(random, &format!("{name} b"))),
                    ]),
                    false => first,
                }
            };
            let (image, next) = (whole(&format!("image {number}")), whole(&format!("next {number}")));
            let artifacts = (0..random.usize(0..3))
                .map(|artifact| images::about(&format!("artifact {artifact} of {number}"), &image))
                .collect();
            Wanted {
                source: (format!("s{}", random.usize(0..sources)), format!("v{number}")),
                target: (format!("t{}", random.usize(0..targets)), format!("v{number}")),
                one_platform: is_index && random.bool(),
                artifacts,
                image,
                next,
            }
        })
        .collect()
}

fn accident(random: &mut Rng, images: usize) -> Accident {
    let soon = Duration::from_millis(*pick(random, &[50, 400, 2_000, 20_000, 90_000]));
    let soon = soon.mul_f64(random.f64());
    match random.u8(0..20) {
        0 | 1 => Accident::Kill(soon),
        2 => Accident::Second(soon),
        3 => Accident::MoveSource(soon, random.usize(0..images)),
        4 => Accident::MoveTarget(soon, random.usize(0..images)),
        _ => fault(random),
    }
}

fn fault(random: &mut Rng) -> Accident {
    let at_target = random.bool();
    let op = if at_target {
        let all = [
            Op::ManifestHead,
            Op::ManifestPut,
            Op::ManifestPut,
            Op::BlobHead,
            Op::UploadStart,
            Op::UploadFinish,
            Op::UploadFinish,
            Op::Token,
            Op::Referrers,
        ];
        *pick(random, &all)
    } else {
        *pick(
            random,
            &[
                Op::ManifestHead,
                Op::ManifestGet,
                Op::BlobGet,
                Op::BlobGet,
                Op::BlobGet,
                Op::Token,
                Op::Referrers,
            ],
        )
    };
    let number = random.usize(0..10) * random.usize(0..2);
    let has_body = matches!(op, Op::ManifestGet | Op::BlobGet | Op::Token | Op::Referrers);
    let at = random.usize(0..400_000);
    let fault = match random.u8(0..17) {
        0 | 1 if has_body => Fault::CutReply(at),
        2 if has_body => Fault::Truncate(at),
        3 if has_body => Fault::Corrupt(at),
        4 if has_body => Fault::Trickle,
        0..=3 if op == Op::UploadFinish => Fault::CutRequest(at),
        5 if op == Op::BlobGet => Fault::WrongRange,
        6 if op == Op::BlobGet => Fault::Status(416),
        4..=6 if op == Op::UploadFinish => Fault::LoseSession,
        7 => Fault::Hang,
        8 => Fault::Delay(Duration::from_secs(random.u64(1..100))),
        9 => Fault::TooMany(Some(random.u64(1..60))),
        10 => Fault::TooMany(None),
        11 => Fault::Status(*pick(random, &[500, 502, 503, 504, 520])),
        12 => Fault::Down(Duration::from_millis(random.u64(100..20_000))),
        13 | 14 => Fault::Expire,
        15 => Fault::Status(*pick(random, &[403, 404, 400])),
        16 => Fault::LoseReply,
        _ => Fault::Status(503),
    };
    Accident::Fault { at_target, op, number, fault }
}
