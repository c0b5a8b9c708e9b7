//! The kinds of credential, and what is sent of each to a registry and to a token service.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::net::redact::Secrets;

/// A credential for a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and a password, or `AWS` and an ECR token.
    Basic {
        /// The user's name.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token, as `docker login` stores it for some registries.
    IdentityToken(String),
    /// A bearer token that the registry accepts as it is, without a token service.
    RegistryToken(String),
}

/// How a credential is sent to a token service.
pub(super) enum Proof<'c> {
    /// In the `Authorization` of a plain GET.
    Header(HeaderValue),
    /// Among the fields of [OAuth2's POST](https://distribution.github.io/distribution/spec/auth/oauth/).
    Form(Vec<(&'static str, &'c str)>),
}

impl Credential {
    /// User name and password for a container client; with an identity token, the user name is empty. `None` for a registry
    /// token, which a client only reads from the user's configuration.
    pub fn into_login(self) -> Option<(String, String)> {
        match self {
            Self::Basic { username, password } => Some((username, password)),
            Self::IdentityToken(token) => Some((String::new(), token)),
            Self::RegistryToken(_) => None,
        }
    }

    /// The header for the registry, if no token service is used.
    pub(super) fn at_registry(&self) -> Option<HeaderValue> {
        match self {
            Self::Basic { username, password } => {
                sensitive(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            Self::IdentityToken(_) => None,
            Self::RegistryToken(token) => bearer(token),
        }
    }

    /// What is sent to a token service; `None` if this is a token already.
    pub(super) fn at_token_service<'c>(&'c self, client_id: &'c str) -> Option<Proof<'c>> {
        match self {
            Self::Basic { .. } => self.at_registry().map(Proof::Header),
            Self::IdentityToken(token) => Some(Proof::Form(vec![
                ("grant_type", "refresh_token"),
                ("client_id", client_id),
                ("refresh_token", token),
            ])),
            Self::RegistryToken(_) => None,
        }
    }

    /// What no message may contain.
    pub(super) fn secrets(&self) -> Secrets {
        let (Self::Basic { password: secret, .. }
        | Self::IdentityToken(secret)
        | Self::RegistryToken(secret)) = self;
        Secrets::of(self.at_registry().as_ref()).and(secret)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username}, ***)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(***)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(***)"),
        }
    }
}

/// The `Authorization` of a token; `None` if it is not a valid header.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {token}"))
}

/// A header that `Debug` does not show.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_has_no_secret() {
        let basic = Credential::Basic { username: "AWS".to_owned(), password: "hunter2".to_owned() };
        assert_eq!(format!("{basic:?}"), "Basic(AWS, ***)");
        assert_eq!(format!("{:?}", Credential::IdentityToken("hunter2".to_owned())), "IdentityToken(***)");
        assert_eq!(format!("{:?}", Credential::RegistryToken("hunter2".to_owned())), "RegistryToken(***)");
    }

    #[test]
    fn no_message_repeats_a_secret() {
        let token = "hunter2".to_owned();
        for login in [
            Credential::Basic { username: "AWS".to_owned(), password: token.clone() },
            Credential::IdentityToken(token.clone()),
            Credential::RegistryToken(token),
        ] {
            assert_eq!(login.secrets().hide("bad hunter2!"), "bad ***!", "{login:?}");
        }
    }
}
