//! Signatures and other artifacts that refer to an image: they are copied with it, and a run that ends at any moment loses none of
//! them.

use std::sync::Arc;

use registry::mirror::{Job, MemoryMapping, Mirror};
use registry::{Digest, ErrorKind, Manifest};

use crate::support::faults::Rule;
use crate::support::images::{self, OCI_INDEX, TestImage, bytes, image, index};
use crate::support::{Fake, Fault, Quirks, client, copy, counting, pair, reply, run};

/// An index of two platforms with its referrers: signatures of the index and of one platform, a signature of an artifact, and
/// cosign's tags.
pub struct Signed {
    pub index: TestImage,
    pub about: Vec<TestImage>,
    pub tagged: Vec<(String, TestImage)>,
}

pub fn signed() -> Signed {
    let amd64 = image("amd64", &[bytes("a", 300)]);
    let index = index(&[(Some("linux/amd64"), amd64.clone()), (Some("linux/arm64"), image("arm64", &[]))]);
    let about = |name: &str, subject: &TestImage| {
        images::image_of(images::OCI_IMAGE, name, &[bytes(name, 40)], Some(&subject.manifest))
    };
    let sbom = about("sbom", &index);
    let about =
        vec![about("signature", &index), about("of the platform", &amd64), about("signed", &sbom), sbom];
    let tag = |image: &TestImage, suffix: &str| format!("sha256-{}.{suffix}", image.digest().hex());
    let tagged =
        vec![(tag(&index, "sig"), image("cosign", &[])), (tag(&amd64, "att"), image("attested", &[]))];
    Signed { index, about, tagged }
}

impl Signed {
    pub async fn source(&self) -> Fake {
        let source = Fake::start(Quirks { referrers: true, ..Quirks::default() }).await;
        source.store(|store| {
            store.seed("r", "1", &self.index);
            self.about.iter().for_each(|artifact| store.seed_untagged("r", artifact));
            self.tagged.iter().for_each(|(tag, artifact)| store.seed("r", tag, artifact));
        });
        source
    }

    /// The artifacts that the target lacks.
    pub fn lacking(&self, target: &Fake, has_referrers: bool) -> Vec<String> {
        target.store(|store| {
            let lists = |artifact: &&TestImage| {
                let subject = artifact.manifest.image().unwrap().subject.unwrap();
                let list = store.manifest("r", &format!("sha256-{}", subject.digest.hex()));
                let list = list.and_then(|list| list.index().ok());
                list.is_some_and(|list| list.manifests.iter().any(|one| one.digest == artifact.digest()))
            };
            let is_there = |digest: Digest| store.manifest("r", &digest.to_string()).is_some();
            let about = self
                .about
                .iter()
                .filter(|artifact| !is_there(artifact.digest()) || !(has_referrers || lists(artifact)));
            let about: Vec<String> = about.map(|artifact| artifact.digest().to_string()).collect();
            let tags = self.tagged.iter().filter(|(tag, _)| store.manifest("r", tag).is_none());
            about.into_iter().chain(tags.map(|(tag, _)| tag.clone())).collect()
        })
    }
}

pub fn remembering(mapping: &Arc<MemoryMapping>) -> Mirror {
    Mirror::new(client()).mapping(Arc::clone(mapping) as Arc<_>)
}

pub fn job(source: &Fake, target: &Fake) -> Job {
    Job { artifacts: true, ..Job::new(source.name("r:1"), target.name("r:1")) }
}

/// Runs that end during a request to the source or the target, each at a later moment, until one completes; and after each of them
/// a run that completes.
async fn ends_at_any_moment(has_referrers: bool, ends_at_source: bool, is_copied: bool) {
    let signed = signed();
    let mut moments = 0;
    loop {
        let source = signed.source().await;
        let target = Fake::start(Quirks { referrers: has_referrers, ..Quirks::default() }).await;
        if is_copied {
            target.store(|store| store.seed("r", "1", &signed.index));
        }
        let side = if ends_at_source { &source } else { &target };
        side.on(Rule::new("*", "", Fault::Hang).skip(moments));
        let mapping = Arc::new(MemoryMapping::default());
        let first = remembering(&mapping);
        let is_over = tokio::select! {
            copied = copy(&first, job(&source, &target)) => {
                copied.unwrap();
                true
            }
            () = side.log.fires() => false,
        };
        let has_tag = target.store(|store| store.manifest("r", "1").is_some());
        let lacking = signed.lacking(&target, has_referrers);
        assert!(
            is_copied || !has_tag || lacking.is_empty(),
            "the tag is there after {moments} and lacks {lacking:?}"
        );
        copy(&remembering(&mapping), job(&source, &target)).await.unwrap();
        assert_eq!(signed.lacking(&target, has_referrers), Vec::<String>::new(), "after {moments}");
        assert_eq!(target.broken_tag(), None);
        if is_over {
            assert!(moments > 20, "only {moments} moments");
            return;
        }
        moments += 1;
    }
}

#[test]
fn a_run_that_ends_at_any_moment_loses_no_artifact() {
    run(ends_at_any_moment(true, false, false));
}

#[test]
fn a_run_that_ends_loses_no_artifact_at_a_target_without_the_referrers_api() {
    run(ends_at_any_moment(false, false, false));
}

#[test]
fn a_run_that_ends_at_a_request_to_the_source_loses_no_artifact() {
    run(ends_at_any_moment(false, true, false));
}

#[test]
fn a_run_that_ends_loses_no_artifact_of_an_existing_image() {
    run(ends_at_any_moment(true, false, true));
}

#[test]
fn a_run_that_ends_loses_no_artifact_of_an_existing_image_without_the_referrers_api() {
    run(ends_at_any_moment(false, false, true));
}

#[test]
fn nothing_to_do_costs_one_head_per_side_with_signatures_too() {
    run(async {
        let signed = signed();
        let (source, target) = (signed.source().await, Fake::plain().await);
        let mapping = Arc::new(MemoryMapping::default());
        copy(&remembering(&mapping), job(&source, &target)).await.unwrap();
        let up_to_date = async |mapping| {
            source.log.forget();
            target.log.forget();
            let plan = remembering(mapping).plan([job(&source, &target)]).await;
            assert!(plan.is_up_to_date(), "{plan:?}");
            (source.log.counts(), target.log.counts())
        };
        let one_head = || ("HEAD manifests 1".to_owned(), "HEAD manifests 1".to_owned());
        assert_eq!(up_to_date(&mapping).await, one_head());
        // A machine that has not copied them looks them up once, and writes nothing.
        let other = Arc::new(MemoryMapping::default());
        let (_, asked) = up_to_date(&other).await;
        assert!(asked.contains("HEAD manifests") && !asked.contains("PUT"), "{asked}");
        assert_eq!(up_to_date(&other).await, one_head());
    });
}

#[test]
fn signatures_are_read_by_get_at_a_source_whose_head_is_a_404() {
    run(async {
        let signed = signed();
        let (source, target) = (signed.source().await, Fake::plain().await);
        // Nexus: diun#1614.
        source.on(Rule::new("HEAD", "/manifests/", Fault::status(404)).times(99));
        copy(&Mirror::new(client()), job(&source, &target)).await.unwrap();
        assert_eq!(signed.lacking(&target, false), Vec::<String>::new());
    });
}

#[test]
fn no_counted_pull_is_used_for_missing_signatures() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        source.store(|store| store.seed("r", "1", &image("a", &[bytes("l", 10)])));
        let client = counting(&source);
        copy(&Mirror::new(client), job(&source, &target)).await.unwrap();
        let gets: Vec<String> =
            source.log.seen().into_iter().filter(|seen| seen.method == "GET").map(|seen| seen.path).collect();
        assert!(
            gets.iter().all(|path| [".sig", ".att", ".sbom"].iter().all(|end| !path.ends_with(end))),
            "{gets:?}"
        );
    });
}

#[test]
fn an_image_without_artifacts_is_put_once() {
    run(async {
        let (source, target) = (Fake::plain().await, Fake::plain().await);
        source.store(|store| store.seed("r", "1", &image("a", &[bytes("l", 10)])));
        copy(&Mirror::new(client()), job(&source, &target)).await.unwrap();
        assert_eq!(target.log.count("PUT manifests"), 1);
    });
}

#[test]
fn a_transient_failure_does_not_omit_a_signature() {
    run(async {
        let signed = signed();
        let (source, target) = (signed.source().await, Fake::plain().await);
        let att = format!("{}.att", signed.index.digest().hex());
        for (side, path) in [(&source, "/referrers/"), (&target, "/manifests/sha256-"), (&source, &*att)] {
            side.on(Rule::new("*", path, Fault::status(503)).times(6));
            let error = copy(&Mirror::new(client()), job(&source, &target)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Unavailable { .. }), "{path}: {error}");
            assert!(target.store(|store| store.manifest("r", "1").is_none()), "{path}");
        }
        copy(&Mirror::new(client()), job(&source, &target)).await.unwrap();
        assert_eq!(signed.lacking(&target, false), Vec::<String>::new());
    });
}

#[test]
fn requested_signatures_are_copied_and_a_refusal_is_a_warning() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let signature = images::image_of(images::OCI_IMAGE, "sig", &[bytes("s", 20)], Some(&image.manifest));
        let cosign = images::image("cosign", &[bytes("c", 20)]);
        let source = Fake::start(Quirks { referrers: true, ..Quirks::default() }).await;
        let target = Fake::start(Quirks { referrers: true, ..Quirks::default() }).await;
        let cosign_tag = format!("sha256-{}.sig", image.digest().hex());
        source.store(|store| {
            store.seed("r", "1", &image);
            store.seed_untagged("r", &signature);
            store.seed("r", &cosign_tag, &cosign);
        });
        let job = |tag: &str| Job { artifacts: true, ..Job::new(source.name("r:1"), target.name(tag)) };
        let copied = copy(&Mirror::new(client()), job("r:1")).await.unwrap();
        assert_eq!(copied.warnings, Vec::<String>::new());
        assert!(target.store(|store| store.manifest("r", &signature.digest().to_string()).is_some()));
        assert!(target.store(|store| store.manifest("r", &cosign_tag).is_some()));

        // A registry without the API gets the list under a tag.
        let old = Fake::plain().await;
        let job_to = |target| Job { artifacts: true, ..Job::new(source.name("r:1"), target) };
        copy(&Mirror::new(client()), job_to(old.name("r:1"))).await.unwrap();
        let listed = registry::lists::referrers(&client(), &old.name("r"), image.digest()).await.unwrap();
        assert_eq!(listed.iter().map(|one| one.digest).collect::<Vec<_>>(), [signature.digest()]);
        assert_eq!(old.broken_tag(), None);

        target.on(Rule::new("PUT", "/v2/x/manifests/sha256", Fault::status(405)).times(9));
        let copied = copy(&Mirror::new(client()), job("x:1")).await.unwrap();
        assert_eq!(copied.warnings.len(), 2, "{copied:?}");
        assert!(target.store(|store| store.manifest("x", "1").is_some()));
    });
}

#[test]
fn an_artifact_must_have_the_subject_itself() {
    run(async {
        let platform = image("amd64", &[bytes("l", 10)]);
        let index = index(&[(Some("linux/amd64"), platform.clone())]);
        let signature = images::image_of(images::OCI_IMAGE, "s", &[], Some(&index.manifest));
        let list = |entries: &[&Manifest]| {
            let entries: Vec<_> = entries.iter().map(|manifest| manifest.descriptor()).collect();
            let text =
                serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
            TestImage {
                manifest: Manifest::new(OCI_INDEX, text.to_string()),
                children: vec![],
                blobs: vec![],
            }
        };
        let stand_in = format!("sha256-{}", index.digest().hex());
        // The tag read as the digest; a list with an image; one with both; a cosign tag read as the digest.
        let cases = [
            (stand_in.clone(), index.clone(), 0),
            (stand_in.clone(), list(&[&platform.manifest]), 0),
            (stand_in.clone(), list(&[&platform.manifest, &signature.manifest]), 1),
            (format!("{stand_in}.sig"), index.clone(), 0),
        ];
        for (tag, content, artifacts) in cases {
            let (source, target) = pair(&index).await;
            source.store(|store| {
                store.seed_untagged("r", &signature);
                store.seed("r", &tag, &content);
            });
            let job = Job { artifacts: true, ..Job::new(source.name("r:1"), target.name("r:1")) };
            let copied = copy(&Mirror::new(client()), job).await.unwrap();
            assert_eq!(copied.warnings, Vec::<String>::new());
            assert_eq!(copied.digest, index.digest());
            let found =
                registry::lists::referrers(&client(), &target.name("r"), index.digest()).await.unwrap();
            assert_eq!(found.len(), artifacts, "{tag}");
            assert!(found.iter().all(|one| one.digest == signature.digest()));
            assert!(
                !target.store(|store| store.repository("r").tags.contains_key(&format!("{stand_in}.sig")))
            );
        }
    });
}

#[test]
fn a_list_of_referrers_is_read_as_leniently_as_an_index() {
    run(async {
        let subject = image("a", &[bytes("l", 10)]);
        let signature = images::image_of(images::OCI_IMAGE, "s", &[], Some(&subject.manifest));
        let listed = serde_json::to_value(signature.manifest.descriptor()).unwrap();
        let foreign = serde_json::json!({ "mediaType": OCI_INDEX, "digest": format!("sha512:{}", "a".repeat(128)), "size": 1 });
        let list =
            |manifests: serde_json::Value| serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        let by_tag = TestImage {
            manifest: Manifest::new(OCI_INDEX, list(serde_json::json!([listed])).to_string()),
            children: vec![],
            blobs: vec![],
        };
        let page = [("content-type", "text/html")];
        for (answer, is_found) in [
            (reply(200, &[], &list(serde_json::json!([foreign, listed])).to_string()), true),
            (reply(200, &[], &list(serde_json::Value::Null).to_string()), false),
            (reply(200, &[], "{}"), false),
            // A registry without the API is asked by tag.
            (reply(200, &page, "<html>all repositories</html>"), true),
            (reply(404, &page, "<html>not found</html>"), true),
        ] {
            let (source, target) = pair(&subject).await;
            source.store(|store| {
                store.seed_untagged("r", &signature);
                store.seed("r", &format!("sha256-{}", subject.digest().hex()), &by_tag);
            });
            source.on(Rule::new("GET", "/referrers/", answer.clone()).times(99));
            let copied = copy(&Mirror::new(client()), job(&source, &target)).await.unwrap();
            assert_eq!(copied.warnings, Vec::<String>::new(), "{answer:?}");
            let there = target.store(|store| store.manifest("r", &signature.digest().to_string()).is_some());
            assert_eq!(there, is_found, "{answer:?}");
        }
    });
}
