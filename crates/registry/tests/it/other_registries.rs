//! Registries, proxies and object stores other than ECR and Docker Hub: behaviour that users of other copiers have reported.
//!
//! | class | tests (`e2e`: the real binary's; `unit`: next to the code) |
//! |---|---|
//! | a login is for one address | e2e `a_login_is_only_sent_to_the_address_it_was_stored_for`; unit `a_token_service_gets_its_registrys_login`, `over_plain_http_only_a_login_for_that_address_is_used`; `credentials_never_cross_hosts` |
//! | lists with entries that are not artifacts | `an_artifact_must_have_the_subject_itself` |
//! | numbers without limits | unit `fuzz_*`, `lifetimes_of_every_spelling_are_read_and_bounded`; `impossible_sizes_are_an_error_and_not_a_panic` |
//! | certificates | e2e `certificates.rs`, `company_network.rs`; unit `permanent_errors_are_distinguished_from_transient_ones` |
//! | permanent errors | `permanent_errors_are_reported_at_once`, `an_unknown_host_name_is_reported_soon` |
//! | limits on pulls | `only_docker_hub_counts_pulls_and_its_last_reply_counts`, `limits_on_pulls_are_read_from_heads` |
//! | a repository that does not exist yet | `a_failed_check_at_the_target_does_not_prevent_the_push` |
//! | HEAD says 404, GET 200 | `an_image_found_only_by_get_exists`, `a_bare_400_of_a_head_is_repeated_by_get`, `signatures_are_read_by_get_at_a_source_whose_head_is_a_404` |
//! | token services that redirect | `a_token_service_may_redirect_within_its_host`; e2e table of credentials |
//! | codes of proxies and CDNs | `status_codes_of_proxies_and_cdns_are_transient`, `status_codes_of_proxies_are_retried_at_every_request`; unit `every_5xx_is_transient_except_not_implemented` |
//! | missing attestations | `attestations_missing_at_the_source_are_omitted_with_a_warning_or_named`, `a_missing_attestation_is_recognised_in_every_form_of_reply` |
//! | media types | `a_manifests_media_type_counts_if_the_server_sends_none`; unit `meaningless_content_types_defer_to_the_manifest_and_contradicting_ones_are_refused` |
//! | null and empty fields | `a_list_of_referrers_is_read_as_leniently_as_an_index`; unit `null_fields_of_gos_encoder_are_read_as_empty`, `meaningless_content_types_defer_to_the_manifest_and_contradicting_ones_are_refused` |
//! | `Content-Encoding` | `a_body_compressed_in_transit_is_unpacked_and_a_wrong_header_is_ignored`; unit `uncompressed_bodies_are_unchanged_and_compressed_ones_unpacked_up_to_a_limit` |
//! | digests of other algorithms | `a_child_with_another_algorithm_that_is_not_selected_is_ignored`, `a_list_of_referrers_is_read_as_leniently_as_an_index`; unit `an_index_may_have_an_entry_with_another_algorithm_that_is_not_selected` |
//! | blobs at a store by plain http | `an_object_store_of_an_http_registry_is_read_and_another_one_is_named`; unit `an_object_store_of_an_http_registry_may_use_http` |
//! | podman's logins | unit (docker-credentials) `podmans_logins_are_used_if_docker_has_none`, `podmans_file_is_found_where_podman_writes_it`, `a_helper_of_podmans_file_is_asked_too` |
//! | immutable tags | `an_immutable_tag_is_reported_once`; unit `an_immutable_tag_is_recognised_by_each_registrys_message` |
//! | a web page | `a_web_page_is_not_a_registry`; unit `an_html_page_is_not_a_registrys_reply` |
//! | redirects to other registries | `a_redirect_to_another_registry_is_read_anonymously_and_named_if_it_requires_a_login`, `a_chain_of_redirects_is_followed_and_an_endless_one_is_an_error` |
//! | a run that ends between tag and signatures | `a_run_that_ends_at_any_moment_loses_no_artifact`; e2e `signatures.rs` |
//! | signatures that are requested later | `artifacts_requested_after_the_image_are_copied_by_the_next_run`, `platforms_requested_later_are_copied_with_their_artifacts`; unit (oci-layout) `a_second_file_adds_the_signature_that_the_first_one_lacked`; e2e `signatures.rs` |

use registry::mirror::{Action, Job, Mirror, Platforms};
use registry::{Digest, ErrorKind, Manifest, ManifestError, NoConnection, RateLimit};

use crate::support::faults::Rule;
use crate::support::images::{self, OCI_INDEX, TestImage, bytes, image, index, two_platforms};
use crate::support::{
    ECR, Fake, Fault, builder, client, copied, copy, counting, knowing, only, pair, reply, run, whole,
};

#[test]
fn an_image_found_only_by_get_exists() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let page = reply(404, &[("content-type", "text/html")], "<html>not found</html>");
        let named = ["NAME_UNKNOWN", "MANIFEST_UNKNOWN"].map(|code| Fault::error(404, code, "", Vec::new()));
        // Servers that do not support HEAD, or refuse it, with different replies.
        let bare = [400, 403, 404, 405, 406, 410, 501].map(Fault::status);
        for no in bare.into_iter().chain(named).chain([page]) {
            let (source, target) = pair(&image).await;
            source.on(Rule::new("HEAD", "/manifests/", no.clone()).times(99));
            let digest = copied(&source, &target).await.unwrap_or_else(|error| panic!("{no:?}: {error}"));
            assert_eq!(digest, image.digest());
        }
        let (none, target) = (Fake::plain().await, Fake::plain().await);
        assert!(matches!(copied(&none, &target).await.unwrap_err().kind(), ErrorKind::NotFound { .. }));
        assert_eq!(none.log.counts(), "GET manifests 1, HEAD manifests 1");
    });
}

#[test]
fn a_failed_check_at_the_target_does_not_prevent_the_push() {
    run(async {
        let image = index(&[(Some("linux/amd64"), image("a", &[bytes("l", 10)]))]);
        let refusals = [
            Fault::status(401),
            Fault::error(403, "DENIED", "access to the requested resource is not authorized", Vec::new()),
            Fault::error(401, "UNAUTHORIZED", "no", Vec::new()),
        ];
        for no in refusals {
            for mount_error in [None, Some(404)] {
                let (source, target) = pair(&image).await;
                target.quirks(|quirks| quirks.mount_error = mount_error);
                target.on(Rule::new("HEAD", "", no.clone()).times(99));
                target.on(Rule::new("GET", "/manifests/", no.clone()).times(99));
                assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
                assert_eq!(target.broken_tag(), None);
            }
        }
        // A refused push is an error.
        let (source, target) = pair(&image).await;
        for method in ["HEAD", "GET", "POST", "PUT"] {
            target.on(Rule::new(method, "", Fault::status(401)).times(99));
        }
        let error = copied(&source, &target).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unauthorized { .. }), "{error}");
        assert_eq!(error.registry(), target.host());
        // ECR's reply is final.
        let (source, target) = pair(&image).await;
        target.on(Rule::new("*", "/manifests/", Fault::error(403, "DENIED", "no", Vec::new())).times(99));
        let mirror = Mirror::new(knowing(&target, ECR));
        let plan = mirror.plan(vec![Job::new(source.name("r:1"), target.name("r:1"))]).await;
        assert!(matches!(plan.images[0].action, Action::Failed(_)), "{plan:?}");
    });
}

#[test]
fn status_codes_of_proxies_and_cdns_are_transient() {
    run(async {
        let image = image("a", &[bytes("l", 5_000)]);
        let page = |status| reply(status, &[("content-type", "text/html")], "<html>error</html>");
        for status in [408, 425, 429, 499, 500, 502, 507, 520, 521, 523, 524, 525, 527, 530, 599] {
            let (source, target) = pair(&image).await;
            source.on(Rule::new("HEAD", "/manifests/", page(status)));
            source.on(Rule::new("GET", "/blobs/", page(status)));
            target.on(Rule::new("POST", "/uploads/", page(status)));
            target.on(Rule::new("PUT", "/uploads/", page(status)));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{status}");
            assert_eq!((source.log.fired(), target.log.fired()), (2, 2));
        }
        for status in [501, 505, 418] {
            let (source, target) = pair(&image).await;
            source.on(Rule::new("GET", "/blobs/", page(status)).times(9));
            copied(&source, &target).await.unwrap_err();
            assert!(source.log.fired() <= 2, "each of the two blobs once, {status}");
        }
    });
}

#[test]
fn a_manifests_media_type_counts_if_the_server_sends_none() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let text = String::from_utf8(image.manifest.bytes().to_vec()).unwrap();
        for kind in [
            "binary/octet-stream",
            "application/octet-stream",
            "APPLICATION/JSON",
            "text/plain; charset=utf-8",
            "text/html",
            "application/x-tar",
            "nonsense",
            "",
        ] {
            let (source, target) = pair(&image).await;
            let digest = image.digest().to_string();
            let mut headers = vec![("docker-content-digest", digest.as_str())];
            if !kind.is_empty() {
                headers.push(("content-type", kind));
            }
            source.on(Rule::new("*", "/manifests/", reply(200, &headers, &text)).times(99));
            assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{kind}");
            let there = client().manifest(&target.name("r:1")).await.unwrap().unwrap();
            assert_eq!(there.media_type(), images::OCI_IMAGE);
        }
        // An index is distinguished from an image, and a type in capital letters or with parameters is the same type.
        let index = two_platforms();
        let text_of_index = String::from_utf8(index.manifest.bytes().to_vec()).unwrap();
        for kind in ["text/plain", "Application/VND.OCI.image.index.v1+JSON; charset=UTF-8"] {
            let (source, target) = pair(&index).await;
            let answer = reply(200, &[("content-type", kind)], &text_of_index);
            source.on(Rule::new("*", "/manifests/1", answer).times(99));
            assert_eq!(copied(&source, &target).await.unwrap(), index.digest(), "{kind}");
            let there = client().manifest(&target.name("r:1")).await.unwrap().unwrap();
            assert_eq!(there.media_type(), OCI_INDEX);
        }
        let (source, target) = pair(&image).await;
        let docker = [("content-type", "application/vnd.docker.distribution.manifest.v2+json")];
        source.on(Rule::new("*", "/manifests/", reply(200, &docker, &text)).times(99));
        let error = copied(&source, &target).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Manifest(ManifestError::Contradiction { .. })), "{error}");
    });
}

#[test]
fn a_body_compressed_in_transit_is_unpacked_and_a_wrong_header_is_ignored() {
    run(async {
        let image = image("a", &[bytes("layer", 9_000), vec![7; 200_000]]);
        for path in ["/manifests/", "/blobs/"] {
            for fault in [Fault::Pack, Fault::Label] {
                let (source, target) = pair(&image).await;
                source.on(Rule::new("GET", path, fault.clone()).times(99));
                assert_eq!(copied(&source, &target).await.unwrap(), image.digest(), "{path} {fault:?}");
                assert_eq!(target.broken_tag(), None);
            }
        }
        // Also if it is only read into memory.
        let blob = bytes("layer", 9_000);
        let (source, _) = pair(&image).await;
        source.on(Rule::new("GET", "/blobs/", Fault::Pack));
        let descriptor = registry::Descriptor::new("x", Digest::of(&blob), 9_000);
        assert_eq!(registry::blobs::bytes(&client(), &source.name("r"), &descriptor).await.unwrap(), blob);
    });
}

#[test]
fn a_web_page_is_not_a_registry() {
    run(async {
        let image = image("a", &[bytes("l", 10)]);
        let page = "<!doctype html><p>Please log in</p>";
        for (status, body) in [(200, page), (201, "<html></html>"), (200, "Please log in")] {
            let (source, target) = pair(&image).await;
            target.on(Rule::new("*", "", reply(status, &[("content-type", "text/html")], body)).times(99));
            let error = copied(&source, &target).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Page { .. }), "{status}: {error}");
            assert_eq!(target.log.count("PUT manifests") + target.log.count("POST uploads"), 0);
        }
        for status in [401, 403, 451] {
            let (source, target) = pair(&image).await;
            let html = [("content-type", "text/html")];
            source.on(Rule::new("*", "", reply(status, &html, page)).times(99));
            let error = copied(&source, &target).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Page { .. }), "{status}: {error}");
        }
        let (source, target) = pair(&image).await;
        source.on(Rule::new("*", "", reply(407, &[], page)).times(99));
        let error = copied(&source, &target).await.unwrap_err();
        let ErrorKind::NoConnection { why: NoConnection::ProxyLogin, .. } = error.kind() else {
            panic!("{error}");
        };
        assert_eq!(source.log.fired(), 1, "a proxy that wants a login is not asked again");
    });
}

/// Two platforms with an attestation each, and a third without; the source lacks the attestations.
fn without_attestations() -> (TestImage, [Digest; 2]) {
    let index = index(&[
        (Some("linux/amd64"), image("amd64", &[bytes("a", 100)])),
        (None, image("attests amd64", &[bytes("aa", 50)])),
        (Some("linux/arm64"), image("arm64", &[bytes("b", 100)])),
        (None, image("attests arm64", &[bytes("bb", 50)])),
        (Some("linux/s390x"), image("s390x", &[bytes("c", 100)])),
    ]);
    let gone = [index.children[1].digest(), index.children[3].digest()];
    (index, gone)
}

#[test]
fn attestations_missing_at_the_source_are_omitted_with_a_warning_or_named() {
    run(async {
        let (index, gone) = without_attestations();
        let (source, target) = pair(&index).await;
        source.store(|store| {
            for digest in gone {
                store.repository("r").manifests.remove(&digest);
            }
        });
        let job = |platforms, tag: &str| Job {
            platforms,
            ..Job::new(source.name("r:1"), target.name("r").with_tag(tag).unwrap())
        };
        let mirror = Mirror::new(client());
        let one = copy(&mirror, job(only(&["linux/amd64"]), "one")).await.unwrap();
        assert_eq!((one.digest, one.warnings.len()), (index.children[0].digest(), 0));
        let two = only(&["linux/amd64", "linux/arm64"]);
        let copied = copy(&mirror, job(two.clone(), "two")).await.unwrap();
        assert!(copied.warnings.iter().zip(gone).all(|(line, gone)| line.contains(&gone.to_string())));
        assert_eq!(copied.warnings.len(), 2);
        assert_eq!(target.broken_tag(), None);
        let manifest = client().manifest(&target.name("r:two")).await.unwrap().unwrap();
        assert_eq!(manifest.index().unwrap().manifests.len(), 2);
        whole(&mirror, &target.name("r:two"), copied.digest).await;
        // This is remembered: nothing is read again.
        assert!(copy(&mirror, job(two.clone(), "two")).await.unwrap().was_up_to_date);
        assert!(copy(&Mirror::new(client()), job(two.clone(), "two")).await.unwrap().was_up_to_date);

        // If it is required it is named: by the lock, and by an index that is copied unchanged to a registry that requires its
        // parts.
        let locked = Job {
            expected: Some(
                index
                    .manifest
                    .trim(match &two {
                        Platforms::Only(platforms) => platforms,
                        Platforms::All => &[],
                    })
                    .unwrap()
                    .digest(),
            ),
            ..job(two, "locked")
        };
        for job in [locked, job(Platforms::All, "all")] {
            let error = copy(&mirror, job).await.unwrap_err();
            let ErrorKind::AttestationGone { digest } = error.kind() else { panic!("{error}") };
            assert!(gone.contains(digest));
        }
        // A missing image is not treated as a missing attestation.
        source.store(|store| store.repository("r").manifests.remove(&index.children[4].digest()));
        let job = Job { target: target.name("other:1"), ..job(only(&["linux/amd64", "linux/s390x"]), "x") };
        let error = copy(&mirror, job).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotFound { .. }), "{error}");
    });
}

#[test]
fn a_missing_attestation_is_recognised_in_every_form_of_reply() {
    run(async {
        let (index, gone) = without_attestations();
        let page = reply(404, &[("content-type", "text/html")], "<html>not found</html>");
        let named = ["BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN", "NAME_UNKNOWN"];
        let named = named.map(|code| Fault::error(404, code, "", Vec::new()));
        for no in named.into_iter().chain([page, Fault::status(404), Fault::status(410)]) {
            let (source, target) = pair(&index).await;
            for digest in gone {
                source.on(Rule::new("*", &digest.to_string(), no.clone()).times(99));
            }
            let job = Job {
                platforms: only(&["linux/amd64", "linux/arm64"]),
                ..Job::new(source.name("r:1"), target.name("r:1"))
            };
            let copied =
                copy(&Mirror::new(client()), job).await.unwrap_or_else(|error| panic!("{no:?}: {error}"));
            assert_eq!((copied.warnings.len(), target.broken_tag()), (2, None), "{no:?}");
        }
    });
}

#[test]
fn a_child_with_another_algorithm_that_is_not_selected_is_ignored() {
    run(async {
        let wanted = [image("amd64", &[bytes("a", 100)]), image("arm64", &[bytes("b", 100)])];
        let entry = |digest: String, architecture: &str, size: usize| {
            serde_json::json!({ "mediaType": images::OCI_IMAGE, "digest": digest, "size": size,
                "platform": { "os": "linux", "architecture": architecture } })
        };
        let mut entries = vec![entry(format!("sha512:{}", "a".repeat(128)), "s390x", 1)];
        for (child, architecture) in wanted.iter().zip(["amd64", "arm64"]) {
            entries.push(entry(child.digest().to_string(), architecture, child.manifest.bytes().len()));
        }
        let text = serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
        let manifest = Manifest::new(OCI_INDEX, text.to_string());
        let index = TestImage { manifest, children: wanted.to_vec(), blobs: Vec::new() };
        let (source, target) = pair(&index).await;
        let job = |platforms| Job { platforms, ..Job::new(source.name("r:1"), target.name("r:1")) };
        let mirror = Mirror::new(client());
        let one = copy(&mirror, job(only(&["linux/amd64"]))).await.unwrap();
        assert_eq!(one.digest, wanted[0].digest());
        let two = copy(&mirror, job(only(&["linux/amd64", "linux/arm64"]))).await.unwrap();
        whole(&mirror, &target.name("r:1"), two.digest).await;
        for platforms in [only(&["linux/s390x"]), Platforms::All] {
            let error = copy(&mirror, job(platforms)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Manifest(ManifestError::Algorithm(_))), "{error}");
        }
    });
}

#[test]
fn only_docker_hub_counts_pulls_and_its_last_reply_counts() {
    run(async {
        let image = image("a", &[]);
        let limits =
            [("retry-after", "1"), ("ratelimit-limit", "60;w=60"), ("ratelimit-remaining", "0;w=60")];
        let throttled = reply(429, &limits, "");
        let (source, target) = pair(&image).await;
        source.on(Rule::new("HEAD", "/manifests/", throttled.clone()));
        assert_eq!(copied(&source, &target).await.unwrap(), image.digest());
        // A mirror that is known to count: the limit of the 429 is replaced by the next reply.
        let (source, target) = pair(&image).await;
        let client = counting(&source);
        source.on(Rule::new("HEAD", "/manifests/", throttled));
        copy(&Mirror::new(client.clone()), Job::new(source.name("r:1"), target.name("r:1"))).await.unwrap();
        assert_eq!(client.rate_limit(&source.host()), None);
        source.quirks(|quirks| quirks.pulls_left = Some(5));
        client.head(&source.name("r:1")).await.unwrap();
        assert!(matches!(client.rate_limit(&source.host()), Some(RateLimit { remaining: 5, .. })));
        // The headers of other registries are ignored.
        let client = builder().build().unwrap();
        client.head(&source.name("r:1")).await.unwrap();
        assert_eq!(client.rate_limit(&source.host()), None);
    });
}

#[test]
fn an_immutable_tag_is_reported_once() {
    run(async {
        let (old, new) = (image("old", &[]), image("new", &[]));
        let refusals = [
            Fault::error(412, "PRECONDITION", "configured as immutable", Vec::new()),
            Fault::error(409, "TAG_EXISTS", "", Vec::new()),
        ];
        for no in refusals {
            let (source, target) = pair(&new).await;
            target.store(|store| store.seed("r", "1", &old));
            target.on(Rule::new("PUT", "/manifests/1", no).times(9));
            let error = copied(&source, &target).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TagImmutable { .. }), "{error}");
            assert_eq!(target.log.fired(), 1);
        }
    });
}

#[test]
fn impossible_sizes_are_an_error_and_not_a_panic() {
    run(async {
        for size in [u64::MAX, u64::MAX / 2 + 1, 1 << 63] {
            let layer = |name: &str| serde_json::json!({ "mediaType": "l", "digest": Digest::of(name.as_bytes()), "size": size });
            let text = serde_json::json!({
                "schemaVersion": 2, "mediaType": images::OCI_IMAGE, "config": layer("c"), "layers": [layer("a"), layer("b")]
            });
            let manifest = Manifest::new(images::OCI_IMAGE, text.to_string());
            let huge = TestImage { manifest, children: Vec::new(), blobs: Vec::new() };
            let (source, target) = pair(&huge).await;
            let plan = Mirror::new(client())
                .plan(vec![
                    Job::new(source.name("r:1"), target.name("r:1")),
                    Job::new(source.name("r:1"), target.name("s:1")),
                ])
                .await;
            assert_eq!((plan.unique_bytes(), plan.repository_bytes()), (u64::MAX, u64::MAX));
            copied(&source, &target).await.unwrap_err();
            assert_eq!(target.log.count("PUT manifests"), 0);
        }
    });
}
