//! The part of images.toml that a run transfers: by `--only`, a shard, or only the resources.

use aws::shard::Shard;
use failure::{FailWith as _, Kind, failure};
use images_config::{Config, RUNTIMES_REPOSITORY};

/// The part of images.toml that `names` select: repositories, `repository:tag`, or runtimes.
///
/// # Errors
/// A name that images.toml does not have.
pub fn only(mut config: Config, names: &[String]) -> anyhow::Result<Config> {
    if names.is_empty() {
        return Ok(config);
    }
    let image_names = |image: &images_config::Image| {
        [image.repository.clone(), format!("{}:{}", image.repository, image.tag)]
    };
    let runtime_names =
        |runtime: &images_config::Runtime| [runtime.name.clone(), format!("lambda:{}", runtime.name)];
    let known: Vec<String> = config
        .images
        .iter()
        .flat_map(image_names)
        .chain(config.runtimes.iter().flat_map(runtime_names))
        .collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(failure(Kind::Usage, format!("{unknown}: images.toml has no such image or runtime")))
            .hint(Kind::Usage, format!("it has {}", known.join(", ")));
    }
    config.images.retain(|image| image_names(image).iter().any(|name| names.contains(name)));
    // Disabled instead of removed: all entry points are part of each runtime's build key.
    for runtime in &mut config.runtimes {
        runtime.enabled = runtime_names(runtime).iter().any(|name| names.contains(name));
    }
    config.prime.clear();
    Ok(config)
}

/// The part of images.toml for a shard: images by repository, so that one process handles all mounts within it, and each runtime
/// separately. The first shard primes the cache.
pub(super) fn shard_of(mut config: Config, shard: Shard) -> Config {
    config.images.retain(|image| shard.has(&image.repository));
    for runtime in &mut config.runtimes {
        runtime.enabled &= shard.has(&format!("{RUNTIMES_REPOSITORY}/{}", runtime.name));
    }
    if !shard.is_first() {
        config.prime.clear();
    }
    config
}

/// The part without images and runtimes, for the resources only.
pub(super) fn none(mut config: Config) -> Config {
    config.images.clear();
    config.prime.clear();
    for runtime in &mut config.runtimes {
        runtime.enabled = false;
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selected_runtime_copies_no_image_and_primes_nothing() {
        let shipped = include_str!("../../../deployment/image_repository/images.toml");
        let config = Config::parse(shipped, std::path::Path::new("images.toml"), None).unwrap();
        for name in ["provided", "lambda:provided"] {
            let config = only(config.clone(), &[name.to_owned()]).unwrap();
            let enabled: Vec<&str> = config.enabled_runtimes().map(|runtime| runtime.name.as_str()).collect();
            assert_eq!(enabled, ["provided"]);
            assert!(config.images.is_empty() && config.prime.is_empty(), "{name}");
        }
        assert!(only(config, &["lambda:none".to_owned()]).is_err());
    }
}
