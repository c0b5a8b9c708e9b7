//! STS's query API, as far as finding out who one is.

use crate::account::Caller;
use crate::fault::Fault;
use crate::http::value;
use crate::server::App;
use crate::time::{iso8601, now_millis};
use crate::xml::element;

pub(crate) type Handler = fn(&App, &Caller, &[(String, String)]) -> Result<String, Fault>;

/// Every action that is implemented.
const ACTIONS: &[(&str, Handler)] =
    &[("AssumeRole", assume_role), ("GetCallerIdentity", get_caller_identity)];

pub(crate) fn dispatch(
    app: &App,
    caller: &Caller,
    action: &str,
    form: &[(String, String)],
) -> Result<String, Fault> {
    crate::route::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("sts", action))?(
        app, caller, form,
    )
}

fn answer(action: &str, result: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{result}</{action}Result>\
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

fn assume_role(_: &App, caller: &Caller, form: &[(String, String)]) -> Result<String, Fault> {
    let missing = |name: &str| Fault::client("ValidationError", format!("{name} must not be null"));
    let arn = value(form, "RoleArn").ok_or_else(|| missing("roleArn"))?;
    let session = value(form, "RoleSessionName").ok_or_else(|| missing("roleSessionName"))?;
    let role = arn
        .split_once(":role/")
        .and_then(|(_, path)| path.rsplit('/').next())
        .filter(|role| !role.is_empty() && !role.contains('.'))
        .ok_or_else(|| Fault::client("ValidationError", format!("{arn} is invalid")))?;
    let key = format!("ROLE.{role}.{session}");
    let partition = caller.scope.partition();
    let user = element("AssumedRoleId", &format!("AROA{role}:{session}"))
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
    Ok(answer(
        "AssumeRole",
        &format!("<Credentials>{credentials}</Credentials><AssumedRoleUser>{user}</AssumedRoleUser>"),
    ))
}
