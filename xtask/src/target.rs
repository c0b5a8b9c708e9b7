//! The target of the grid's images: the account's ECR, or any other registry.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use aws::{
    Aws,
    ecr::{
        Ecr,
        token::{self, Token},
    },
    endpoints,
};
use docker_credentials::other_names;
use failure::{FailWith as _, Kind, boxed, failure};
use images_config::Config;
use registry::mirror::{BlobIndex, Sizes, TagIndex};
use registry::{BoxError, BoxFuture, Client, Credential, Credentials, Digest, Reference, Server};

use crate::sources::Sources;

/// The account's ECR in one region.
#[derive(Clone, Debug)]
pub struct Account {
    /// The AWS session.
    pub aws: Aws,
    /// Its ECR.
    pub ecr: Ecr,
}

/// The registry that the grid pulls from.
#[derive(Clone, Debug)]
pub struct Target {
    host: String,
    prefix: String,
    /// The account. `None` with `--registry`.
    pub account: Option<Account>,
    token: Option<Token>,
}

impl Target {
    /// The registry from `--registry`.
    ///
    /// # Errors
    /// It is not a registry.
    pub fn other(registry: &str) -> anyhow::Result<Self> {
        if registry.contains('@') {
            // The value is not repeated, because it may contain a password.
            let message = "--registry takes HOST[/PREFIX] alone: no digest, and no user name, which `docker login` keeps";
            return Err(failure(Kind::Usage, message));
        }
        let (host, prefix) = registry.split_once('/').unwrap_or((registry, ""));
        let prefix = if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_matches('/')) };
        let target = Self { host: registry::registry_name(host), prefix, account: None, token: None };
        target
            .repository("probe")
            .with_context(|| format!("--registry {registry:?} is not HOST[/PREFIX]"))
            .kind(Kind::Usage)?;
        Ok(target)
    }

    /// The account's ECR.
    ///
    /// # Errors
    /// AWS refuses or does not answer.
    pub async fn account(aws: Aws) -> anyhow::Result<Self> {
        let ecr = Ecr::new(&aws);
        let token = token::token(&ecr).await?;
        Ok(Self {
            host: token.host.clone(),
            prefix: String::new(),
            account: Some(Account { aws, ecr }),
            token: Some(token),
        })
    }

    /// The registry's host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A repository of the target.
    ///
    /// # Errors
    /// The name is not valid for a repository.
    pub fn repository(&self, name: &str) -> anyhow::Result<Reference> {
        Ok(Reference::new(&self.host, &format!("{}{name}", self.prefix))?)
    }

    /// A repository's name for `docker pull`.
    ///
    /// # Errors
    /// The name is not valid for a repository.
    pub fn name(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.repository(name)?.to_string())
    }

    /// Credentials for this target and for the sources.
    pub fn credentials(&self, sources: Arc<dyn Credentials>) -> Arc<dyn Credentials> {
        match (&self.account, &self.token) {
            (Some(account), Some(token)) => Arc::new(EcrCredentials {
                hosts: std::iter::once(self.host.clone())
                    .chain(other_names(&self.host))
                    .chain(self.endpoint())
                    .collect(),
                ecr: account.ecr.clone(),
                first: token.clone(),
                sources,
            }),
            _ => sources,
        }
    }

    /// The registry's address if the user chose FIPS or dual-stack endpoints.
    fn endpoint(&self) -> Option<String> {
        let Account { aws, .. } = self.account.as_ref()?;
        endpoints::registry(&self.host, aws.region(), aws.variant())
    }

    /// The registry client for this target and the sources of `config`.
    ///
    /// # Errors
    /// A route is not an address.
    pub fn client(
        &self,
        sources: Sources<'_>,
        config: &Config,
    ) -> anyhow::Result<(Client, Arc<dyn Credentials>)> {
        let (builder, credentials) = self.client_builder(sources, config)?;
        Ok((builder.build().kind(Kind::Config)?, credentials))
    }

    /// The settings of [`Target::client`].
    ///
    /// # Errors
    /// Docker's configuration is broken.
    pub fn client_builder(
        &self,
        sources: Sources<'_>,
        config: &Config,
    ) -> anyhow::Result<(registry::Builder, Arc<dyn Credentials>)> {
        let credentials = self.credentials(sources.credentials()?);
        let mut builder = sources.client_builder(config).credentials(Arc::clone(&credentials));
        if self.account.is_some() {
            if let Some(reached) = self.endpoint() {
                builder = builder.route(&self.host, &format!("https://{reached}"));
            }
            // Also with --local: the emulated ECR has another host and the same properties.
            let host = self.host.clone();
            builder = builder.profiles(move |registry| match registry == host {
                true => Some(aws::ecr::registry_profile::ECR),
                false => aws::ecr::registry_profile::profile(registry),
            });
        }
        Ok((builder, credentials))
    }

    /// ECR's bulk requests for blobs.
    pub fn blob_index(&self) -> Option<Arc<dyn BlobIndex>> {
        Some(Arc::new(self.bulk()?))
    }

    /// ECR's bulk requests for tags.
    pub fn tag_index(&self) -> Option<Arc<dyn TagIndex>> {
        Some(Arc::new(self.bulk()?))
    }

    fn bulk(&self) -> Option<EcrBulk> {
        Some(EcrBulk { host: self.host.clone(), ecr: self.account.as_ref()?.ecr.clone() })
    }
}

/// The account's token for its registry, and docker's credentials for all others.
struct EcrCredentials {
    /// The names of the account's registry.
    hosts: Vec<String>,
    ecr: Ecr,
    first: Token,
    sources: Arc<dyn Credentials>,
}

impl Credentials for EcrCredentials {
    fn get<'a>(
        &'a self,
        server: &'a Server,
        stale: Option<&'a Credential>,
    ) -> BoxFuture<'a, Result<Option<Credential>, BoxError>> {
        let is_ecr = self.hosts.iter().any(|host| host == server.host());
        if !is_ecr || server.is_exposed() {
            return self.sources.get(server, stale);
        }
        Box::pin(async move {
            // A token is valid for twelve hours. A transfer over a very slow link can take longer.
            let token = if stale.is_some() {
                token::token(&self.ecr).await.map_err(boxed)?
            } else {
                self.first.clone()
            };
            Ok(Some(Credential::Basic {
                username: token.username,
                password: token.password.reveal().to_owned(),
            }))
        })
    }
}

/// ECR's bulk APIs: BatchCheckLayerAvailability, ListImages and BatchGetImage.
struct EcrBulk {
    host: String,
    ecr: Ecr,
}

impl TagIndex for EcrBulk {
    fn tags<'a>(
        &'a self,
        repository: &'a Reference,
        tags: &'a [String],
    ) -> BoxFuture<'a, Option<HashMap<String, Option<Digest>>>> {
        Box::pin(async move {
            if repository.registry() != self.host {
                return None;
            }
            match self.ecr.tags(repository.repository(), tags).await {
                Ok(known) => Some(known),
                // Single requests need another permission, and report the problem if that is missing too.
                Err(error) => {
                    tracing::debug!("{}: tags are asked for one by one: {error:#}", repository.repository());
                    None
                }
            }
        })
    }
}

impl BlobIndex for EcrBulk {
    fn sizes<'a>(&'a self, repository: &'a Reference, digests: &'a [Digest]) -> Sizes<'a> {
        Box::pin(async move {
            if repository.registry() != self.host {
                return Ok(None);
            }
            let names: Vec<String> = digests.iter().map(ToString::to_string).collect();
            let present = self.ecr.available_layers(repository.repository(), &names).await.map_err(boxed)?;
            let found =
                digests.iter().filter_map(|digest| Some((*digest, *present.get(&digest.to_string())?)));
            Ok(Some(found.collect()))
        })
    }
}

#[cfg(test)]
mod tests {
    use aws::endpoints::Variant;

    use super::*;

    #[test]
    fn a_registrys_other_names_are_known_in_every_partition() {
        let bools = [false, true];
        for (region, suffix) in [
            ("eu-west-1", "amazonaws.com"),
            ("us-gov-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
            ("us-isof-east-1", "csp.hci.ic.gov"),
            ("eu-isoe-west-1", "cloud.adc-e.uk"),
        ] {
            let host = format!("123456789012.dkr.ecr.{region}.{suffix}");
            let variants =
                bools.into_iter().flat_map(|fips| bools.map(|dual_stack| Variant { fips, dual_stack }));
            let reached: Vec<String> =
                variants.filter_map(|variant| endpoints::registry(&host, region, variant)).collect();
            assert_eq!(reached.len(), 3, "{host}");
            let names = other_names(&host);
            assert!(reached.iter().all(|name| names.contains(name)), "{reached:?}: {names:?}");
        }
    }
}
