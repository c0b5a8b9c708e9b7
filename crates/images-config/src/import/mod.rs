//! Converts HTC-Grid's images_config.json to images.toml.
//!
//! The template is the images.toml in this repository: its comments, runtimes and rules stay, and its images and extra repositories
//! are replaced by those of the JSON.

mod json;
mod template;
mod tree;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use registry::Reference;

use super::problem::{Problems, Sink, nearest};
use super::{Config, RUNTIMES_REPOSITORY, names};
use json::Member;
use serde_json::Value;

/// The images.toml of this repository.
const SHIPPED: &str = include_str!("../../../../deployment/image_repository/images.toml");

/// Variables of the Makefile that a file may also set, and the option that replaces each.
const ELSEWHERE: [(&str, &str); 4] = [
    ("region", "REGION=... on the command line"),
    ("tag", "TAG=... on the command line"),
    ("rebuild_runtimes", "REBUILD_RUNTIMES=true on the command line"),
    ("aws_htc_ecr", "--registry HOST on the command line"),
];

const KEYS: [&str; 5] =
    ["image_to_copy", "repository", "kms_deletion_window", "kms_key_admin_roles", "lambda_runtime"];

/// The checked content of the JSON.
#[derive(Debug, Default)]
struct Wanted {
    images: Vec<Copy>,
    extra: Vec<String>,
    deletion_window: Option<u64>,
    admin_roles: Option<Vec<String>>,
    lambda_runtime: Option<String>,
    /// The runtimes' Dockerfile in the tree that contains the JSON.
    dockerfile: Option<tree::Runtimes>,
    notes: Vec<String>,
}

/// One image to copy.
#[derive(Debug)]
struct Copy {
    source: String,
    repository: String,
    tag: String,
    /// Whether the destination includes the tag.
    explicit: bool,
}

/// Converts `text`, an images_config.json of any age, to images.toml. `shown` is its name in errors. If it is in a tree with
/// HTC-Grid's layout, and `project` is elsewhere, the runtimes are built with that tree's own Dockerfile.
///
/// # Errors
/// All errors in it, or in that Dockerfile.
pub fn import_config(text: &str, shown: &Path, project: &Path) -> Result<String, Problems> {
    let tree = tree::of(shown, project)?;
    let sources = tree.as_ref().map(|(_, sources)| sources.clone());
    let sink = Sink::new(text);
    let wanted = json::parse(text, &sink).map(|members| read(&members, &sink));
    let mut wanted = sink.finish(shown, wanted)?;
    wanted.dockerfile = tree.map(|(runtimes, _)| runtimes);
    let toml = template::fill(SHIPPED, &wanted)
        .ok_or_else(|| Problems::of_file(shown, "cannot be put into this repository's images.toml"))?;
    // The parser of images.toml finds errors that the checks above missed.
    Config::parse(&toml, Path::new("the images.toml made of it"), sources.as_ref())?;
    Ok(toml)
}

fn read(members: &[Member], sink: &Sink<'_>) -> Wanted {
    let mut wanted = Wanted::default();
    let mut repositories = Vec::new();
    for member in members {
        let Member { key, span, value, .. } = member;
        let fail = |message: String| sink.report(span, key, message, None);
        match (key.as_str(), value) {
            ("image_to_copy", json::Node::Object(images)) => wanted.images = copies(images, sink),
            ("image_to_copy", _) => fail("must be an object: source to repository".to_owned()),
            ("repository", json::Node::Array(list)) => repositories = strings(key, list, sink),
            ("repository", _) => fail("must be a list of repositories".to_owned()),
            ("kms_deletion_window", json::Node::Other(Value::Number(days))) => {
                wanted.deletion_window = days.as_u64().filter(|days| (7..=30).contains(days));
                if wanted.deletion_window.is_none() {
                    fail(format!("is {days}, but must be a whole number from 7 to 30"));
                }
            }
            ("kms_deletion_window", _) => fail("must be a whole number from 7 to 30".to_owned()),
            ("kms_key_admin_roles", json::Node::Array(list)) => {
                let roles = strings(key, list, sink);
                for (role, span) in &roles {
                    let _ = names::role(role).map_err(|why| sink.report(span, key, why, None));
                }
                wanted.admin_roles = Some(roles.into_iter().map(|(role, _)| role).collect());
            }
            ("kms_key_admin_roles", _) => fail("must be a list of role names".to_owned()),
            ("lambda_runtime", json::Node::Other(Value::String(runtime))) => {
                wanted.lambda_runtime = Some(runtime.clone());
            }
            ("lambda_runtime", _) => fail("must be a string such as \"python3.11\"".to_owned()),
            _ => match ELSEWHERE.iter().find(|(name, _)| name == key) {
                Some((name, now)) => {
                    wanted.notes.push(format!("{name} is not set in this file: set it with {now}"));
                }
                None => {
                    let help = nearest(key, KEYS).map(|known| format!("did you mean `{known}`?"));
                    sink.report(span, key, "unknown key", help);
                }
            },
        }
        if member.twice {
            fail("is given twice".to_owned());
        }
    }
    for required in ["image_to_copy", "repository"] {
        if !members.iter().any(|member| member.key == required) {
            sink.report(&(0..0), "", format!("`{required}` is missing"), None);
        }
    }
    let copied: BTreeSet<&str> = wanted.images.iter().map(|copy| copy.repository.as_str()).collect();
    let mut seen = BTreeSet::new();
    for (name, span) in repositories {
        if let Err(why) = names::repository(&name) {
            sink.report(&span, "repository", why, None);
        } else if !copied.contains(name.as_str()) && name != RUNTIMES_REPOSITORY && seen.insert(name.clone())
        {
            wanted.extra.push(name);
        }
    }
    wanted
}

fn copies(images: &[Member], sink: &Sink<'_>) -> Vec<Copy> {
    let mut copies: Vec<Copy> = Vec::new();
    for member in images {
        let key = format!("image_to_copy.{}", super::problem::key_part(&member.key));
        let fail = |message: String| sink.report(&member.span, &key, message, None);
        if member.twice {
            fail("is given twice".to_owned());
            continue;
        }
        let source = member.key.parse::<Reference>().map_err(|why| fail(why.to_string())).ok();
        let json::Node::Other(Value::String(destination)) = &member.value else {
            fail("must be a repository, or a repository and a tag".to_owned());
            continue;
        };
        let (repository, tag) = match destination.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (destination.as_str(), None),
        };
        if let Err(why) = names::repository(repository).and_then(|()| tag.map_or(Ok(()), names::tag)) {
            fail(why);
            continue;
        }
        let Some(source) = source else { continue };
        if source.tag().is_none() && source.digest().is_none() {
            fail("has neither tag nor digest".to_owned());
            continue;
        }
        let Some(to_tag) = tag.or(source.tag()) else {
            fail(format!("has no tag: the repository needs one, \"{repository}:TAG\""));
            continue;
        };
        if let Some(other) = copies.iter().find(|copy| copy.repository == repository && copy.tag == to_tag) {
            fail(format!("has the destination `{repository}:{to_tag}`, as {} has", other.source));
            continue;
        }
        copies.push(Copy {
            source: member.key.clone(),
            repository: repository.to_owned(),
            tag: to_tag.to_owned(),
            explicit: tag.is_some(),
        });
    }
    copies
}

fn strings(key: &str, list: &[(json::Node, Range<usize>)], sink: &Sink<'_>) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    for (node, span) in list {
        match node {
            json::Node::Other(Value::String(text)) => found.push((text.clone(), span.clone())),
            _ => sink.report(span, key, "must contain strings", None),
        }
    }
    found
}

#[cfg(test)]
mod tests;
