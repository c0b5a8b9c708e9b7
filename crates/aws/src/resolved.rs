//! The credentials of a run, resolved once: this process and every program it starts sign with the same key until it expires.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, Result, SharedCredentialsProvider, future};
use tokio::sync::Mutex;

/// How long before they expire credentials are renewed.
const MARGIN: Duration = Duration::from_secs(300);

/// A provider that caches another one's credentials until they are about to expire. An assumed role would get a new key on every
/// request.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    source: SharedCredentialsProvider,
    known: Arc<Mutex<Option<Credentials>>>,
}

impl Resolved {
    pub(super) fn new(source: SharedCredentialsProvider) -> Self {
        Self { source, known: Arc::default() }
    }

    async fn current(&self) -> Result {
        let mut known = self.known.lock().await;
        if let Some(credentials) = known.as_ref().filter(|known| good_for(known, MARGIN)) {
            return Ok(credentials.clone());
        }
        match self.source.provide_credentials().await {
            Ok(fresh) => Ok(known.insert(fresh).clone()),
            // Credentials that are still valid are used until they expire.
            Err(error) => match known.as_ref().filter(|known| good_for(known, Duration::ZERO)) {
                Some(credentials) => Ok(credentials.clone()),
                None => Err(error),
            },
        }
    }
}

fn good_for(credentials: &Credentials, margin: Duration) -> bool {
    credentials.expiry().is_none_or(|end| end > SystemTime::now() + margin)
}

impl ProvideCredentials for Resolved {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Each request returns another key, valid for this many seconds. After the last one it fails.
    #[derive(Debug)]
    struct Role(AtomicU64, u64, u64);

    impl ProvideCredentials for Role {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let asked = self.0.fetch_add(1, Ordering::SeqCst);
            future::ProvideCredentials::ready(if asked < self.2 {
                let end = SystemTime::now() + Duration::from_secs(self.1);
                Ok(Credentials::new(format!("key{asked}"), "secret", None, Some(end), "test"))
            } else {
                Err(aws_credential_types::provider::error::CredentialsError::provider_error("over"))
            })
        }
    }

    async fn keys(seconds: u64, most: u64) -> Vec<String> {
        let role = SharedCredentialsProvider::new(Role(AtomicU64::new(0), seconds, most));
        let resolved = Resolved::new(role);
        let mut keys = Vec::new();
        for _ in 0..3 {
            keys.push(resolved.provide_credentials().await.unwrap().access_key_id().to_owned());
        }
        keys
    }

    #[tokio::test]
    async fn a_key_is_reused_until_it_is_about_to_expire() {
        assert_eq!(keys(3600, 3).await, ["key0", "key0", "key0"]);
        assert_eq!(keys(200, 3).await, ["key0", "key1", "key2"]);
        assert_eq!(keys(200, 1).await, ["key0", "key0", "key0"]);
    }
}
