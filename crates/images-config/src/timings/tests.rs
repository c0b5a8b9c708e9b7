use super::*;

const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const MIB: u64 = 1 << 20;

/// A file's measurements.
struct Memory {
    dir: tempfile::TempDir,
}

impl Memory {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("below/timings.json")
    }

    fn open(&self) -> Timings {
        Timings::open(self.path())
    }

    fn copied(&self, images: u64, bytes: u64, seconds: f64) {
        self.open().add(Measured {
            target: ECR.to_owned(),
            copies: Some(Copies { images, bytes, seconds }),
            ..empty()
        });
    }

    fn built(&self, builds: &[(&str, f64)]) {
        let builds = builds.iter().map(|(name, seconds)| ((*name).to_owned(), *seconds)).collect();
        self.open().add(Measured { target: ECR.to_owned(), builds, ..empty() });
    }

    fn seconds(&self, work: &Work<'_>) -> Option<u64> {
        self.open().estimate(ECR, work).map(|estimate| estimate.seconds)
    }
}

fn empty() -> Measured {
    Measured::default()
}

fn copies(images: u64, bytes: u64) -> Work<'static> {
    Work { images, bytes, ..Work::default() }
}

#[test]
fn a_first_run_has_no_estimate_and_the_same_run_again_is_estimated_by_it() {
    let memory = Memory::new();
    let work = copies(13, 500 * MIB);
    assert_eq!(memory.seconds(&work), None);
    memory.open().add(Measured { target: ECR.to_owned(), ..empty() });
    assert!(!memory.path().exists(), "nothing was measured");
    memory.copied(13, 500 * MIB, 50.0);
    assert_eq!(memory.seconds(&work), Some(50));
    assert_eq!(memory.open().estimate("registry.example", &work), None, "another target");
    assert_eq!(memory.seconds(&Work::default()), None, "there is nothing to do");
}

#[test]
fn large_images_are_estimated_by_their_bytes_and_small_ones_by_their_number() {
    let memory = Memory::new();
    memory.copied(13, 500 * MIB, 50.0);
    let large = memory.seconds(&copies(1, 2000 * MIB)).unwrap();
    assert!((180..=210).contains(&large), "{large}");
    assert_eq!(memory.seconds(&copies(1, 0)), Some(1), "all its blobs are there");
    let many = memory.seconds(&copies(10_000, 100 * MIB)).unwrap();
    assert!((800..=1_200).contains(&many), "{many}");
    assert!(memory.seconds(&copies(u64::MAX, u64::MAX)).is_some());

    // The other way round.
    let memory = Memory::new();
    memory.copied(10_000, 0, 100.0);
    let large = memory.seconds(&copies(1, 2000 * MIB)).unwrap();
    assert!((10..=30).contains(&large), "{large}");
}

#[test]
fn one_run_that_took_too_long_does_not_count_and_a_slower_network_soon_does() {
    let memory = Memory::new();
    memory.copied(1, 100 * MIB, 10.0);
    memory.copied(1, 100 * MIB, 9_000.0);
    assert_eq!(memory.seconds(&copies(1, 100 * MIB)), Some(10));
    for _ in 0..3 {
        memory.copied(1, 100 * MIB, 40.0);
    }
    assert_eq!(memory.seconds(&copies(1, 100 * MIB)), Some(40));
}

#[test]
fn builds_run_in_parallel_with_copies_and_terraform_before_them() {
    let memory = Memory::new();
    memory.copied(1, 100 * MIB, 10.0);
    memory.built(&[("java21", 30.0), ("go1", 20.0)]);
    let mut work = Work { builds: vec!["java21"], at_once: 2, ..copies(1, 100 * MIB) };
    assert_eq!(memory.seconds(&work), Some(30));
    work.builds = vec!["java21", "go1"];
    assert_eq!(memory.seconds(&work), Some(30));
    work.at_once = 1;
    assert_eq!(memory.seconds(&work), Some(50));
    work.bytes = 1000 * MIB;
    assert_eq!(memory.seconds(&work), Some(100));
    work.builds.push("never-built");
    assert_eq!(memory.seconds(&work), None);

    let mut work = Work { changes: 14, ..copies(1, 100 * MIB) };
    let whole = |seconds| Some(Estimate { seconds, without_terraform: false });
    let estimate = memory.open().estimate(ECR, &work);
    assert_eq!(estimate, Some(Estimate { seconds: 10, without_terraform: true }));
    let resources = Work { changes: 14, ..Work::default() };
    assert_eq!(memory.open().estimate(ECR, &resources), None);
    memory.open().add(Measured {
        target: ECR.to_owned(),
        terraform: Some(Changes { count: 14, seconds: 20.0 }),
        ..empty()
    });
    assert_eq!(memory.open().estimate(ECR, &work), whole(30));
    assert_eq!(memory.open().estimate(ECR, &resources), whole(20));
    work.changes = 1;
    assert_eq!(memory.open().estimate(ECR, &work), whole(30));
    work.changes = 28;
    assert_eq!(memory.open().estimate(ECR, &work), whole(50));
}

#[test]
fn unreadable_or_impossible_measurements_are_ignored() {
    let memory = Memory::new();
    let work = copies(1, MIB);
    let file = |version: u32, day: u32, copies: &str| {
        format!(
            "{{\"version\":{version},\"measured\":[{{\"day\":{day},\"target\":\"{ECR}\",\"copies\":{copies}}}]}}"
        )
    };
    let sound = "{\"images\":1,\"bytes\":1048576,\"seconds\":7.0}";
    std::fs::create_dir_all(memory.path().parent().unwrap()).unwrap();
    let wrong = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "\u{0}".to_owned(),
        file(2, today(), sound),
        file(1, today() - NEWS - 1, sound),
        file(1, today(), "{\"images\":1,\"bytes\":1,\"seconds\":-7.0}"),
        file(1, today(), "{\"images\":1,\"bytes\":1,\"seconds\":0}"),
        file(1, today(), "{\"images\":1,\"bytes\":1,\"seconds\":1e999}"),
        file(1, today(), "{\"images\":0,\"bytes\":0,\"seconds\":1}"),
    ];
    for text in wrong {
        std::fs::write(memory.path(), &text).unwrap();
        assert_eq!(memory.seconds(&work), None, "{text}");
        memory.copied(1, MIB, 3.0);
        assert_eq!(memory.seconds(&work), Some(3), "{text}");
    }
    // A clock that was ahead, or was set back since.
    for day in [today() + 400, u32::MAX] {
        std::fs::write(memory.path(), file(1, day, sound)).unwrap();
        assert_eq!(memory.seconds(&work), Some(7));
    }
}

#[test]
fn simultaneous_runs_lose_nothing_and_the_file_stays_small() {
    let memory = Memory::new();
    let (one, two) = (memory.open(), memory.open());
    one.add(Measured { builds: [("java21".to_owned(), 3.0)].into(), ..empty() });
    two.add(Measured { builds: [("go1".to_owned(), 4.0)].into(), ..empty() });
    let work = |name| Work { builds: vec![name], ..Work::default() };
    assert_eq!((memory.seconds(&work("java21")), memory.seconds(&work("go1"))), (Some(3), Some(4)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| memory.copied(1, MIB, 2.0)));
        }
    });
    assert_eq!(memory.open().measured.len(), KEPT);
    assert_eq!(memory.seconds(&copies(1, MIB)), Some(2));
}

#[test]
fn an_unwritable_directory_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let timings = Timings::open(file.join("timings.json"));
    timings.add(Measured { builds: [("java21".to_owned(), 3.0)].into(), ..empty() });
    assert_eq!(timings.estimate(ECR, &copies(1, 1)), None);
}
