//! Reads the sources of images: `[pull_through]`, `prime` and `[upstream]`.

use std::collections::{BTreeMap, BTreeSet};

use registry::{Reference, registry_name};

use super::checked;
use crate::cached_registries::{self, Login};
use crate::reader::Fields;
use crate::values::{dotted, route};
use crate::{Mirror, Prime, PullThrough, names};

/// The rules. `account` is the one in images.toml.
pub(super) fn pull_through(table: &Fields<'_>, account: Option<&str>) -> Vec<PullThrough> {
    let mut rules = Vec::new();
    for entry in table.entries() {
        if dotted(&entry, &["upstream", "credential_arn", "custom_role_arn", "upstream_repository_prefix"]) {
            continue;
        }
        if let Err(why) = names::prefix(entry.name) {
            entry.key.fail(why);
        }
        let [upstream, credential_arn, role, part] = if entry.value.is_table() {
            let Some(mut fields) = entry.value.table() else { continue };
            let upstream = fields.require("upstream");
            let rest = ["credential_arn", "custom_role_arn", "upstream_repository_prefix"];
            let [arn, role, part] = rest.map(|name| fields.take(name));
            fields.finish();
            [upstream, arn, role, part]
        } else {
            [Some(entry.value.clone()), None, None, None]
        };
        let has_secret = credential_arn.is_some();
        let credential_arn = credential_arn
            .and_then(|node| checked(&node, |arn| cached_registries::check_secret(arn, account)));
        let Some(node) = upstream else { continue };
        let Some(upstream) = checked(&node, names::registry_host) else { continue };
        let upstream = upstream.to_ascii_lowercase();
        for only in [&role, &part].into_iter().flatten().filter(|_| !cached_registries::is_ecr(&upstream)) {
            only.fail("this is for another ECR as upstream alone");
        }
        let custom_role_arn =
            role.and_then(|node| checked(&node, |arn| cached_registries::check_role(arn, account)));
        let upstream_repository_prefix = part.and_then(|node| checked(&node, names::repository));
        match cached_registries::login(&upstream) {
            None if ["docker.io", "index.docker.io", "hub.docker.com"].contains(&upstream.as_str()) => {
                node.fail_with(
                    format!("ECR does not know `{upstream}`"),
                    "Docker Hub is `registry-1.docker.io` to ECR",
                );
            }
            None => node.fail_with(
                format!("ECR's pull-through cache does not support `{upstream}`"),
                format!("it knows {}", cached_registries::hosts()),
            ),
            Some(Login::Secret) if !has_secret => node.fail_with(
                format!("ECR needs credentials for `{upstream}`"),
                "{ upstream = \"...\", credential_arn = \"...:secret:ecr-pullthroughcache/...\" } names the secret that holds it",
            ),
            Some(_) => {}
        }
        let line = entry.value.place().line();
        rules.push(PullThrough {
            prefix: entry.name.to_owned(),
            upstream,
            credential_arn,
            custom_role_arn,
            upstream_repository_prefix,
            line,
        });
    }
    rules
}

pub(super) fn primes(root: &mut Fields<'_>, rules: &[PullThrough]) -> Vec<Prime> {
    let mut primes: Vec<Prime> = Vec::new();
    for (text, node) in root.texts("prime") {
        let Some((repository, tag)) = text.rsplit_once(':') else {
            node.fail(format!("`{text}` has no tag"));
            continue;
        };
        if let Err(why) = names::repository(repository).and_then(|()| names::tag(tag)) {
            node.fail(why);
            continue;
        }
        let rule = rules
            .iter()
            .filter_map(|rule| {
                Some((rule, repository.strip_prefix(rule.prefix.as_str())?.strip_prefix('/')?))
            })
            .max_by_key(|(rule, _)| rule.prefix.len());
        let Some((rule, rest)) = rule else {
            let known: Vec<&str> = rules.iter().map(|rule| rule.prefix.as_str()).collect();
            node.fail_with(
                format!("`{text}` does not begin with a prefix of [pull_through]"),
                format!("prefixes: {}", known.join(", ")),
            );
            continue;
        };
        let part =
            rule.upstream_repository_prefix.as_ref().map_or_else(String::new, |part| format!("{part}/"));
        let upstream = format!("{}/{part}{rest}:{tag}", rule.registry());
        match upstream.parse::<Reference>() {
            Ok(upstream) if primes.iter().any(|prime| prime.upstream == upstream) => {
                node.fail(format!("`{text}` is listed twice"));
            }
            Ok(upstream) => {
                primes.push(Prime { repository: repository.to_owned(), tag: tag.to_owned(), upstream });
            }
            Err(why) => node.fail(why.to_string()),
        }
    }
    primes
}

/// The addresses of registries, and the other settings of these mirrors.
pub(super) fn upstreams(table: &Fields<'_>) -> (BTreeMap<String, String>, BTreeMap<String, Mirror>) {
    let (mut routes, mut mirrors, mut seen) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for entry in table.entries() {
        if dotted(&entry, &["url", "counts_pulls", "blob_hosts"]) {
            continue;
        }
        if let Err(why) = names::registry_host(entry.name) {
            entry.key.fail(why);
        }
        let lower = entry.name.to_ascii_lowercase();
        if ["index.docker.io", "registry-1.docker.io", "hub.docker.com"].contains(&lower.as_str()) {
            entry.key.fail("Docker Hub is called `docker.io` here");
        }
        let host = registry_name(entry.name);
        if !seen.insert(host.clone()) {
            entry.key.fail(format!("`{host}` is there twice: upper and lower case mean the same host"));
        }
        let url = if entry.value.is_table() {
            let Some(mut fields) = entry.value.table() else { continue };
            let url = fields.require("url");
            mirrors.insert(host.clone(), mirror(&mut fields));
            fields.finish();
            url
        } else {
            Some(entry.value.clone())
        };
        let Some(url) = url.and_then(|node| checked(&node, route)) else { continue };
        routes.insert(host, url.trim_end_matches('/').to_owned());
    }
    (routes, mirrors)
}

fn mirror(fields: &mut Fields<'_>) -> Mirror {
    let counts_pulls = fields.take("counts_pulls").and_then(|node| node.boolean()).unwrap_or_default();
    let mut blob_hosts = Vec::new();
    for (host, node) in fields.texts("blob_hosts") {
        match names::registry_host(host) {
            Ok(()) => blob_hosts.push(host.to_owned()),
            Err(why) => node.fail(why),
        }
    }
    Mirror { counts_pulls, blob_hosts }
}
