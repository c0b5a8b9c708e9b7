//! Every setting of a run with its origin.

use aws::DEFAULT_REGION;
use aws::state::STATE_KEY;
use images_config::Config;
use serde::Serialize;

use crate::context::{Context, environment_variable};
use crate::local::STATE_BUCKET;
use crate::paths::Home;
use crate::settings::DEFAULT_TAG;

/// A setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value, if any.
    pub value: Option<String>,
    /// Its origin.
    pub from: String,
}

const ARGUMENT: &str = "argument";
const DEFAULT: &str = "default";

/// Variables that decide how servers are reached.
pub const NETWORK: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "AWS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// The settings of this run.
pub async fn settings(context: &Context, config: &Config) -> Vec<Setting> {
    let said = &context.settings;
    let mut all = Vec::new();
    let mut add = |name: &str, value: Option<String>, from: &str| {
        all.push(Setting { name: name.to_owned(), value, from: from.to_owned() });
    };
    let env = environment_variable;
    let (tag, from) = first(&said.tag, &["TAG"], env, DEFAULT_TAG);
    add("tag", Some(tag), &from);
    let region = region(context).await;
    add("region", Some(region.0), &region.1);
    match (&said.state_bucket, said.local) {
        (Some(bucket), _) => {
            let (bucket, from) = first(bucket, &["S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME"], env, "");
            add("state bucket", Some(bucket), &from);
        }
        (None, true) => add("state bucket", Some(STATE_BUCKET.to_owned()), "--local"),
        (None, false) => add("state bucket", None, "HTC-Grid's CloudFormation stack, where there is one"),
    }
    let from = if said.state_key == STATE_KEY { DEFAULT } else { ARGUMENT };
    add("state key", Some(said.state_key.clone()), from);
    if !said.local {
        let chosen = aws::profile::chosen(said.profile.as_deref(), env);
        let by =
            chosen.as_ref().map_or(DEFAULT, |chosen| if chosen.by_flag() { ARGUMENT } else { chosen.by });
        add("AWS profile", chosen.map(|chosen| chosen.name), by);
    }
    let (files, from) = files(context);
    add("files", Some(files), from);
    let images = context.paths.relative(context.paths.images()).display().to_string();
    let account = (said.expect_account.clone(), config.account.clone());
    match account {
        (Some(account), _) => add("expected account", Some(account), ARGUMENT),
        (None, Some(account)) => add("expected account", Some(account), &images),
        (None, None) => add("expected account", None, DEFAULT),
    }
    let target = match (&said.registry, said.local) {
        (Some(registry), _) => (registry.clone(), ARGUMENT),
        (None, true) => ("the AWS that is emulated on this machine".to_owned(), ARGUMENT),
        (None, false) => ("the account's ECR".to_owned(), DEFAULT),
    };
    add("target", Some(target.0), target.1);
    let from = if said.images.is_some() { ARGUMENT } else { DEFAULT };
    add("list of images", Some(images.clone()), from);
    let lock = context.paths.lock();
    let is_there = if lock.exists() { "there" } else { "there is none" };
    add("lock", Some(context.paths.relative(&lock).display().to_string()), is_there);
    for (host, url) in context.sources().routes(config) {
        let by_option = said.upstreams.iter().any(|(known, _)| *known == host);
        add(
            &format!("upstream {host}"),
            Some(without_password(&url)),
            if by_option { ARGUMENT } else { &images },
        );
    }
    let client = match &said.container_cli {
        Some(client) => (client.clone(), ARGUMENT),
        None => ("the first of docker, podman, finch, nerdctl in PATH".to_owned(), DEFAULT),
    };
    add("container client", Some(client.0), client.1);
    for name in NETWORK {
        if let Some(value) = env(name) {
            add(name, Some(without_password(&value)), "environment");
        }
    }
    let cache = context.paths.cache();
    let from = match context.paths.home() {
        Home::Workspace => "cargo's target directory",
        Home::Folder | Home::Program(_) if env("XDG_CACHE_HOME").is_some() => "XDG_CACHE_HOME",
        Home::Folder | Home::Program(_) => "home directory",
    };
    add("cache", Some(context.paths.show(&cache).to_string()), from);
    all
}

/// The origin of images.toml, the terraform module and the runtimes.
fn files(context: &Context) -> (String, &'static str) {
    match context.paths.home() {
        Home::Workspace => ("the workspace".to_owned(), "cargo, or the working directory"),
        Home::Folder => (
            context.paths.root().display().to_string(),
            "the nearest folder with deployment/image_repository/images.toml",
        ),
        Home::Program(_) => {
            ("this program's own".to_owned(), "no folder here or above has any: `cargo xtask write-files`")
        }
    }
}

async fn region(context: &Context) -> (String, String) {
    let said = &context.settings;
    match &said.region {
        Some(region) => first(region, &["REGION", "HTCGRID_REGION"], environment_variable, DEFAULT_REGION),
        None if said.local => (DEFAULT_REGION.to_owned(), DEFAULT.to_owned()),
        None => match aws::region_of_shell(said.profile.as_deref()).await {
            Some(by) => (by.region, by.by),
            None => (DEFAULT_REGION.to_owned(), DEFAULT.to_owned()),
        },
    }
}

/// `value` and its origin: one of `variables`, the default, or otherwise an argument, which has precedence over both.
fn first(
    value: &str,
    variables: &[&str],
    env: impl Fn(&str) -> Option<String>,
    default: &str,
) -> (String, String) {
    // Only the first variable that is set is read.
    let said = variables.iter().find_map(|name| Some((name, env(name)?)));
    let from = match said {
        Some((name, said)) if said == value => (*name).to_owned(),
        None if value == default => DEFAULT.to_owned(),
        _ => ARGUMENT.to_owned(),
    };
    (value.to_owned(), from)
}

/// An address without its login.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.split_once('@').filter(|(login, _)| !login.contains('/')).map(|(_, host)| host);
    match host {
        Some(host) if scheme.is_empty() => format!("***@{host}"),
        Some(host) => format!("{scheme}://***@{host}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_origin_is_the_effective_one() {
        let env = |name: &str| (name == "HTCGRID_REGION").then(|| "eu-west-3".to_owned());
        let from = |value: &str| first(value, &["REGION", "HTCGRID_REGION"], env, "eu-west-1").1;
        assert_eq!(from("eu-west-3"), "HTCGRID_REGION");
        assert_eq!(from("eu-west-1"), "argument", "the variable says another");
        assert_eq!(first("eu-west-1", &["REGION"], |_| None, "eu-west-1").1, "default");
        assert_eq!(first("us-east-1", &["REGION"], |_| None, "eu-west-1").1, "argument");
    }

    #[test]
    fn a_proxys_password_is_not_shown() {
        assert_eq!(without_password("http://me:secret@proxy:3128"), "http://***@proxy:3128");
        assert_eq!(without_password("me:secret@proxy:3128"), "***@proxy:3128");
        assert_eq!(without_password("http://proxy/a@b"), "http://proxy/a@b");
        assert_eq!(without_password("10.0.0.0/8,example.com"), "10.0.0.0/8,example.com");
    }
}
