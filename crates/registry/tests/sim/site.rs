//! A registry's replies.

use fastrand::Rng;
use http::Method;
use registry::mirror::Mounts;
use registry::{Digest, Manifest};
use std::collections::BTreeMap;
use tokio::time::Instant;

use crate::asked::{Answer, Asked, parts};
use crate::logins::Logins;
use crate::plan::Ways;
use crate::store::{Store, Upload};

/// A registry with its token service and its blob store.
pub struct Site {
    /// `source` or `target`.
    pub name: &'static str,
    pub ways: Ways,
    pub store: Store,
    pub logins: Logins,
    uploads: usize,
}

impl Site {
    pub fn new(name: &'static str, ways: Ways) -> Self {
        Self { name, logins: Logins::of(name, ways.auth), ways, store: Store::default(), uploads: 0 }
    }

    pub fn host(&self) -> String {
        format!("{}.example", self.name)
    }

    /// The reply, and the client's violation, if any.
    pub fn answer(&mut self, asked: &Asked, random: &mut Rng) -> Result<Answer, String> {
        let host = asked.url.host_str().unwrap_or_default();
        if host.starts_with("auth.") {
            return Ok(self.logins.token(asked));
        }
        if host.starts_with("blobs.") {
            return match asked.method {
                Method::GET => Ok(self.blob_bytes(asked)),
                _ => self.finish_upload(asked, random),
            };
        }
        if let Some(refusal) = self.logins.refusal(asked) {
            return Ok(refusal);
        }
        let (_, kind, name) = parts(asked.url.path());
        match (asked.method.as_str(), kind) {
            ("HEAD" | "GET", "manifests") => Ok(self.manifest(asked)),
            ("PUT", "manifests") => self.put_manifest(asked, random),
            ("HEAD", "blobs") => Ok(self.has_blob(asked)),
            ("GET", "blobs") if self.ways.elsewhere => {
                let (repository, _, digest) = parts(asked.url.path());
                let there =
                    format!("https://blobs.{}/v2/{repository}/blobs/{digest}?signature=1", self.host());
                Ok(Answer::new(307).with("location", there))
            }
            ("GET", "blobs") => Ok(self.blob_bytes(asked)),
            ("POST", "uploads") => self.start_upload(asked, random),
            ("PUT", "uploads") => self.finish_upload(asked, random),
            ("GET", "referrers") => Ok(self.referrers(asked)),
            ("GET", "tags") => Ok(self.tags(asked)),
            ("GET", "") if asked.url.path() == "/v2/" => Ok(Answer::new(200)),
            (method, _) => Err(format!("nobody knows {method} {name}")),
        }
    }

    fn seen_from(&self, random: &mut Rng) -> Instant {
        Instant::now() + self.ways.lag.mul_f64(random.f64())
    }

    fn manifest(&self, asked: &Asked) -> Answer {
        let (repository, _, identifier) = parts(asked.url.path());
        match self.store.seen(repository, identifier) {
            None => Answer::error(404, "MANIFEST_UNKNOWN", ""),
            Some(manifest) => Answer::new(200)
                .with("content-type", manifest.media_type())
                .with("docker-content-digest", manifest.digest())
                .with("content-length", manifest.bytes().len())
                .body(manifest.bytes().clone()),
        }
    }

    fn put_manifest(&mut self, asked: &Asked, random: &mut Rng) -> Result<Answer, String> {
        let (repository, _, identifier) = parts(asked.url.path());
        let media_type =
            asked.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let manifest = Manifest::new(media_type, asked.body.clone());
        let digest = manifest.digest();
        if identifier.parse().is_ok_and(|named: Digest| named != digest) {
            return Err(format!("{digest} under the name {identifier}"));
        }
        let is_list = identifier.starts_with("sha256-") && manifest.index().is_ok();
        if self.ways.is_strict && !is_list {
            let lacking = self.store.lacking(repository, &manifest, Some(Instant::now()));
            if let Some(part) = lacking.first() {
                return Ok(Answer::error(404, "MANIFEST_BLOB_UNKNOWN", &part.to_string()));
            }
        }
        let seen = self.seen_from(random);
        let lost = self.store.lost_referrer(repository, identifier, &manifest);
        self.store.repository(repository).manifests.entry(digest).or_insert((manifest, seen));
        if identifier.parse::<Digest>().is_err() {
            self.store.tag(repository, identifier, digest, seen);
        }
        match lost.or_else(|| self.store.broken(repository, identifier)) {
            Some(what) => Err(what),
            None => Ok(Answer::new(201).with("docker-content-digest", digest)),
        }
    }

    fn has_blob(&self, asked: &Asked) -> Answer {
        let (repository, _, digest) = parts(asked.url.path());
        let digest = digest.parse::<Digest>().ok();
        let seen = digest.and_then(|digest| self.store.repositories.get(repository)?.blobs.get(&digest));
        match seen {
            Some(seen) if *seen <= Instant::now() => Answer::new(200),
            _ => Answer::new(404),
        }
    }

    fn blob_bytes(&self, asked: &Asked) -> Answer {
        let (.., digest) = parts(asked.url.path());
        // Content of another repository cannot be read through this one.
        let is_there = self.has_blob(asked).status == 200;
        let digest = digest.parse::<Digest>().ok().filter(|_| is_there);
        let content = digest.and_then(|digest| self.store.contents.get(&digest));
        let Some(content) = content else { return Answer::error(404, "BLOB_UNKNOWN", "") };
        let range = asked.headers.get("range").and_then(|range| range.to_str().ok());
        let start =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match start.filter(|_| self.ways.knows_ranges) {
            Some(start) if start < content.len() => Answer::new(206)
                .with("content-range", format!("bytes {start}-{}/{}", content.len() - 1, content.len()))
                .body(content.slice(start..)),
            Some(_) => Answer::new(416),
            None => Answer::new(200).body(content.clone()),
        }
    }

    fn start_upload(&mut self, asked: &Asked, random: &mut Rng) -> Result<Answer, String> {
        let (repository, ..) = parts(asked.url.path());
        let query: BTreeMap<String, String> = asked.url.query_pairs().into_owned().collect();
        if let (Some(digest), Some(from)) =
            (query.get("mount").and_then(|text| text.parse().ok()), query.get("from"))
        {
            let is_committed = self.store.is_committed(from, digest);
            if self.ways.mounts == Mounts::Committed && from != repository && !is_committed {
                return Err(format!("a mount of {digest} from {from}, where no manifest names it"));
            }
            let now = Instant::now();
            let blobs = self.store.repositories.get(from).map(|from| &from.blobs);
            let has = blobs.and_then(|blobs| blobs.get(&digest)).is_some_and(|seen| *seen <= now);
            if has && self.ways.mounts != Mounts::Never {
                let seen = self.seen_from(random);
                self.store.repository(repository).blobs.entry(digest).or_insert(seen);
                return Ok(Answer::new(201));
            }
            if let Some(status) = self.ways.mount_error {
                return Ok(Answer::error(status, "UNSUPPORTED", "no mounts here"));
            }
        }
        self.uploads += 1;
        let id = format!("upload-{}", self.uploads);
        self.store.uploads.insert(id.clone(), Upload { repository: repository.to_owned(), is_used: false });
        let path = format!("/v2/{repository}/blobs/uploads/{id}?_state=x");
        let location =
            if self.ways.elsewhere { format!("https://blobs.{}{path}", self.host()) } else { path };
        Ok(Answer::new(202).with("location", location))
    }

    fn finish_upload(&mut self, asked: &Asked, random: &mut Rng) -> Result<Answer, String> {
        let (_, _, id) = parts(asked.url.path());
        let seen = self.seen_from(random);
        let Some(upload) = self.store.uploads.get_mut(id) else {
            return Ok(Answer::error(404, "BLOB_UPLOAD_UNKNOWN", ""));
        };
        if std::mem::replace(&mut upload.is_used, true) {
            return Err(format!("{id} is sent to again"));
        }
        let repository = upload.repository.clone();
        let digest = asked.url.query_pairs().find(|(name, _)| name == "digest");
        let Some(digest) = digest.and_then(|(_, digest)| digest.parse::<Digest>().ok()) else {
            return Ok(Answer::error(400, "DIGEST_INVALID", ""));
        };
        if Digest::of(&asked.body) != digest {
            if self.ways.is_strict {
                return Ok(Answer::error(400, "DIGEST_INVALID", ""));
            }
            return Err(format!("other bytes than {digest} under its name"));
        }
        self.store.contents.insert(digest, asked.body.clone());
        self.store.repository(&repository).blobs.entry(digest).or_insert(seen);
        Ok(Answer::new(201).with("docker-content-digest", digest))
    }

    /// A repository without a tag does not exist, as in docker-registry, whatever else it contains.
    fn tags(&self, asked: &Asked) -> Answer {
        let (repository, ..) = parts(asked.url.path());
        let all = self.store.repositories.get(repository).into_iter().flat_map(|found| found.tags.keys());
        let tags: Vec<&String> = all.filter(|tag| self.store.seen(repository, tag).is_some()).collect();
        if tags.is_empty() {
            return Answer::error(404, "NAME_UNKNOWN", "");
        }
        let body = serde_json::json!({ "name": repository, "tags": tags });
        Answer::new(200).body(body.to_string())
    }

    fn referrers(&self, asked: &Asked) -> Answer {
        let (repository, _, subject) = parts(asked.url.path());
        if !self.ways.has_referrers {
            return Answer::new(404).body("404 page not found");
        }
        let now = Instant::now();
        let all =
            self.store.repositories.get(repository).into_iter().flat_map(|found| found.manifests.values());
        let about = all.filter(|(manifest, seen)| {
            let named = manifest.image().ok().and_then(|image| image.subject);
            *seen <= now && named.is_some_and(|named| named.digest.to_string() == subject)
        });
        let list: Vec<_> = about.map(|(manifest, _)| manifest.descriptor()).collect();
        let body = serde_json::json!({ "schemaVersion": 2, "mediaType": crate::images::OCI_INDEX, "manifests": list });
        Answer::new(200).body(body.to_string())
    }
}
