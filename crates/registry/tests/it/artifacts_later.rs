//! Artifacts of an image that the target already has: they may not have been requested when it was copied.

use std::sync::Arc;

use registry::mirror::{Action, Job, MemoryMapping, Mirror, Platforms};

use crate::artifacts::{job, remembering, signed};
use crate::support::faults::Rule;
use crate::support::images::image;
use crate::support::{Fake, Fault, Quirks, client, copy, only, run};

#[test]
fn artifacts_requested_after_the_image_are_copied_by_the_next_run() {
    run(async {
        for (remembers, has_referrers) in [(true, true), (true, false), (false, true), (false, false)] {
            let signed = signed();
            let source = signed.source().await;
            let target = Fake::start(Quirks { referrers: has_referrers, ..Quirks::default() }).await;
            let mapping = Arc::new(MemoryMapping::default());
            let without = Job { artifacts: false, ..job(&source, &target) };
            copy(&remembering(&mapping), without).await.unwrap();
            let next = if remembers { mapping } else { Arc::default() };
            let mirror = remembering(&next);
            let blobs = source.log.count("GET blobs");
            target.log.forget();
            let plan = mirror.plan([job(&source, &target)]).await;
            let digest = signed.index.digest();
            let all = signed.about.len() + signed.tagged.len();
            let action = &plan.images[0].action;
            assert!(
                matches!(action, Action::Complete { digest: of, missing } if (*of, *missing) == (digest, all)),
                "{action:?}"
            );
            assert_eq!(target.log.count("PUT manifests"), 0, "a plan changes nothing");
            let outcome = mirror.apply(&plan).await.remove(0).result.unwrap();
            assert!(!outcome.was_up_to_date && outcome.warnings.is_empty(), "{outcome:?}");
            assert_eq!(signed.lacking(&target, has_referrers), Vec::<String>::new());
            assert_eq!(target.log.answered("PUT manifests", 201), target.log.count("PUT manifests"));
            assert!(source.log.count("GET blobs") > blobs, "the artifacts' own");
            assert!(mirror.plan([job(&source, &target)]).await.is_up_to_date());
        }
    });
}

#[test]
fn platforms_requested_later_are_copied_with_their_artifacts() {
    run(async {
        let signed = signed();
        let (source, target) = (signed.source().await, Fake::plain().await);
        let mapping = Arc::new(MemoryMapping::default());
        let of = |platforms| Job { platforms, ..job(&source, &target) };
        copy(&remembering(&mapping), of(only(&["linux/arm64"]))).await.unwrap();
        assert_eq!(target.store(|store| store.repository("r").manifests.len()), 1, "nothing is about it");
        copy(&remembering(&mapping), of(only(&["linux/amd64"]))).await.unwrap();
        let (tag, attested) = &signed.tagged[1];
        assert_eq!(target.store(|store| store.manifest("r", tag).unwrap().digest()), attested.digest());
        let mirror = remembering(&mapping);
        copy(&mirror, of(Platforms::All)).await.unwrap();
        assert_eq!(signed.lacking(&target, false), Vec::<String>::new());
        assert!(mirror.plan([of(Platforms::All)]).await.is_up_to_date());
    });
}

#[test]
fn the_next_run_retries_a_source_that_did_not_answer() {
    run(async {
        let signed = signed();
        let (source, target) = (signed.source().await, Fake::plain().await);
        target.store(|store| store.seed("r", "1", &signed.index));
        let mapping = Arc::new(MemoryMapping::default());
        source.on(Rule::new("GET", "/referrers/", Fault::status(503)).times(6));
        let plan = remembering(&mapping).plan([job(&source, &target)]).await;
        assert!(plan.is_up_to_date() && plan.images[0].unanswered.is_some(), "{plan:?}");
        // Refused artifacts are not sent again: they would be refused each time.
        source.on(Rule::new("GET", "/referrers/", Fault::status(403)).times(99));
        source.on(Rule::new("*", ".sig", Fault::status(403)).times(99));
        source.on(Rule::new("*", ".att", Fault::status(403)).times(99));
        let plan = remembering(&mapping).plan([job(&source, &target)]).await;
        assert!(plan.is_up_to_date() && !plan.images[0].warnings.is_empty(), "{plan:?}");
        source.log.forget();
        let plan = remembering(&mapping).plan([job(&source, &target)]).await;
        assert!(plan.is_up_to_date() && plan.images[0].warnings.is_empty(), "{plan:?}");
        assert_eq!(source.log.counts(), "HEAD manifests 1");
    });
}

#[test]
fn an_artifact_that_the_target_refuses_is_not_sent_each_time() {
    run(async {
        let signed = signed();
        let (source, target) = (signed.source().await, Fake::plain().await);
        target.store(|store| store.seed("r", "1", &signed.index));
        target.on(Rule::new("PUT", ".sig", Fault::status(405)).times(1));
        let mirror = Mirror::new(client());
        let copied = copy(&mirror, job(&source, &target)).await.unwrap();
        assert_eq!(copied.warnings.len(), 1, "{copied:?}");
        assert!(mirror.plan([job(&source, &target)]).await.is_up_to_date());
    });
}

#[test]
fn other_users_signatures_at_the_target_stay_and_our_own_are_updated() {
    run(async {
        let signed = signed();
        let (source, target) = (signed.source().await, Fake::plain().await);
        let (tag, first) = &signed.tagged[0];
        let (theirs, second) = (image("theirs", &[]), image("second", &[]));
        target.store(|store| store.seed("r", tag, &theirs));
        let mirror = Mirror::new(client());
        let copied = copy(&mirror, job(&source, &target)).await.unwrap();
        assert_eq!(copied.warnings.len(), 1, "{copied:?}");
        let there =
            |repository: &str| target.store(|store| store.manifest(repository, tag).unwrap().digest());
        assert_eq!(there("r"), theirs.digest());

        let other = |tag: &str| Job { target: target.name(tag), ..job(&source, &target) };
        copy(&mirror, other("x:1")).await.unwrap();
        assert_eq!(there("x"), first.digest());
        source.store(|store| store.seed("r", tag, &second));
        copy(&mirror, other("x:2")).await.unwrap();
        assert_eq!(there("x"), second.digest());
    });
}
