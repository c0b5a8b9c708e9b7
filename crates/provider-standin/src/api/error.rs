//! The services and their errors, with the messages of the AWS SDK that the real provider uses.

/// A service of the emulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name in the real provider's messages.
    pub(crate) title: &'static str,
    /// Its name in a signature's scope.
    pub(crate) scope: &'static str,
    /// The prefix of an action in `x-amz-target`; empty for a service with form requests.
    pub(crate) target: &'static str,
}

impl Service {
    pub(crate) const ECR: &'static Self =
        &Self { title: "ECR", scope: "ecr", target: "AmazonEC2ContainerRegistry_V20150921" };
    pub(crate) const IAM: &'static Self = &Self { title: "IAM", scope: "iam", target: "" };
    pub(crate) const KMS: &'static Self = &Self { title: "KMS", scope: "kms", target: "TrentService" };
    pub(crate) const STS: &'static Self = &Self { title: "STS", scope: "sts", target: "" };
}

/// An error of a service, with the message of the AWS SDK that the real provider uses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The service returned an error.
    #[error(
        "operation error {}: {action}, {}https response error StatusCode: {status}, RequestID: {request_id}, \
         {code}: {message}",
        service.title, exceeded(*attempts)
    )]
    Refused {
        service: &'static Service,
        action: String,
        status: u16,
        request_id: String,
        code: String,
        message: String,
        /// How many attempts were made; 1 for a permanent error.
        attempts: u32,
    },
    /// There was no answer.
    #[error("operation error {}: {action}, request send failed, {}", service.title, causes(source))]
    Unreachable { service: &'static Service, action: String, source: reqwest::Error },
    /// The answer lacks an element.
    #[error("operation error {}: {action}, the answer has no {missing}", service.title)]
    Incomplete { service: &'static Service, action: String, missing: &'static str },
}

impl ApiError {
    /// Whether the service returned one of these codes.
    pub(crate) fn is(&self, codes: &[&str]) -> bool {
        matches!(self, Self::Refused { code, .. } if codes.contains(&code.as_str()))
    }
}

fn exceeded(attempts: u32) -> String {
    if attempts == 1 { String::new() } else { format!("exceeded maximum number of attempts, {attempts}, ") }
}

fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Why the provider does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error(
        "AWS_ENDPOINT_URL is not set: the stand-in provider works against an AWS emulated on this machine, never against AWS"
    )]
    Unset,
    #[error(
        "AWS_ENDPOINT_URL is {0:?}: the stand-in provider takes a loopback address only, as in http://127.0.0.1:4566"
    )]
    NotLoopback(String),
    #[error("the HTTP client could not be built")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_the_real_provider_prints_it() {
        let error = ApiError::Refused {
            service: Service::ECR,
            action: "CreateRepository".to_owned(),
            status: 400,
            request_id: "7d2c".to_owned(),
            code: "RepositoryAlreadyExistsException".to_owned(),
            message: "The repository with name 'curl' already exists".to_owned(),
            attempts: 1,
        };
        assert_eq!(
            error.to_string(),
            "operation error ECR: CreateRepository, https response error StatusCode: 400, RequestID: 7d2c, \
             RepositoryAlreadyExistsException: The repository with name 'curl' already exists"
        );
    }
}
