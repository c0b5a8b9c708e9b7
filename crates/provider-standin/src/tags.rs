//! Tags as the real provider handles them: the provider's defaults, and ignored tags.
//!
//! A tag that is both a default and ignored is set when a resource is created and then never read or changed.

use std::collections::BTreeMap;

use crate::values::{Object, Value};

/// Tags by name.
pub(crate) type Tags = BTreeMap<String, String>;

/// The provider's `default_tags` and `ignore_tags`.
#[derive(Clone, Debug, Default)]
pub(crate) struct TagRules {
    pub(crate) defaults: Tags,
    pub(crate) ignored_keys: Vec<String>,
    pub(crate) ignored_prefixes: Vec<String>,
}

impl TagRules {
    fn sees(&self, key: &str) -> bool {
        !(key.starts_with("aws:")
            || self.ignored_keys.iter().any(|ignored| ignored == key)
            || self.ignored_prefixes.iter().any(|prefix| key.starts_with(prefix)))
    }

    /// The tags of a new resource.
    pub(crate) fn at_creation(&self, object: &Object) -> Tags {
        let mut all = self.defaults.clone();
        all.extend(own(object, "tags"));
        all
    }

    /// The planned `tags_all`; unknown if one of the resource's own tags is.
    pub(crate) fn planned(&self, object: &Object) -> Value {
        let tags = object.get("tags");
        let undecided = tags == Some(&Value::Unknown)
            || tags
                .and_then(Value::as_object)
                .is_some_and(|tags| tags.values().any(|v| v == &Value::Unknown));
        if undecided {
            return Value::Unknown;
        }
        let mut all = self.at_creation(object);
        all.retain(|key, _| self.sees(key));
        to_value(&all)
    }

    /// Sets `tags` and `tags_all` from the service's tags. A default is one of the resource's own tags only if the state already has it
    /// there.
    pub(crate) fn remember(&self, object: &mut Object, mut found: Tags) {
        found.retain(|key, _| self.sees(key));
        object.insert("tags_all".to_owned(), to_value(&found));
        let before = own(object, "tags");
        found.retain(|key, value| before.contains_key(key) || self.defaults.get(key) != Some(value));
        let unset = found.is_empty() && object.get("tags").is_none_or(|tags| tags == &Value::Null);
        object.insert("tags".to_owned(), if unset { Value::Null } else { to_value(&found) });
    }
}

/// The tags that an update removes, and those that it sets.
pub(crate) fn changes(prior: &Object, planned: &Object) -> (Vec<String>, Tags) {
    let (before, mut after) = (own(prior, "tags_all"), own(planned, "tags_all"));
    let gone = before.keys().filter(|key| !after.contains_key(*key)).cloned().collect();
    after.retain(|key, value| before.get(key) != Some(value));
    (gone, after)
}

/// Tags from a map of strings in an object.
pub(crate) fn own(object: &Object, name: &str) -> Tags {
    let members = object.get(name).and_then(Value::as_object).into_iter().flatten();
    members.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn to_value(tags: &Tags) -> Value {
    Value::Object(tags.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn rules() -> TagRules {
        TagRules {
            defaults: tags(&[("team", "hpc"), ("htc-grid/a", "used")]),
            ignored_keys: Vec::new(),
            ignored_prefixes: vec!["htc-grid/".to_owned()],
        }
    }

    #[test]
    fn an_ignored_default_is_set_at_creation_and_is_not_drift() {
        let object = Object::new();
        assert!(rules().at_creation(&object).contains_key("htc-grid/a"));
        assert_eq!(rules().planned(&object), to_value(&tags(&[("team", "hpc")])));
        let mut read = Object::new();
        rules().remember(&mut read, tags(&[("team", "hpc"), ("htc-grid/a", "used"), ("htc-grid/b", "used")]));
        assert_eq!(read["tags_all"], to_value(&tags(&[("team", "hpc")])));
        assert_eq!(read["tags"], Value::Null);
    }

    #[test]
    fn a_foreign_tag_is_drift() {
        let mut read = Object::new();
        rules().remember(&mut read, tags(&[("team", "hpc"), ("by", "hand")]));
        assert_eq!(read["tags"], to_value(&tags(&[("by", "hand")])));
        let planned = Object::from([("tags_all".to_owned(), rules().planned(&Object::new()))]);
        assert_eq!(changes(&read, &planned), (vec!["by".to_owned()], Tags::new()));
    }
}
