//! Finds resources that a killed apply created but did not record, and adds them to the state.
//!
//! Terraform writes its state every 20 s and at its end. Before an apply, the resources to create are written next to the state
//! ([`PendingApply`]). If that record still exists, the last apply did not end well, and this module looks for its resources.

use std::collections::BTreeMap;

use anyhow::Context as _;
use aws::{
    ecr::grids,
    kms,
    plan_cache::{LastApply, PendingApply},
};
use failure::{FailWith as _, Kind, failure};
use images_config::Config;
use terraform::Action;

use super::foreign_resources::has_upstream;
use super::resource_kind::{OwnershipCheck, Trace, resource_type};
use super::working_directory::unlocked;
use super::{GridEvent, Infrastructure, Inventory, ResourceKind};

/// An existing resource of the grid that is not in the state yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded {
    /// Its address in the module.
    pub address: String,
    /// Its ID in AWS.
    pub id: String,
    pub(super) why: &'static str,
}

impl std::fmt::Display for Unrecorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "record {}, which exists: it {}", self.address, self.why)
    }
}

/// The inventory with the resources that a killed apply did not record. Without this they would count as not this grid's and never
/// be deleted. Only [`repair`] adds them to the state.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn with_unrecorded(
    grid: &Infrastructure<'_>,
    config: &Config,
    mut inventory: Inventory,
) -> anyhow::Result<Inventory> {
    if let Some(LastApply::PendingApply(pending)) = inventory.last_apply.clone() {
        let why = "was created by a run that was stopped before it could record it";
        let lost = lost(grid, &pending, config, &inventory).await?;
        inventory.expect(lost.into_iter().map(|(address, id)| Unrecorded { address, id, why }));
    }
    Ok(inventory)
}

/// The inventory with the grid's key, if `destroy-images` left it in the account because other grids' images need it: its alias
/// still exists, so a second key could not have it.
///
/// # Errors
/// The alias points to a key that is not this grid's, or AWS refuses.
pub async fn with_left_key(grid: &Infrastructure<'_>, mut inventory: Inventory) -> anyhow::Result<Inventory> {
    if [ResourceKind::Key, ResourceKind::Alias].iter().any(|kind| !inventory.owned(*kind).is_empty()) {
        return Ok(inventory);
    }
    let tag = &grid.options.tag;
    let alias = format!("alias/ecr/{tag}-htc");
    let Some(key) = kms::target(grid.aws, &grid.options.http, &alias).await? else {
        return Ok(inventory);
    };
    if !kms::is_marked(grid.aws, &grid.options.http, &key, tag).await? {
        let message =
            format!("{alias} points at the key {key}, which is not a key of this grid's that can be used");
        return Err(failure(Kind::Refused, message)).hint(
            Kind::Refused,
            format!("take another TAG; `aws kms delete-alias --alias-name {alias}` deletes an alias that is not needed"),
        );
    }
    let why = "was left by destroy-images for other grids";
    inventory.expect([
        Unrecorded { address: format!("{}.ecr", ResourceKind::Key.name()), id: key, why },
        Unrecorded {
            address: format!("{}.ecr[\"ecr/{tag}-htc\"]", ResourceKind::Alias.name()),
            id: alias,
            why,
        },
    ]);
    Ok(inventory)
}

/// Adds the grid's resources in the inventory to the state, and removes the taint of those whose creation was interrupted. The
/// caller holds the lease. Returns the new inventory.
///
/// # Errors
/// AWS refuses, or terraform fails.
pub async fn repair(
    grid: &Infrastructure<'_>,
    config: &Config,
    inventory: &Inventory,
    cut_off: &[String],
) -> anyhow::Result<Inventory> {
    let terraform = grid.terraform().await?;
    let room = tempfile::tempdir().context("could not create a directory for the variables")?;
    let file = room.path().join("grid.tfvars.json");
    std::fs::write(&file, grid.variables_without_deletions(config, inventory).to_string())
        .context("could not write terraform's variables")?;
    for Unrecorded { address, id, why } in &inventory.unrecorded {
        grid.options.interrupt.check()?;
        unlocked(grid, terraform.state().import(&file, address, id).await).await?;
        grid.options.watch.on_event(&GridEvent::Recorded { address: address.clone(), why });
    }
    for address in cut_off {
        grid.options.interrupt.check()?;
        unlocked(grid, terraform.state().untaint(address).await).await?;
    }
    grid.inventory().await
}

/// The resources in `pending` that exist and are not in the state: address and ID, the key first.
async fn lost(
    grid: &Infrastructure<'_>,
    pending: &PendingApply,
    config: &Config,
    inventory: &Inventory,
) -> anyhow::Result<Vec<(String, String)>> {
    let tag = &grid.options.tag;
    let mut lost = Vec::new();
    let known = inventory.owned(ResourceKind::Key).first().cloned();
    let keys = pending.creates.keys().filter(|address| ResourceKind::of(address) == Some(ResourceKind::Key));
    let since = pending.written.unwrap_or(pending.begun.as_second());
    let mut key = known.clone();
    for address in keys.filter(|_| known.is_none()) {
        key = kms::created_since(grid.aws, &grid.options.http, tag, since).await?;
        lost.extend(key.clone().map(|key| (address.clone(), key)));
    }
    for (address, id) in pending.creates.iter().filter_map(|(address, id)| Some((address, id.as_ref()?))) {
        let Some(kind) = ResourceKind::of(address) else { continue };
        let Trace::Attribute(_, check) = kind.trace() else { continue };
        let stands = !inventory.owns(kind, id)
            && match check {
                OwnershipCheck::Mark => match inventory.repositories.get(id) {
                    Some(repository) => grids::users(&grid.ecr, repository).await?.contains(tag),
                    None => false,
                },
                OwnershipCheck::Upstream => config.pull_through.iter().any(|rule| {
                    rule.prefix == *id
                        && inventory.rules.get(id).is_some_and(|found| has_upstream(rule, found))
                }),
                OwnershipCheck::AliasTargetsOwnKey => match &key {
                    Some(key) => kms::has_alias(grid.aws, &grid.options.http, key, id).await?,
                    None => false,
                },
                OwnershipCheck::TemplateUsesOwnKey => key.as_ref().is_some_and(|key| {
                    let given = inventory.templates.get(id).and_then(|found| found.kms_key.as_ref());
                    given.is_some_and(|given| given == key || given.ends_with(&format!("/{key}")))
                }),
            };
        if stands {
            lost.push((address.clone(), id.clone()));
        }
    }
    Ok(lost)
}

impl Inventory {
    /// Counts resources as owned that are not recorded yet.
    pub(super) fn expect(&mut self, found: impl IntoIterator<Item = Unrecorded>) {
        for resource in found {
            let kind = resource_type(&resource.address).to_owned();
            self.state.owned.entry(kind).or_default().push(resource.id.clone());
            self.unrecorded.push(resource);
        }
    }
}

/// The resources in AWS that a plan creates, with address, and ID if it is known.
pub(super) fn creates(plan: &terraform::Plan) -> BTreeMap<String, Option<String>> {
    let created = plan.changes.iter().filter(|change| change.action == Action::Create);
    let named = created.filter_map(|change| {
        let attribute = |name: &str| change.after[name].as_str().map(str::to_owned);
        let id = match ResourceKind::of(&change.kind)?.trace() {
            Trace::Marks => None,
            Trace::Attribute(name, _) => Some(attribute(name)?),
            Trace::Rewritten => return None,
        };
        Some((change.address.clone(), id))
    });
    named.collect()
}
