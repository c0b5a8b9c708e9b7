//! Bearer tokens from a registry's token service.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::credential::{self, Proof};
use super::service::Asked;
use crate::net::http::{Body, Request};

/// Without `expires_in` a token lives for
/// [60 seconds](https://distribution.github.io/distribution/spec/auth/token/#token-response-fields).
const DEFAULT_LIFETIME: u64 = 60;

/// A token and how long it can be used.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) lifetime: Duration,
}

/// The request that fetches a token: a plain GET, or OAuth2's POST if the credential is a field of it.
pub(super) fn request(realm: &Url, asked: &Asked<'_>, client_id: &str) -> Request {
    let Asked { service, scopes, credential } = *asked;
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let mut form = Serializer::new(String::new());
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    let proof = credential.and_then(|credential| credential.at_token_service(client_id));
    if let Some(Proof::Form(fields)) = proof {
        form.extend_pairs(fields);
        form.append_pair("scope", &scopes.join(" "));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let body = Bytes::from(form.finish()).into();
        return Request { method: Method::POST, url: realm.clone(), headers, body };
    }
    for scope in scopes {
        form.append_pair("scope", scope);
    }
    let mut url = realm.clone();
    let query = match realm.query() {
        Some(query) if !query.is_empty() => format!("{query}&{}", form.finish()),
        _ => form.finish(),
    };
    url.set_query(Some(&query));
    if let Some(Proof::Header(header)) = proof {
        headers.insert(AUTHORIZATION, header);
    }
    Request { method: Method::GET, url, headers, body: Body::default() }
}

/// The longest that a token is kept: no service is known whose tokens live longer.
const LONGEST_LIFETIME: u64 = 24 * 3_600;

/// The token in a token service's reply, named `token` or `access_token` in any case; as `Err` what the reply is instead.
/// Services write the rest in many ways: a number as a text
/// ([distribution#1746](https://github.com/distribution/distribution/issues/1746)), with a point, as null; or all of it in a
/// list.
pub(super) fn read(body: &[u8]) -> Result<Token, &'static str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.trim_ascii().is_empty() {
        return Err("nothing");
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| "what is not JSON")?;
    let fields = body.get(0).unwrap_or(&body).as_object().ok_or("JSON that is not an object")?;
    let get = |name: &'static str| {
        let is_it = |key: &str| key.replace('_', "").eq_ignore_ascii_case(name);
        fields.iter().filter(move |(key, _)| is_it(key)).map(|(_, value)| value)
    };
    let token = get("token").chain(get("accesstoken")).filter_map(Value::as_str);
    let token = token.map(str::trim).find(|token| !token.is_empty()).ok_or("JSON without a token")?;
    let header = credential::bearer(token).ok_or("a token that cannot be sent")?;
    let lifetime = lifetime(get("expiresin").next().unwrap_or(&Value::Null));
    Ok(Token { header, lifetime: Duration::from_secs(lifetime) })
}

/// Seconds; the default if the value cannot be read, or is less than one.
fn lifetime(expires_in: &Value) -> u64 {
    let seconds = match expires_in {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds {
        // A float's conversion saturates.
        Some(seconds) if seconds >= 1.0 => (seconds as u64).min(LONGEST_LIFETIME),
        _ => DEFAULT_LIFETIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_a_token_are_read() {
        let token = read(br#"{"token":"a","access_token":"b","expires_in":300}"#).ok().unwrap();
        assert_eq!((token.header.to_str().unwrap(), token.lifetime.as_secs()), ("Bearer a", 300));
        let token = read(br#"{"access_token":"b"}"#).ok().unwrap();
        assert_eq!((token.header.to_str().unwrap(), token.lifetime.as_secs()), ("Bearer b", 60));
    }

    #[test]
    fn a_reply_without_a_usable_token_is_an_error() {
        for (body, is) in [
            ("", "nothing"),
            (" \n", "nothing"),
            ("token", "what is not JSON"),
            ("\"token\"", "JSON that is not an object"),
            ("[]", "JSON that is not an object"),
            ("{}", "JSON without a token"),
            (r#"{"token":""}"#, "JSON without a token"),
            (r#"{"token":"a\nb"}"#, "a token that cannot be sent"),
        ] {
            assert_eq!(read(body.as_bytes()).err(), Some(is), "{body}");
        }
    }

    #[test]
    fn lists_and_letters_of_every_case_are_read() {
        for body in [
            r#"[{"token":"a","expires_in":300}]"#,
            r#"{"Token":"a","Expires_In":300}"#,
            r#"{"ACCESS_TOKEN":"a","EXPIRES_IN":"300"}"#,
            r#"{"accessToken":"a","expiresIn":300}"#,
            "\u{feff}{\"Access_Token\":\" a\\n\",\"token\":null,\"expires_in\":300}",
        ] {
            let token = read(body.as_bytes()).ok().unwrap();
            assert_eq!(
                (token.header.to_str().unwrap(), token.lifetime.as_secs()),
                ("Bearer a", 300),
                "{body}"
            );
        }
    }

    #[test]
    fn lifetimes_of_every_spelling_are_read_and_bounded() {
        for (expires_in, seconds) in [
            ("300", 300),
            ("\"3600\"", 3_600),
            ("\" 300 \"", 300),
            ("299.9", 299),
            ("\"1e3\"", 1_000),
            ("0", 60),
            ("-1", 60),
            ("0.5", 60),
            ("null", 60),
            ("\"soon\"", 60),
            ("\"NaN\"", 60),
            ("[300]", 60),
            ("true", 60),
            ("9223372036854775807", LONGEST_LIFETIME),
            ("18446744073709551615", LONGEST_LIFETIME),
            ("1e300", LONGEST_LIFETIME),
            ("\"inf\"", LONGEST_LIFETIME),
        ] {
            let body = format!(r#"{{"token":"","access_token":"t","expires_in":{expires_in}}}"#);
            let token = read(body.as_bytes()).ok().unwrap();
            assert_eq!(
                (token.header.to_str().unwrap(), token.lifetime.as_secs()),
                ("Bearer t", seconds),
                "{body}"
            );
        }
        for body in [r#"{"token":null,"access_token":"t"}"#, r#"{"token":7,"access_token":"t"}"#] {
            assert_eq!(read(body.as_bytes()).ok().unwrap().header.to_str().unwrap(), "Bearer t");
        }
    }

    #[test]
    fn fuzz_any_token_is_refused_or_is_sendable_and_expires() {
        crate::fuzz::each("tokens", |input| {
            let Ok(token) = read(input) else { return false };
            assert!(token.header.is_sensitive() && token.header.as_bytes().starts_with(b"Bearer "));
            assert!((1..=LONGEST_LIFETIME).contains(&token.lifetime.as_secs()));
            assert!(std::time::Instant::now().checked_add(token.lifetime).is_some());
            true
        });
    }

    #[test]
    fn a_realm_keeps_its_own_query() {
        let realm: Url = "https://a.example/token?x=1".parse().unwrap();
        let scopes = ["repository:a:pull".to_owned(), "repository:b:pull".to_owned()];
        let asked = Asked { service: Some("s"), scopes: &scopes, credential: None };
        let request = request(&realm, &asked, "c");
        assert_eq!(
            request.url.query(),
            Some("x=1&service=s&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull")
        );
    }
}
