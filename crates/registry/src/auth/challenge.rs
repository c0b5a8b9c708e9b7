//! `WWW-Authenticate`: the authentication schemes that a registry offers.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

use crate::digest::excerpt;
use crate::size_limits;

/// One of the two schemes that registries use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with each request (ECR).
    Basic,
    /// A token from the service at `realm`
    /// ([docker's token specification](https://distribution.github.io/distribution/spec/auth/token/)).
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The best challenge among all `WWW-Authenticate` headers: `Bearer` before `Basic`.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let all = || all(headers).into_iter().filter_map(Result::ok);
        all().find(|challenge| matches!(challenge, Self::Bearer { .. })).or_else(|| all().next())
    }
}

/// The schemes that a registry offers and that are not supported: Negotiate, Digest, NTLM, a `Bearer` without a realm.
pub(crate) fn unknown_schemes(headers: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = all(headers).into_iter().filter_map(Result::err).collect();
    names.dedup();
    names
}

fn all(headers: &HeaderMap) -> Vec<Result<Challenge, String>> {
    // A realm may have any characters.
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values.flat_map(|value| parse(&String::from_utf8_lossy(value.as_bytes()))).collect()
}

/// The challenges of one header value, as `Err` the scheme of one that is neither Basic nor Bearer, or lacks a realm.
///
/// The grammar is [RFC 9110's](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1): challenges and their parameters are both
/// separated by commas, so a word without `=` begins a new challenge. Semicolons, blanks and single quotes are accepted as
/// well.
pub(crate) fn parse(text: &str) -> Vec<Result<Challenge, String>> {
    if text.len() > size_limits::HEADER {
        return Vec::new();
    }
    let mut found: Vec<(&str, Vec<(String, String)>)> = Vec::new();
    let mut rest = text;
    loop {
        let before = rest;
        rest = rest.trim_start_matches([' ', '\t', ',', ';']);
        if rest.is_empty() {
            break;
        }
        let (word, after) = token(rest);
        if word.is_empty() {
            // Not a token: the rest cannot be read reliably.
            break;
        }
        let is_apart = found.is_empty() || before.trim_start().starts_with([',', ';']);
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = parameter_value(value.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                // Behind the blank after another scheme is that scheme's own data.
                let is_known = ["basic", "bearer"].iter().any(|known| word.eq_ignore_ascii_case(known));
                if is_apart || is_known {
                    found.push((word, Vec::new()));
                }
                rest = after;
            }
        }
    }
    found.into_iter().map(|(scheme, parameters)| challenge(scheme, &parameters)).collect()
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Result<Challenge, String> {
    let get = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    };
    match scheme.to_ascii_lowercase().as_str() {
        "basic" => Ok(Challenge::Basic),
        "bearer" => match get("realm") {
            Some(realm) => Ok(Challenge::Bearer { realm, service: get("service"), scope: get("scope") }),
            None => Err("Bearer (without a realm)".to_owned()),
        },
        _ => Err(excerpt(scheme)),
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    text.split_at(text.find(|c| !is_token(c)).unwrap_or(text.len()))
}

/// A quoted string with backslash escapes, or all up to the next separator.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quote) = text.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let end = text.find([',', ';', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((position, c)) = chars.next() {
        match c {
            c if c == quote => return (value, text.get(position + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parsed = Result<Challenge, String>;

    const BASIC: Parsed = Ok(Challenge::Basic);

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Parsed {
        let [service, scope] = [service, scope].map(|part| part.map(str::to_owned));
        Ok(Challenge::Bearer { realm: realm.to_owned(), service, scope })
    }

    fn unknown(scheme: &str) -> Parsed {
        Err(scheme.to_owned())
    }

    #[test]
    fn challenges_of_known_registries_are_read() {
        assert_eq!(
            parse(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ),
            [bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push")
            )]
        );
        assert_eq!(
            parse(
                r#"Basic realm="https://123.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com""#
            ),
            [BASIC]
        );
        assert_eq!(
            parse(r#"Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws""#),
            [bearer("https://public.ecr.aws/token/", Some("public.ecr.aws"), Some("aws"))]
        );
    }

    #[test]
    fn several_challenges_in_one_header_are_read() {
        let both = parse(r#"Negotiate, Basic realm="a, Bearer b", bEaReR Realm = "https://c/" , service=d"#);
        assert_eq!(both, [unknown("Negotiate"), BASIC, bearer("https://c/", Some("d"), None)]);
    }

    #[test]
    fn all_kinds_of_separators_and_quotes_are_read() {
        let whole = [bearer("https://c/t", Some("d e"), Some("repository:a:pull,push"))];
        for text in [
            "Bearer realm='https://c/t',service='d e',scope='repository:a:pull,push'",
            "BEARER realm=\"https://c/t\"; service=\"d e\"; scope=\"repository:a:pull,push\"",
            "bearer realm=https://c/t service='d e' scope=\"repository:a:pull,push\"",
            "Bearer\trealm = https://c/t;service='d e';;,scope='repository:a:pull,push';",
        ] {
            assert_eq!(parse(text), whole, "{text}");
        }
    }

    #[test]
    fn an_unsupported_scheme_is_named_without_its_data() {
        let ntlm = parse("Negotiate YIIabc==, NTLM TlRMTVNTUAAB, Digest realm=\"x\", nonce=\"y\" , Basic");
        assert_eq!(ntlm, [unknown("Negotiate"), unknown("NTLM"), unknown("Digest"), BASIC]);
    }

    #[test]
    fn incomplete_escapes_are_read_as_far_as_possible() {
        assert_eq!(parse(r#"Bearer realm="a\"b"#), [bearer("a\"b", None, None)]);
        assert_eq!(parse("Bearer"), [unknown("Bearer (without a realm)")]);
        assert_eq!(parse(r#"Bearer realm="""#), [unknown("Bearer (without a realm)")]);
        assert_eq!(parse("\"Bearer realm=x"), []);
        assert_eq!(parse(&format!("Bearer realm=\"{}\"", "x".repeat(size_limits::HEADER))), []);
    }

    #[test]
    fn fuzz_any_challenge_is_parsed_and_means_the_same_when_written_again() {
        crate::fuzz::each("challenges", |input| {
            let Ok(text) = std::str::from_utf8(input) else { return false };
            let found = parse(text);
            for challenge in &found {
                let Ok(Challenge::Bearer { realm, service, scope }) = challenge else { continue };
                let parts = [Some(realm), service.as_ref(), scope.as_ref()];
                assert!(parts.iter().flatten().all(|part| !part.is_empty()));
                assert!(parts.iter().flatten().map(|part| part.len()).sum::<usize>() <= text.len());
                let quoted = |name, part: Option<&String>| {
                    let part = part?.replace('\\', "\\\\").replace('"', "\\\"");
                    Some(format!("{name}=\"{part}\""))
                };
                let names = ["realm", "service", "scope"].into_iter().zip(parts);
                let written: Vec<String> = names.filter_map(|(name, part)| quoted(name, part)).collect();
                let written = format!("Bearer {}", written.join(","));
                // With escapes it may be longer than what is read of a header.
                if written.len() <= size_limits::HEADER {
                    assert_eq!(parse(&written), std::slice::from_ref(challenge), "{written}");
                }
            }
            found.iter().any(Result::is_ok)
        });
    }
}
