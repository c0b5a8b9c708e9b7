//! IAM's query API, only for reading a role. Every role exists: the error for a missing one can only be tested at AWS.

use crate::account::Caller;
use crate::app::App;
use crate::fault::Fault;
use crate::http::value;
use crate::policy::Need;
use crate::sts::{Handler, Needs};
use crate::time::iso8601;
use crate::xml::element;

/// All implemented actions, with the required permissions
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html>).
const ACTIONS: &[(&str, (Needs, Handler))] = &[("GetRole", (on_role, get_role))];

pub(crate) const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// The names of the implemented actions.
pub(crate) fn actions() -> Vec<&'static str> {
    ACTIONS.iter().map(|(name, _)| *name).collect()
}

pub(crate) fn find(action: &str) -> Result<(Needs, Handler), Fault> {
    crate::request::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("iam", action))
}

fn arn(caller: &Caller, name: &str) -> String {
    format!("arn:{}:iam::{}:role/{name}", caller.scope.partition(), caller.scope.account)
}

fn on_role(caller: &Caller, form: &[(String, String)]) -> Vec<Need> {
    vec![Need::new("iam:GetRole", arn(caller, value(form, "RoleName").unwrap_or("*")))]
}

/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html>
fn get_role(_: &App, caller: &Caller, form: &[(String, String)]) -> Result<String, Fault> {
    let name = value(form, "RoleName").filter(|name| !name.is_empty()).ok_or_else(|| {
        Fault::client("ValidationError", "1 validation error detected: roleName is missing")
    })?;
    // Constant for a role, like the real ID.
    let id = crate::digest::sha256(name.as_bytes())["sha256:".len()..][..17].to_uppercase();
    let role = [
        element("Path", "/"),
        element(
            "AssumeRolePolicyDocument",
            "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%5D%7D",
        ),
        element("MaxSessionDuration", "3600"),
        element("RoleId", &format!("AROA{id}")),
        element("RoleName", name),
        element("Arn", &arn(caller, name)),
        element("CreateDate", &iso8601(0)),
    ];
    Ok(format!(
        "<GetRoleResponse xmlns=\"{NAMESPACE}\"><GetRoleResult><Role>{}</Role></GetRoleResult>\
         <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></GetRoleResponse>",
        role.concat(),
        crate::store::new_id()
    ))
}
