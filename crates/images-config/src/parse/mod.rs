//! Converts the text of images.toml to validated structs.
//!
//! Reading continues after an error: a part that cannot be read is reported and skipped, and if anything was reported, there is no
//! result at the end.

mod images;
mod min_age;
mod runtimes;
mod trust;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};

use super::reader::{Fields, Node, Place};
use super::values::platforms;
use super::{
    Config, Kms, RUNTIMES_REPOSITORY, RegistrySettings, Repositories, SCHEMA_VERSION, SigningProfile,
    Sources, cached_registries, names,
};

/// ECR allows 50 lifecycle rules per repository, and each runtime needs two.
pub(super) const MAX_RUNTIMES: usize = 24;

/// Reads the whole file. Without `sources` the files that it names are not read.
pub(crate) fn config(mut root: Fields<'_>, sources: Option<&Sources>) -> Option<Config> {
    version(&mut root, "images.toml")?;
    let account = root.take("account").and_then(|node| checked(&node, names::account));
    let default_platforms = match root.take("platforms") {
        Some(node) => platforms(&node).unwrap_or_default(),
        None => vec![super::default_platform()],
    };
    let attestations = root.take("attestations").and_then(|node| node.boolean()).unwrap_or(true);

    let pull_through = root
        .table("pull_through")
        .map(|table| upstreams::pull_through(&table, account.as_deref()))
        .unwrap_or_default();
    let creation_role = creation_role(root.table("creation_template"), account.as_deref());
    let images =
        root.table("images").map(|table| images::images(&table, &default_platforms)).unwrap_or_default();
    let runtimes = root
        .table("runtimes")
        .map(|table| runtimes::runtimes(&table, &default_platforms, sources))
        .unwrap_or_default();
    let prime = upstreams::primes(&mut root, &pull_through);
    let options = repositories(root.table("repositories"));
    let kms = kms(root.table("kms"));
    let registry = registry_settings(root.table("registry"));
    let (upstreams, mirrors) =
        root.table("upstream").map(|table| upstreams::upstreams(&table)).unwrap_or_default();
    let trust = root.table("trust").map(|table| trust::trust(&table, sources)).unwrap_or_default();
    let min_ages = root.take("min_age").map(|node| min_age::min_age(&node)).unwrap_or_default();
    let tags = root.table("tags").map(|table| tags(&table)).unwrap_or_default();
    root.finish();

    images::check_destinations(&images, &runtimes);
    let mut names: BTreeSet<String> = options.extra.iter().map(|(name, _)| name.clone()).collect();
    names.insert(RUNTIMES_REPOSITORY.to_owned());
    names.extend(images.iter().map(|(image, _)| image.repository.clone()));
    for (repository, place) in options
        .extra
        .iter()
        .map(|(name, place)| (name, place))
        .chain(images.iter().map(|(image, place)| (&image.repository, place)))
    {
        images::check_prefix(repository, place, &pull_through);
    }
    if let Some((_, place)) = runtimes.iter().filter(|(runtime, _)| runtime.enabled).nth(MAX_RUNTIMES) {
        place.fail(format!(
            "is runtime number {}: ECR's lifecycle rules have room for {MAX_RUNTIMES}",
            MAX_RUNTIMES + 1
        ));
    }

    // Collected into a new list: the list of pairs would keep the memory of the second halves.
    let mut images: Vec<_> = images.into_iter().map(|(image, _)| image).collect();
    images.shrink_to_fit();
    Some(Config {
        account,
        images,
        repositories: names.into_iter().collect(),
        pull_through,
        creation_role,
        runtimes: runtimes.into_iter().map(|(runtime, _)| runtime).collect(),
        attestations,
        prime,
        upstreams,
        mirrors,
        trust,
        min_ages,
        options: options.options,
        kms,
        registry,
        tags,
    })
}

/// Checks `schema_version`. A file of a later version is not read further, because everything else may have changed.
pub(crate) fn version(root: &mut Fields<'_>, file: &str) -> Option<()> {
    let node = root.require("schema_version")?;
    let found = node.integer(1..=u64::MAX)?;
    if found > SCHEMA_VERSION {
        node.fail_with(
            format!(
                "this {file} is written for schema version {found}, this xtask reads up to {SCHEMA_VERSION}"
            ),
            "take the xtask that came with the file: `git pull`, or the branch that it was written on",
        );
        return None;
    }
    Some(())
}

/// A string that passes a rule of [`names`].
fn checked(node: &Node<'_>, rule: impl Fn(&str) -> Result<(), String>) -> Option<String> {
    let text = node.text()?;
    match rule(text) {
        Ok(()) => Some(text.to_owned()),
        Err(why) => {
            node.fail(why);
            None
        }
    }
}

/// The strings of a list that pass a rule, without duplicates, in the order of the file.
fn checked_list(
    fields: &mut Fields<'_>,
    name: &'static str,
    rule: impl Fn(&str) -> Result<(), String>,
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (text, node) in fields.texts(name) {
        if let Err(why) = rule(text) {
            node.fail(why);
        } else if found.iter().any(|known| known == text) {
            node.fail(format!("`{text}` is listed twice"));
        } else {
            found.push(text.to_owned());
        }
    }
    found
}

/// `[repositories]`: the options, and the extra repositories with their positions.
#[derive(Default)]
struct RepositoriesTable<'a> {
    extra: Vec<(String, Place<'a>)>,
    options: Repositories,
}

fn repositories(table: Option<Fields<'_>>) -> RepositoriesTable<'_> {
    let Some(mut fields) = table else { return RepositoriesTable::default() };
    let mut extra: Vec<(String, Place<'_>)> = Vec::new();
    for (name, node) in fields.texts("extra") {
        if let Err(why) = names::repository(name) {
            node.fail(why);
        } else if extra.iter().any(|(known, _)| known == name) {
            node.fail(format!("`{name}` is listed twice"));
        } else {
            extra.push((name.to_owned(), node.place()));
        }
    }
    let default = Repositories::default();
    let mut flag = |name, default| fields.take(name).and_then(|node| node.boolean()).unwrap_or(default);
    let mut options = Repositories {
        scan_on_push: flag("scan_on_push", default.scan_on_push),
        force_delete: flag("force_delete", default.force_delete),
        protect_build_tags: flag("protect_build_tags", default.protect_build_tags),
        ..default
    };
    options.keep_builds = fields
        .take("keep_builds")
        .and_then(|node| node.integer(1..=1000))
        .and_then(|builds| u32::try_from(builds).ok());
    options.pull_accounts = checked_list(&mut fields, "pull_accounts", names::account);
    fields.finish();
    RepositoriesTable { extra, options }
}

/// A template without a role cannot set keys and tags
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-creation-templates-create.html>).
fn creation_role(table: Option<Fields<'_>>, account: Option<&str>) -> Option<String> {
    let mut fields = table?;
    let role = fields.require("role_arn");
    fields.finish();
    checked(&role?, |arn| cached_registries::check_role(arn, account))
}

fn kms(table: Option<Fields<'_>>) -> Kms {
    let mut kms = Kms::default();
    let Some(mut fields) = table else { return kms };
    if let Some(days) = fields.take("deletion_window").and_then(|node| node.integer(7..=30)) {
        kms.deletion_window = u8::try_from(days).unwrap_or(kms.deletion_window);
    }
    kms.admin_roles = checked_list(&mut fields, "admin_roles", names::role);
    fields.finish();
    kms
}

fn registry_settings(table: Option<Fields<'_>>) -> RegistrySettings {
    let Some(mut fields) = table else { return RegistrySettings::default() };
    let replicate_line = fields.take("replicate_to").map_or(0, |node| node.place().line());
    let replicate_to = checked_list(&mut fields, "replicate_to", names::region);
    let blob_mounting = fields.take("blob_mounting").and_then(|node| node.boolean());
    let sign_runtimes = fields.take("sign_runtimes").and_then(|node| {
        let line = node.place().line();
        checked(&node, names::signing_profile).map(|arn| SigningProfile { arn, line })
    });
    fields.finish();
    RegistrySettings { replicate_to, replicate_line, blob_mounting, sign_runtimes }
}

fn tags(table: &Fields<'_>) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for entry in table.entries() {
        if entry.name.starts_with("aws:") || entry.name.starts_with("htc-grid/") {
            entry.key.fail("tags that begin with `aws:` or `htc-grid/` are taken");
        }
        if !(1..=128).contains(&entry.name.chars().count()) {
            entry.key.fail("the name of a tag has 1 to 128 characters");
        }
        tags.extend(entry.value.string().map(|value| (entry.name.to_owned(), value.to_owned())));
    }
    tags
}
