//! `/_local/`: control of the server, for its users and for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::fault::Fault;
use crate::http::{Answer, query, read, value, with_body};
use crate::policy::{Kind, Policy};
use crate::quirks::Quirk;
use crate::scope::Scope;
use crate::store::model::{Repository, Stack};
use crate::time::now_millis;

pub(crate) async fn answer(app: &Arc<App>, parts: &Parts, mut body: Incoming) -> Answer {
    let (status, document) = match outcome(app, parts, &mut body).await {
        Ok(document) => (StatusCode::OK, document),
        Err(fault) => (fault.status, json!({ "error": fault.message })),
    };
    with_body(status, "application/json", document.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuirksBody {
    quirks: Vec<String>,
}

/// The only policy of a user or role; null removes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyBody {
    principal: String,
    policy: Option<Value>,
}

/// The owner of an access key from now on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody {
    access_key: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StackBody {
    name: String,
    region: String,
    #[serde(default)]
    outputs: BTreeMap<String, String>,
    #[serde(default)]
    status: Option<String>,
}

/// The findings of an image's scan, by its tag or digest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FindingsBody {
    region: String,
    repository: String,
    tag: String,
    findings: BTreeMap<String, u64>,
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(|error| Fault::client("Invalid", error.to_string()))
}

/// The account in the request's region.
fn scope(app: &App, parts: &Parts) -> Scope {
    let pairs = query(parts);
    let region = value(&pairs, "region").unwrap_or("us-east-1").to_owned();
    Scope { account: app.config.account.clone(), region }
}

/// The resources in an account's region, by terraform's types.
fn existing_resources(app: &App, scope: &Scope) -> Value {
    let resources = crate::SERVICES.iter().flat_map(|service| service.resources);
    let kinds = resources.filter_map(|resource| resource.existing);
    kinds.map(|(kind, existing)| (kind.to_owned(), json!(existing(app, scope)))).collect()
}

async fn outcome(app: &Arc<App>, parts: &Parts, body: &mut Incoming) -> Result<Value, Fault> {
    let bytes = read(body, 1024 * 1024).await?;
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/_local/health") => {
            Ok(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
        }
        (&Method::GET, "/_local/requests") => Ok(json!(app.journal.counters())),
        (&Method::GET, "/_local/log") => Ok(json!(app.journal.entries())),
        (&Method::POST, "/_local/reset-requests") => {
            app.journal.reset();
            Ok(json!({}))
        }
        (&Method::GET, "/_local/quirks") => Ok(json!({ "quirks": app.quirks.names() })),
        (&Method::GET, "/_local/held") => Ok(json!(app.quirks.answers.held())),
        (&Method::POST, "/_local/quirks") => {
            let wanted: QuirksBody = parse(&bytes)?;
            let quirks: Vec<Quirk> = wanted
                .quirks
                .iter()
                .map(|text| {
                    text.parse()
                        .map_err(|error: crate::QuirkError| Fault::client("Invalid", error.to_string()))
                })
                .collect::<Result<_, _>>()?;
            app.quirks.set(quirks);
            Ok(json!({ "quirks": app.quirks.names() }))
        }
        (&Method::POST, "/_local/policies") => {
            let wanted: PolicyBody = parse(&bytes)?;
            let policy = wanted.policy.map(|policy| Policy::parse(&policy.to_string(), Kind::Identity));
            let policy = policy.transpose().map_err(|error| Fault::client("Invalid", error.to_string()))?;
            app.identities.set(&wanted.principal, policy);
            Ok(json!({}))
        }
        (&Method::POST, "/_local/users") => {
            let wanted: UserBody = parse(&bytes)?;
            app.identities.set_user(&wanted.access_key, &wanted.user);
            Ok(json!({}))
        }
        (&Method::POST, "/_local/stacks") => {
            let stack: StackBody = parse(&bytes)?;
            app.store.put_stack(Stack {
                scope: Scope { account: app.config.account.clone(), region: stack.region },
                name: stack.name,
                status: stack.status.unwrap_or_else(|| "CREATE_COMPLETE".to_owned()),
                created: now_millis(),
                outputs: stack.outputs,
            })?;
            Ok(json!({}))
        }
        (&Method::POST, "/_local/findings") => {
            let wanted: FindingsBody = parse(&bytes)?;
            let scope = Scope { account: app.config.account.clone(), region: wanted.region };
            let image = |repository: &mut Repository| {
                let digest = repository.tags.get(&wanted.tag).cloned().unwrap_or(wanted.tag.clone());
                let image = repository.images.get_mut(&digest);
                image.map(|image| image.findings = wanted.findings.clone())
            };
            let set = app
                .store
                .region(&scope)
                .change_repository(&wanted.repository, |repository| Ok(image(repository)));
            set.transpose()?
                .flatten()
                .ok_or_else(|| Fault::not_found("NotFound", "there is no such image"))?;
            Ok(json!({}))
        }
        (&Method::GET, "/_local/resources") => Ok(existing_resources(app, &scope(app, parts))),
        // ECR does this itself within a day.
        (&Method::POST, "/_local/lifecycle") => {
            let expired: Vec<Value> = crate::ecr::run_lifecycle(app, &scope(app, parts))?
                .into_iter()
                .map(|(repository, digest)| json!({ "repository": repository, "digest": digest }))
                .collect();
            Ok(json!({ "expired": expired }))
        }
        (method, path) => Err(Fault::not_found("NotFound", format!("local-aws has no {method} {path}"))),
    }
}
