//! Names of images: `registry/repository:tag@digest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError, excerpt};

/// The registry of a name without one.
pub const DOCKER_HUB: &str = "docker.io";

/// Longest tag that the distribution specification allows.
pub const MAX_TAG: usize = 128;

/// Longest repository name that docker's grammar allows.
const MAX_REPOSITORY: usize = 255;

/// An image's name, in the grammar of
/// [distribution/reference](https://github.com/distribution/reference/blob/main/reference.go), Docker Hub's defaults
/// filled in: `curl:7` is `docker.io/library/curl:7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing was given.
    #[error("an image name is empty")]
    Empty,
    /// The registry is not `host` or `host:port`.
    #[error("`{0}` is not a registry: expected a host, or host:port")]
    Registry(String),
    /// The repository has characters that no registry accepts.
    #[error("`{0}` is not a repository: it must be lower-case letters and digits, separated by . _ - and /")]
    Repository(String),
    /// The tag has characters that no registry accepts, or is too long.
    #[error("`{0}` is not a tag: expected up to {MAX_TAG} of A-Z a-z 0-9 _ . -, the first neither . nor -")]
    Tag(String),
    /// The part behind `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// The repository `repository` at `registry`, without tag or digest.
    ///
    /// # Errors
    /// When one of them breaks the grammar.
    pub fn new(registry: &str, repository: &str) -> Result<Self, ReferenceError> {
        let registry = registry_name(registry);
        if !is_registry(&registry) {
            return Err(ReferenceError::Registry(excerpt(&registry)));
        }
        let repository = match repository.contains('/') || registry != DOCKER_HUB {
            true => repository.to_owned(),
            false => format!("library/{repository}"),
        };
        if !is_repository(&repository) {
            return Err(ReferenceError::Repository(excerpt(&repository)));
        }
        Ok(Self { registry, repository, tag: None, digest: None })
    }

    /// The same repository with `tag` and no digest.
    ///
    /// # Errors
    /// When `tag` breaks the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag(excerpt(tag)));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with `digest` and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The host, with its port if one was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given. It outranks the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What a registry is asked for: the digest, otherwise the tag, otherwise `latest`.
    pub fn identifier(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let (registry, rest) = split_registry(name);
        // The registry's port is cut off already: what follows a colon now is a tag.
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let reference = Self::new(registry, repository)?;
        let reference = match tag {
            Some(tag) => reference.with_tag(tag)?,
            None => reference,
        };
        Ok(Self { digest, ..reference })
    }
}

/// The one spelling of a registry's name: hosts are compared without regard to case, and Docker Hub has one name. A single word
/// stays as it is, because in an image's name only its capitals say that it is a host.
pub fn registry_name(host: &str) -> String {
    let lower = host.to_ascii_lowercase();
    match lower.as_str() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        "localhost" => lower,
        _ if lower.contains(['.', ':']) => lower,
        _ => host.to_owned(),
    }
}

/// Docker's rule: the first component is a registry if it has a dot or a colon, is `localhost`, or has upper case.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.contains(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (DOCKER_HUB, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            match (rest, rest.strip_prefix(':')) {
                ("", _) => ("v6", None),
                (_, Some(port)) => ("v6", Some(port)),
                _ => return false,
            }
        }
        Some(_) => return false,
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // No sign and no zeros in front.
    let port_fits =
        port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port));
    host.len() <= 253 && host.split('.').all(label) && port_fits
}

fn is_repository(text: &str) -> bool {
    text.len() <= MAX_REPOSITORY && text.split('/').all(is_component)
}

/// `[a-z0-9]+` joined by one of `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let bytes = text.as_bytes();
    let ends_fit = bytes.first().copied().is_some_and(is_word) && bytes.last().copied().is_some_and(is_word);
    ends_fit
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| between.is_empty() || is_separator(between))
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    text.len() <= MAX_TAG
        && bytes.first().copied().is_some_and(is_word)
        && bytes.iter().all(|&byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| panic!("{text}: {error}"), |name| name.to_string())
    }

    #[test]
    fn defaults_are_docker_hubs() {
        for (text, name) in [
            ("curl:7", "docker.io/library/curl:7"),
            ("busybox", "docker.io/library/busybox"),
            ("grafana/grafana:10.1.1", "docker.io/grafana/grafana:10.1.1"),
            ("index.docker.io/curl", "docker.io/library/curl"),
            ("ghcr.io/kedacore/keda:2.11.2", "ghcr.io/kedacore/keda:2.11.2"),
            ("host:5000/a/b:tag", "host:5000/a/b:tag"),
            ("localhost/a", "localhost/a"),
            ("[::1]:5000/a:b", "[::1]:5000/a:b"),
            ("HOST/a", "HOST/a"),
            ("Docker.IO/curl:T", "docker.io/library/curl:T"),
            ("INDEX.docker.io/curl", "docker.io/library/curl"),
            ("Quay.IO/a/b:1", "quay.io/a/b:1"),
            ("Host:5000/a", "host:5000/a"),
            ("LocalHost/a", "localhost/a"),
            ("[FE80::1]:5000/a", "[fe80::1]:5000/a"),
        ] {
            assert_eq!(canonical(text), name);
            assert_eq!(canonical(name), name, "the canonical form is its own");
        }
    }

    #[test]
    fn with_tag_and_digest_the_digest_is_requested() {
        let digest = Digest::of(b"x");
        let name: Reference = format!("host:1/a:t@{digest}").parse().unwrap();
        assert_eq!((name.tag(), name.digest()), (Some("t"), Some(digest)));
        assert_eq!(name.identifier(), digest.to_string());
        assert_eq!(canonical(&name.to_string()), name.to_string());
        assert_eq!("a".parse::<Reference>().unwrap().identifier(), "latest");
    }

    #[test]
    fn names_that_no_registry_accepts_are_refused() {
        for text in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "docker.io/A/b",
            "a:",
            "a:-x",
            "a:.x",
            "a@",
            "a@sha256:00",
            "a b",
            "a..b/c",
            "a/b..c",
            "a/b___c",
            "a/-b",
            "host:99999/a",
            "host:/a:b/c",
            "[::1/a",
            "[::1]:/a",
            "[::1]x/a",
            "host:05000/a",
            "host:+5000/a",
            "[::1]@a.b/c",
            "-a.b/c",
            "a:b:c",
            "a?b",
            "a/../b",
            "a/%2e%2e/b",
            "user@host/a",
        ] {
            assert!(text.parse::<Reference>().is_err(), "`{text}` was taken");
        }
        assert!(format!("a:{}", "x".repeat(129)).parse::<Reference>().is_err());
        assert!("x".repeat(256).parse::<Reference>().is_err());
    }

    #[test]
    fn fuzz_any_reference_is_refused_or_equal_to_its_canonical_form() {
        crate::fuzz::each("references", |input| {
            let Ok(text) = std::str::from_utf8(input) else { return false };
            let Ok(reference) = text.parse::<Reference>() else { return false };
            assert_eq!(canonical(&reference.to_string()).parse().as_ref(), Ok(&reference));
            assert!(reference.repository().len() <= MAX_REPOSITORY && reference.registry().len() <= 300);
            assert!(reference.tag().is_none_or(|tag| tag.len() <= MAX_TAG));
            // It is put into a URL's path unchanged.
            let path = format!("{}/{}", reference.repository(), reference.identifier());
            assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"%?#\\".contains(&byte)), "{path}");
            assert!(path.split('/').all(|part| !part.is_empty() && part != ".." && part != "."), "{path}");
            true
        });
    }
}
