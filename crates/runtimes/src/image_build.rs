//! Builds one runtime's images, one per platform, and compares them with their inputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use docker::{Builder, Cache, Docker};
use process::{Cmd, blocking};
use registry::Platform;

use super::attempt;
use super::context::{Staged, Staging};
use super::key::{INPUTS_LABEL, KEY_LABEL};
use super::outcome::Done;
use super::planned::{Planned, same_machine};
use super::push::BaseLayers;
use super::saved::{Provisional, save_and_compare};
use super::{Context, RuntimeError, State, cache_tag, triggers};

/// The settings for the build of a runtime.
pub(super) struct ImageBuild<'a> {
    pub(super) context: &'a Context,
    pub(super) planned: &'a Planned,
    pub(super) docker: &'a Docker,
    /// The engine's own platform.
    pub(super) platform: &'a Platform,
    /// The base for each platform of the runtime.
    pub(super) bases: &'a [BaseLayers],
    pub(super) staging: &'a Arc<Staging>,
    /// The directory of this runtime's contexts and saved images.
    pub(super) directory: &'a Path,
}

impl ImageBuild<'_> {
    /// Builds and saves the images; without `fresh`, only saves what the store has. `Some(true)` builds without any cache. Sets in `done`
    /// whether there was a build.
    ///
    /// An image that does not have the files of its inputs is built again without the builder's cache: docker 20.10's legacy builder has
    /// used a deleted file from it.
    ///
    /// # Errors
    /// The builder fails, or the second image does not match its inputs either.
    pub(super) async fn saved(
        &self,
        fresh: Option<bool>,
        done: &mut Done,
    ) -> Result<Vec<PathBuf>, RuntimeError> {
        let built = match fresh {
            Some(fresh) => self.images(fresh, fresh).await?,
            None => Vec::new(),
        };
        done.built = fresh.is_some();
        match self.compared(built, &done.local).await {
            Err(error) if error.is_other_content() && fresh != Some(true) => {
                let warning = format!("builds once more, without the builder's cache: {}", error.in_full());
                self.context.progress.warn(&self.planned.name, &warning);
                done.built = true;
                let built = self.images(true, false).await?;
                self.compared(built, &done.local).await
            }
            ended => ended,
        }
    }

    async fn compared(
        &self,
        built: Vec<Provisional>,
        local: &[String],
    ) -> Result<Vec<PathBuf>, RuntimeError> {
        save_and_compare(self.context, self.planned, self.docker, local, built, self.directory).await
    }

    /// Builds for each platform. The images have provisional names until they have been compared with their inputs.
    async fn images(&self, no_cache: bool, pull: bool) -> Result<Vec<Provisional>, RuntimeError> {
        self.check_builder()?;
        for pinned in self.bases.iter().filter_map(BaseLayers::pinned).chain(&self.planned.needs.stages) {
            triggers::check(self.context, pinned).await?;
        }
        let (staging, files) = (Arc::clone(self.staging), self.planned.context.clone());
        // Each attempt has a context of its own, which no builder has cached.
        let room = tempfile::tempdir_in(self.directory)
            .map_err(|source| RuntimeError::Scratch { path: self.directory.display().to_string(), source })?;
        let directory = room.path().to_owned();
        let staged = blocking(move || staging.stage(&files, &directory)).await?;
        let mut built = Vec::new();
        for (platform, base) in self.planned.runtime.platforms.iter().zip(self.bases) {
            let pinned = base.pinned().map(|base| self.context.grid_settings.engine_name(base));
            let name = Provisional::new(self.docker, &self.planned.name, platform);
            let mut build = self.build(platform, &staged, pinned).await?;
            build.tags = vec![name.name().to_owned()];
            build.no_cache |= no_cache;
            build.pull = pull;
            let log = match self.planned.runtime.platforms.len() {
                0 | 1 => self.planned.name.clone(),
                _ => format!("{}-{platform}", self.planned.name),
            };
            attempt::build(self.context, self.docker, &build, &self.planned.name, &log).await?;
            built.push(name);
        }
        Ok(built)
    }

    /// The builder's settings for one platform's image, without its name.
    async fn build(
        &self,
        platform: &Platform,
        staged: &Staged,
        pinned: Option<String>,
    ) -> Result<docker::Build, RuntimeError> {
        let (context, planned, runtime) = (self.context, self.planned, &self.planned.runtime);
        let base = pinned.clone().unwrap_or_else(|| "scratch".to_owned());
        context.progress.state(&planned.name, &State::Building { platform: platform.to_string(), base });
        let mut args = runtime.args.clone();
        let mut staged = staged.clone();
        match (&pinned, &runtime.base_argument) {
            (Some(pinned), Some(argument)) => {
                args.insert(argument.clone(), pinned.clone());
            }
            // The user's file is not changed: the builder gets a copy whose FROM has the pinned base.
            (Some(pinned), None) => {
                let text = planned.dockerfile.pin(&planned.needs, pinned);
                staged = staged.with_dockerfile(&platform.to_string().replace('/', "-"), text.as_bytes())?;
            }
            (None, _) => {}
        }
        let legacy = self.docker.builder() == Builder::Legacy;
        // Only docker's legacy builder needs a tar file, and only for some contexts.
        let (from, dockerfile) = match legacy && staged.has_ignore_file() {
            true => {
                let pins = pinned.is_some() && runtime.base_argument.is_none();
                let is_copied = planned.context.entries.contains_key(&runtime.dockerfile)
                    && planned.dockerfile.may_copy(&runtime.dockerfile, &runtime.args);
                if pins && is_copied {
                    return Err(RuntimeError::CopiesItself { dockerfile: runtime.dockerfile.clone() });
                }
                let (staged, name) = (staged.clone(), runtime.dockerfile.clone());
                let (tar, name) = blocking(move || staged.tar(&name)).await?;
                (docker::BuildContext::Tar(tar), PathBuf::from(name))
            }
            false => (docker::BuildContext::Directory(staged.root), staged.dockerfile),
        };
        // A client without `--platform` builds for its engine, which is correct if the two are equal.
        let here = same_machine(platform, self.platform);
        let named = !here || self.docker.has_flag("--platform");
        let cache = context.repository.as_ref().filter(|_| context.registry_cache).map(|repository| Cache {
            reference: format!(
                "{}:{}",
                context.grid_settings.engine_name(repository),
                cache_tag(&planned.name, platform)
            ),
            write: true,
        });
        Ok(docker::Build {
            context: from,
            dockerfile,
            ignore: staged.ignore,
            tags: Vec::new(),
            platform: named.then(|| platform.to_string()),
            args,
            target: runtime.target.clone(),
            labels: self.labels(),
            // The legacy builder's cache checks neither the target of a symlink in the context nor, in a build from scratch, the platform.
            no_cache: legacy && (planned.context.has_symlinks() || pinned.is_none()),
            pull: false,
            base: pinned,
            builder: context.builder.clone(),
            cache,
        })
    }

    /// Rejects a Dockerfile with here-documents if the builder would read their lines as instructions.
    fn check_builder(&self) -> Result<(), RuntimeError> {
        let Some(line) = self.planned.dockerfile.heredoc() else { return Ok(()) };
        let knows = match self.docker.builder() {
            Builder::Buildx | Builder::Own => true,
            // Only clients before docker 23 use BuildKit without buildx, with a BuildKit of that time.
            Builder::BuildKit => self.planned.dockerfile.has_syntax(),
            Builder::Legacy => false,
        };
        if knows {
            return Ok(());
        }
        let (dockerfile, builder) =
            (self.planned.runtime.dockerfile.clone(), self.docker.builder().to_string());
        Err(RuntimeError::Heredoc { dockerfile, line, builder })
    }

    /// The image's labels. They are not part of the key.
    fn labels(&self) -> BTreeMap<String, String> {
        let (context, planned) = (self.context, self.planned);
        let base = planned.base.as_ref();
        // Without git or outside a checkout, the image has no revision.
        let commit = |checkout| Cmd::new("git").args(["rev-parse", "HEAD"]).cwd(checkout).read().ok();
        let labels = [
            (KEY_LABEL, Some(planned.key.clone())),
            (INPUTS_LABEL, Some(planned.inputs.to_label())),
            ("org.opencontainers.image.base.name", base.map(|base| base.name.to_string())),
            ("org.opencontainers.image.base.digest", base.map(|base| base.digest.to_string())),
            ("org.opencontainers.image.source", context.source.clone()),
            ("org.opencontainers.image.revision", context.checkout.as_deref().and_then(commit)),
        ];
        labels.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}
