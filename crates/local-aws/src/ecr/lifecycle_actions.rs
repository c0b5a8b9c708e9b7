//! Lifecycle policies through the API, and their execution.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::lifecycle::{Candidate, Policy};
use super::{ON_REPOSITORY, repositories};
use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::resource::{Call, Resource};
use crate::scope::Scope;
use crate::store::model::{Image, Lifecycle, Repository};
use crate::time::{epoch_seconds, now_millis};

pub(super) const RESOURCE: Resource = Resource {
    actions: &[
        ("DeleteLifecyclePolicy", ON_REPOSITORY, delete),
        ("GetLifecyclePolicy", ON_REPOSITORY, get),
        ("GetLifecyclePolicyPreview", ON_REPOSITORY, get_preview),
        ("PutLifecyclePolicy", ON_REPOSITORY, put),
        ("StartLifecyclePolicyPreview", ON_REPOSITORY, start_preview),
    ],
    existing: Some(("aws_ecr_lifecycle_policy", |app, scope| {
        repositories::names(app, scope, |repository| repository.lifecycle.is_some())
    })),
    scenarios: &[],
};

pub(super) fn parse(text: &str) -> Result<Policy, Fault> {
    Policy::parse(text).map_err(|error| {
        Fault::invalid_parameter(format!(
            "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: '{error}'"
        ))
    })
}

fn missing(call: &Call<'_>, name: &str) -> Fault {
    Fault::client(
        "LifecyclePolicyNotFoundException",
        format!(
            "Lifecycle policy does not exist for the repository with name '{name}' in the registry with id '{}'",
            call.scope.account
        ),
    )
}

fn view(call: &Call<'_>, name: &str, text: &str) -> Value {
    json!({ "registryId": call.scope.account, "repositoryName": name, "lifecyclePolicyText": text })
}

fn put(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let (name, text) = (input.text("repositoryName")?, input.text("lifecyclePolicyText")?);
    parse(text)?;
    repositories::change(call.app, &call.scope, name, |repository| {
        repository.lifecycle = Some(Lifecycle { text: text.to_owned(), evaluated: 0 });
        Ok(())
    })?;
    Ok(view(call, name, text))
}

fn get(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let repository = repositories::find(call.app, &call.scope, name)?;
    let lifecycle = repository.lifecycle.as_ref().ok_or_else(|| missing(call, name))?;
    let mut view = view(call, name, &lifecycle.text);
    view["lastEvaluatedAt"] = epoch_seconds(lifecycle.evaluated);
    Ok(view)
}

fn delete(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let gone = repositories::change(call.app, &call.scope, name, |repository| {
        repository.lifecycle.take().ok_or_else(|| missing(call, name))
    })?;
    let mut view = view(call, name, &gone.text);
    view["lastEvaluatedAt"] = epoch_seconds(gone.evaluated);
    Ok(view)
}

fn start_preview(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let text = repositories::change(call.app, &call.scope, name, |repository| {
        let text = match input.opt("lifecyclePolicyText") {
            Some(text) => text.to_owned(),
            None => repository
                .lifecycle
                .as_ref()
                .map(|policy| policy.text.clone())
                .ok_or_else(|| missing(call, name))?,
        };
        parse(&text)?;
        repository.preview = Some(text.clone());
        Ok(text)
    })?;
    let mut view = view(call, name, &text);
    view["status"] = json!("IN_PROGRESS");
    Ok(view)
}

fn get_preview(call: &Call<'_>, input: &Input) -> Result<Value, Fault> {
    let name = input.text("repositoryName")?;
    let repository = repositories::find(call.app, &call.scope, name)?;
    let text = repository.preview.as_deref().ok_or_else(|| {
        Fault::client(
            "LifecyclePolicyPreviewNotFoundException",
            format!("There is no lifecycle policy preview for the repository with name '{name}'"),
        )
    })?;
    let candidates = candidates(&repository);
    let expired = parse(text)?.expired(&candidates, now_millis());
    let all: Vec<Value> = candidates
        .iter()
        .filter_map(|image| {
            let priority = expired.get(&image.digest)?;
            let mut view = json!({
                "imageDigest": image.digest,
                "imagePushedAt": epoch_seconds(image.pushed),
                "action": { "type": "EXPIRE" },
                "appliedRulePriority": priority,
            });
            if !image.tags.is_empty() {
                view["imageTags"] = json!(image.tags);
            }
            Some(view)
        })
        .collect();
    let (page, next) = input.page(&all, 100)?;
    let mut view = view(call, name, text);
    view["status"] = json!("COMPLETE");
    view["previewResults"] = json!(page);
    view["summary"] = json!({ "expiringImageTotalCount": all.len() });
    view["nextToken"] = json!(next);
    Ok(view)
}

/// The images that rules apply to. Referrers are excluded: no rule expires them, and they are deleted after their subject
/// (<https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html#lp_evaluation_rules>).
fn candidates(repository: &Repository) -> Vec<Candidate> {
    repository
        .images
        .iter()
        .filter(|(_, image)| image.subject.is_none())
        .map(|(digest, image)| Candidate {
            digest: digest.clone(),
            tags: repository
                .tags
                .iter()
                .filter(|(_, tagged)| *tagged == digest)
                .map(|(tag, _)| tag.clone())
                .collect(),
            pushed: image.pushed,
            pulled: image.pulled,
            holds: image.children.clone(),
        })
        .collect()
}

/// Does what ECR does within a day after a policy was put: expires images in every repository with a policy. Returns repository and digest
/// of each.
pub(crate) fn run(app: &App, scope: &Scope) -> Result<Vec<(String, String)>, Fault> {
    let mut gone = Vec::new();
    for repository in app.store.region(scope).repositories() {
        let Some(lifecycle) = &repository.lifecycle else { continue };
        let policy = parse(&lifecycle.text)?;
        let name = &repository.name;
        repositories::change(app, scope, name, |repository| {
            let mut expired: BTreeSet<String> =
                policy.expired(&candidates(repository), now_millis()).into_keys().collect();
            repository.images.retain(|digest, _| !expired.contains(digest));
            let is_orphan = |image: &Image| {
                image.subject.as_ref().is_some_and(|subject| !repository.images.contains_key(subject))
            };
            let orphans = repository.images.iter().filter(|(_, image)| is_orphan(image));
            expired.extend(orphans.map(|(digest, _)| digest.clone()));
            repository.images.retain(|digest, _| !expired.contains(digest));
            repository.tags.retain(|_, digest| !expired.contains(digest));
            if let Some(lifecycle) = &mut repository.lifecycle {
                lifecycle.evaluated = now_millis();
            }
            gone.extend(expired.into_iter().map(|digest| (name.clone(), digest)));
            Ok(())
        })?;
    }
    Ok(gone)
}
