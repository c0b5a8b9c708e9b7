//! Which requests a registry allows.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use tokio::time::Instant;

use crate::asked::{Answer, Asked, authorization, parts};
use crate::plan::Auth;

/// A token, and its scope.
struct Token {
    until: Instant,
    scopes: Vec<String>,
}

/// A registry's password, and the tokens of its token service.
pub struct Logins {
    name: &'static str,
    auth: Auth,
    tokens: BTreeMap<String, Token>,
    given: usize,
    /// Counts changes of the password.
    password: usize,
}

impl Logins {
    /// The logins of the registry with this name.
    pub fn of(name: &'static str, auth: Auth) -> Self {
        Self { name, auth, tokens: BTreeMap::new(), given: 0, password: 0 }
    }

    pub fn login(&self) -> (String, String) {
        (self.name.to_owned(), format!("password-{}", self.password))
    }

    /// Everything issued so far becomes invalid.
    pub fn expire(&mut self) {
        self.tokens.clear();
        self.password += 1;
    }

    /// The token service's reply.
    pub fn token(&mut self, asked: &Asked) -> Answer {
        let Auth::Bearer { lifetime } = self.auth else { return Answer::new(404) };
        let (user, password) = self.login();
        let right = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        if authorization(asked) != right {
            return Answer::error(401, "UNAUTHORIZED", "a login is wanted");
        }
        self.given += 1;
        let token = format!("{}-{}", self.name, self.given);
        let scopes = asked.url.query_pairs().filter(|(name, _)| name == "scope");
        let scopes = scopes.map(|(_, value)| value.into_owned()).collect();
        self.tokens
            .insert(token.clone(), Token { until: Instant::now() + Duration::from_secs(lifetime), scopes });
        Answer::new(200).body(serde_json::json!({ "token": token, "expires_in": lifetime }).to_string())
    }

    /// The registry's reply to a request that is not allowed.
    pub fn refusal(&self, asked: &Asked) -> Option<Answer> {
        let (repository, ..) = parts(asked.url.path());
        let given = authorization(asked);
        match self.auth {
            Auth::Open => None,
            Auth::Basic => {
                let (user, password) = self.login();
                let right = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
                let refusal = match given.is_empty() {
                    true => {
                        Answer::error(401, "UNAUTHORIZED", "").with("www-authenticate", "Basic realm=\"x\"")
                    }
                    // ECR's behaviour.
                    false => Answer::error(403, "DENIED", "Your authorization token has expired."),
                };
                (given != right).then_some(refusal)
            }
            Auth::Bearer { .. } => {
                let token = given.strip_prefix("Bearer ").and_then(|token| self.tokens.get(token));
                let action =
                    if asked.method == Method::GET || asked.method == Method::HEAD { "pull" } else { "push" };
                let is_good = token.is_some_and(|token| {
                    let allows = |scope: &String| {
                        scope
                            .strip_prefix(&format!("repository:{repository}:"))
                            .is_some_and(|to| to.contains(action))
                    };
                    Instant::now() < token.until && token.scopes.iter().any(allows)
                });
                let challenge = format!(
                    "Bearer realm=\"https://auth.{0}.example/token\",service=\"{0}.example\"",
                    self.name
                );
                let refusal = Answer::error(401, "UNAUTHORIZED", "").with("www-authenticate", challenge);
                (!is_good).then_some(refusal)
            }
        }
    }
}
