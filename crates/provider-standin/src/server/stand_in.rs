//! The provider's operations, without the protocol's messages.

use std::sync::{Arc, RwLock};

use anyhow::{Context, anyhow};

use crate::api::Api;
use crate::plan;
use crate::protocol::tfplugin6::{
    AttributePath, Diagnostic, DynamicValue, RawState, apply_resource_change, attribute_path,
    diagnostic::Severity, plan_resource_change, read_data_source,
};
use crate::resources::Resource;
use crate::schema::{Schema, Schemas};
use crate::tags::{self, TagRules};
use crate::values::{self, Object, Value, decode, encode, text};

/// The service.
pub(crate) struct StandIn {
    pub(super) schemas: Schemas,
    /// Set once the provider block was accepted.
    api: RwLock<Option<Arc<Api>>>,
}

/// A resource type of this provider.
pub(super) struct Type<'a> {
    resource: &'static Resource,
    pub(super) schema: &'a Schema,
}

fn error(summary: impl Into<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error.into(),
        summary: summary.into(),
        detail: String::new(),
        attribute: None,
    }
}

/// A protocol error or an internal error, with its causes.
pub(super) fn broken(failure: &anyhow::Error) -> Diagnostic {
    error(format!("{failure:#}"))
}

pub(super) fn warning(summary: impl Into<String>, detail: impl Into<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning.into(),
        summary: summary.into(),
        detail: detail.into(),
        attribute: None,
    }
}

/// An object from the wire; `None` for null.
fn object(value: Option<DynamicValue>) -> anyhow::Result<Option<Object>> {
    match decode(value)? {
        Value::Null => Ok(None),
        Value::Object(object) => Ok(Some(object)),
        other => Err(anyhow!("terraform sent {other:?} instead of an object")),
    }
}

pub(super) fn whole(object: Object) -> Option<DynamicValue> {
    encode(&Value::Object(object))
}

impl StandIn {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { schemas: Schemas::load()?, api: RwLock::new(None) })
    }

    pub(super) fn kind(&self, type_name: &str) -> anyhow::Result<Type<'_>> {
        let schema = self.schemas.resource_schemas.get(type_name);
        let resource = Resource::named(type_name);
        let (Some(schema), Some(resource)) = (schema, resource) else {
            return Err(anyhow!("the stand-in provider does not keep {type_name}"));
        };
        Ok(Type { resource, schema })
    }

    fn api(&self) -> anyhow::Result<Arc<Api>> {
        let api = self.api.read().map_err(|_| anyhow!("the provider's configuration is lost"))?;
        api.clone().context("the provider is not configured")
    }

    /// A client for the region in an object.
    fn api_for(&self, object: &Object) -> anyhow::Result<Api> {
        Ok(self.api()?.in_region(text(object, "region")))
    }

    pub(super) async fn configure(&self, config: Option<DynamicValue>) -> anyhow::Result<Api> {
        let config = object(config)?.unwrap_or_default();
        let from_env = || std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION")).ok();
        let region = text(&config, "region").map(str::to_owned).or_else(from_env);
        let region = region.context("invalid AWS Region: no region is configured")?;
        let mut rules = TagRules::default();
        if let Some(defaults) = values::block(&config, "default_tags") {
            rules.defaults = tags::own(defaults, "tags");
        }
        if let Some(ignored) = values::block(&config, "ignore_tags") {
            let strings = |name: &str| -> Vec<String> {
                let elements = ignored.get(name).map(Value::elements).unwrap_or_default();
                elements.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            rules.ignored_keys = strings("keys");
            rules.ignored_prefixes = strings("key_prefixes");
        }
        let api = Api::from_env(region, rules)?;
        let allowed = config.get("allowed_account_ids").map(Value::elements).unwrap_or_default();
        if !allowed.is_empty() {
            let account = api.identity().await?.account;
            let is_allowed = allowed.iter().filter_map(Value::as_str).any(|allowed| allowed == account);
            anyhow::ensure!(is_allowed, "AWS account ID not allowed: {account}");
        }
        let mut slot = self.api.write().map_err(|_| anyhow!("the provider's configuration is lost"))?;
        *slot = Some(Arc::new(api.clone()));
        Ok(api)
    }

    pub(super) fn upgraded(
        &self,
        type_name: &str,
        raw: Option<RawState>,
    ) -> anyhow::Result<Option<DynamicValue>> {
        let raw = raw.context("terraform sent no state")?;
        let json = serde_json::from_slice(&raw.json).context("the state is not JSON")?;
        let Value::Object(state) = values::from_json(json) else { return Ok(encode(&Value::Null)) };
        Ok(whole(self.kind(type_name)?.schema.block.conform(state)))
    }

    pub(super) fn planned(
        &self,
        request: plan_resource_change::Request,
    ) -> anyhow::Result<plan_resource_change::Response> {
        let kind = self.kind(&request.type_name)?;
        let prior = object(request.prior_state)?;
        let Some(proposed) = object(request.proposed_new_state)? else {
            return Ok(plan_resource_change::Response {
                planned_state: encode(&Value::Null),
                ..Default::default()
            });
        };
        let api = self.api()?;
        let planned = plan::plan(&kind.schema.block, kind.resource, &api, prior.as_ref(), proposed);
        let requires_replace = planned.replace.into_iter().map(|name| AttributePath {
            steps: vec![attribute_path::Step {
                selector: Some(attribute_path::step::Selector::AttributeName(name)),
            }],
        });
        Ok(plan_resource_change::Response {
            planned_state: whole(planned.state),
            requires_replace: requires_replace.collect(),
            planned_private: request.prior_private,
            diagnostics: Vec::new(),
            // Like the real provider's old SDK, it does not distinguish null and empty.
            legacy_type_system: true,
        })
    }

    pub(super) async fn applied(
        &self,
        request: apply_resource_change::Request,
    ) -> anyhow::Result<(Option<DynamicValue>, Vec<Diagnostic>)> {
        let kind = self.kind(&request.type_name)?;
        let prior = object(request.prior_state)?;
        let planned = decode(request.planned_state)?.known();
        let Value::Object(mut state) = planned else {
            // Deletion: if it fails, the resource still exists.
            let prior = prior.context("terraform sent nothing to destroy")?;
            let api = self.api_for(&prior)?;
            return Ok(match (kind.resource.delete)(&api, &prior).await {
                Ok(()) => (encode(&Value::Null), Vec::new()),
                Err(failure) => (whole(prior), vec![error(failure.to_string())]),
            });
        };
        let api = self.api_for(&state)?;
        let mut result = match &prior {
            None => (kind.resource.create)(&api, &mut state).await,
            Some(prior) => (kind.resource.update)(&api, prior, &mut state).await,
        };
        if result.is_ok() {
            result = (kind.resource.read)(&api, &mut state).await.map(drop);
        }
        let diagnostics = result.err().map(|failure| error(failure.to_string())).into_iter().collect();
        // A created resource is recorded even if a later step failed: terraform marks it as tainted. A resource that was not created has no
        // ID and is not recorded.
        let there = text(&state, "id").is_some();
        let state = if there { whole(kind.schema.block.conform(state)) } else { encode(&Value::Null) };
        Ok((state, diagnostics))
    }

    pub(super) async fn refreshed(
        &self,
        type_name: &str,
        state: Option<DynamicValue>,
    ) -> anyhow::Result<Result<Option<DynamicValue>, Diagnostic>> {
        let kind = self.kind(type_name)?;
        let Some(mut state) = object(state)? else { return Ok(Ok(encode(&Value::Null))) };
        let api = self.api_for(&state)?;
        if text(&state, "region").is_none() {
            state.insert("region".to_owned(), api.region.as_str().into());
        }
        Ok(match (kind.resource.read)(&api, &mut state).await {
            Ok(true) => Ok(whole(kind.schema.block.conform(state))),
            Ok(false) => Ok(encode(&Value::Null)),
            Err(failure) => Err(error(failure.to_string())),
        })
    }

    pub(super) async fn data(
        &self,
        request: read_data_source::Request,
    ) -> anyhow::Result<Option<DynamicValue>> {
        let schema = self.schemas.data_source_schemas.get(&request.type_name);
        let schema = schema.with_context(|| format!("there is no data source {}", request.type_name))?;
        let config = schema.block.conform(object(request.config)?.unwrap_or_default());
        Ok(whole(crate::data::read(&*self.api()?, &request.type_name, config).await?))
    }
}
