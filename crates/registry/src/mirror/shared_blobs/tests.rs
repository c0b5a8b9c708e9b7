use futures_util::FutureExt as _;

use super::*;
use crate::client::Client;
use crate::manifest::Blob;
use crate::manifest::Manifest;
use crate::mirror::job::{Content, Job, Planned, Tree};

const REGISTRY: &str = "h:1";

fn planned(repository: &str, action: impl FnOnce(Content) -> Action, blobs: &[Digest]) -> Planned {
    let target: crate::Reference = format!("{REGISTRY}/{repository}:1").parse().unwrap();
    let top = Manifest::new("m", repository.to_owned());
    let content = Content {
        digest: top.digest(),
        bytes: 0,
        blobs: blobs.iter().map(|blob| Blob { digest: *blob, size: 1 }).collect(),
        manifests_present: 0,
        config: None,
        tree: Tree { top, children: Vec::new(), present: Vec::new(), gone: Vec::new() },
    };
    let job = Job::new(target.clone(), target).into();
    let action = action(content);
    Planned { job, source: None, action, unanswered: None, signed: None, warnings: Vec::new() }
}

fn shared_blobs(mirror: &Mirror, images: Vec<Planned>) -> SharedBlobs {
    SharedBlobs::new(mirror, &Plan { images, pulls: Vec::new() })
}

fn mirror(mounts: Mounts) -> Mirror {
    Mirror::new(Client::builder().build().unwrap()).mounts(REGISTRY, mounts)
}

fn task(shared_blobs: &SharedBlobs, image: usize, repository: &str, blob: Digest) -> Option<BlobTask> {
    shared_blobs.task(image, REGISTRY, repository, blob).now_or_never()
}

#[test]
fn a_blob_of_thousands_of_repositories_is_copied_once_and_mounted_by_the_others() {
    let (base, own) = (Digest::of(b"base"), |image: usize| Digest::of(&image.to_be_bytes()));
    let name = |image: usize| format!("r{image}");
    for mounts in [Mounts::Anytime, Mounts::Committed] {
        let images =
            (0..5_000).map(|image| planned(&name(image), Action::Copy, &[base, own(image)])).collect();
        let shared_blobs = shared_blobs(&mirror(mounts), images);
        assert_eq!(shared_blobs.claims.len(), 1, "a blob of one image needs no claim");
        assert_eq!(task(&shared_blobs, 0, "r0", base), Some(BlobTask::Bring));
        assert_eq!(task(&shared_blobs, 1, "r1", base), None, "it waits for the first");
        assert_eq!(task(&shared_blobs, 1, "r1", own(1)), Some(BlobTask::Bring));
        shared_blobs.present(REGISTRY, "r0", base);
        let early = (mounts == Mounts::Anytime).then(|| BlobTask::Mount("r0".to_owned()));
        assert_eq!(task(&shared_blobs, 1, "r1", base), early);
        shared_blobs.committed(REGISTRY, "r0", base);
        for image in 1..5_000 {
            let mount = task(&shared_blobs, image, &name(image), base);
            assert!(matches!(mount, Some(BlobTask::Mount(_))), "{image}: {mount:?}");
            shared_blobs.present(REGISTRY, &name(image), base);
            assert_eq!(task(&shared_blobs, image, &name(image), base), Some(BlobTask::Present));
            shared_blobs.committed(REGISTRY, &name(image), base);
        }
    }
}

#[test]
fn an_image_that_waits_for_a_failed_one_copies_the_blob() {
    let blob = Digest::of(b"blob");
    let images = (0..3).map(|image| planned(&format!("r{image}"), Action::Copy, &[blob])).collect();
    let shared_blobs = shared_blobs(&mirror(Mounts::Anytime), images);
    assert_eq!(task(&shared_blobs, 0, "r0", blob), Some(BlobTask::Bring));
    shared_blobs.present(REGISTRY, "r0", blob);
    shared_blobs.lost(0, REGISTRY, "r0", blob);
    assert_eq!(task(&shared_blobs, 1, "r1", blob), Some(BlobTask::Bring));
    assert_eq!(task(&shared_blobs, 2, "r2", blob), None, "it waits for the second");
    shared_blobs.present(REGISTRY, "r1", blob);
    assert_eq!(task(&shared_blobs, 2, "r2", blob), Some(BlobTask::Mount("r1".to_owned())));
}

#[test]
fn no_image_waits_for_a_later_one_that_replaced_a_failed_one() {
    let blob = Digest::of(b"blob");
    let images = (0..3).map(|_| planned("r", Action::Copy, &[blob])).collect();
    let shared_blobs = shared_blobs(&mirror(Mounts::Committed), images);
    assert_eq!(task(&shared_blobs, 0, "r", blob), Some(BlobTask::Bring));
    assert_eq!(task(&shared_blobs, 2, "r", blob), None, "it waits for the first");
    shared_blobs.lost(0, REGISTRY, "r", blob);
    assert_eq!(task(&shared_blobs, 2, "r", blob), Some(BlobTask::Bring));
    assert_eq!(task(&shared_blobs, 1, "r", blob), Some(BlobTask::Bring));
    assert_eq!(task(&shared_blobs, 2, "r", blob), None, "it waits for the second");
}

#[test]
fn a_blob_of_one_image_is_mounted_from_an_earlier_runs_repository() {
    let (blob, other) = (Digest::of(b"blob"), Digest::of(b"other"));
    let there = Digest::of(b"there");
    let mirror = mirror(Mounts::Committed);
    mirror.mapping.record_blobs(there, vec![blob, other]);
    let up_to_date = || planned("old", |_| Action::UpToDate { digest: there }, &[]);
    let images = vec![up_to_date(), planned("new", Action::Copy, &[blob]), up_to_date()];
    let shared_blobs = shared_blobs(&mirror, images);
    assert_eq!(task(&shared_blobs, 1, "new", blob), Some(BlobTask::Mount("old".to_owned())));
    // A blob that its own repository should have is looked up there.
    assert_eq!(task(&shared_blobs, 1, "old", blob), Some(BlobTask::Bring));
    assert_eq!(shared_blobs.standing.len(), 1, "of {other} nobody asks");
    assert_eq!(shared_blobs.standing.values().map(|standing| standing.repositories.len()).sum::<usize>(), 1);
}
