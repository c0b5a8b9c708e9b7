//! The source registries: how to reach them, and docker's credentials for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use docker_credentials::DockerCredentials;
use failure::{FailWith as _, Kind};
use images_config::Config;
use registry::{Credentials, Route};

use crate::http::{self, Tls};

/// Our name in requests to token services.
const CLIENT_ID: &str = "htc-grid-xtask";

/// How long `demo` waits for an answer of the real sources before it uses its own.
const PROBE_BOUND: Duration = Duration::from_secs(2);

/// The connection settings for the source registries.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The TLS settings.
    pub tls: &'a Tls,
    /// For requests that are not a registry client's.
    pub http: &'a reqwest::Client,
    /// Source registries and their addresses (`--upstream`).
    pub upstreams: &'a [(String, String)],
    /// The container client that the user named. Its logins come first.
    pub container_cli: Option<&'a str>,
}

impl Sources<'_> {
    /// Docker's credentials for the source registries.
    ///
    /// # Errors
    /// Docker's configuration is broken.
    pub fn credentials(self) -> anyhow::Result<Arc<dyn Credentials>> {
        let docker = DockerCredentials::from_env(self.container_cli);
        docker.check().kind(Kind::Credentials)?;
        Ok(Arc::new(docker))
    }

    /// The addresses of source registries that are not reached at their own: from images.toml, then `--upstream`.
    pub fn routes(self, config: &Config) -> BTreeMap<String, String> {
        let mut routes = config.upstreams.clone();
        routes.extend(self.upstreams.iter().cloned());
        routes
    }

    /// A registry client's settings: the process's TLS and proxies, and the routes of `config`.
    pub fn client_builder(self, config: &Config) -> registry::Builder {
        let mut all = http::for_registries(&self.tls.config);
        for (host, tls) in http::own_certificates(self.tls) {
            all = all.for_host(&host, http::for_registries(&tls));
        }
        let builder = registry::Client::builder()
            .http(all)
            .client_id(CLIENT_ID)
            .profiles(aws::ecr::registry_profile::profile);
        self.routes(config).iter().fold(builder, |builder, (host, url)| {
            let mut route = Route::to(url);
            if let Some(mirror) = config.mirrors.get(host) {
                route = mirror.blob_hosts.iter().fold(route, |route, blobs| route.blob_host(blobs));
                route = if mirror.counts_pulls { route.counts_pulls() } else { route };
            }
            builder.route(host, route)
        })
    }

    /// A client for the sources only.
    ///
    /// # Errors
    /// Docker's configuration is broken, or a route is not an address.
    pub fn client(self, config: &Config) -> anyhow::Result<registry::Client> {
        self.client_builder(config).credentials(self.credentials()?).build().kind(Kind::Config)
    }

    /// Whether the real source registries answer. Tried once, because the demo should start at once.
    pub async fn answer(self, config: &Config) -> bool {
        let Some(image) = config.images.first() else { return false };
        let registry = image.source.registry();
        let address = match self.routes(config).get(registry) {
            Some(route) => route.clone(),
            None if registry == registry::DOCKER_HUB => "https://registry-1.docker.io".to_owned(),
            None => format!("https://{registry}"),
        };
        let probe = self.http.get(format!("{address}/v2/")).timeout(PROBE_BOUND);
        probe.send().await.is_ok()
    }
}
