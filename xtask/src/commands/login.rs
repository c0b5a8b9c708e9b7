//! `ecr-login`, `public-ecr-login`, `docker-registry-login`: the only commands that write to the user's docker configuration.

use aws::{
    ecr::{
        Ecr,
        token::{self, Token},
    },
    endpoints,
};
use clap::Args;
use docker::{Docker, DockerError};
use docker_credentials::{DockerCredentials, PUBLIC};
use failure::{FailWith as _, Kind, failure};
use process::ProcessError;
use registry::Server;

use super::Context;

/// Log docker in to the account's ECR; transfer-images does not need it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask ecr-login REGION=eu-west-1")]
pub struct EcrLogin {}

/// Log docker in to ECR Public (public.ecr.aws), which limits anonymous pulls
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask public-ecr-login")]
pub struct PublicEcrLogin {}

/// Both logins: the account's ECR and ECR Public
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask docker-registry-login REGION=eu-west-1")]
pub struct DockerRegistryLogin {}

/// A login of the container client, in `--format json`.
#[derive(serde::Serialize)]
struct Login {
    registry: String,
    /// False if the user's credential helper gets tokens from AWS itself.
    stored: bool,
}

fn report(context: &Context, logins: &[Login]) -> anyhow::Result<()> {
    context.printer.results().report(&serde_json::json!({ "logins": logins }))
}

impl EcrLogin {
    /// Runs the command.
    ///
    /// # Errors
    /// AWS returns no token, or docker refuses it.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        report(context, &account(context).await?)
    }
}

impl PublicEcrLogin {
    /// Runs the command.
    ///
    /// # Errors
    /// Errors of [`EcrLogin::run`].
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        report(context, &public(context).await?)
    }
}

impl DockerRegistryLogin {
    /// Runs the command.
    ///
    /// # Errors
    /// AWS returns no token, or docker refuses it.
    pub async fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut logins = account(context).await?;
        report(context, &logins)?;
        logins.extend(public(context).await?);
        report(context, &logins)
    }
}

/// Logs in to the account's ECR.
async fn account(context: &Context) -> anyhow::Result<Vec<Login>> {
    let aws = context.aws(None).await?;
    let token = token::token(&Ecr::new(&aws)).await?;
    // Amazon's helper gets a token from AWS whenever docker needs one, and refuses to store one.
    let docker = DockerCredentials::from_env(context.settings.container_cli.as_deref());
    let helper = match Server::of(&format!("https://{}", token.host)) {
        Some(server) => docker.helper(&server).await.kind(Kind::Credentials)?,
        None => None,
    };
    if helper.as_deref() == Some(ECR_HELPER) {
        context.printer.line(format!(
            "no login is needed: docker's configuration names docker-credential-{ECR_HELPER} for {}",
            token.host
        ));
        return Ok(vec![Login { registry: token.host, stored: false }]);
    }
    let mut logins = vec![login(context, &token).await?];
    // If the user's settings select FIPS or dual-stack endpoints, image names have those hosts.
    if let Some(host) = endpoints::registry(&token.host, aws.region(), aws.variant()) {
        logins.push(login(context, &Token { host, ..token }).await?);
    }
    Ok(logins)
}

/// Logs in to ECR Public.
async fn public(context: &Context) -> anyhow::Result<Vec<Login>> {
    let aws = context.aws(None).await?;
    let partition = aws.identity().partition();
    if partition != token::PUBLIC_PARTITION {
        return Err(failure(
            Kind::Credentials,
            format!("ECR Public is of the partition {}, and these credentials are of {partition}", token::PUBLIC_PARTITION),
        ))
        .hint(
            Kind::Credentials,
            "use credentials of an account in the partition aws, or no login: public.ecr.aws can be read without one",
        );
    }
    let token = token::public_token(&aws, &context.http).await?;
    let mut logins = vec![login(context, &token).await?];
    if let Some(host) = PUBLIC.iter().find(|name| aws.variant().dual_stack && **name != token.host) {
        logins.push(login(context, &Token { host: (*host).to_owned(), ..token }).await?);
    }
    Ok(logins)
}

/// The name of Amazon's own credential helper (<https://github.com/awslabs/amazon-ecr-credential-helper>).
const ECR_HELPER: &str = "ecr-login";

/// Whether a client reports that it could not store a login that the registry accepted (docker, podman).
fn is_about_keeping(line: &str) -> bool {
    let line = line.to_lowercase();
    ["saving credentials", "storing credentials", "saving login"].iter().any(|words| line.contains(words))
}

/// `docker login` into the user's own configuration. If the registry refuses or cannot be reached, this is not an error of the
/// engine.
async fn login(context: &Context, token: &Token) -> anyhow::Result<Login> {
    let docker = Docker::find(context.settings.container_cli.as_deref()).await.kind(Kind::Docker)?;
    if let Err(error) = docker.login(&token.host, &token.username, token.password.clone()).await {
        let at_registry = matches!(&error, DockerError::Process(ProcessError::Failed { tail, .. })
            if !tail.iter().any(|line| is_about_keeping(line)));
        return match at_registry {
            true => Err(error).hint(
                Kind::Registry,
                format!(
                    "is the network up, and {} reachable from where the container engine runs?",
                    token.host
                ),
            ),
            false => Err(error).kind(Kind::Docker),
        };
    }
    context.printer.line(format!("{} is logged in to {}", docker.name(), token.host));
    Ok(Login { registry: token.host.clone(), stored: true })
}
