//! `index.json`: the manifests of a layout and their names.

pub(crate) mod document;

use std::collections::{BTreeMap, HashMap, HashSet};

use registry::Digest;
use serde::Deserialize;
use serde_json::{Map, Value};

use document::{Entry, REF_NAME};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A named image of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The repository, without a registry.
    pub repository: String,
    /// The tag.
    pub tag: String,
    /// The manifest.
    pub digest: Digest,
}

/// The media types of manifests, from their descriptors.
#[derive(Debug, Default)]
pub(crate) struct MediaTypes(HashMap<Digest, String>);

impl MediaTypes {
    /// The media type in a manifest's descriptor, if it has one here.
    pub(crate) fn get(&self, digest: Digest) -> Option<&str> {
        self.0.get(&digest).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Stores a manifest's media type.
    pub(crate) fn note(&mut self, digest: Digest, media_type: &str) {
        self.0.insert(digest, media_type.to_owned());
    }
}

/// The entries, and the media types of the manifests below them.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
    /// Positions by name.
    names: HashMap<(String, String), usize>,
    /// Positions of referrers by their subjects.
    about: HashMap<Digest, Vec<usize>>,
    pub(crate) types: MediaTypes,
}

/// The fields of a manifest that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestFields {
    media_type: Option<String>,
    manifests: Option<Vec<Value>>,
    subject: Option<Subject>,
    artifact_type: Option<String>,
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<String>,
}

/// A manifest's media type from its content: OCI manifests need not name it.
pub(crate) fn media_type(bytes: &[u8]) -> String {
    let said = serde_json::from_slice::<ManifestFields>(bytes).ok();
    let own = said.as_ref().and_then(|said| said.media_type.clone()).filter(|own| !own.is_empty());
    let is_index = said.is_some_and(|said| said.manifests.is_some());
    own.unwrap_or_else(|| if is_index { OCI_INDEX } else { OCI_IMAGE }.to_owned())
}

impl Index {
    /// The index without missing manifests.
    pub(crate) fn keeping(self, is_there: impl Fn(Digest) -> bool) -> Self {
        let mut index = Self { types: self.types, ..Self::default() };
        let mut names: HashMap<usize, Vec<(String, String)>> = HashMap::new();
        for (name, at) in self.names {
            names.entry(at).or_default().push(name);
        }
        for (at, entry) in self.entries.into_iter().enumerate().filter(|(_, entry)| is_there(entry.digest)) {
            index.entries.push(entry);
            let now = index.entries.len() - 1;
            index.names.extend(names.remove(&at).unwrap_or_default().into_iter().map(|name| (name, now)));
        }
        index
    }

    pub(crate) fn digests(&self) -> Vec<Digest> {
        self.entries.iter().map(|entry| entry.digest).collect()
    }

    pub(crate) fn images(&self) -> Vec<Image> {
        let one = |((repository, tag), at): (&(String, String), &usize)| {
            let digest = self.entries[*at].digest;
            Image { repository: repository.clone(), tag: tag.clone(), digest }
        };
        let mut found: Vec<Image> = self.names.iter().map(one).collect();
        found.sort_by(|a, b| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)));
        found
    }

    pub(crate) fn unnamed(&self) -> Vec<Digest> {
        let known: HashSet<usize> =
            self.names.values().chain(self.about.values().flatten()).copied().collect();
        let unnamed = (0..self.entries.len()).filter(|at| !known.contains(at));
        unnamed.map(|at| self.entries[at].digest).collect()
    }

    pub(crate) fn name(&mut self, digest: Digest, name: &str) {
        let at = self.entries.iter().position(|entry| entry.digest == digest);
        if let (Some(at), Some((repository, tag))) = (at, name.rsplit_once(':')) {
            self.names.insert((repository.to_owned(), tag.to_owned()), at);
        }
    }

    pub(crate) fn get(&self, repository: &str, tag: &str) -> Option<Digest> {
        let at = self.names.get(&(repository.to_owned(), tag.to_owned()))?;
        Some(self.entries[*at].digest)
    }

    /// Adds a manifest under a name.
    pub(crate) fn put(
        &mut self,
        repository: &str,
        tag: &str,
        media_type: &str,
        (digest, bytes): (Digest, &[u8]),
    ) {
        let annotations = BTreeMap::from([(REF_NAME.to_owned(), format!("{repository}:{tag}"))]);
        let name = (repository.to_owned(), tag.to_owned());
        let entry = Entry {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len() as u64,
            annotations,
            more: Map::new(),
        };
        match self.names.get(&name) {
            Some(at) => self.entries[*at] = entry,
            None => {
                self.entries.push(entry);
                self.names.insert(name, self.entries.len() - 1);
            }
        }
        self.types.note(digest, media_type);
    }

    /// Adds a manifest that has a subject, as the specification requires.
    pub(crate) fn refer(&mut self, media_type: &str, (digest, bytes): (Digest, &[u8])) {
        let is_about =
            serde_json::from_slice::<ManifestFields>(bytes).is_ok_and(|said| said.subject.is_some());
        if !is_about || self.entries.iter().any(|entry| entry.digest == digest) {
            return;
        }
        self.entries.push(Entry {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
            more: Map::new(),
        });
        self.learn(digest, bytes);
    }

    /// Stores the subject of a listed manifest.
    pub(crate) fn learn(&mut self, digest: Digest, bytes: &[u8]) {
        let Ok(said) = serde_json::from_slice::<ManifestFields>(bytes) else { return };
        let Some(subject) = said.subject else { return };
        let Some(at) = self.entries.iter().position(|entry| entry.digest == digest) else { return };
        let kind = said.artifact_type.or_else(|| said.config.and_then(|config| config.media_type));
        if let Some(kind) = kind {
            self.entries[at].more.entry("artifactType").or_insert(Value::String(kind));
        }
        let about = self.about.entry(subject.digest).or_default();
        if !about.contains(&at) {
            about.push(at);
        }
    }

    /// Descriptors of a manifest's referrers.
    pub(crate) fn referrers(&self, digest: Digest) -> Vec<Value> {
        let found = self.about.get(&digest).into_iter().flatten();
        found.filter_map(|at| serde_json::to_value(&self.entries[*at]).ok()).collect()
    }

    /// All tags of a repository, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let own = self.names.keys().filter(|(name, _)| name == repository);
        let mut tags: Vec<String> = own.map(|(_, tag)| tag.clone()).collect();
        tags.sort_unstable();
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(annotations: &str, ours: bool) -> Vec<String> {
        let digest = Digest::of(b"x");
        let mark = if ours { r#","annotations":{"io.htc-grid.export":"1"}"# } else { "" };
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{digest}","size":1,"annotations":{{{annotations}}}}}]{mark}}}"#
        );
        let index = document::parse(text.as_bytes()).unwrap();
        index.images().into_iter().map(|image| format!("{} {}", image.repository, image.tag)).collect()
    }

    #[test]
    fn a_name_is_a_repository_and_a_tag_in_layouts_of_every_tool() {
        let by_ref = |name: &str| format!(r#""org.opencontainers.image.ref.name":"{name}""#);
        assert_eq!(names(&by_ref("kedacore/keda:2.11.2"), false), ["kedacore/keda 2.11.2"]);
        assert_eq!(names(&by_ref("ghcr.io/kedacore/keda:2.11.2"), false), ["kedacore/keda 2.11.2"]);
        assert_eq!(names(&by_ref("docker.io/library/redis:7"), false), ["redis 7"]);
        assert_eq!(names(&by_ref("host:5000/a:1@sha256:0"), false), ["a 1"]);
        assert_eq!(names(&by_ref("a.b/c:1"), true), ["a.b/c 1"], "our names begin with no registry");
        for none in ["latest", "7.85.0", ""] {
            assert_eq!(names(&by_ref(none), false), Vec::<String>::new(), "{none}");
        }
        let both = format!(r#"{},"io.containerd.image.name":"docker.io/grafana/grafana:9""#, by_ref("9"));
        assert_eq!(names(&both, false), ["grafana/grafana 9"]);
    }

    #[test]
    fn a_manifests_type_is_declared_or_detected() {
        assert_eq!(media_type(br#"{"mediaType":"x","manifests":[]}"#), "x");
        assert_eq!(media_type(br#"{"manifests":[]}"#), OCI_INDEX);
        assert_eq!(media_type(br#"{"config":{},"layers":[]}"#), OCI_IMAGE);
        assert_eq!(media_type(b"?"), OCI_IMAGE);
    }

    #[test]
    fn an_ambiguous_index_is_refused() {
        for text in [
            r#"{"schemaVersion":2,"manifests":[],"Manifests":[]}"#,
            r#"{"schemaVersion":2,"manifests":[{"digest":"x","Annotations":{}}]}"#,
        ] {
            let error = document::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("some readers take the field"), "{error}");
        }
    }

    #[test]
    fn missing_images_are_not_listed_and_other_tools_annotations_are_kept() {
        let (here, gone) = (Digest::of(b"here"), Digest::of(b"gone"));
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[
            {{"mediaType":"m","digest":"{gone}","size":1,"annotations":{{"org.opencontainers.image.ref.name":"a:1"}}}},
            {{"mediaType":"m","digest":"{here}","size":1,"platform":{{"os":"x"}},"annotations":{{"org.opencontainers.image.ref.name":"b:1"}}}}]}}"#
        );
        let index = document::parse(text.as_bytes()).unwrap().keeping(|digest| digest == here);
        assert_eq!((index.get("a", "1"), index.get("b", "1")), (None, Some(here)));
        let again: Value = serde_json::from_str(&document::text(&index)).unwrap();
        assert_eq!(again["manifests"][0]["platform"]["os"], "x");
        assert_eq!(again["manifests"].as_array().unwrap().len(), 1);
    }
}
