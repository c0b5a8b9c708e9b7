//! Tokens for the account's registry and for ECR Public.

use anyhow::Context as _;
use base64::Engine as _;
use process::Secret;
use serde_json::json;

use super::Ecr;
use crate::signed::JsonService;
use crate::{Aws, endpoints, errors::explain};

/// A registry token, used as a password for `docker login`.
#[derive(Clone, Debug)]
pub struct Token {
    /// The registry's host, with its port if any.
    pub host: String,
    /// Always `AWS`.
    pub username: String,
    /// Valid for twelve hours.
    pub password: Secret,
}

/// A new token. Its proxy endpoint is the account's registry, in every partition.
///
/// # Errors
/// AWS refuses, does not answer, or returns no token.
pub async fn token(ecr: &Ecr) -> anyhow::Result<Token> {
    let action = "ecr:GetAuthorizationToken";
    let answer = ecr.client.get_authorization_token().send().await.map_err(|e| explain(e, action))?;
    let data =
        answer.authorization_data.unwrap_or_default().into_iter().next().context("ECR gave no token")?;
    let endpoint = data.proxy_endpoint.context("ECR named no registry")?;
    let (username, password) = decode_token(&data.authorization_token.context("ECR gave no token")?)?;
    let host = endpoint
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    Ok(Token { host, username, password })
}

/// The only partition whose credentials ECR Public accepts.
pub const PUBLIC_PARTITION: &str = "aws";

const PUBLIC: JsonService =
    JsonService { name: "ecr-public", id: "ECR PUBLIC", target: "SpencerFrontendService" };

/// The only region with ECR Public's API: <https://docs.aws.amazon.com/AmazonECR/latest/public/public-registry-auth.html>
const PUBLIC_REGION: &str = "us-east-1";

/// A token for ECR Public.
///
/// # Errors
/// AWS refuses or does not answer.
pub async fn public_token(aws: &Aws, http: &reqwest::Client) -> anyhow::Result<Token> {
    let host = endpoints::ecr_public(PUBLIC_REGION, aws.variant());
    let answer = PUBLIC.call(aws, http, (PUBLIC_REGION, host), "GetAuthorizationToken", &json!({})).await?;
    let token = answer["authorizationData"]["authorizationToken"].as_str();
    let (username, password) = decode_token(token.context("ECR Public gave no token")?)?;
    Ok(Token { host: "public.ecr.aws".into(), username, password })
}

fn decode_token(token: &str) -> anyhow::Result<(String, Secret)> {
    let decoded =
        base64::engine::general_purpose::STANDARD.decode(token).context("the token is not base64")?;
    let text = String::from_utf8(decoded).ok().context("the token is not text")?;
    let (username, password) = text.split_once(':').context("the token is not user:password")?;
    Ok((username.to_owned(), Secret::new(password)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_user_and_password() {
        let (user, password) = decode_token("QVdTOnNlY3JldA==").unwrap();
        assert_eq!((user.as_str(), password.reveal()), ("AWS", "secret"));
        assert!(decode_token("!").is_err());
        assert!(!format!("{password:?}").contains("secret"));
    }
}
