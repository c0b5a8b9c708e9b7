//! The caller, and services with only a few implemented actions.

use super::{Call, Request};

const fn form(
    name: &'static str,
    service: &'static str,
    form: &'static str,
    shown: &'static [&'static str],
) -> Call {
    Call { name, request: Request::Form(service, form), shown }
}

/// The caller.
pub(super) const CALLER: &[Call] =
    &[form("who calls", "sts", "Action=GetCallerIdentity&Version=2011-06-15", &["Account"])];

/// Roles, stacks, and the token for ECR Public, which is in us-east-1.
pub(super) const OTHERS: &[Call] = &[
    form(
        "a role",
        "sts",
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fops&RoleSessionName=anna",
        &["Arn"],
    ),
    form(
        "a role by a token",
        "sts",
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fops\
         &RoleSessionName=web&WebIdentityToken=a.token.of.a.pod",
        &["Arn"],
    ),
    form("look for a role", "iam", "Action=GetRole&Version=2010-05-08&RoleName=ops", &["RoleName"]),
    form("stacks", "cloudformation", "Action=DescribeStacks&Version=2010-05-15", &["StackName"]),
    form(
        "a stack that is not there",
        "cloudformation",
        "Action=DescribeStacks&Version=2010-05-15&StackName=none",
        &[],
    ),
    Call {
        name: "a token for ECR Public",
        request: Request::Json("ecr-public", "SpencerFrontendService", "GetAuthorizationToken", "{}"),
        shown: &[],
    },
];
