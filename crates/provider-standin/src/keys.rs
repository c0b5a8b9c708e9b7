//! The access key of requests: the environment's, or one from an address of this machine, as the real provider gets it in a container
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).

use serde_json::Value;

/// Where the access key comes from.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// The environment.
    Static { access_key: String, session_token: Option<String> },
    /// An address, with the token for it.
    Container { url: String, token: String },
}

impl Keys {
    /// The source configured in the environment, by default the emulator's own key.
    pub(crate) fn from_env() -> Self {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let token = || env("AWS_CONTAINER_AUTHORIZATION_TOKEN").unwrap_or_default();
        match (env("AWS_ACCESS_KEY_ID"), env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            (None, Some(url)) => Self::Container { url, token: token() },
            (access_key, _) => Self::Static {
                access_key: access_key.unwrap_or_else(|| "local".to_owned()),
                session_token: env("AWS_SESSION_TOKEN"),
            },
        }
    }

    /// The access key and the session's token for the next request.
    pub(crate) async fn current(
        &self,
        http: &reqwest::Client,
    ) -> Result<(String, Option<String>), reqwest::Error> {
        match self {
            Self::Static { access_key, session_token } => Ok((access_key.clone(), session_token.clone())),
            Self::Container { url, token } => {
                let answer = http.get(url).header("authorization", token).send().await?.error_for_status()?;
                let document: Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
                let text = |name: &str| document[name].as_str().filter(|text| !text.is_empty());
                let access_key = text("AccessKeyId").unwrap_or_default().to_owned();
                Ok((access_key, text("Token").map(str::to_owned)))
            }
        }
    }
}
