//! The server side of terraform's protocol. Every error is a diagnostic: terraform shows those to the user, but a failed call only as a
//! crashed plugin.

mod stand_in;

use anyhow::anyhow;
use tonic::{Request, Response, Status};

use crate::protocol::tfplugin6::provider_server::Provider;
use crate::protocol::tfplugin6::{
    ServerCapabilities, apply_resource_change, configure_provider, get_metadata, get_provider_schema,
    import_resource_state, move_resource_state, plan_resource_change, read_data_source, read_resource,
    stop_provider, upgrade_resource_state, validate_data_resource_config, validate_provider_config,
    validate_resource_config,
};
use crate::schema::Schema;
use crate::values::Object;
pub(crate) use stand_in::StandIn;
use stand_in::{broken, warning, whole};

fn capabilities() -> ServerCapabilities {
    ServerCapabilities { plan_destroy: false, get_provider_schema_optional: true, move_resource_state: true }
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
        // Every type here is read by its ID only; terraform refreshes what was imported.
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
        // Calls are short: those in progress are completed and recorded.
        Ok(Response::new(stop_provider::Response::default()))
    }
}
