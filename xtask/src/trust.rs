//! Checks the `[trust]` rules of images.toml wherever something is copied, locked or built upon.

use std::sync::Arc;

use images_config::cache::Cache;
use images_config::lock::Lock;
use images_config::{Config, Image, Platforms, Trusted};
use oci_layout::HOST;
use registry::mirror::{Job, Mapping as _, Planned, SignaturePolicy, untrusted};
use registry::{BoxFuture, Client, Digest, Error, Reference};

use crate::context::Context;

/// The `[trust]` rules, signatures verified by earlier runs, and a client for the registries.
pub struct Trust {
    config: Config,
    lock: Option<Lock>,
    memory: Arc<Cache>,
    client: Client,
}

impl Trust {
    /// The `[trust]` rules of `config`, checked with `client`. `None` without rules.
    ///
    /// # Errors
    /// images.lock cannot be read.
    pub fn new(
        context: &Context,
        config: &Config,
        client: &Client,
        memory: &Arc<Cache>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        if config.trust.is_empty() {
            return Ok(None);
        }
        let (config, lock) = (config.clone(), context.lock()?);
        let (memory, client) = (Arc::clone(memory), client.clone());
        Ok(Some(Arc::new(Self { config, lock, memory, client })))
    }

    /// The signer of `digest` of `source`. `None` if no signature is required.
    ///
    /// # Errors
    /// A required signature is missing, or the registry fails.
    pub async fn check(&self, source: &Reference, digest: Digest) -> Result<Option<String>, Error> {
        match self.config.trusted(source) {
            Some(rule) => self.verify(rule, source, digest).await.map(Some),
            None => Ok(None),
        }
    }

    /// The signer of a planned image, or why it is not trusted, also if it is not refused. `None` if no signature is required.
    pub async fn signer_of(&self, planned: &Planned) -> Option<Result<String, Error>> {
        let job = &planned.job;
        let rule = self.config.trusted(&job.source)?;
        let digest =
            job.source_digest.or(planned.source).or_else(|| self.memory.source_digest(&job.source))?;
        Some(self.verify(rule, &job.source, digest).await)
    }

    /// The result of an earlier run, otherwise of the signatures stored with the image at `place`.
    async fn verify(&self, rule: &Trusted, place: &Reference, digest: Digest) -> Result<String, Error> {
        if let Some(known) = self.known(rule, digest) {
            return Ok(known);
        }
        let (memory, now) = (&*self.memory, jiff::Timestamp::now());
        match trust::verify(&self.client, memory, place, digest, &rule.signers, now).await {
            Ok(signer) => {
                self.memory.sign(digest, &signer.id());
                Ok(signer.to_string())
            }
            Err(trust::Error::Registry(error)) => Err(error),
            Err(trust::Error::Refused(refusal)) => Err(untrusted(place, digest, wanted(rule), refusal)),
        }
    }

    fn known(&self, rule: &Trusted, digest: Digest) -> Option<String> {
        let signer = rule.signers.iter().find(|signer| self.memory.signed(digest, &signer.id()))?;
        Some(signer.to_string())
    }

    /// The image in images.toml that is read from or written to a layout.
    fn listed(&self, job: &Job) -> Option<&Image> {
        let layout = [&job.source, &job.target].into_iter().find(|name| name.registry() == HOST)?;
        let (repository, tag) = (layout.repository(), job.target.tag()?);
        self.config.images.iter().find(|image| image.repository == repository && image.tag == tag)
    }

    /// The signer of a copy that is not read from its source: in a layout, or at the target on its way to a layout.
    async fn copy(&self, image: &Image, place: &Reference, digest: Digest) -> Result<Option<String>, Error> {
        let Some(rule) = self.config.trusted(&image.source) else { return Ok(None) };
        // A locked digest was checked when it was locked, and the user decides on the lock as on `[trust]`.
        let locked = self.lock.as_ref().and_then(|lock| lock.expected(&image.source, &image.platforms));
        if locked == Some(digest) {
            return Ok(Some("images.lock".to_owned()));
        }
        // The signature of a single platform's image is the one of its index, which is not stored with the image.
        let index = self.memory.source_digest(&image.source);
        let of_index = index.filter(|index| {
            image.platforms != Platforms::All && self.memory.get(*index, &image.platforms) == Some(digest)
        });
        if let Some(known) = of_index.and_then(|index| self.known(rule, index)) {
            return Ok(Some(known));
        }
        self.verify(rule, place, digest).await.map(Some)
    }
}

impl SignaturePolicy for Trust {
    fn check_signature<'a>(
        &'a self,
        job: &'a Job,
        digest: Digest,
    ) -> BoxFuture<'a, Result<Option<String>, Error>> {
        Box::pin(async move {
            match self.listed(job) {
                Some(image) if image.source != job.source => self.copy(image, &job.source, digest).await,
                _ => self.check(&job.source, digest).await,
            }
        })
    }
}

/// The required signers, and the rule that requires them.
fn wanted(rule: &Trusted) -> String {
    let signers: Vec<String> = rule.signers.iter().map(ToString::to_string).collect();
    format!("{} ([trust] of images.toml, line {})", signers.join(" or "), rule.line)
}
