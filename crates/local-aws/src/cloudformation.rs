//! CloudFormation's `DescribeStacks`, for stacks that a test declared.

use crate::account::Caller;
use crate::app::App;
use crate::fault::Fault;
use crate::http::value;
use crate::policy::Need;
use crate::store::model::Stack;
use crate::sts::{Handler, Needs};
use crate::time::iso8601;
use crate::xml::element;

/// All implemented actions, with the required permissions
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudformation.html>).
const ACTIONS: &[(&str, (Needs, Handler))] = &[("DescribeStacks", (on_stack, describe_stacks))];

/// The XML namespace of CloudFormation's answers.
pub(crate) const NAMESPACE: &str = "http://cloudformation.amazonaws.com/doc/2010-05-15/";

/// The names of the implemented actions.
pub(crate) fn actions() -> Vec<&'static str> {
    ACTIONS.iter().map(|(name, _)| *name).collect()
}

pub(crate) fn find(action: &str) -> Result<(Needs, Handler), Fault> {
    crate::request::find(ACTIONS, action).ok_or_else(|| Fault::not_implemented("cloudformation", action))
}

fn on_stack(caller: &Caller, form: &[(String, String)]) -> Vec<Need> {
    let stack = match value(form, "StackName") {
        Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
        Some(name) => caller.scope.arn("cloudformation", &format!("stack/{name}/*")),
        None => "*".to_owned(),
    };
    vec![Need::new("cloudformation:DescribeStacks", stack)]
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
        "<DescribeStacksResponse xmlns=\"{NAMESPACE}\"><DescribeStacksResult>\
         <Stacks>{members}</Stacks></DescribeStacksResult><ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata>\
         </DescribeStacksResponse>",
        crate::store::new_id()
    ))
}

fn id(stack: &Stack) -> String {
    // Constant for a stack, like the real ID.
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
