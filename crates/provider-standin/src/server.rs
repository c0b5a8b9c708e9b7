//! The provider's side of terraform's protocol. Whatever goes wrong is a diagnostic: terraform shows those to people,
//! and a failed call only as a crashed plugin.

use std::sync::{Arc, RwLock};

use anyhow::{Context, anyhow};
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::plan;
use crate::protocol::tfplugin6::provider_server::Provider;
use crate::protocol::tfplugin6::{
    AttributePath, Diagnostic, DynamicValue, RawState, ServerCapabilities, apply_resource_change,
    attribute_path, configure_provider, diagnostic::Severity, get_metadata, get_provider_schema,
    import_resource_state, move_resource_state, plan_resource_change, read_data_source, read_resource,
    stop_provider, upgrade_resource_state, validate_data_resource_config, validate_provider_config,
    validate_resource_config,
};
use crate::resources::{Resource, Traits};
use crate::schema::{Schema, Schemas};
use crate::tags::{self, TagRules};
use crate::values::{self, Object, Value, decode, encode, text};

/// The service.
pub(crate) struct StandIn {
    schemas: Schemas,
    /// There once the provider block was accepted.
    api: RwLock<Option<Arc<Api>>>,
}

/// A type that this provider keeps.
struct Type<'a> {
    resource: Resource,
    traits: &'static Traits,
    schema: &'a Schema,
}

fn capabilities() -> ServerCapabilities {
    ServerCapabilities { plan_destroy: false, get_provider_schema_optional: true, move_resource_state: true }
}

fn error(summary: impl Into<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error.into(),
        summary: summary.into(),
        detail: String::new(),
        attribute: None,
    }
}

/// A failure of the protocol or of this program, with its causes.
fn broken(failure: &anyhow::Error) -> Diagnostic {
    error(format!("{failure:#}"))
}

fn warning(summary: impl Into<String>, detail: impl Into<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning.into(),
        summary: summary.into(),
        detail: detail.into(),
        attribute: None,
    }
}

/// An object from the wire; null is none.
fn object(value: Option<DynamicValue>) -> anyhow::Result<Option<Object>> {
    match decode(value)? {
        Value::Null => Ok(None),
        Value::Object(object) => Ok(Some(object)),
        other => Err(anyhow!("terraform sent {other:?} in the place of an object")),
    }
}

fn whole(object: Object) -> Option<DynamicValue> {
    encode(&Value::Object(object))
}

impl StandIn {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { schemas: Schemas::load()?, api: RwLock::new(None) })
    }

    fn kind(&self, type_name: &str) -> anyhow::Result<Type<'_>> {
        let schema = self.schemas.resource_schemas.get(type_name);
        let resource = Resource::named(type_name);
        let (Some(schema), Some(resource)) = (schema, resource) else {
            return Err(anyhow!("the stand-in provider does not keep {type_name}"));
        };
        Ok(Type { resource, traits: resource.traits(), schema })
    }

    fn api(&self) -> anyhow::Result<Arc<Api>> {
        let api = self.api.read().map_err(|_| anyhow!("the provider's configuration is lost"))?;
        api.clone().context("the provider is not configured")
    }

    /// A client for the region that an object names.
    fn api_for(&self, object: &Object) -> anyhow::Result<Api> {
        Ok(self.api()?.in_region(text(object, "region")))
    }

    async fn configure(&self, config: Option<DynamicValue>) -> anyhow::Result<Api> {
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

    fn upgraded(&self, type_name: &str, raw: Option<RawState>) -> anyhow::Result<Option<DynamicValue>> {
        let raw = raw.context("terraform sent no state")?;
        let json = serde_json::from_slice(&raw.json).context("the state is not JSON")?;
        let Value::Object(state) = values::from_json(json) else { return Ok(encode(&Value::Null)) };
        Ok(whole(self.kind(type_name)?.schema.block.conform(state)))
    }

    fn planned(
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
        let planned = plan::plan(&kind.schema.block, kind.traits, &api, prior.as_ref(), proposed);
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
            // The real provider is built on the same old kit: null and empty are one to it.
            legacy_type_system: true,
        })
    }

    async fn applied(
        &self,
        request: apply_resource_change::Request,
    ) -> anyhow::Result<(Option<DynamicValue>, Vec<Diagnostic>)> {
        let kind = self.kind(&request.type_name)?;
        let prior = object(request.prior_state)?;
        let planned = decode(request.planned_state)?.known();
        let Value::Object(mut state) = planned else {
            // Destruction: on failure what was there still is.
            let prior = prior.context("terraform sent nothing to destroy")?;
            let api = self.api_for(&prior)?;
            return Ok(match kind.resource.delete(&api, &prior).await {
                Ok(()) => (encode(&Value::Null), Vec::new()),
                Err(failure) => (whole(prior), vec![error(failure.to_string())]),
            });
        };
        let api = self.api_for(&state)?;
        let mut result = match &prior {
            None => kind.resource.create(&api, &mut state).await,
            Some(prior) => kind.resource.update(&api, prior, &mut state).await,
        };
        if result.is_ok() {
            result = kind.resource.read(&api, &mut state).await.map(drop);
        }
        let diagnostics = result.err().map(|failure| error(failure.to_string())).into_iter().collect();
        // What was created is remembered even when a later step failed: terraform marks it as tainted. What was not
        // has no ID and is not there.
        let there = text(&state, "id").is_some();
        let state = if there { whole(kind.schema.block.conform(state)) } else { encode(&Value::Null) };
        Ok((state, diagnostics))
    }

    async fn refreshed(
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
        Ok(match kind.resource.read(&api, &mut state).await {
            Ok(true) => Ok(whole(kind.schema.block.conform(state))),
            Ok(false) => Ok(encode(&Value::Null)),
            Err(failure) => Err(error(failure.to_string())),
        })
    }

    async fn data(&self, request: read_data_source::Request) -> anyhow::Result<Option<DynamicValue>> {
        let schema = self.schemas.data_source_schemas.get(&request.type_name);
        let schema = schema.with_context(|| format!("there is no data source {}", request.type_name))?;
        let config = schema.block.conform(object(request.config)?.unwrap_or_default());
        Ok(whole(crate::data::read(&*self.api()?, &request.type_name, config).await?))
    }
}

#[tonic::async_trait]
impl Provider for StandIn {
    async fn get_metadata(
        &self,
        _: Request<get_metadata::Request>,
    ) -> Result<Response<get_metadata::Response>, Status> {
        let names = |names: Vec<&String>| {
            names.into_iter().map(|name| get_metadata::TypeName { type_name: name.clone() }).collect()
        };
        Ok(Response::new(get_metadata::Response {
            server_capabilities: Some(capabilities()),
            diagnostics: Vec::new(),
            data_sources: names(self.schemas.data_source_schemas.keys().collect()),
            resources: names(self.schemas.resource_schemas.keys().collect()),
        }))
    }

    async fn get_provider_schema(
        &self,
        _: Request<get_provider_schema::Request>,
    ) -> Result<Response<get_provider_schema::Response>, Status> {
        let all = |schemas: &std::collections::BTreeMap<String, Schema>| {
            schemas.iter().map(|(name, schema)| (name.clone(), schema.to_proto())).collect()
        };
        Ok(Response::new(get_provider_schema::Response {
            provider: Some(self.schemas.provider.to_proto()),
            resource_schemas: all(&self.schemas.resource_schemas),
            data_source_schemas: all(&self.schemas.data_source_schemas),
            diagnostics: Vec::new(),
            provider_meta: None,
            server_capabilities: Some(capabilities()),
        }))
    }

    async fn validate_provider_config(
        &self,
        _: Request<validate_provider_config::Request>,
    ) -> Result<Response<validate_provider_config::Response>, Status> {
        Ok(Response::new(validate_provider_config::Response::default()))
    }

    async fn validate_resource_config(
        &self,
        _: Request<validate_resource_config::Request>,
    ) -> Result<Response<validate_resource_config::Response>, Status> {
        Ok(Response::new(validate_resource_config::Response::default()))
    }

    async fn validate_data_resource_config(
        &self,
        _: Request<validate_data_resource_config::Request>,
    ) -> Result<Response<validate_data_resource_config::Response>, Status> {
        Ok(Response::new(validate_data_resource_config::Response::default()))
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<upgrade_resource_state::Request>,
    ) -> Result<Response<upgrade_resource_state::Response>, Status> {
        let request = request.into_inner();
        Ok(Response::new(match self.upgraded(&request.type_name, request.raw_state) {
            Ok(upgraded_state) => {
                upgrade_resource_state::Response { upgraded_state, diagnostics: Vec::new() }
            }
            Err(failure) => {
                upgrade_resource_state::Response { upgraded_state: None, diagnostics: vec![broken(&failure)] }
            }
        }))
    }

    async fn configure_provider(
        &self,
        request: Request<configure_provider::Request>,
    ) -> Result<Response<configure_provider::Response>, Status> {
        let diagnostic = match self.configure(request.into_inner().config).await {
            Ok(api) => warning(
                "AWS is emulated on this machine",
                format!(
                    "This is not hashicorp/aws but a stand-in ({}) with the schema of hashicorp/aws {}. It keeps \
                     resources in the emulator at AWS_ENDPOINT_URL, region {}. IAM is not emulated.",
                    crate::VERSION,
                    self.schemas.provider_version,
                    api.region,
                ),
            ),
            Err(failure) => broken(&failure),
        };
        Ok(Response::new(configure_provider::Response { diagnostics: vec![diagnostic] }))
    }

    async fn read_resource(
        &self,
        request: Request<read_resource::Request>,
    ) -> Result<Response<read_resource::Response>, Status> {
        let request = request.into_inner();
        let prior = request.current_state.clone();
        let result = self.refreshed(&request.type_name, request.current_state).await;
        let (new_state, diagnostics) = match result.map_err(|failure| broken(&failure)).flatten() {
            Ok(state) => (state, Vec::new()),
            Err(diagnostic) => (prior, vec![diagnostic]),
        };
        Ok(Response::new(read_resource::Response { new_state, diagnostics, private: request.private }))
    }

    async fn plan_resource_change(
        &self,
        request: Request<plan_resource_change::Request>,
    ) -> Result<Response<plan_resource_change::Response>, Status> {
        Ok(Response::new(self.planned(request.into_inner()).unwrap_or_else(|failure| {
            plan_resource_change::Response { diagnostics: vec![broken(&failure)], ..Default::default() }
        })))
    }

    async fn apply_resource_change(
        &self,
        request: Request<apply_resource_change::Request>,
    ) -> Result<Response<apply_resource_change::Response>, Status> {
        let request = request.into_inner();
        let (prior, private) = (request.prior_state.clone(), request.planned_private.clone());
        let (new_state, diagnostics) = match self.applied(request).await {
            Ok(done) => done,
            Err(failure) => (prior, vec![broken(&failure)]),
        };
        Ok(Response::new(apply_resource_change::Response {
            new_state,
            private,
            diagnostics,
            legacy_type_system: true,
        }))
    }

    async fn import_resource_state(
        &self,
        request: Request<import_resource_state::Request>,
    ) -> Result<Response<import_resource_state::Response>, Status> {
        let request = request.into_inner();
        // Every type here is read by its ID alone; terraform refreshes what was imported.
        Ok(Response::new(match self.kind(&request.type_name) {
            Ok(kind) => import_resource_state::Response {
                imported_resources: vec![import_resource_state::ImportedResource {
                    state: whole(
                        kind.schema.block.conform(Object::from([("id".to_owned(), request.id.into())])),
                    ),
                    type_name: request.type_name,
                    private: Vec::new(),
                }],
                diagnostics: Vec::new(),
            },
            Err(failure) => import_resource_state::Response {
                imported_resources: Vec::new(),
                diagnostics: vec![broken(&failure)],
            },
        }))
    }

    async fn move_resource_state(
        &self,
        request: Request<move_resource_state::Request>,
    ) -> Result<Response<move_resource_state::Response>, Status> {
        let request = request.into_inner();
        let result = if request.source_type_name == request.target_type_name {
            self.upgraded(&request.target_type_name, request.source_state)
        } else {
            Err(anyhow!("{} does not become {}", request.source_type_name, request.target_type_name))
        };
        let (target_state, diagnostics) = match result {
            Ok(state) => (state, Vec::new()),
            Err(failure) => (None, vec![broken(&failure)]),
        };
        Ok(Response::new(move_resource_state::Response {
            target_state,
            diagnostics,
            target_private: request.source_private,
        }))
    }

    async fn read_data_source(
        &self,
        request: Request<read_data_source::Request>,
    ) -> Result<Response<read_data_source::Response>, Status> {
        let (state, diagnostics) = match self.data(request.into_inner()).await {
            Ok(state) => (state, Vec::new()),
            Err(failure) => (None, vec![broken(&failure)]),
        };
        Ok(Response::new(read_data_source::Response { state, diagnostics }))
    }

    async fn stop_provider(
        &self,
        _: Request<stop_provider::Request>,
    ) -> Result<Response<stop_provider::Response>, Status> {
        // Calls are short: what runs is finished and remembered.
        Ok(Response::new(stop_provider::Response::default()))
    }
}
