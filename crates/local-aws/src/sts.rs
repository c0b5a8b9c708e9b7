//! STS's query API: the caller's identity and sessions of roles.

use crate::account::{Caller, session_key};
use crate::app::App;
use crate::fault::Fault;
use crate::http::value;
use crate::policy::Need;
use crate::time::{iso8601, now_millis};
use crate::xml::element;

pub(crate) type Handler = fn(&App, &Caller, &[(String, String)]) -> Result<String, Fault>;

/// The permissions for an action of a query API.
pub(crate) type Needs = fn(&Caller, &[(String, String)]) -> Vec<Need>;

/// All implemented actions, with the required permissions
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecuritytokenservice.html>).
const ACTIONS: &[(&str, (Needs, Handler))] = &[
    (
        "AssumeRole",
        (|_, form| vec![Need::new("sts:AssumeRole", value(form, "RoleArn").unwrap_or("*"))], assume_role),
    ),
    // The token is sufficient.
    (UNSIGNED, (|_, _| Vec::new(), assume_role_with_web_identity)),
    // No permission is needed, and even a Deny has no effect
    // (<https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>).
    ("GetCallerIdentity", (|_, _| Vec::new(), get_caller_identity)),
];

/// The action that needs no signature.
pub(crate) const UNSIGNED: &str = "AssumeRoleWithWebIdentity";

/// The names of the implemented actions.
pub(crate) fn actions() -> Vec<&'static str> {
    ACTIONS.iter().map(|(name, _)| *name).collect()
}

pub(crate) fn find(action: &str) -> Result<(Needs, Handler), Fault> {
    crate::request::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("sts", action))
}

/// The XML namespace of STS's answers.
pub(crate) const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

fn answer(action: &str, result: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{action}Response>",
        crate::store::new_id()
    )
}

#[expect(clippy::unnecessary_wraps, reason = "the table's entries have one type")]
fn get_caller_identity(_: &App, caller: &Caller, _: &[(String, String)]) -> Result<String, Fault> {
    let result = [
        element("Arn", &caller.principal),
        element("UserId", &caller.user_id()),
        element("Account", &caller.scope.account),
    ];
    Ok(answer("GetCallerIdentity", &result.concat()))
}

fn missing(name: &str) -> Fault {
    Fault::client("ValidationError", format!("{name} must not be null"))
}

/// A session of the requested role: its credentials and its identity.
fn session(caller: &Caller, form: &[(String, String)]) -> Result<String, Fault> {
    let arn = value(form, "RoleArn").ok_or_else(|| missing("roleArn"))?;
    let session = value(form, "RoleSessionName").ok_or_else(|| missing("roleSessionName"))?;
    let role = arn
        .split_once(":role/")
        .and_then(|(_, path)| path.rsplit('/').next())
        .filter(|role| !role.is_empty() && !role.contains('.'))
        .ok_or_else(|| Fault::client("ValidationError", format!("{arn} is invalid")))?;
    let key = session_key(role, session);
    let partition = caller.scope.partition();
    let user = element("AssumedRoleId", &format!("{}:{session}", role_id(role)))
        + &element(
            "Arn",
            &format!("arn:{partition}:sts::{}:assumed-role/{role}/{session}", caller.scope.account),
        );
    let credentials = [
        element("AccessKeyId", &key),
        element("SecretAccessKey", "local"),
        element("SessionToken", "local"),
        element("Expiration", &iso8601(now_millis() + 3_600_000)),
    ]
    .concat();
    Ok(format!("<Credentials>{credentials}</Credentials><AssumedRoleUser>{user}</AssumedRoleUser>"))
}

/// `AROA…`, constant for a role.
fn role_id(role: &str) -> String {
    let hash = crate::digest::sha256(role.as_bytes());
    format!("AROA{}", hash["sha256:".len()..][..17].to_uppercase())
}

fn assume_role(_: &App, caller: &Caller, form: &[(String, String)]) -> Result<String, Fault> {
    Ok(answer("AssumeRole", &session(caller, form)?))
}

fn assume_role_with_web_identity(
    _: &App,
    caller: &Caller,
    form: &[(String, String)],
) -> Result<String, Fault> {
    value(form, "WebIdentityToken").ok_or_else(|| missing("webIdentityToken"))?;
    Ok(answer(UNSIGNED, &session(caller, form)?))
}
