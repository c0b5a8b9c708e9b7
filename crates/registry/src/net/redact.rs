//! The secrets in a request: a reply that quotes them must not bring them into our messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

/// Shorter ones may be a part of any word.
const SHORTEST: usize = 4;

/// The secrets of a request.
#[derive(Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// The secrets in an `Authorization`: a token, or a password and its base64.
    pub(crate) fn of(header: Option<&HeaderValue>) -> Self {
        let text = header.and_then(|header| header.to_str().ok()).unwrap_or_default();
        let (scheme, token) = text.split_once(' ').unwrap_or_default();
        let login = if scheme == "Basic" { STANDARD.decode(token).unwrap_or_default() } else { Vec::new() };
        let login = String::from_utf8(login).unwrap_or_default();
        let password = login.split_once(':').map(|(_, password)| password.to_owned());
        Self(std::iter::once(token.to_owned()).chain(password).collect())
    }

    /// The same, and a token that is sent in another way.
    pub(crate) fn and(mut self, token: &str) -> Self {
        self.0.push(token.to_owned());
        self
    }

    /// A text of the server's without them.
    pub(crate) fn hide(&self, text: &str) -> String {
        let long = self.0.iter().filter(|secret| secret.len() >= SHORTEST);
        long.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_header_is_redacted() {
        let basic = HeaderValue::from_static("Basic QVdTOmh1bnRlcjI=");
        let said = "no login QVdTOmh1bnRlcjI= (AWS:hunter2)";
        assert_eq!(Secrets::of(Some(&basic)).hide(said), "no login *** (AWS:***)");
        let bearer = HeaderValue::from_static("Bearer abc.def");
        assert_eq!(Secrets::of(Some(&bearer)).hide("bad abc.def!"), "bad ***!");
        assert_eq!(Secrets::of(None).and("refresh").hide("bad refresh"), "bad ***");
        assert_eq!(Secrets::default().hide("denied"), "denied");
        // A password of one letter would redact every word.
        let short = HeaderValue::from_static("Basic YTph");
        assert_eq!(Secrets::of(Some(&short)).hide("a bad day"), "a bad day");
    }
}
