//! The outputs of HTC-Grid's CloudFormation stack with the state bucket.

use std::collections::BTreeMap;

use anyhow::Context as _;
use failure::{FailWith as _, Kind, failure};

use super::signed::signed;
use super::{Aws, endpoints};

/// The output with the bucket of the images' terraform state.
pub const BUCKET_OUTPUT: &str = "ImageTFStateBucketID";
/// The output with the alias of that bucket's key.
pub const KEY_OUTPUT: &str = "HTCStateS3KeyAlias";

const FORM: &str = "application/x-www-form-urlencoded";

/// The outputs of the stack `name`. Empty if there is no such stack.
///
/// # Errors
/// There are no credentials, or CloudFormation refuses or does not answer.
pub async fn outputs(
    aws: &Aws,
    http: &reqwest::Client,
    name: &str,
) -> anyhow::Result<Option<BTreeMap<String, String>>> {
    let url = endpoint(aws);
    // A grid's tag contains no characters that a form must escape.
    let body = format!("Action=DescribeStacks&Version=2010-05-15&StackName={name}");
    let request =
        signed(aws.config(), aws.region(), "cloudformation", &url, &[("content-type", FORM)], body).await?;
    let answer = http.execute(request).await.context("cloudformation:DescribeStacks").kind(Kind::Registry)?;
    let status = answer.status();
    let text = answer.text().await.context("cloudformation:DescribeStacks")?;
    if status.is_success() {
        return Ok(Some(parse_outputs(&text)));
    }
    let message = element(&text, "Message").unwrap_or_default();
    if status == 400 && message.contains("does not exist") {
        return Ok(None);
    }
    Err(failure(
        Kind::Credentials,
        format!("cloudformation:DescribeStacks: HTTP {}: {message}", status.as_u16()),
    ))
    .hint(
        Kind::Credentials,
        "name the bucket with S3_IMAGE_TFSTATE_HTCGRID_BUCKET_NAME= and the stack is not asked",
    )
}

fn endpoint(aws: &Aws) -> String {
    match endpoints::configured(aws.config(), "CloudFormation") {
        Some(url) => url.trim_end_matches('/').to_owned() + "/",
        None => format!("https://{}/", endpoints::cloudformation(aws.region(), aws.variant())),
    }
}

/// Reads `<member><OutputKey>k</OutputKey><OutputValue>v</OutputValue></member>`, in any order and with other text between.
fn parse_outputs(xml: &str) -> BTreeMap<String, String> {
    let members = xml.split("<member>").skip(1).filter_map(|member| member.split("</member>").next());
    members.filter_map(|m| Some((element(m, "OutputKey")?, element(m, "OutputValue")?))).collect()
}

fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_found_between_other_elements() {
        let xml = "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>main</StackName><Outputs>\
            <member><Description>x</Description><OutputKey>ImageTFStateBucketID</OutputKey><OutputValue>bucket-1</OutputValue></member>\
            <member><OutputValue>alias/s3</OutputValue><OutputKey>HTCStateS3KeyAlias</OutputKey></member>\
            </Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>";
        let outputs = parse_outputs(xml);
        assert_eq!(outputs[BUCKET_OUTPUT], "bucket-1");
        assert_eq!(outputs[KEY_OUTPUT], "alias/s3");
    }
}
