//! Moves of a tag in AWS's registry happen under the grid's lease.

use std::os::unix::fs::symlink;

use e2e::{Aws, BUCKET, Ended, Project, Run, STATE, TERRAFORM, root, say};
use serde_json::json;

/// One of the user's files is wrong.
const CONFIG: i32 = 3;
const WHO: &str = "ada on laptop (process 7)";

/// A project whose runtimes are in the emulated AWS.
struct Grid {
    project: Project,
}

impl Grid {
    /// A grid with one runtime, built twice.
    fn new() -> Option<Self> {
        let project = Project::new()?;
        let module = "deployment/image_repository/terraform";
        symlink(root().join(module), project.world.path(&format!("project/{module}"))).unwrap();
        let grid = Self { project };
        grid.xtask("init-images --create-state-bucket").ok();
        for line in ["", "REBUILD_RUNTIMES=true"] {
            grid.xtask("transfer-images --auto-approve").args(line).ok();
        }
        Some(grid)
    }

    fn xtask(&self, line: &str) -> Run {
        let xtask = self.project.world.path("project/xtask");
        self.project.world.xtask(line).env("CARGO_MANIFEST_DIR", xtask)
    }

    fn rebuild(&self, line: &str) -> Run {
        self.xtask("rebuild-runtimes --yes").args(&line.replace("NAME", &self.project.name))
    }

    fn aws(&self) -> Aws {
        self.project.world.aws()
    }

    /// The image that the grid runs.
    fn live(&self) -> String {
        let tag = json!([{ "imageTag": self.project.name }]);
        let found = self.aws().ecr("BatchGetImage", &json!({ "repositoryName": "lambda", "imageIds": tag }));
        found["images"][0]["imageId"]["imageDigest"].as_str().unwrap().to_owned()
    }

    /// Another user takes the lease.
    fn take(&self) {
        let lease = json!({
            "who": WHO, "grid": "mainline", "since": "2026-11-22T10:00:00Z", "expires": "2999-01-01T00:00:00Z",
        });
        self.aws().s3.put(BUCKET, &key(), lease.to_string().as_bytes());
    }

    fn give_back(&self) {
        self.aws().s3.bucket("local", "DELETE", &format!("{BUCKET}/{}", key()), "");
    }

    fn is_free(&self) -> bool {
        self.aws().s3.get(BUCKET, &key()).is_none()
    }

    /// Waits for the other holder until it has released the lease.
    fn waits(&self, line: &str) -> Ended {
        self.take();
        let mut run = self.rebuild(line).args("--lock-timeout 120").start();
        run.wait_for(&format!("waiting up to 120 s for {WHO}"));
        self.give_back();
        let run = run.end();
        assert!(self.is_free(), "{run}");
        run
    }
}

fn key() -> String {
    format!("{STATE}.transfer.lock")
}

#[test]
fn a_push_and_a_rollback_wait_for_the_lease_or_are_refused_and_release_it() {
    let Some(grid) = Grid::new() else { return };
    let second = grid.live();
    for line in ["--push --no-cache", "--rollback NAME"] {
        grid.take();
        grid.aws().emulator.forget();
        let run = grid.rebuild(line).end();
        run.failed(TERRAFORM, &[WHO, "2999-01-01"]);
        assert_eq!(
            (grid.aws().emulator.changes(), grid.live()),
            (Vec::new(), second.clone()),
            "{line}: {run}"
        );
        assert!(!grid.is_free(), "{line}: {run}");
        assert!(!grid.project.world.path("images.lock").exists(), "{line}: {run}");
        grid.give_back();
    }

    let run = grid.waits("--push --no-cache");
    let third = grid.live();
    assert!(run.code == Some(0) && third != second, "{run}");
    let run = grid.waits("--rollback NAME");
    assert_eq!((run.code, grid.live()), (Some(0), second), "{run}");
    let lock = grid.project.world.path("images.lock");
    assert!(std::fs::read_to_string(&lock).unwrap().contains(&grid.live()), "{run}");

    // A hold that cannot be written is reported, with the tag moved and the lease released.
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    let run = grid.rebuild("--rollback NAME").end();
    run.failed(CONFIG, &["images.lock"]);
    assert!(grid.is_free(), "{run}");
}

#[test]
fn a_lost_lease_ends_a_rollback_before_the_tag_moves() {
    if std::env::var_os("SOAK").is_none() {
        // A lease is renewed every 100 s.
        return say("only with SOAK=1: a lease that is lost");
    }
    let Some(grid) = Grid::new() else { return };
    let before = grid.live();
    // The move is recorded, and the tag comes next.
    grid.aws()
        .emulator
        .quirks(&[&format!("hold-answer=1:PUT manifest /v2/lambda/manifests/{}-history", grid.project.name)]);
    let mut run = grid.rebuild("--rollback NAME").start();
    let held = grid.aws().emulator.held(|| run.is_over()).expect("no record of the move was written");
    grid.take();
    let run = run.end();
    run.failed(TERRAFORM, &["the lease on this grid's images was taken over by another run"]);
    assert_eq!(grid.live(), before, "{held}: {run}");
    assert!(!grid.is_free(), "the lease is the other one's: {run}");
    assert!(!grid.project.world.path("images.lock").exists(), "{run}");
}
