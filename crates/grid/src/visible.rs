//! Waits until AWS shows what it has created: AWS is eventually consistent.

use std::time::Duration;

use aws::Waiting;
use aws::errors::{permission, refused_action};
use failure::{FailWith as _, Kind, ending, failure};
use images_config::Config;
use registry::{Client, Reference};

use super::Infrastructure;

/// How long AWS may take to show a repository after creating it.
pub const VISIBLE_BOUND: Duration = Duration::from_secs(60);

/// Waits until ECR's API shows every repository and rule.
pub(super) async fn wait_until_visible(grid: &Infrastructure<'_>, config: &Config) -> anyhow::Result<()> {
    let mut wait = Wait::new();
    loop {
        let (repositories, rules) = tokio::try_join!(grid.ecr.repositories(), grid.ecr.pull_through_rules())?;
        let names = config.repositories.iter().filter(|name| !repositories.contains_key(*name));
        let prefixes = config.pull_through.iter().map(|rule| &rule.prefix);
        let absent: Vec<&str> =
            names.chain(prefixes.filter(|prefix| !rules.contains_key(*prefix))).map(String::as_str).collect();
        if absent.is_empty() {
            return Ok(());
        }
        wait.again(|| absent.join(", ")).await?;
    }
}

/// Waits until the registry accepts pushes to a repository that ECR's API shows.
pub(super) async fn wait_until_known(repository: &Reference, client: &Client) -> anyhow::Result<()> {
    let mut wait = Wait::new();
    let known = || registry::lists::has_repository(client, repository);
    while !known().await.map_err(refused)? {
        wait.again(|| repository.to_string()).await?;
    }
    Ok(())
}

/// ECR's registry refuses with a message of IAM.
fn refused(error: registry::Error) -> anyhow::Error {
    let words = error.to_string();
    match refused_action(&words) {
        Some(action) => ending(Kind::Credentials, Some(permission(action, &words)), error),
        None => ending(Kind::Registry, None, error),
    }
}

/// Repeats a request with growing pauses, within [`VISIBLE_BOUND`].
struct Wait {
    since: tokio::time::Instant,
    pause: Duration,
    /// The progress message, once shown.
    told: Option<Waiting>,
}

impl Wait {
    fn new() -> Self {
        Self { since: tokio::time::Instant::now(), pause: Duration::from_millis(50), told: None }
    }

    /// Pauses before the next request, or gives up on what is `absent`.
    async fn again(&mut self, absent: impl FnOnce() -> String) -> anyhow::Result<()> {
        let absent = absent();
        if self.since.elapsed() > VISIBLE_BOUND {
            let message = format!("ECR does not show {absent} after {} s", VISIBLE_BOUND.as_secs());
            return Err(failure(Kind::Registry, message))
                .hint(Kind::Registry, "run the command again; it continues where it stopped");
        }
        let left = VISIBLE_BOUND.saturating_sub(self.since.elapsed());
        Waiting::renew(&mut self.told, "ECR", &format!("to show {absent}"), left);
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(2));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failure::kind_of;

    #[tokio::test]
    async fn a_resource_that_does_not_become_visible_is_named() {
        let left = Duration::from_millis(200);
        let since = tokio::time::Instant::now().checked_sub(VISIBLE_BOUND - left).unwrap();
        let mut wait = Wait { since, ..Wait::new() };
        let mut asked = 0;
        let error = loop {
            match wait.again(|| "kedacore/keda, ecr-public".to_owned()).await {
                Ok(()) => asked += 1,
                Err(error) => break error,
            }
        };
        assert!(since.elapsed() > VISIBLE_BOUND && asked > 1, "given up after {asked}");
        let text = failure::render(&error);
        assert!(text.contains("ECR does not show kedacore/keda, ecr-public after 60 s"), "{text}");
        assert!(text.contains("hint: run the command again"), "{text}");
        assert_eq!(kind_of(&error), Kind::Registry);
    }
}
