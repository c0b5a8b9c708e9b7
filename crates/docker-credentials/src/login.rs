//! The kinds of login in docker's config.json, podman's auth.json and the helpers' answers.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use registry::Credential;
use serde_json::{Map, Value};

/// The user name by which a helper marks its secret as an identity token.
const TOKEN_USER: &str = "<token>";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The login in an entry of `auths`; `None` if the entry is empty because a helper has the login.
pub(super) fn stored(key: &str, entry: &Map<String, Value>) -> Result<Option<Credential>, String> {
    let text = |name: &str| match field(entry, name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.trim_matches(END)),
        Some(_) => Err(format!("auths.\"{key}\".{name} is not a string")),
    };
    let token = text("registrytoken")?;
    if !token.is_empty() {
        return Ok(Some(Credential::RegistryToken(token.to_owned())));
    }
    let token = text("identitytoken")?;
    if !token.is_empty() {
        return Ok(Some(Credential::IdentityToken(token.to_owned())));
    }
    let auth = text("auth")?;
    let (username, password) = if auth.is_empty() {
        (text("username")?.to_owned(), text("password")?.to_owned())
    } else {
        let broken = || format!("auths.\"{key}\".auth is not base64 of user:password");
        // `base64` wraps lines, and docker ignores the line breaks.
        let auth: String = auth.split_ascii_whitespace().collect();
        let bytes = BASE64.decode(auth).map_err(|_| broken())?;
        let text = String::from_utf8(bytes).map_err(|_| broken())?;
        let (username, password) = text.split_once(':').ok_or_else(broken)?;
        (username.to_owned(), password.trim_end_matches(END).to_owned())
    };
    let known = !username.is_empty() && !password.is_empty();
    Ok(known.then_some(Credential::Basic { username, password }))
}

/// The login in a helper's answer; `None` if it is empty.
pub(super) fn answered(username: String, secret: String) -> Option<Credential> {
    match (username.as_str(), secret.is_empty()) {
        (_, true) | ("", _) => None,
        (TOKEN_USER, false) => Some(Credential::IdentityToken(secret)),
        (_, false) => Some(Credential::Basic { username, password: secret }),
    }
}

/// A field, found like docker does, regardless of case.
pub(super) fn field<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    let any = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(any)
}

/// Characters that are not part of a text's end: old clients padded with zeros, which docker cuts off too, and `echo` adds a line end.
const END: [char; 3] = ['\0', '\n', '\r'];

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "hunter2";

    #[test]
    fn a_token_needs_no_user_name() {
        let token = |entry: &str| stored("quay.io", &serde_json::from_str(entry).unwrap()).unwrap();
        let identity = Some(Credential::IdentityToken(SECRET.to_owned()));
        assert_eq!(token("{\"identitytoken\": \"hunter2\"}"), identity);
        assert_eq!(token("{\"IdentityToken\": \"hunter2\\n\", \"auth\": \"\"}"), identity);
        let registry = Some(Credential::RegistryToken(SECRET.to_owned()));
        assert_eq!(token("{\"registrytoken\": \"hunter2\", \"identitytoken\": \"x\"}"), registry);
    }
}
