//! Rules for names, with links to their documentation. Every function returns the reason as a lowercase fragment, to print after
//! the key.

use super::problem::nearest;

/// Maximum length of a runtime's name: a build tag adds `-k2-` and up to 64 hex digits, and a tag has at most 128 characters.
const RUNTIME_NAME_MAX: usize = 128 - "-k2-".len() - 64;

/// ECR's rule for repository names: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html>.
pub(super) fn repository(name: &str) -> Result<(), String> {
    if !(2..=256).contains(&name.len()) {
        return Err(format!(
            "`{name}` is not a repository name: it has {} characters, ECR takes 2 to 256",
            name.len()
        ));
    }
    path(name).map_err(|why| format!("`{name}` is not a repository name: {why}"))
}

/// ECR's rule for pull-through prefixes:
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreatePullThroughCacheRule.html>.
pub(super) fn prefix(name: &str) -> Result<(), String> {
    if !(2..=30).contains(&name.len()) {
        return Err(format!("`{name}` is not a prefix: it has {} characters, ECR takes 2 to 30", name.len()));
    }
    path(name).map_err(|why| format!("`{name}` is not a prefix: {why}"))
}

/// ECR's `[a-z0-9]+([._-][a-z0-9]+)*`, joined by slashes.
fn path(name: &str) -> Result<(), String> {
    if let Some(bad) = name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '/')) {
        let what = if bad.is_ascii_uppercase() { "upper case" } else { "that character" };
        return Err(format!("`{bad}`: ECR does not take {what}"));
    }
    for part in name.split('/') {
        let bytes = part.as_bytes();
        let sign = |byte: &u8| matches!(byte, b'.' | b'_' | b'-');
        if bytes.is_empty() {
            return Err("a part between slashes is empty".to_owned());
        }
        if bytes.first().is_some_and(sign) || bytes.last().is_some_and(sign) {
            return Err(format!("`{part}` must begin and end with a letter or a digit"));
        }
        if bytes.windows(2).any(|pair| pair.iter().all(sign)) {
            return Err(format!("`{part}` has two separators in a row"));
        }
    }
    Ok(())
}

/// A tag: <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>.
pub(super) fn tag(tag: &str) -> Result<(), String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let fits = tag.len() <= 128
        && tag.chars().next().is_some_and(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-');
    if fits {
        return Ok(());
    }
    Err(format!(
        "`{tag}` is not a tag: 1 to 128 letters, digits, `.`, `_` and `-`, the first a letter, digit or `_`"
    ))
}

/// A runtime's name. It becomes its tag and the prefix of its builds' tags.
pub(super) fn runtime(name: &str) -> Result<(), String> {
    tag(name)?;
    if name.len() > RUNTIME_NAME_MAX {
        return Err(format!(
            "`{name}` is too long: {RUNTIME_NAME_MAX} characters at most, because builds add their digest to it"
        ));
    }
    if is_build_tag(name) {
        return Err(format!(
            "`{name}` looks like a tag that belongs to another runtime (`-sha256-`, `-k2-`, `-cache` and `-history` name its \
             builds, their keys, the builder's cache and the record of its moves)"
        ));
    }
    Ok(())
}

/// Whether `tag` has the format of a tag that the tool adds for a runtime: of its builds, their keys (of any version), the
/// builder's cache (only `-cache` in earlier versions), and the record of moves.
pub(super) fn is_build_tag(tag: &str) -> bool {
    let is_key = |rest: &str| {
        let version = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        version.len() < rest.len() && version.starts_with('-')
    };
    tag.contains("-sha256-")
        || tag.split("-k").skip(1).any(is_key)
        || tag.contains("-cache-")
        || tag.ends_with("-cache")
        || tag.ends_with("-history")
}

/// An AWS account's number.
pub(super) fn account(number: &str) -> Result<(), String> {
    if number.len() == 12 && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("`{number}` is not an AWS account: 12 digits in quotes"))
}

/// A region's name, such as `eu-west-1` or `us-gov-east-1`.
pub(super) fn region(name: &str) -> Result<(), String> {
    let mut parts = name.rsplit('-');
    let number = parts.next().is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
    let words: Vec<&str> = parts.collect();
    let lower = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    if number && words.len() >= 2 && words.iter().all(lower) {
        return Ok(());
    }
    Err(format!("`{name}` is not an AWS region such as eu-west-1"))
}

/// An IAM role's name: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html>.
pub(super) fn role(name: &str) -> Result<(), String> {
    if name.starts_with("arn:") {
        return Err(format!("`{name}` is an ARN: give the role's name alone"));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(format!("`{name}` is not a role name: 1 to 64 letters, digits and `_+=,.@-`"))
}

/// A signing profile's ARN; ECR accepts none with a version:
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_SigningRule.html>.
pub(super) fn signing_profile(arn: &str) -> Result<(), String> {
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    let fits = match fields[..] {
        ["arn", partition, "signer", region, owner, name] => {
            let name = name.strip_prefix("/signing-profiles/").unwrap_or_default();
            (partition == "aws" || partition.starts_with("aws-"))
                && self::region(region).is_ok()
                && account(owner).is_ok()
                && name.len() >= 2
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && arn.len() <= 200
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(format!(
        "`{arn}` is not a signing profile: arn:aws:signer:REGION:ACCOUNT:/signing-profiles/NAME, without a version"
    ))
}

/// A build argument's name.
pub(super) fn build_arg(name: &str) -> Result<(), String> {
    /// The arguments that the tool itself sets for runtimes/Dockerfile.
    const OWN: [&str; 7] =
        ["BASE_IMAGE", "ENTRY_POINT", "SOURCE", "REVISION", "BASE_NAME", "BASE_DIGEST", "BUILD_KEY"];
    if OWN.contains(&name) {
        return Err(format!("`{name}` is given by the tool itself"));
    }
    if name == "BUILDKIT_SYNTAX" {
        return Err(format!(
            "`{name}` brings an image that is in no build key: write `# syntax=` into the Dockerfile"
        ));
    }
    argument(name)
}

/// The name of a Dockerfile's argument.
pub(super) fn argument(name: &str) -> Result<(), String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(word) && name.chars().next().is_some_and(|c| !c.is_ascii_digit()) {
        return Ok(());
    }
    Err(format!("`{name}` is not a name of a build argument: letters, digits and `_`, no digit first"))
}

/// A file name without folders.
pub(super) fn file(name: &str) -> Result<(), String> {
    if name.contains(['/', '\\', '\0']) || [".", "..", "Dockerfile"].contains(&name) {
        return Err(format!("`{name}` must be the file name of an entry point, without folders"));
    }
    Ok(())
}

/// A registry's host, with its port if any.
pub(super) fn registry_host(host: &str) -> Result<(), String> {
    if host.contains("://") {
        return Err(format!("`{host}` must be a host without `https://`"));
    }
    if host.contains('/') {
        return Err(format!("`{host}` must be a host without a path"));
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let bracketed = name.starts_with('[') && name.ends_with(']');
    let known = bracketed
        || name.split('.').all(label) && (name.contains('.') || name == "localhost" || port.is_some());
    if port_fits && known {
        return Ok(());
    }
    Err(format!("`{host}` is not a registry host such as ghcr.io or localhost:5000"))
}

/// A platform as `os/architecture[/variant]`, with the names of Go's ports, which all registries use.
pub(super) fn platform(text: &str) -> Result<(), (String, Option<String>)> {
    const SYSTEMS: [&str; 9] =
        ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "aix", "wasip1"];
    const ARCHITECTURES: [&str; 13] = [
        "amd64", "arm64", "arm", "386", "ppc64le", "ppc64", "s390x", "riscv64", "loong64", "mips64le",
        "mips64", "mipsle", "wasm",
    ];
    let parts: Vec<&str> = text.split('/').collect();
    let shape = || format!("`{text}` is not a platform: os/architecture or os/architecture/variant");
    let (os, architecture) = match parts[..] {
        [os, architecture] => (os, architecture),
        [os, architecture, variant] if !variant.is_empty() => (os, architecture),
        [architecture] if ARCHITECTURES.contains(&architecture) => {
            return Err((shape(), Some(format!("did you mean `linux/{architecture}`?"))));
        }
        _ => return Err((shape(), None)),
    };
    let alias = match architecture {
        "x86_64" | "x86-64" | "x64" => Some("amd64"),
        "aarch64" => Some("arm64"),
        "i386" | "x86" => Some("386"),
        "armhf" | "armv7" | "armv7l" => Some("arm/v7"),
        _ => None,
    };
    let meant = |known: &str, instead: Option<&str>| {
        instead.map(|word| format!("did you mean `{}`?", known.replace("{}", word)))
    };
    if !SYSTEMS.contains(&os) {
        let help = meant(&format!("{{}}/{architecture}"), nearest(os, SYSTEMS));
        return Err((format!("`{text}`: there is no system `{os}`"), help));
    }
    if !ARCHITECTURES.contains(&architecture) {
        let help = meant(&format!("{os}/{{}}"), alias.or_else(|| nearest(architecture, ARCHITECTURES)));
        return Err((format!("`{text}`: there is no architecture `{architecture}`"), help));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_follow_ecr() {
        for good in ["curl", "kedacore/keda-metrics-apiserver", "a.b_c-d/1", "ab", "sam/build-python3.11"] {
            assert_eq!(repository(good), Ok(()), "{good}");
        }
        for bad in ["", "a", "Curl", "a//b", "/ab", "ab/", "-ab", "ab-", "a__b", "a._b", "a b", "a:b", "é1"]
        {
            assert!(repository(bad).is_err(), "{bad}");
        }
        assert!(repository(&"a".repeat(257)).is_err());
        assert_eq!(
            repository("Ab").unwrap_err(),
            "`Ab` is not a repository name: `A`: ECR does not take upper case"
        );
    }

    #[test]
    fn prefixes_are_short() {
        assert_eq!(prefix("registry-k8s-io"), Ok(()));
        assert!(prefix(&"a".repeat(31)).is_err());
        assert!(prefix("quay/").is_err());
    }

    #[test]
    fn tags_and_runtimes() {
        for good in ["7.85.0", "_x", "al2", &"t".repeat(128)] {
            assert_eq!(tag(good), Ok(()), "{good}");
        }
        for bad in ["", "-x", ".x", "a/b", "a:b", "é", &"t".repeat(129)] {
            assert!(tag(bad).is_err(), "{bad}");
        }
        assert_eq!(runtime("provided.al2023"), Ok(()));
        assert_eq!(runtime(&"r".repeat(60)), Ok(()));
        assert!(runtime(&"r".repeat(61)).is_err());
        assert!(runtime("python3.8-sha256-0123").is_err());
    }

    #[test]
    fn accounts_regions_roles_files_and_arguments() {
        assert_eq!(account("012345678901"), Ok(()));
        assert!(account("12345678901").is_err() && account("12345678901x").is_err());
        for good in ["eu-west-1", "us-gov-east-1", "cn-north-1", "ap-southeast-10"] {
            assert_eq!(region(good), Ok(()), "{good}");
        }
        for bad in ["eu-west", "eu_west_1", "EU-WEST-1", "west-1", "eu--1", ""] {
            assert!(region(bad).is_err(), "{bad}");
        }
        assert_eq!(role("Admin@corp"), Ok(()));
        assert!(role("arn:aws:iam::123456789012:role/Admin").unwrap_err().contains("name alone"));
        assert!(role("a/b").is_err() && role("").is_err());
        let profile = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/htc_grid";
        assert_eq!(signing_profile(profile), Ok(()));
        assert_eq!(
            signing_profile(&profile.replace(":aws:", ":aws-cn:").replace("eu-west-1", "cn-north-1")),
            Ok(())
        );
        for bad in ["htc_grid", &profile.replace("htc_grid", "htc-grid"), &format!("{profile}/0123456789")] {
            assert!(signing_profile(bad).is_err(), "{bad}");
        }
        assert_eq!(file("lambda_entry_point.sh"), Ok(()));
        assert!(file("../x").is_err() && file("..").is_err());
        assert_eq!(build_arg("HTTP_PROXY"), Ok(()));
        assert!(build_arg("BASE_IMAGE").is_err() && build_arg("BUILDKIT_SYNTAX").is_err());
        assert!(build_arg("1A").is_err() && build_arg("A B").is_err() && build_arg("").is_err());
    }

    #[test]
    fn registry_hosts() {
        for good in ["ghcr.io", "localhost:5000", "localhost", "10.0.0.1:80", "[::1]:5000", "mirror:5000"] {
            assert_eq!(registry_host(good), Ok(()), "{good}");
        }
        for bad in ["", "quay", "https://quay.io", "quay.io/x", "a..b", "host.x:0", "host.x:70000", "-a.b"] {
            assert!(registry_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn platforms_are_known_names() {
        for good in ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(platform(good), Ok(()), "{good}");
        }
        let help = |text| platform(text).unwrap_err().1;
        assert_eq!(help("linux/x86_64").as_deref(), Some("did you mean `linux/amd64`?"));
        assert_eq!(help("linux/amd46").as_deref(), Some("did you mean `linux/amd64`?"));
        assert_eq!(help("lunix/arm64").as_deref(), Some("did you mean `linux/arm64`?"));
        assert_eq!(help("arm64").as_deref(), Some("did you mean `linux/arm64`?"));
        for bad in ["", "linux", "linux/", "linux/arm/", "a/b/c/d", "linux/AMD64"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }
}
