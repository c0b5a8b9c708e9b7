//! One test for each behaviour of ECR, ECR Public and Docker Hub that has broken other clients.
//!
//! | behaviour | test |
//! |---|---|
//! | 201 on PATCH, a stale `Range`, parts of at least 5 MiB | `no_patch_is_sent_and_every_put_has_its_length` |
//! | 416 on byte 0 sent again | `a_broken_upload_starts_a_new_session` |
//! | a blob of zero bytes is a 400 | `an_empty_blob_is_a_named_error_and_never_sent` |
//! | no `Location` on a manifest's PUT | all: the fake registry never sends one; e2e `manifest_puts_without_a_location` |
//! | `mediaType` is required; 405 UNSUPPORTED for invalid manifests | `a_manifest_without_media_type_is_refused_with_ecrs_reason` |
//! | an index needs its children | `children_are_put_by_digest_before_their_index` |
//! | NAME_UNKNOWN, or a dropped push, if the repository is missing | `a_missing_repository_is_named_and_nothing_is_sent`, `a_dropped_push_is_a_named_error` |
//! | an immutable tag is a 400, also with the same digest | `an_immutable_tag_with_the_same_digest_succeeds` |
//! | an expired token is a 403 | `an_expired_password_is_a_403_and_is_renewed_once_for_all_requests`, `an_expired_password_is_detected_by_a_head_too` |
//! | HEAD is a 400 without a body | `a_bare_400_of_a_head_is_repeated_by_get` |
//! | blobs at another host, which rejects an `Authorization` | `blobs_at_another_host_are_read_without_our_credentials` |
//! | ECR Public: HEAD of a blob is a 401 | `a_source_that_forbids_head_of_blobs_gets_none` |
//! | a mount is a 202 unless a manifest refers to the blob | `a_mount_waits_for_the_manifest_that_refers_to_the_blob`, `the_session_of_a_refused_mount_is_used` |
//! | BLOB_UNKNOWN right after the upload | `a_blob_that_is_not_visible_yet_is_retried` |
//! | 429 TOOMANYREQUESTS, ThrottlingException as a 400 | `every_form_of_throttling_is_retried` |
//! | the first pull through a cache must be by tag | `a_source_that_only_serves_a_digest_after_its_tag_is_read_by_tag` |
//!
//! And the scenarios of a user (`it` is this program, `e2e` the real binary's tests, `xtask` its own):
//!
//! | scenario | test |
//! |---|---|
//! | 1 a first run in an empty account: complete at once | e2e `the_demo_copies_everything_and_a_second_run_has_nothing_to_do` |
//! | 2 a run with nothing to do: no pull, no PUT, no container client | the same; it `a_first_copy_sends_only_needed_requests_and_a_second_one_two_heads` |
//! | 3 a source's tag has moved | e2e `a_lock_holds_the_digests_until_it_is_updated`; it `a_lock_decides_and_a_moved_tag_is_reported` |
//! | 4 fewer pulls left than needed | e2e `too_few_pulls_are_reported_before_any_transfer_and_do_not_stop_other_images`; it `no_copy_starts_without_enough_pulls_left` |
//! | 5 three in ten replies are 429, ten images a second | it `with_three_in_ten_replies_429_everything_is_copied_once`, `images_are_put_to_ecr_no_faster_than_the_quota` |
//! | 6 a connection cut in the middle of a layer | it `a_broken_download_is_resumed_in_the_same_upload`, `a_broken_upload_starts_a_new_session`, `events_report_every_step` |
//! | 7 an immutable repository | it `an_immutable_tag_with_the_same_digest_succeeds` |
//! | 8 a token that expires during a run | it `an_expired_password_is_a_403_and_is_renewed_once_for_all_requests`; e2e `registry_tokens_that_expire_during_a_run` |
//! | 9 mounts | it `a_mount_waits_for_the_manifest_that_refers_to_the_blob`, `shared_blobs_are_fetched_once_and_mounted`, `the_session_of_a_refused_mount_is_used` |
//! | 10 BLOB_UNKNOWN for a while | it `a_blob_that_is_not_visible_yet_is_retried`; e2e `layers_visible_late_to_manifests` |
//! | 11 a runtime whose inputs have not changed | xtask `a_build_is_pushed_once_and_never_repeated`, `only_inputs_change_the_key` |
//! | 12 a forced rebuild that fails | e2e `a_forced_rebuild_killed_at_any_point_leaves_the_old_runtime` |
//! | 13 repositories of others after destroy-images | e2e `destroy_images_removes_what_it_created_and_nothing_else` |
//! | 14 a second grid in the account | e2e `destroying_one_of_two_grids_in_an_account_leaves_the_other_complete` |
//! | 15 a layer of many gigabytes | it `memory_is_bounded_whatever_a_layers_size` |

use std::time::Duration;

use registry::mirror::{Action, BlobIndex, Job, Mirror, Sizes};
use registry::{Digest, ErrorKind, Reference};

use crate::support::faults::Rule;
use crate::support::images;
use crate::support::{
    Auth, ECR, Fake, Fault, Passwords, Quirks, builder, client, copy, ecr, knowing, run, small, source, whole,
};

/// Answers from the fake registry's memory, like BatchCheckLayerAvailability.
struct Bulk(std::sync::Arc<Fake>);

impl BlobIndex for Bulk {
    fn sizes<'a>(&'a self, repository: &'a Reference, digests: &'a [Digest]) -> Sizes<'a> {
        let here = self.0.store(|store| {
            let blobs = &store.repository(repository.repository()).blobs;
            let here = digests.iter().filter(|digest| blobs.contains_key(digest));
            here.map(|digest| (*digest, None)).collect()
        });
        Box::pin(async move { Ok(Some(here)) })
    }
}

#[test]
fn no_patch_is_sent_and_every_put_has_its_length() {
    // 201 on PATCH, a stale Range, parts under 5 MiB: none of it can happen without PATCH. The fake registry fails this test on a
    // PATCH and on a PUT without Content-Length.
    run(async {
        let image = images::image("big", &[images::bytes("layer", 6 << 20)]);
        let source = source(&image).await;
        let (target, mirror) = ecr(&["r"], Quirks::default()).await;
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(
            target.log.counts(),
            "HEAD blobs 2, HEAD manifests 1, POST uploads 2, PUT manifests 1, PUT uploads 2"
        );
    });
}

#[test]
fn a_broken_upload_starts_a_new_session() {
    // The fake registry answers 416 to a second PUT into one session, like ECR if byte 0 is sent again.
    run(async {
        let image = small();
        let source = source(&image).await;
        let (target, mirror) = ecr(&["r"], Quirks::default()).await;
        target.on(Rule::new("PUT", "/blobs/uploads/", Fault::CutRequest(20_000)));
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(target.log.count("POST uploads"), 3, "two blobs, one of them twice");
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn an_upload_whose_reply_was_lost_is_not_sent_again() {
    run(async {
        let image = small();
        let source = source(&image).await;
        let (target, mirror) = ecr(&["r"], Quirks::default()).await;
        target.on(Rule::new("PUT", "/blobs/uploads/", Fault::LoseReply));
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!((source.log.count("GET blobs"), target.log.count("PUT uploads")), (2, 2));
    });
}

#[test]
fn an_empty_blob_is_a_named_error_and_never_sent() {
    run(async {
        let image = images::image("empty", &[Vec::new()]);
        let source = source(&image).await;
        let (target, mirror) = ecr(&["r"], Quirks::default()).await;
        let error = copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::EmptyBlob { digest } if *digest == Digest::of(b"")),
            "{error}"
        );
        assert_eq!(target.log.count("PUT manifests"), 0);
    });
}

#[test]
fn other_registries_accept_an_empty_blob() {
    run(async {
        let image = images::image("empty", &[Vec::new()]);
        let (source, target) = (source(&image).await, Fake::plain().await);
        copy(&Mirror::new(client()), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn a_manifest_without_media_type_is_refused_with_ecrs_reason() {
    run(async {
        let mut image = small();
        let text = String::from_utf8_lossy(image.manifest.bytes()).into_owned();
        let field = format!("\"mediaType\":\"{}\",", images::OCI_IMAGE);
        assert!(text.contains(&field));
        image.manifest = registry::Manifest::new(images::OCI_IMAGE, text.replace(&field, ""));
        let source = source(&image).await;
        let (target, mirror) = ecr(&["r"], Quirks::default()).await;
        let error = copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Refused { status: 405, .. }), "{error}");
        assert!(error.to_string().contains("Invalid JSON syntax"), "{error}");
        assert_eq!(target.log.count("PUT manifests"), 1, "a refusal is not tried again");
    });
}

#[test]
fn children_are_put_by_digest_before_their_index() {
    // The fake registry answers an index before its children with ECR's "required for pushing image".
    run(async {
        let index = images::index(&[
            (Some("linux/amd64"), images::image("a", &[images::bytes("la", 100)])),
            (Some("linux/arm64"), images::image("b", &[images::bytes("lb", 100)])),
        ]);
        let source = source(&index).await;
        let (target, mirror) = ecr(&["r"], Quirks::default()).await;
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        let puts: Vec<String> = target
            .log
            .seen()
            .into_iter()
            .filter(|seen| seen.method == "PUT" && seen.kind == "manifests")
            .map(|seen| seen.path)
            .collect();
        assert_eq!(puts.len(), 3);
        assert!(puts.iter().take(2).all(|path| path.contains("sha256:")), "{puts:?}");
        assert_eq!(puts.last().unwrap(), "/v2/r/manifests/1");
    });
}

#[test]
fn a_missing_repository_is_named_and_nothing_is_sent() {
    run(async {
        let source = source(&small()).await;
        let (target, mirror) = ecr(&[], Quirks::default()).await;
        let error = copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NameUnknown { .. }), "{error}");
        assert_eq!((target.log.count("PUT uploads"), source.log.count("GET blobs")), (0, 0));
    });
}

#[test]
fn a_dropped_push_is_a_named_error() {
    run(async {
        let source = source(&small()).await;
        let (target, mirror) = ecr(&["r"], Quirks::default()).await;
        target.on(Rule::new("POST", "/uploads/", Fault::CutRequest(0)).times(999));
        let error = copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Network { .. }), "{error}");
        assert_eq!((error.registry(), error.subject()), (&*target.host(), &*target.name("r:1").to_string()));
        assert_eq!(source.log.count("GET blobs"), 0);
    });
}

#[test]
fn an_immutable_tag_with_the_same_digest_succeeds() {
    run(async {
        let image = small();
        let source = source(&image).await;
        let (target, mirror) = ecr(&["r"], Quirks { immutable: true, ..Quirks::default() }).await;
        let job = || Job::new(source.name("r:1"), target.name("r:1"));
        copy(&mirror, job()).await.unwrap();
        assert!(copy(&mirror, job()).await.unwrap().was_up_to_date);
        mirror.client().put_manifest(&target.name("r:1"), &image.manifest).await.unwrap();
        let other = images::image("other", &[]);
        source.store(|store| store.seed("r", "1", &other));
        let error = copy(&mirror, job()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TagImmutable { .. }), "{error}");
        whole(&mirror, &target.name("r:1"), image.digest()).await;
    });
}

#[test]
fn a_bare_400_of_a_head_is_repeated_by_get() {
    run(async {
        let image = small();
        let fake = Fake::start(Quirks { bare_400: true, ..Quirks::default() }).await;
        fake.store(|store| store.seed("r", "1", &image));
        assert_eq!(client().head(&fake.name("r:1")).await.unwrap().unwrap().digest, image.digest());
        assert_eq!(client().head(&fake.name("r:2")).await.unwrap(), None);
    });
}

#[test]
fn a_refused_head_is_explained_by_get() {
    run(async {
        let fake = Fake::plain().await;
        let message = "User: x is not authorized to perform: ecr:BatchGetImage";
        fake.on(Rule::new("HEAD", "/manifests/", Fault::status(403)));
        fake.on(Rule::new("GET", "/manifests/", Fault::error(403, "DENIED", message, Vec::new())));
        let error = client().head(&fake.name("r:1")).await.unwrap_err();
        assert!(error.to_string().contains("ecr:BatchGetImage"), "{error}");
    });
}

#[test]
fn blobs_at_another_host_are_read_without_our_credentials() {
    // The other host answers 400 to an Authorization, like S3, and fails the test.
    run(async {
        let image = small();
        let auth = Auth::Basic("p".to_owned());
        let source = Fake::start(Quirks { elsewhere: true, auth, ..Quirks::default() }).await;
        source.store(|store| store.seed("r", "1", &image));
        let target = Fake::plain().await;
        let client = builder().credentials(std::sync::Arc::new(Passwords::new("p"))).build().unwrap();
        copy(&Mirror::new(client), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(source.log.count("GET elsewhere"), 2);
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn a_source_that_forbids_head_of_blobs_gets_none() {
    run(async {
        let image = small();
        let quirks = Quirks { head_blob_401: true, elsewhere: true, ..Quirks::default() };
        let source = Fake::start(Quirks { auth: Auth::Bearer(Some("aws")), ..quirks }).await;
        source.store(|store| store.seed("r", "1", &image));
        let target = Fake::plain().await;
        copy(&Mirror::new(client()), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(source.log.count("HEAD blobs"), 0);
        assert_eq!(
            source.log.count("GET token"),
            1,
            "one token for the whole registry, whose scope is `aws`"
        );
    });
}

#[test]
fn a_blob_that_is_not_visible_yet_is_retried() {
    run(async {
        let source = source(&small()).await;
        let quirks = Quirks { lag: Duration::from_millis(150), ..Quirks::default() };
        let (target, mirror) = ecr(&["r"], quirks).await;
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert!(target.log.count("PUT manifests") > 1);
        assert_eq!(target.log.count("PUT uploads"), 2, "the blobs are not sent again");
    });
}

#[test]
fn every_form_of_throttling_is_retried() {
    run(async {
        let source = source(&small()).await;
        let (target, mirror) = ecr(&["r"], Quirks::default()).await;
        target.on(Rule::new("PUT", "/manifests/", Fault::too_many(None)));
        target.on(Rule::new(
            "POST",
            "/uploads/",
            Fault::Reply {
                status: 400,
                headers: Vec::new(),
                body: r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#.to_owned(),
            },
        ));
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(target.log.count("PUT manifests"), 2);
    });
}

#[test]
fn a_retry_after_is_respected() {
    run(async {
        let source = source(&small()).await;
        let target = Fake::plain().await;
        target.on(Rule::new("PUT", "/manifests/", Fault::too_many(Some(1))));
        copy(&Mirror::new(client()), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        let seen = target.log.seen();
        let puts: Vec<_> =
            seen.iter().filter(|seen| seen.kind == "manifests" && seen.method == "PUT").collect();
        assert!(puts[1].at - puts[0].at >= Duration::from_secs(1));
    });
}

#[test]
fn a_retry_after_of_hours_is_an_error() {
    run(async {
        let fake = Fake::plain().await;
        fake.on(Rule::new("GET", "/manifests/", Fault::too_many(Some(3_600))).times(9));
        let error = client().manifest(&fake.name("r:1")).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)));
        assert_eq!(fake.log.count("GET manifests"), 1);
    });
}

#[test]
fn ecrs_blobs_are_checked_in_bulk() {
    run(async {
        let source = source(&small()).await;
        let target = std::sync::Arc::new(Fake::start(Quirks { ecr: true, ..Quirks::default() }).await);
        target.store(|store| store.repository("r").tags.clear());
        let client = knowing(&target, ECR);
        let mirror =
            Mirror::new(client).blob_index(std::sync::Arc::new(Bulk(std::sync::Arc::clone(&target))));
        copy(&mirror, Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(target.log.counts(), "HEAD manifests 1, POST uploads 2, PUT manifests 1, PUT uploads 2");
        target.log.forget();
        let copied = copy(&mirror, Job::new(source.name("r:1"), target.name("r:2"))).await.unwrap();
        assert_eq!(
            (copied.skipped, target.log.counts()),
            (2, "HEAD manifests 1, PUT manifests 1".to_owned())
        );
    });
}

#[test]
fn a_source_that_only_serves_a_digest_after_its_tag_is_read_by_tag() {
    // An ECR pull-through cache: the first pull by digest is not supported.
    run(async {
        let image = small();
        let source = source(&image).await;
        source.on(Rule::new(
            "GET",
            "/manifests/sha256:",
            Fault::error(404, "MANIFEST_UNKNOWN", "", Vec::new()),
        ));
        let target = Fake::plain().await;
        let plan = Mirror::new(client()).plan(vec![Job::new(source.name("r:1"), target.name("r:1"))]).await;
        assert!(matches!(&plan.images[0].action, Action::Copy(content) if content.digest == image.digest()));
    });
}
