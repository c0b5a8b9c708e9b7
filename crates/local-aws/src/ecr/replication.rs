//! Replication to other regions and registries, as configured by `PutReplicationConfiguration`
//! (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/replication.html>).
//!
//! ECR replicates within minutes and only what is pushed after the rule was set; here it is done before the push is answered, so that tests
//! need not wait. Replicated images are not replicated again, and deletions are not replicated.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{repositories, settings};
use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::resource::{Call, ON_ALL, Resource};
use crate::scope::Scope;
use crate::store::model::{Image, Layer, Repository};

pub(super) const RESOURCE: Resource =
    Resource { actions: &[("StartReplicationBackfill", ON_ALL, backfill)], existing: None, scenarios: &[] };

/// Copies an image to the destinations that the registry's rules have for its repository.
pub(super) fn replicate(
    app: &App,
    scope: &Scope,
    name: &str,
    digest: &str,
    tag: Option<&str>,
) -> Result<(), Fault> {
    let settings = app.store.region(scope).settings();
    for rule in settings.replication.iter().filter(|rule| applies(rule, name)) {
        for destination in rule["destinations"].as_array().into_iter().flatten() {
            let (Some(region), Some(account)) =
                (destination["region"].as_str(), destination["registryId"].as_str())
            else {
                continue;
            };
            let there = Scope { account: account.to_owned(), region: region.to_owned() };
            copy(app, scope, &there, name, digest, tag)?;
        }
    }
    Ok(())
}

/// Copies existing images to one destination according to the rules, as requested by `StartReplicationBackfill`; here it is immediate.
fn backfill(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let destination = input.value("destination").cloned().unwrap_or_default();
    let rules = call.app.store.region(&call.scope).settings().replication.clone();
    let leads =
        |rule: &&Value| rule["destinations"].as_array().into_iter().flatten().any(|to| *to == destination);
    let rules: Vec<&Value> = rules.iter().filter(leads).collect();
    let (Some(region), Some(account)) = (destination["region"].as_str(), destination["registryId"].as_str())
    else {
        return Err(Fault::invalid_parameter(
            "Invalid parameter at 'destination': region and registryId are required",
        ));
    };
    let there = Scope { account: account.to_owned(), region: region.to_owned() };
    for repository in call.app.store.region(&call.scope).repositories() {
        if !rules.iter().any(|rule| applies(rule, &repository.name)) {
            continue;
        }
        for digest in repository.images.keys() {
            let tags = super::images::tags_of(&repository, digest);
            for tag in tags.iter().map(|tag| Some(*tag)).chain(tags.is_empty().then_some(None)) {
                copy(call.app, &call.scope, &there, &repository.name, digest, tag)?;
            }
        }
    }
    Ok(json!({
        "registryId": call.scope.account, "replicationBackfillId": crate::store::new_id(), "destination": destination, "status": "PREPARING",
    }))
}

/// A rule without filters applies to every repository.
fn applies(rule: &Value, name: &str) -> bool {
    let filters = rule["repositoryFilters"].as_array().map(Vec::as_slice).unwrap_or_default();
    filters.is_empty()
        || filters
            .iter()
            .filter_map(|filter| filter["filter"].as_str())
            .any(|prefix| name.starts_with(prefix))
}

fn copy(
    app: &App,
    from: &Scope,
    to: &Scope,
    name: &str,
    digest: &str,
    tag: Option<&str>,
) -> Result<(), Fault> {
    let source = repositories::find(app, from, name)?;
    let (mut images, mut layers) = (BTreeMap::new(), BTreeMap::new());
    collect(&source, digest, &mut images, &mut layers);
    if app.store.region(to).repository(name).is_none() {
        // With the destination's defaults: neither settings nor encryption are replicated.
        app.store.region(to).add_repository(Repository::new(name))?;
    }
    repositories::change(app, to, name, |repository| {
        for (digest, layer) in layers {
            repository.layers.entry(digest).or_insert(layer);
        }
        for (digest, image) in images {
            repository.images.entry(digest).or_insert(image);
        }
        if let Some(tag) = tag {
            let stays = repository.tags.contains_key(tag) && settings::tag_is_immutable(repository, tag);
            if !stays {
                repository.tags.insert(tag.to_owned(), digest.to_owned());
            }
        }
        Ok(())
    })
}

/// An image with its layers and, for an index, its images.
fn collect(
    source: &Repository,
    digest: &str,
    images: &mut BTreeMap<String, Image>,
    layers: &mut BTreeMap<String, Layer>,
) {
    let Some(image) = source.images.get(digest) else { return };
    if images
        .insert(digest.to_owned(), Image { pulled: None, signing: BTreeMap::new(), ..image.clone() })
        .is_some()
    {
        return;
    }
    for blob in &image.blobs {
        if let Some(layer) = source.layers.get(blob) {
            layers.insert(blob.clone(), layer.clone());
        }
    }
    for child in &image.children {
        collect(source, child, images, layers);
    }
}
