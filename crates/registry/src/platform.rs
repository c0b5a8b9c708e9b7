//! Platforms, compared as containerd compares them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::excerpt;
use crate::names::{self, Ambiguous};

/// An operating system on an architecture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system, `linux`.
    #[serde(default, deserialize_with = "crate::lenient::or_default")]
    pub os: String,
    /// The architecture, `amd64`.
    #[serde(default, deserialize_with = "crate::lenient::or_default")]
    pub architecture: String,
    /// The architecture's variant, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: os/architecture or os/architecture/variant is expected, like linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    /// The platform in an image's configuration; `None` if it does not say it.
    ///
    /// # Errors
    /// Some readers would find other fields there.
    pub fn of_configuration(json: &[u8]) -> Result<Option<Self>, Ambiguous> {
        names::check(json, &names::PLATFORM)?;
        let said: Option<Self> = serde_json::from_slice(json).ok();
        Ok(said.filter(|platform| !platform.architecture.is_empty()))
    }

    /// Whether both name the same platform: `arm64` is `arm64/v8`, `arm` is `arm/v7`, `amd64` is `amd64/v1`, `x86_64` is
    /// `amd64` ([containerd's normalisation](https://github.com/containerd/platforms/blob/main/database.go)).
    pub fn matches(&self, other: &Self) -> bool {
        self.normal() == other.normal()
    }

    /// Whether it is a platform: writers of indexes leave it empty, or call it `unknown`.
    pub(crate) fn is_known(&self) -> bool {
        ![&self.os, &self.architecture].iter().any(|part| part.is_empty() || *part == "unknown")
    }

    /// Operating system, architecture and variant in one spelling.
    fn normal(&self) -> (String, String, String) {
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        let variant = variant.strip_prefix('v').unwrap_or(&variant);
        let (architecture, variant) = match (architecture.as_str(), variant) {
            ("x86_64" | "x86-64" | "amd64", "" | "1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "" | "8" | "8.0") => ("arm64", ""),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "") => ("arm", "7"),
            ("armel", _) => ("arm", "6"),
            ("i386" | "i486" | "i586" | "i686" | "386", _) => ("386", ""),
            (architecture, variant) => (architecture, variant),
        };
        (self.os.to_ascii_lowercase(), architecture.to_owned(), variant.to_owned())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let is_word = |part: &str| {
            !part.is_empty()
                && part.len() <= 32
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| is_word(part)) {
            return Err(PlatformError(excerpt(text)));
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
            _ => return Err(PlatformError(excerpt(text))),
        };
        Ok(Self { os: (*os).to_owned(), architecture: (*architecture).to_owned(), variant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        one.parse::<Platform>().unwrap().matches(&other.parse().unwrap())
    }

    #[test]
    fn variants_match_as_containerds_do() {
        assert!(same("linux/arm64", "linux/arm64/v8"));
        assert!(same("linux/arm", "linux/arm/v7"));
        assert!(same("linux/amd64", "linux/x86_64"));
        assert!(same("linux/amd64/v1", "linux/amd64"));
        assert!(!same("linux/amd64/v2", "linux/amd64"));
        assert!(!same("linux/arm/v6", "linux/arm"));
        assert!(!same("linux/arm64/v9", "linux/arm64"));
        assert!(!same("windows/amd64", "linux/amd64"));
        assert!(same("linux/riscv64", "linux/riscv64"));
        assert!(!same("linux/riscv64", "linux/s390x"));
        assert!(!same("unknown/unknown", "linux/amd64"));
    }

    #[test]
    fn a_configurations_platform_is_unambiguous() {
        let read = |json: &str| Platform::of_configuration(json.as_bytes());
        let arm = r#"{"os":"linux","architecture":"arm64","variant":"v8","rootfs":{"OS":1}}"#;
        assert_eq!(read(arm).unwrap().unwrap().to_string(), "linux/arm64/v8");
        for none in ["{}", "?", "", r#"{"os":"linux"}"#, r#"{"os":"linux","architecture":7}"#] {
            assert_eq!(read(none), Ok(None), "{none}");
        }
        assert!(read(r#"{"os":"linux","architecture":"arm64","Architecture":"amd64"}"#).is_err());
        assert!(read(r#"{"OS":"linux","architecture":"arm64"}"#).is_err());
    }

    #[test]
    fn platforms_are_parsed_and_printed() {
        assert_eq!("linux/arm64/v8".parse::<Platform>().unwrap().to_string(), "linux/arm64/v8");
        for text in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "linux/am d64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
