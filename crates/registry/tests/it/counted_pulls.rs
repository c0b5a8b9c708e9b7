//! Signatures at a registry that counts pulls, like Docker Hub: a GET of a manifest is a pull, even if it does not exist; a HEAD is
//! not.

use std::sync::Arc;

use registry::mirror::{self, Job, Mapping, MemoryMapping, Mirror, Platforms, SignaturePolicy};
use registry::{BoxFuture, Client, Digest, Error, ErrorKind, lists};

use crate::artifacts::signed;
use crate::support::images::{bytes, image};
use crate::support::{Fake, Quirks, builder, counting, run};

/// A registry that counts pulls, and either has the referrers API or leaves the list to its clients.
async fn hub(referrers: bool, left: u64) -> Fake {
    Fake::start(Quirks { pulls_left: Some(left), referrers, ..Quirks::default() }).await
}

fn mirror_of(hub: &Fake, mapping: &Arc<MemoryMapping>) -> Mirror {
    Mirror::new(counting(hub)).mapping(Arc::clone(mapping) as Arc<dyn Mapping>)
}

/// Copies an image whose signature is under cosign's tag, and reads the signature as `[trust]` does.
struct Signed {
    client: Client,
    mapping: Arc<MemoryMapping>,
}

impl SignaturePolicy for Signed {
    fn check_signature<'a>(
        &'a self,
        job: &'a Job,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            let tag = lists::cosign_tagged(&self.client, &job.source, digest, "sig").await?;
            let Some(tag) = tag else { return Ok(None) };
            let signature = job.source.with_digest(tag.digest);
            let read = mirror::read_once(&self.client, &*self.mapping, &signature, tag.digest).await?;
            Ok(read.map(|signature| signature.digest().to_string()))
        })
    }
}

#[test]
fn missing_signatures_are_not_read() {
    run(async {
        for referrers in [true, false] {
            let (hub, target) = (hub(referrers, 100).await, Fake::plain().await);
            let one = image("a", &[bytes("l", 10)]);
            hub.store(|store| store.seed("r", "1", &one));
            let client = counting(&hub);
            for suffix in ["sig", "att", "sbom"] {
                let found =
                    lists::cosign_tagged(&client, &hub.name("r"), one.digest(), suffix).await.unwrap();
                assert!(found.is_none());
            }
            assert_eq!(lists::referrers(&client, &hub.name("r"), one.digest()).await.unwrap(), []);
            assert_eq!(hub.log.count("GET manifests"), 0, "{referrers}");
            let job = Job { artifacts: true, ..Job::new(hub.name("r:1"), target.name("r:1")) };
            let mirror = Mirror::new(client);
            let plan = mirror.plan([job]).await;
            assert_eq!(plan.pulls[0].needed, 1);
            mirror.apply(&plan).await.remove(0).result.unwrap();
            assert_eq!(hub.log.count("GET manifests"), 1, "the image's own alone, {referrers}");
        }
    });
}

#[test]
fn a_tag_that_a_registry_reads_as_its_digest_is_not_a_signature() {
    run(async {
        for counts in [true, false] {
            let hub = hub(false, 100).await;
            let one = image("a", &[bytes("l", 10)]);
            let tag = lists::cosign_tag(one.digest(), "sig");
            hub.store(|store| {
                store.seed("r", "1", &one);
                store.seed("r", &tag, &one);
                store.seed("r", tag.trim_end_matches(".sig"), &one);
            });
            let client = if counts { counting(&hub) } else { builder().build().unwrap() };
            let found = lists::cosign_tagged(&client, &hub.name("r"), one.digest(), "sig").await.unwrap();
            assert!(found.is_none(), "{found:?}");
            assert_eq!(lists::referrers(&client, &hub.name("r"), one.digest()).await.unwrap(), []);
            assert_eq!(hub.log.count("GET manifests"), usize::from(!counts));
        }
    });
}

#[test]
fn copied_signatures_are_counted_before_and_read_once() {
    run(async {
        for referrers in [true, false] {
            let signed = signed();
            let (hub, target) = (hub(referrers, 100).await, Fake::plain().await);
            hub.store(|store| {
                store.seed("r", "1", &signed.index);
                signed.about.iter().for_each(|artifact| store.seed_untagged("r", artifact));
                signed.tagged.iter().for_each(|(tag, artifact)| store.seed("r", tag, artifact));
            });
            let mapping = Arc::new(MemoryMapping::default());
            let job = || Job { artifacts: true, ..Job::new(hub.name("r:1"), target.name("r:1")) };
            // The index and two images, two under cosign's tags and, if they are listed, four referrers.
            let all = if referrers { 9 } else { 5 };
            let plan = mirror_of(&hub, &mapping).plan([job()]).await;
            let pulls = &plan.pulls[0];
            assert_eq!((pulls.needed, pulls.limit.unwrap().remaining), (all, 100), "{referrers}");
            // Another process, after a dry run: what was read is not read again.
            let mirror = mirror_of(&hub, &mapping);
            let plan = mirror.plan([job()]).await;
            mirror.apply(&plan).await.remove(0).result.unwrap();
            assert_eq!(hub.log.count("GET manifests") as u64, all, "{referrers}");
            let needed: u64 = plan.pulls.iter().map(|pulls| pulls.needed).sum();
            assert_eq!(
                needed,
                all - 3,
                "the images were read by the dry run, and what is about them is by the copy"
            );
            assert_eq!(signed.lacking(&target, !referrers).len(), if referrers { 0 } else { 4 });
        }
    });
}

#[test]
fn signatures_of_an_existing_image_are_counted_too() {
    run(async {
        let signed = signed();
        let (hub, target) = (hub(true, 100).await, Fake::plain().await);
        for side in [&hub, &target] {
            side.store(|store| store.seed("r", "1", &signed.index));
        }
        hub.store(|store| {
            signed.about.iter().for_each(|artifact| store.seed_untagged("r", artifact));
            signed.tagged.iter().for_each(|(tag, artifact)| store.seed("r", tag, artifact));
        });
        let mirror = mirror_of(&hub, &Arc::default());
        let plan =
            mirror.plan([Job { artifacts: true, ..Job::new(hub.name("r:1"), target.name("r:1")) }]).await;
        assert_eq!(plan.pulls[0].needed, 6);
        mirror.apply(&plan).await.remove(0).result.unwrap();
        assert_eq!(hub.log.count("GET manifests"), 6);
    });
}

#[test]
fn a_verified_signature_is_counted_and_the_pulls_left_before_are_reported() {
    run(async {
        let signed = signed();
        let (hub, target) = (hub(true, 100).await, Fake::plain().await);
        hub.store(|store| {
            store.seed("r", "1", &signed.index);
            signed.tagged.iter().for_each(|(tag, artifact)| store.seed("r", tag, artifact));
        });
        let mapping = Arc::new(MemoryMapping::default());
        let client = counting(&hub);
        let policy = Signed { client: client.clone(), mapping: Arc::clone(&mapping) };
        let mirror =
            Mirror::new(client).mapping(Arc::clone(&mapping) as Arc<_>).signature_policy(Arc::new(policy));
        let job = || Job {
            platforms: Platforms::All,
            artifacts: true,
            ..Job::new(hub.name("r:1"), target.name("r:1"))
        };
        let plan = mirror.plan([job()]).await;
        assert!(plan.images[0].signed.is_some());
        // The signature, the index and two images, and the attestation that is copied with them.
        assert_eq!((plan.pulls[0].needed, plan.pulls[0].limit.unwrap().remaining), (5, 100));
        mirror.apply(&plan).await.remove(0).result.unwrap();
        assert_eq!(hub.log.count("GET manifests"), 5);
    });
}

#[test]
fn an_image_with_too_many_signature_pulls_is_not_started() {
    run(async {
        let signed = signed();
        let (hub, target) = (hub(true, 4).await, Fake::plain().await);
        hub.store(|store| {
            store.seed("r", "1", &signed.index);
            signed.tagged.iter().for_each(|(tag, artifact)| store.seed("r", tag, artifact));
        });
        let mirror = mirror_of(&hub, &Arc::default());
        let plan =
            mirror.plan([Job { artifacts: true, ..Job::new(hub.name("r:1"), target.name("r:1")) }]).await;
        assert_eq!((plan.pulls[0].needed, plan.pulls[0].limit.unwrap().remaining), (5, 4));
        let refused = mirror.apply(&plan).await.remove(0).result.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::PullsExhausted { .. }), "{refused}");
        assert_eq!(target.log.count("PUT manifests"), 0);
    });
}
