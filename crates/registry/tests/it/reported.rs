//! Behaviour of registries that users of other copiers have reported, from their issue trackers.
//!
//! | behaviour | reported |
//! |---|---|
//! | answers 499, nginx's code for a closed connection, although the client did not close it | [ggcr#1612](https://github.com/google/go-containerregistry/pull/1612) |
//! | refuses with 409 what it receives from another client at the same moment | [buildx#3029](https://github.com/docker/buildx/issues/3029) |
//! | answers an upload with the 200 of a health check | [kubevirt#17064](https://github.com/kubevirt/kubevirt/pull/17064) |
//! | does not find a manifest that was just put | [harbor#14902](https://github.com/goharbor/harbor/issues/14902) |
//! | answers HEAD of a blob with a length of 0 | [godoxy#169](https://github.com/yusing/godoxy/issues/169), [docker/for-linux#1296](https://github.com/docker/for-linux/issues/1296) |
//! | reports that it has a blob, and then that it is missing when the manifest is put | [harbor#18541](https://github.com/goharbor/harbor/issues/18541), [regclient#875](https://github.com/regclient/regclient/issues/875), [cc-utils#1761](https://github.com/gardener/cc-utils/pull/1761) |
//! | answers a mount with 201 and does not have the blob, or accepts a manifest whose blobs are gone | [crane#1820](https://github.com/google/go-containerregistry/issues/1820) |
//! | reports that it has a manifest, and then that it is missing when the index is put | [oras-go#1213](https://github.com/oras-project/oras-go/pull/1213) |
//! | redirects to an object store with an expired URL | [stargz-snapshotter#167](https://github.com/containerd/stargz-snapshotter/pull/167), [distribution#4175](https://github.com/distribution/distribution/issues/4175) |
//! | refuses the referrers API, which it does not support | [regclient#389](https://github.com/regclient/regclient/pull/389) |

use std::sync::Arc;

use registry::mirror::{Job, Mapping as _, MemoryMapping, Mirror, Platforms};
use registry::{Descriptor, Digest, ErrorKind, blobs, lists};

use crate::artifacts;
use crate::support::faults::Rule;
use crate::support::images::{TestImage, bytes, image, index};
use crate::support::odd::{ODD, answer, odd};
use crate::support::{
    Auth, Fake, Fault, client, copied, copy, copy_all, knowing, location, pair, profile, reply, run,
};

fn small() -> TestImage {
    image("a", &[bytes("l", 5_000)])
}

#[test]
fn a_conflict_with_another_request_is_retried() {
    run(async {
        let image = small();
        let conflict = || Fault::error(409, "CONFLICT", "another push is under way", Vec::new());
        let unknown = Fault::error(404, "MANIFEST_UNKNOWN", "manifest unknown", Vec::new());
        for (method, path, no) in [
            ("POST", "/uploads/", conflict()),
            ("PUT", "/uploads/", conflict()),
            ("PUT", "/manifests/", conflict()),
            ("PUT", "/manifests/", unknown),
        ] {
            let (source, target) = pair(&image).await;
            target.on(Rule::new(method, path, no));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{method} {path}");
            assert_eq!(target.log.fired(), 1);
        }
        // Put by the request whose reply was lost: a second one is always a conflict.
        let (source, target) = pair(&image).await;
        target.on(Rule::new("PUT", "/manifests/", Fault::LoseReply));
        target.on(Rule::new("PUT", "/manifests/", conflict()).times(99));
        assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
    });
}

#[test]
fn the_200_of_a_health_check_is_not_a_reply() {
    run(async {
        let image = small();
        for (method, path) in [("POST", "/uploads/"), ("PUT", "/uploads/"), ("PUT", "/manifests/")] {
            let (source, target) = pair(&image).await;
            target.on(Rule::new(method, path, reply(200, &[], "OK: Healthcheck requested")).times(2));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{method} {path}");
            assert_eq!((target.broken_tag(), target.log.fired()), (None, 2));
        }
        let (source, target) = pair(&image).await;
        target.on(Rule::new("POST", "/uploads/", Fault::status(202)).times(99));
        let error = copied(&source, &target).await.unwrap_err();
        assert!(error.to_string().ends_with("HTTP 202 without a `Location`"), "{error}");
    });
}

#[test]
fn an_upload_redirected_by_a_proxy_stays_an_upload() {
    run(async {
        let image = small();
        for status in [301, 302] {
            let (source, target) = pair(&image).await;
            target.on(Rule::new("POST", "/uploads/", location(status, "/v2/r/blobs/uploads/?x=1")).times(2));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{status}");
            assert_eq!(target.log.fired(), 2);
        }
    });
}

#[test]
fn a_redirected_upload_sends_its_bytes_there_without_our_credentials() {
    run(async {
        let image = image("a", &[bytes("l", 3 << 20)]);
        for (status, elsewhere) in [(301, false), (302, false), (307, false), (308, true), (307, true)] {
            let (source, target) = pair(&image).await;
            target.quirks(|quirks| quirks.auth = Auth::Bearer(None));
            target.on(Rule::new("PUT", "/uploads/", Fault::SentOn { status, elsewhere }).times(1));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{status} {elsewhere}");
            assert_eq!((target.broken_tag(), target.log.fired()), (None, 1));
            assert_eq!(target.log.count("POST uploads"), 2, "the session is the same one");
            assert_eq!(target.log.count("PUT elsewhere"), usize::from(elsewhere));
        }
        // So is what is pushed from memory; and a chain has an end.
        let content = bytes("sbom", 70_000);
        let blob = Descriptor::new("x", Digest::of(&content), 70_000);
        let target = Fake::plain().await;
        target.on(Rule::new("PUT", "/uploads/", Fault::SentOn { status: 307, elsewhere: true }).times(1));
        let pushed = blobs::push_bytes(&client(), &target.name("r"), &blob, content.clone()).await;
        assert_eq!((pushed.unwrap(), target.log.count("PUT elsewhere")), (70_000, 1));
        let target = Fake::plain().await;
        target.on(Rule::new("PUT", "/uploads/", Fault::SentOn { status: 307, elsewhere: false }).times(99));
        let pushed = blobs::push_bytes(&client(), &target.name("r"), &blob, content).await;
        let error = pushed.unwrap_err().to_string();
        assert!(error.ends_with("more than 5 redirects"), "{error}");
    });
}

#[test]
fn a_length_missing_in_a_head_is_read_by_get() {
    run(async {
        let image = small();
        for length in ["0", "7"] {
            let (source, target) = pair(&image).await;
            let mirror = Mirror::new(client()).read_back();
            target.on(Rule::new("HEAD", "/blobs/", reply(200, &[("content-length", length)], "")).times(99));
            let job = Job::new(source.name("r:1"), target.name("r:1"));
            assert_eq!(copy(&mirror, job).await.unwrap().digest, image.digest());
        }
    });
}

/// A target that answers HEAD and mounts for each blob as if it had it.
async fn claiming(image: &TestImage) -> (Fake, Fake) {
    let (source, target) = pair(image).await;
    target.on(Rule::new("HEAD", "/blobs/", reply(200, &[], "")).times(99));
    target.on(Rule::new("POST", "mount=", reply(201, &[("location", "/v2/r/blobs/x")], "")).times(99));
    (source, target)
}

#[test]
fn a_blob_reported_as_existing_and_then_missing_is_sent() {
    run(async {
        let one = small();
        for image in
            [index(&[(Some("linux/amd64"), one.clone()), (Some("linux/arm64"), image("b", &[]))]), one]
        {
            let (source, target) = claiming(&image).await;
            let job = Job::new(source.name("r:1"), target.name("r:1"));
            let copied = copy(&Mirror::new(client()), job).await.unwrap();
            assert_eq!((copied.digest, copied.skipped, copied.mounted), (image.digest(), 0, 0));
            assert_eq!(target.broken_tag(), None);
            assert_eq!(source.log.count("GET blobs"), target.log.count("PUT uploads"));
            assert_eq!(target.log.count("PUT uploads"), copied.sent);
        }
        // Also if the first upload of a blob fails: the claim is not believed the second time.
        let image = small();
        let (source, target) = claiming(&image).await;
        target.on(Rule::new("PUT", "/uploads/", Fault::status(503)));
        let job = Job::new(source.name("r:1"), target.name("r:1"));
        assert_eq!(copy(&Mirror::new(client()), job).await.unwrap().sent, 2);
        assert_eq!(target.broken_tag(), None);
        // A blob that was sent is not sent again: it would not help.
        let image = small();
        let (source, target) = pair(&image).await;
        let no = Fault::error(400, "MANIFEST_INVALID", "Failed to copy blob", Vec::new());
        target.on(Rule::new("PUT", "/manifests/", no).times(99));
        let error = copied(&source, &target).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::PartUnknown { .. }), "{error}");
        assert_eq!(target.log.count("PUT uploads"), 2);
    });
}

#[test]
fn a_mount_without_a_blob_is_followed_by_an_upload() {
    run(async {
        let image = small();
        let (source, target) = pair(&image).await;
        target.quirks(|quirks| quirks.gullible = true);
        target.on(Rule::new("POST", "mount=", reply(201, &[("location", "/v2/r/blobs/x")], "")).times(2));
        // The reply does not name the blob: a HEAD checks whether it exists.
        target.on(Rule::new("HEAD", "/blobs/", reply(200, &[], "")).times(2));
        let job = Job::new(source.name("r:1"), target.name("r:1"));
        let copied = copy(&Mirror::new(client()).read_back(), job).await.unwrap();
        assert_eq!((copied.digest, target.broken_tag()), (image.digest(), None));
        let bytes: u64 = image.blobs.iter().map(|blob| blob.len() as u64).sum();
        assert_eq!((copied.sent, copied.bytes, copied.skipped, copied.mounted), (2, bytes, 0, 0));
        // If only one of them is missing, the other one still counts as mounted.
        let others = Digest::of(&image.blobs[1]).to_string();
        let (source, target) = pair(&image).await;
        target.quirks(|quirks| quirks.gullible = true);
        target.store(|store| store.seed("s", "1", &image));
        target.on(Rule::new(
            "POST",
            &others.replace(':', "%3A"),
            reply(201, &[("location", "/v2/r/blobs/x")], ""),
        ));
        target.on(Rule::new("HEAD", &others, reply(200, &[], "")));
        let jobs = ["s:1", "r:1"].map(|name| Job::new(source.name("r:1"), target.name(name)));
        let mapping = Arc::new(MemoryMapping::default());
        mapping.record_blobs(image.digest(), image.blobs.iter().map(|blob| Digest::of(blob)).collect());
        let mirror = Mirror::new(client()).mapping(mapping).read_back();
        let copied = copy_all(&mirror, jobs.to_vec()).await.remove(1).unwrap();
        assert_eq!((copied.sent, copied.mounted, copied.skipped), (1, 1, 0));
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn a_manifest_reported_as_existing_and_then_missing_is_put() {
    run(async {
        let child = image("a", &[bytes("l", 5_000)]);
        let inner = index(&[(Some("linux/amd64"), child.clone())]);
        let image = index(&[(Some("linux/amd64"), inner), (Some("linux/arm64"), image("b", &[]))]);
        let (source, target) = pair(&image).await;
        for claimed in &image.children {
            let digest = claimed.digest().to_string();
            let there = reply(200, &[("docker-content-digest", &digest)], "");
            target.on(Rule::new("HEAD", &format!("/manifests/{digest}"), there).times(99));
        }
        let job = Job { platforms: Platforms::All, ..Job::new(source.name("r:1"), target.name("r:1")) };
        let copied = copy(&Mirror::new(client()), job).await.unwrap();
        assert_eq!((copied.digest, copied.sent), (image.digest(), target.log.count("PUT uploads")));
        assert!(copied.sent > 0);
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn a_signature_whose_blob_is_reported_as_existing_and_then_missing_is_copied() {
    run(async {
        let signed = artifacts::signed();
        let (source, target) = (signed.source().await, Fake::plain().await);
        target.on(Rule::new("HEAD", "/blobs/", reply(200, &[], "")).times(999));
        target.on(Rule::new("POST", "mount=", reply(201, &[("location", "/v2/r/blobs/x")], "")).times(999));
        let copied = copy(&Mirror::new(client()), artifacts::job(&source, &target)).await.unwrap();
        assert_eq!(copied.warnings, Vec::<String>::new());
        assert_eq!(signed.lacking(&target, false), Vec::<String>::new());
        assert_eq!(target.broken_tag(), None);
    });
}

#[test]
fn an_expired_blob_url_is_requested_once_more() {
    run(async {
        let image = image("a", &[]);
        let xml = |status, text: &str| {
            reply(status, &[], &format!("<Error><Code>X</Code><Message>{text}</Message></Error>"))
        };
        for no in [
            xml(400, "The provided token has expired."),
            xml(403, "Access Denied"),
            xml(403, "Server failed to authenticate the request."),
            Fault::status(401),
            Fault::status(403),
        ] {
            let ((source, target), (elsewhere, _)) = (pair(&image).await, pair(&image).await);
            let path = format!("/v2/r/blobs/{}", Digest::of(&image.blobs[0]));
            let there = format!("http://{}{path}", elsewhere.host());
            source.on(Rule::new("GET", "/blobs/", location(307, &there)).times(9));
            elsewhere.on(Rule::new("GET", "/blobs/", no.clone()));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{no:?}");
            assert_eq!(source.log.count("GET blobs"), 2);
            // If it fails again, it is an error at once.
            source.log.forget();
            elsewhere.on(Rule::new("GET", "/blobs/", no.clone()).times(9));
            copied(&source, &Fake::plain().await).await.unwrap_err();
            assert_eq!(source.log.count("GET blobs"), 2, "{no:?}");
        }
        // The registry may have refused it before because the token was missing.
        let ((source, target), (elsewhere, _)) = (pair(&image).await, pair(&image).await);
        let challenge = format!("Bearer realm=\"http://{}/token\"", source.host());
        source.on(Rule::new("GET", "/blobs/", reply(401, &[("www-authenticate", &challenge)], "")));
        let there = format!("http://{}/v2/r/blobs/{}", elsewhere.host(), Digest::of(&image.blobs[0]));
        source.on(Rule::new("GET", "/blobs/", location(307, &there)).times(9));
        elsewhere.on(Rule::new("GET", "/blobs/", Fault::status(403)));
        assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
    });
}

#[test]
fn referrers_are_read_from_the_tag_if_the_api_is_refused() {
    run(async {
        let signed = artifacts::signed();
        let refusal = || Rule::new("GET", "/referrers/", Fault::error(401, "UNAUTHORIZED", "no", Vec::new()));
        let (first, second, third) = (signed.source().await, Fake::plain().await, Fake::plain().await);
        for (source, target) in [(&first, &second), (&second, &third)] {
            target.on(refusal().times(999));
            let copied = copy(&Mirror::new(client()), artifacts::job(source, target)).await.unwrap();
            assert_eq!(copied.warnings, Vec::<String>::new());
            assert_eq!(signed.lacking(target, false), Vec::<String>::new());
        }
        // A registry that is known to have the API refuses the caller.
        let client_of_ecr = knowing(&third, profile(true));
        let error = lists::referrers(&client_of_ecr, &third.name("r"), Digest::of(b"x")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{error}");
        // If the caller may not read at all, that is the error.
        third.on(Rule::new("GET", "/manifests/", Fault::error(403, "DENIED", "no", Vec::new())).times(9));
        let error = lists::referrers(&client(), &third.name("r"), Digest::of(b"x")).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Denied { .. }), "{error}");
    });
}

#[test]
fn the_next_page_may_be_in_any_of_several_headers() {
    run(async {
        let client = odd(|request| match request.url.query() {
            Some("n=1000") => answer(
                200,
                &[("link", "</a.css>; rel=preload"), ("link", "</v2/r/tags/list?last=a,b>; rel=\"next\"")],
                r#"{"tags":["a"]}"#,
            ),
            query => answer(200, &[], format!(r#"{{"tags":["{}"]}}"#, query.unwrap())),
        });
        let tags = lists::tags(&client.build().unwrap(), &format!("{ODD}/r").parse().unwrap()).await.unwrap();
        assert_eq!(tags, ["a", "last=a,b"]);
    });
}
