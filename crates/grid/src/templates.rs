//! Repository creation templates of grids. ECR has one per prefix, and templates have no tags, so the description contains the
//! grid's name.

use aws::ecr::Template;
use failure::{FailWith as _, Kind, failure};
use images_config::Config;

use super::recovery::Unrecorded;
use super::{Infrastructure, Inventory, ResourceKind};

/// The text before and after the grid's name in the module's description.
const WORDS: (&str, &str) = ("Repositories of the pull-through cache, as the grid ", " wants them");

/// The grid that created a template.
fn maker(template: &Template) -> Option<&str> {
    template.description.as_deref()?.strip_prefix(WORDS.0)?.strip_suffix(WORDS.1)
}

/// The templates for prefixes of images.toml that a grid created and this state does not own, each with that grid's name.
fn of_grids<'a>(
    inventory: &'a Inventory,
    config: &'a Config,
) -> impl Iterator<Item = (&'a Template, &'a str)> {
    let wanted = config.pull_through.iter().filter(|_| config.creation_role.is_some());
    let others = wanted.filter(|rule| !inventory.owns(ResourceKind::CreationTemplate, &rule.prefix));
    others.filter_map(|rule| {
        let template = inventory.templates.get(&rule.prefix)?;
        Some((template, maker(template)?))
    })
}

/// Refuses a prefix whose creation template belongs to another grid: repositories of the cache would get that grid's key, which
/// that grid may change or delete.
///
/// # Errors
/// There is such a template.
pub fn refuse_others(
    grid: &Infrastructure<'_>,
    config: &Config,
    inventory: &Inventory,
) -> anyhow::Result<()> {
    let others = of_grids(inventory, config).filter(|(_, maker)| *maker != grid.options.tag);
    let others: String =
        others.map(|(template, maker)| format!("\n  {} is of the grid {maker}", template.prefix)).collect();
    if others.is_empty() {
        return Ok(());
    }
    let message =
        format!("ECR has one creation template for each prefix, and other grids have these:{others}");
    Err(failure(Kind::Refused, message)).hint(
        Kind::Refused,
        "take [creation_template] out of this grid's images.toml, and what the cache makes there gets that grid's key; or take \
         prefixes of this grid's own; `aws ecr delete-repository-creation-template --prefix ...` deletes the template of a grid \
         that is no more",
    )
}

/// The inventory with the creation templates that have this grid's name but are not in its state: `destroy-images` left them for
/// other grids, or the state was lost.
pub fn with_left_templates(
    grid: &Infrastructure<'_>,
    config: &Config,
    mut inventory: Inventory,
) -> Inventory {
    let own = of_grids(&inventory, config).filter(|(_, maker)| *maker == grid.options.tag);
    let left: Vec<Unrecorded> = own
        .map(|(template, _)| Unrecorded {
            address: format!("{}.managed[\"{}\"]", ResourceKind::CreationTemplate.name(), template.prefix),
            id: template.prefix.clone(),
            why: "bears this grid's name",
        })
        .collect();
    inventory.expect(left);
    inventory
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use aws::ecr::Mutability;

    use super::*;

    #[test]
    fn a_template_names_its_grid_as_the_module_writes_it() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let file = top.join("deployment/image_repository/terraform/pull_through_cache.tf");
        let module = std::fs::read_to_string(file).unwrap();
        let written = format!("\"{}${{var.tag}}{}\"", WORDS.0, WORDS.1);
        assert!(module.contains(&written), "{written}");

        let template = |description: Option<&str>| Template {
            prefix: "quay".to_owned(),
            description: description.map(str::to_owned),
            is_for_cache: true,
            kms_key: None,
            mutability: Mutability::Mutable,
            expires: false,
        };
        let of = |description| maker(&template(description)).map(str::to_owned);
        let dev = written.trim_matches('"').replace("${var.tag}", "dev-2");
        assert_eq!(of(Some(&dev)).as_deref(), Some("dev-2"));
        for other in [None, Some(""), Some("theirs"), Some(WORDS.0), Some(WORDS.1)] {
            assert_eq!(of(other), None);
        }
    }
}
