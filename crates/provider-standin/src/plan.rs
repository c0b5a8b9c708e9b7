//! Plans a resource: defaults, values that only the service knows, and whether a change replaces it.

use crate::api::Api;
use crate::resources::Resource;
use crate::schema::Block;
use crate::values::{Object, Value, same_document, text};

/// A plan for one resource.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) state: Object,
    /// The attributes whose change replaces the resource.
    pub(crate) replace: Vec<String>,
}

/// Plans the change from `prior` (`None`: creation) to terraform's proposal, which is the configuration with the prior values of attributes
/// that the service chooses.
pub(crate) fn plan(
    block: &Block,
    resource: &Resource,
    api: &Api,
    prior: Option<&Object>,
    proposed: Object,
) -> Planned {
    let mut state = block.conform(proposed);
    for (path, default) in resource.defaults {
        fill(&mut state, path, (*default).into());
    }
    if state.get("region") == Some(&Value::Null) {
        state.insert("region".to_owned(), api.region.as_str().into());
    }
    match prior {
        Some(prior) => {
            for name in resource.keep_blocks {
                if state.get(*name).is_some_and(Value::is_empty)
                    && let Some(kept) = prior.get(*name)
                {
                    state.insert((*name).to_owned(), kept.clone());
                }
            }
            for name in resource.documents {
                if let (Some(before), Some(after)) = (text(prior, name), text(&state, name))
                    && same_document(before, after)
                {
                    let before = before.into();
                    state.insert((*name).to_owned(), before);
                }
            }
        }
        None => leave_to_the_service(block, &mut state),
    }
    if resource.tagged {
        state.insert("tags_all".to_owned(), api.tags.planned(&state));
    }
    let replace = prior.map_or_else(Vec::new, |prior| {
        let changes = resource.force_new.iter().filter(|name| {
            // A state from before the attribute existed does not contain it.
            let before = prior.get(**name).unwrap_or(&Value::Null);
            let unsaid = before == &Value::Null && **name == "region";
            !unsaid && state.get(**name) != Some(before)
        });
        changes.map(|name| (*name).to_owned()).collect()
    });
    Planned { state, replace }
}

fn fill(object: &mut Object, path: &str, default: Value) {
    match path.split_once('.') {
        None => {
            if let Some(slot @ Value::Null) = object.get_mut(path) {
                *slot = default;
            }
        }
        Some((block, rest)) => {
            if let Some(Value::List(elements)) = object.get_mut(block) {
                for element in elements {
                    if let Value::Object(inner) = element {
                        fill(inner, rest, default.clone());
                    }
                }
            }
        }
    }
}

fn leave_to_the_service(block: &Block, object: &mut Object) {
    for (name, attribute) in &block.attributes {
        if let Some(slot @ Value::Null) = object.get_mut(name)
            && attribute.computed
        {
            *slot = Value::Unknown;
        }
    }
    for (name, nested) in &block.block_types {
        if let Some(Value::List(elements)) = object.get_mut(name) {
            for element in elements {
                if let Value::Object(inner) = element {
                    leave_to_the_service(&nested.block, inner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schemas;
    use crate::tags::TagRules;

    fn api() -> Api {
        crate::crypto::choose_ring();
        Api::for_tests("eu-west-1", TagRules::default())
    }

    fn object(pairs: &[(&str, Value)]) -> Object {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn list(inner: &[(&str, Value)]) -> Value {
        Value::List(vec![Value::Object(object(inner))])
    }

    fn run(prior: Option<&Object>, proposed: Object) -> Planned {
        let schemas = Schemas::load().unwrap();
        let block = &schemas.resource_schemas["aws_ecr_repository"].block;
        plan(block, Resource::named("aws_ecr_repository").unwrap(), &api(), prior, proposed)
    }

    fn repository() -> Object {
        let schemas = Schemas::load().unwrap();
        schemas.resource_schemas["aws_ecr_repository"].block.conform(object(&[
            ("name", "curl".into()),
            ("id", "curl".into()),
            ("region", "eu-west-1".into()),
            ("image_tag_mutability", "MUTABLE".into()),
            ("tags_all", Value::Object(Object::new())),
            (
                "encryption_configuration",
                list(&[("encryption_type", "KMS".into()), ("kms_key", "k1".into())]),
            ),
        ]))
    }

    #[test]
    fn a_new_repository_has_defaults_and_leaves_the_rest_to_ecr() {
        let planned = run(None, object(&[("name", "curl".into()), ("encryption_configuration", list(&[]))]));
        assert_eq!(planned.state["image_tag_mutability"], "MUTABLE".into());
        assert_eq!(planned.state["region"], "eu-west-1".into());
        assert_eq!(planned.state["repository_url"], Value::Unknown);
        assert_eq!(planned.state["tags"], Value::Null);
        let expected = list(&[("encryption_type", "AES256".into()), ("kms_key", Value::Unknown)]);
        assert_eq!(planned.state["encryption_configuration"], expected);
    }

    #[test]
    fn another_key_or_name_replaces_and_another_mutability_does_not() {
        let prior = repository();
        let mut proposed = prior.clone();
        proposed.insert("image_tag_mutability".to_owned(), "IMMUTABLE".into());
        assert!(run(Some(&prior), proposed.clone()).replace.is_empty());
        let other = list(&[("encryption_type", "KMS".into()), ("kms_key", "k2".into())]);
        proposed.insert("encryption_configuration".to_owned(), other);
        proposed.insert("name".to_owned(), "wget".into());
        assert_eq!(run(Some(&prior), proposed).replace, ["name", "encryption_configuration"]);
    }

    #[test]
    fn a_block_missing_in_the_configuration_keeps_ecrs_default() {
        let prior = repository();
        let mut proposed = prior.clone();
        proposed.insert("encryption_configuration".to_owned(), Value::List(Vec::new()));
        let planned = run(Some(&prior), proposed);
        assert_eq!(planned.state["encryption_configuration"], prior["encryption_configuration"]);
        assert!(planned.replace.is_empty());
    }

    #[test]
    fn a_state_without_a_region_is_not_replaced_for_it() {
        let mut prior = repository();
        prior.insert("region".to_owned(), Value::Null);
        assert!(run(Some(&prior), prior.clone()).replace.is_empty());
    }

    #[test]
    fn policies_are_equal_by_content() {
        assert!(same_document(r#"{"a":1,"b":[2]}"#, r#"{ "b": [2], "a": 1 }"#));
        assert!(!same_document(r#"{"a":1}"#, r#"{"a":2}"#));
        assert!(!same_document("no json", "none"));
    }
}
