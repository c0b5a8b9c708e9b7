//! CloudFormation's `DescribeStacks`, of stacks that a test declared.

use crate::account::Caller;
use crate::fault::Fault;
use crate::http::value;
use crate::server::App;
use crate::store::model::Stack;
use crate::sts::Handler;
use crate::time::iso8601;
use crate::xml::element;

/// Every action that is implemented.
const ACTIONS: &[(&str, Handler)] = &[("DescribeStacks", describe_stacks)];

pub(crate) fn dispatch(
    app: &App,
    caller: &Caller,
    action: &str,
    form: &[(String, String)],
) -> Result<String, Fault> {
    crate::route::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("cloudformation", action))?(
        app, caller, form,
    )
}

fn describe_stacks(app: &App, caller: &Caller, form: &[(String, String)]) -> Result<String, Fault> {
    let all = app.store.stacks();
    let wanted = value(form, "StackName");
    let found: Vec<&Stack> = all
        .iter()
        .filter(|stack| stack.scope == caller.scope)
        .filter(|stack| wanted.is_none_or(|name| name == stack.name || name == id(stack)))
        .collect();
    if let Some(name) = wanted
        && found.is_empty()
    {
        return Err(Fault::client("ValidationError", format!("Stack with id {name} does not exist")));
    }
    let members: String = found.into_iter().map(member).collect();
    Ok(format!(
        "<DescribeStacksResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"><DescribeStacksResult>\
         <Stacks>{members}</Stacks></DescribeStacksResult><ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata>\
         </DescribeStacksResponse>",
        crate::store::new_id()
    ))
}

fn id(stack: &Stack) -> String {
    // Stable for a stack, as the real one is.
    let hash = &crate::digest::sha256(stack.name.as_bytes())["sha256:".len()..];
    stack.scope.arn("cloudformation", &format!("stack/{}/{}", stack.name, &hash[..32]))
}

fn member(stack: &Stack) -> String {
    let outputs: String = stack
        .outputs
        .iter()
        .map(|(key, value)| {
            format!("<member>{}{}</member>", element("OutputKey", key), element("OutputValue", value))
        })
        .collect();
    let fields = [
        element("StackName", &stack.name),
        element("StackId", &id(stack)),
        element("CreationTime", &iso8601(stack.created)),
        element("StackStatus", &stack.status),
    ];
    format!("<member>{}<Outputs>{outputs}</Outputs></member>", fields.concat())
}
