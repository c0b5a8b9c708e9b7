//! An index with only the wanted platforms in it.

use std::collections::HashSet;

use serde_json::Value;
use serde_json::value::RawValue;

use super::media_type::OCI_INDEX;
use super::{Descriptor, Foreign, Index, Manifest, ManifestError};
use crate::digest::Digest;
use crate::names::Object;
use crate::platform::Platform;

/// The annotation by which a trimmed index names the index that it was made from.
pub const SOURCE_DIGEST_ANNOTATION: &str = "org.finos.htc-grid.source-digest";

impl Manifest {
    /// The descriptor of the first image for `platform`.
    ///
    /// # Errors
    /// When this is not an index, or has no such image.
    pub fn select(&self, platform: &Platform) -> Result<Descriptor, ManifestError> {
        self.index()?.select(platform)
    }

    /// The index with only `platforms` and their attestations: the source's media type and the kept descriptors' own
    /// bytes; an OCI index says by [`SOURCE_DIGEST_ANNOTATION`] what it was made from (docker's list has no annotations).
    /// If nothing is to be dropped, the index itself: its digest, and so its signatures, stay valid.
    ///
    /// # Errors
    /// When this is not an index, or lacks one of the platforms.
    pub fn trim(&self, platforms: &[Platform]) -> Result<Self, ManifestError> {
        self.index()?.trim(self, platforms)
    }

    /// The index without these manifests.
    ///
    /// # Errors
    /// When this is not an index.
    pub(crate) fn without(&self, gone: &[Digest]) -> Result<Self, ManifestError> {
        let index = self.index()?;
        let stays = |position: &usize| {
            index.manifests.get(*position).is_some_and(|manifest| !gone.contains(&manifest.digest))
        };
        let kept: Vec<usize> = (0..index.manifests.len()).filter(stays).collect();
        with_entries(self, &index, &kept)
    }
}

impl Index {
    /// [`Manifest::select`], with the platforms that were read from configurations.
    ///
    /// # Errors
    /// It has no such image.
    pub fn select(&self, platform: &Platform) -> Result<Descriptor, ManifestError> {
        match self.find(platform).and_then(|position| self.manifests.get(position)) {
            Some(descriptor) => Ok(descriptor.clone()),
            None => Err(missing(std::slice::from_ref(platform), self)),
        }
    }

    /// [`Manifest::trim`] of the manifest that this index was read from, with the platforms that were read from configurations.
    ///
    /// # Errors
    /// It lacks one of the platforms.
    pub fn trim(&self, source: &Manifest, platforms: &[Platform]) -> Result<Manifest, ManifestError> {
        with_entries(source, self, &keep(self, platforms)?)
    }

    /// The position of the first image that the index names for `platform`, otherwise of the first by its configuration.
    pub(crate) fn find(&self, platform: &Platform) -> Option<usize> {
        let said = self.manifests.iter().position(|descriptor| {
            descriptor.attests().is_none()
                && descriptor.platform.as_ref().is_some_and(|offered| offered.matches(platform))
        });
        let told =
            || self.told.iter().find(|(_, told)| told.matches(platform)).map(|(position, _)| *position);
        said.or_else(told)
    }
}

/// The index with only these of its manifests; itself, if these are all.
fn with_entries(source: &Manifest, index: &Index, kept: &[usize]) -> Result<Manifest, ManifestError> {
    if kept.len() == index.len() {
        return Ok(source.clone());
    }
    let kept: Vec<usize> = kept.iter().filter_map(|&at| index.positions.get(at).copied()).collect();
    let text = rewrite(source, &kept).map_err(|error| ManifestError::Json(error.to_string()))?;
    Ok(Manifest::new(source.media_type(), text))
}

fn rewrite(source: &Manifest, kept: &[usize]) -> Result<String, serde_json::Error> {
    let Object(fields) = serde_json::from_slice(source.bytes())?;
    let mut annotations = None;
    let mut out = Vec::new();
    for (name, value) in fields {
        match name.as_str() {
            "manifests" => out.push(format!(r#""manifests":[{}]"#, pick(value, kept)?)),
            "annotations" => annotations = Some(value),
            // ECR requires it, and readers look for it first: it is put in front below.
            "mediaType" => {}
            other => out.push(format!("{}:{value}", serde_json::to_string(other)?)),
        }
    }
    out.insert(0, format!(r#""mediaType":{}"#, serde_json::to_string(source.media_type())?));
    if source.media_type() == OCI_INDEX {
        out.push(format!(r#""annotations":{}"#, annotated(annotations, source.digest())?));
    }
    Ok(format!("{{{}}}", out.join(",")))
}

/// The kept descriptors' own bytes.
fn pick(manifests: &RawValue, kept: &[usize]) -> Result<String, serde_json::Error> {
    let all: Vec<&RawValue> = serde_json::from_str(manifests.get())?;
    let kept: Vec<&str> =
        kept.iter().filter_map(|&position| all.get(position)).map(|value| value.get()).collect();
    Ok(kept.join(","))
}

fn annotated(annotations: Option<&RawValue>, source: Digest) -> Result<String, serde_json::Error> {
    // Not every value is a text as it should be; it is kept as it is.
    let mut map: std::collections::BTreeMap<String, Value> = match annotations {
        Some(value) => serde_json::from_str::<Option<_>>(value.get())?.unwrap_or_default(),
        None => std::collections::BTreeMap::new(),
    };
    // An index that was trimmed before keeps its first origin: that is the one that upstream signed.
    map.entry(SOURCE_DIGEST_ANNOTATION.to_owned()).or_insert_with(|| source.to_string().into());
    serde_json::to_string(&map)
}

/// Positions of the wanted platforms' images and of the attestations about them, in the index's order.
fn keep(index: &Index, platforms: &[Platform]) -> Result<Vec<usize>, ManifestError> {
    let manifests = &index.manifests;
    let found: Vec<Option<usize>> = platforms.iter().map(|platform| index.find(platform)).collect();
    if found.contains(&None) {
        let absent = platforms.iter().zip(&found).filter(|(_, found)| found.is_none());
        let absent: Vec<Platform> = absent.map(|(platform, _)| platform.clone()).collect();
        return Err(missing(&absent, index));
    }
    let images: HashSet<usize> = found.into_iter().flatten().collect();
    let digests: HashSet<Digest> =
        images.iter().filter_map(|&position| manifests.get(position)).map(|image| image.digest).collect();
    let attests =
        |descriptor: &Descriptor| descriptor.attests().is_some_and(|subject| digests.contains(&subject));
    let positions = manifests.iter().enumerate();
    Ok(positions
        .filter(|(position, descriptor)| images.contains(position) || attests(descriptor))
        .map(|(position, _)| position)
        .collect())
}

fn missing(platforms: &[Platform], index: &Index) -> ManifestError {
    let is_wanted = |foreign: &&Foreign| {
        let offered = foreign.platform.as_ref();
        offered.is_some_and(|offered| platforms.iter().any(|wanted| offered.matches(wanted)))
    };
    if let Some(foreign) = index.foreign.iter().find(is_wanted) {
        return foreign.error();
    }
    let list = |platforms: Vec<String>| platforms.join(", ");
    let images = index.manifests.iter().filter(|descriptor| descriptor.attests().is_none());
    let said = images.filter_map(|descriptor| descriptor.platform.as_ref());
    let told = index.told.iter().map(|(_, platform)| platform);
    let mut available: Vec<String> = said.chain(told).map(ToString::to_string).take(50).collect();
    available.dedup();
    if available.is_empty() {
        available.push("no platform at all".to_owned());
    }
    ManifestError::Platform {
        missing: list(platforms.iter().map(ToString::to_string).collect()),
        available: list(available),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

    /// With odd spacing, so that a re-serialised descriptor would differ from the original bytes.
    fn descriptor(name: &str, architecture: &str) -> String {
        format!(
            r#"{{ "digest" : "{}", "size":7,  "mediaType":"m", "platform":{{"architecture":"{architecture}","os":"linux"}},"x":1.0}}"#,
            Digest::of(name.as_bytes())
        )
    }

    fn attestation(name: &str) -> String {
        format!(
            r#"{{"mediaType":"m","digest":"{}","size":3,"platform":{{"architecture":"unknown","os":"unknown"}},"annotations":{{"vnd.docker.reference.digest":"{}","vnd.docker.reference.type":"attestation-manifest"}}}}"#,
            Digest::of(format!("att-{name}").as_bytes()),
            Digest::of(name.as_bytes())
        )
    }

    fn index(media_type: &str) -> Manifest {
        let manifests =
            [descriptor("a", "amd64"), descriptor("b", "arm64"), attestation("a"), attestation("b")]
                .join(" ,");
        Manifest::new(
            media_type,
            format!(r#"{{ "schemaVersion": 2, "annotations":{{"k":"v"}}, "manifests": [{manifests}] }}"#),
        )
    }

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn a_trimmed_index_keeps_bytes_and_drops_foreign_attestations() {
        let source = index(OCI_INDEX);
        let trimmed = source.trim(&[platform("linux/arm64/v8")]).unwrap();
        let expected = format!(
            r#"{{"mediaType":"{OCI_INDEX}","schemaVersion":2,"manifests":[{},{}],"annotations":{{"k":"v","{SOURCE_DIGEST_ANNOTATION}":"{}"}}}}"#,
            descriptor("b", "arm64"),
            attestation("b"),
            source.digest()
        );
        assert_eq!(std::str::from_utf8(trimmed.bytes()).unwrap(), expected);
        assert_eq!(trimmed.media_type(), OCI_INDEX);
    }

    #[test]
    fn dockers_list_gets_no_annotation() {
        let trimmed = index(DOCKER_LIST).trim(&[platform("linux/amd64")]).unwrap();
        assert_eq!(trimmed.media_type(), DOCKER_LIST);
        assert!(!std::str::from_utf8(trimmed.bytes()).unwrap().contains(SOURCE_DIGEST_ANNOTATION));
    }

    #[test]
    fn trimming_nothing_changes_nothing() {
        let source = index(OCI_INDEX);
        assert_eq!(source.trim(&[platform("linux/arm64"), platform("linux/amd64")]).unwrap(), source);
    }

    #[test]
    fn a_missing_platform_is_named_with_the_existing_ones() {
        let error = index(OCI_INDEX).trim(&[platform("linux/amd64"), platform("linux/s390x")]).unwrap_err();
        assert_eq!(error.to_string(), "no linux/s390x: it has linux/amd64, linux/arm64");
        assert!(index(OCI_INDEX).select(&platform("unknown/unknown")).is_err(), "an attestation is no image");
    }

    #[test]
    fn one_platform_is_selected_by_its_descriptor() {
        let selected = index(OCI_INDEX).select(&platform("linux/arm64")).unwrap();
        assert_eq!(selected.digest, Digest::of(b"b"));
    }
}
