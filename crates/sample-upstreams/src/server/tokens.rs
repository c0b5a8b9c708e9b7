//! Anonymous tokens like Docker Hub's: short-lived, and valid for the requested repositories.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Token {
    repositories: Vec<String>,
    expires: Instant,
}

/// The issued tokens that have not expired.
#[derive(Debug)]
pub(super) struct Tokens {
    lifetime: Duration,
    issued: Mutex<(u64, HashMap<String, Token>)>,
}

impl Tokens {
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime, issued: Mutex::default() }
    }

    /// A token for a scope: `repository:NAME:ACTIONS`, several separated by spaces.
    pub(super) fn issue(&self, scope: &str) -> String {
        let repositories = scope
            .split_whitespace()
            .filter_map(|scope| scope.strip_prefix("repository:")?.rsplit_once(':'))
            .filter(|(_, actions)| actions.split(',').any(|action| action == "pull"))
            .map(|(name, _)| name.to_owned())
            .collect();
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        issued.1.retain(|_, token| token.expires > now);
        issued.0 += 1;
        // Not for security; it only prevents that a token of an earlier process is accepted.
        let name = format!("sample-{}-{}", std::process::id(), issued.0);
        issued.1.insert(name.clone(), Token { repositories, expires: now + self.lifetime });
        name
    }

    /// Whether `token` allows pulls from `repository`.
    pub(super) fn allow(&self, token: Option<&str>, repository: &str) -> bool {
        self.with(token, |token| token.repositories.iter().any(|name| name == repository))
    }

    /// Whether `token` was issued here, for any repository.
    pub(super) fn known(&self, token: Option<&str>) -> bool {
        self.with(token, |_| true)
    }

    fn with(&self, token: Option<&str>, accept: impl Fn(&Token) -> bool) -> bool {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let token = token.and_then(|token| issued.1.get(token));
        token.is_some_and(|token| token.expires > Instant::now() && accept(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_for_its_repositories_and_its_lifetime() {
        let tokens = Tokens::new(Duration::from_secs(60));
        let token = tokens.issue("repository:docker.io/a/b:pull repository:docker.io/c:push");
        assert!(tokens.allow(Some(&token), "docker.io/a/b"));
        assert!(!tokens.allow(Some(&token), "docker.io/c"));
        assert!(!tokens.allow(None, "docker.io/a/b"));
        let expired = Tokens::new(Duration::ZERO);
        let token = expired.issue("repository:docker.io/a/b:pull");
        assert!(!expired.allow(Some(&token), "docker.io/a/b") && !expired.known(Some(&token)));
    }
}
