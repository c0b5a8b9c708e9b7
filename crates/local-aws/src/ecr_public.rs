//! ECR Public: its token, which only us-east-1 hands out.

use serde_json::{Value, json};

use crate::account::{Caller, RegistryToken};
use crate::app::App;
use crate::fault::Fault;
use crate::input::Input;
use crate::policy::Need;
use crate::time::epoch_seconds;

type Handler = fn(&App, &Caller, &Input) -> Result<Value, Fault>;

/// Every action that is implemented. Each needs its own permission
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistrypublic.html>).
const ACTIONS: &[(&str, Handler)] = &[("GetAuthorizationToken", get_authorization_token)];

/// The names of what is implemented.
pub(crate) fn actions() -> Vec<&'static str> {
    ACTIONS.iter().map(|(name, _)| *name).collect()
}

/// What the caller needs for an action. A token is a bearer token of STS's, made in the caller's name
/// (<https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html>).
pub(crate) fn needs(action: &str) -> Result<Vec<Need>, Fault> {
    crate::request::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("ecr-public", action))?;
    let own = Need::new(format!("ecr-public:{action}"), "*");
    let token = action == "GetAuthorizationToken";
    Ok([own].into_iter().chain(token.then(|| Need::new("sts:GetServiceBearerToken", "*"))).collect())
}

pub(crate) fn dispatch(app: &App, caller: &Caller, action: &str, input: &Input) -> Result<Value, Fault> {
    let handler =
        crate::request::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("ecr-public", action))?;
    // Elsewhere the endpoint's name does not even resolve; a refusal that says where it is comes nearest to that.
    if !matches!(caller.scope.region.as_str(), "us-east-1" | "us-west-2") {
        return Err(Fault::new(
            http::StatusCode::BAD_REQUEST,
            "UnsupportedCommandException",
            format!("ECR Public's API is not in {}; it is in us-east-1", caller.scope.region),
        ));
    }
    if action == "GetAuthorizationToken" && caller.scope.region != "us-east-1" {
        return Err(Fault::client(
            "UnsupportedCommandException",
            "GetAuthorizationToken command is only supported in us-east-1.",
        ));
    }
    handler(app, caller, input)
}

#[expect(clippy::unnecessary_wraps, reason = "the table's entries have one type")]
fn get_authorization_token(app: &App, caller: &Caller, _: &Input) -> Result<Value, Fault> {
    let token = RegistryToken::issue(caller, app.config.token_lifetime);
    Ok(json!({ "authorizationData": {
        "authorizationToken": token.authorization(),
        "expiresAt": epoch_seconds(token.expires),
    } }))
}
