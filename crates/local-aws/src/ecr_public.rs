//! ECR Public: its token, which is only available in us-east-1.

use serde_json::{Value, json};

use crate::account::RegistryToken;
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::Need;
use crate::resource::{Call, Needs, Resource, Service};
use crate::time::epoch_seconds;

/// The API. The permissions for each action are listed in
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistrypublic.html>.
pub(crate) const SERVICE: Service =
    Service { name: "ecr-public", target: "SpencerFrontendService", resources: &[&TOKEN] };

const TOKEN: Resource = Resource {
    actions: &[("GetAuthorizationToken", ON_TOKEN, get_authorization_token)],
    existing: None,
    scenarios: &[],
};

/// The token is an STS bearer token, created for the caller
/// (<https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html>).
const ON_TOKEN: Needs =
    |_, permission, _| Ok(vec![Need::new(permission, "*"), Need::new("sts:GetServiceBearerToken", "*")]);

fn get_authorization_token(call: &Call<'_>, _: &Input) -> Result<Value, Fault> {
    let region = call.scope.region.as_str();
    // In other regions the endpoint's name cannot be resolved; the closest equivalent is an error that names the right region.
    if !matches!(region, "us-east-1" | "us-west-2") {
        return Err(Fault::new(
            http::StatusCode::BAD_REQUEST,
            "UnsupportedCommandException",
            format!("ECR Public's API is not in {region}; it is in us-east-1"),
        ));
    }
    if region != "us-east-1" {
        return Err(Fault::client(
            "UnsupportedCommandException",
            "GetAuthorizationToken command is only supported in us-east-1.",
        ));
    }
    let token = RegistryToken::issue(call.caller, call.app.config.token_lifetime);
    Ok(json!({ "authorizationData": {
        "authorizationToken": token.authorization(),
        "expiresAt": epoch_seconds(token.expires),
    } }))
}
