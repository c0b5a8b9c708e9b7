//! The data sources.
//!
//! STS returns the caller, and IAM the role of a name.

use crate::api::{Api, ApiError};
use crate::values::{Object, Value, text};

/// Why a data source cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// The real provider's prefix for the service's message.
    #[error("{doing}: {source}")]
    Api { doing: &'static str, source: ApiError },
    #[error("reading IAM Session Context: {0:?} is not an ARN")]
    NotAnArn(String),
    #[error("the stand-in provider does not read the data source {0}")]
    Unknown(String),
}

/// A region's partition, DNS suffix and its suffix backwards.
fn partition(region: &str) -> (&'static str, &'static str, &'static str) {
    match region {
        region if region.starts_with("cn-") => ("aws-cn", "amazonaws.com.cn", "cn.com.amazonaws"),
        region if region.starts_with("us-gov-") => ("aws-us-gov", "amazonaws.com", "com.amazonaws"),
        _ => ("aws", "amazonaws.com", "com.amazonaws"),
    }
}

/// Reads `config`, an object of the type's schema, and returns the data source's values.
pub(crate) async fn read(api: &Api, type_name: &str, mut config: Object) -> Result<Object, DataError> {
    let mut set = |pairs: &[(&str, &str)]| {
        for (name, value) in pairs {
            config.insert((*name).to_owned(), (*value).into());
        }
    };
    match type_name {
        "aws_caller_identity" => {
            let doing = "reading STS Caller Identity";
            let who = api.identity().await.map_err(|source| DataError::Api { doing, source })?;
            set(&[
                ("id", &who.account),
                ("account_id", &who.account),
                ("arn", &who.arn),
                ("user_id", &who.user_id),
            ]);
        }
        "aws_partition" => {
            let (name, suffix, reverse) = partition(&api.region);
            set(&[
                ("id", name),
                ("partition", name),
                ("dns_suffix", suffix),
                ("reverse_dns_prefix", reverse),
            ]);
        }
        "aws_region" => {
            let region = text(&config, "region").unwrap_or(&api.region).to_owned();
            let endpoint = format!("ec2.{region}.{}", partition(&region).1);
            for (name, value) in
                [("id", &region), ("name", &region), ("region", &region), ("endpoint", &endpoint)]
            {
                config.insert(name.to_owned(), value.as_str().into());
            }
        }
        "aws_iam_session_context" => {
            let arn = text(&config, "arn").unwrap_or_default().to_owned();
            let issuer = Issuer::of(&arn).ok_or_else(|| DataError::NotAnArn(arn.clone()))?;
            for (name, value) in [
                ("id", &arn),
                ("issuer_arn", &issuer.arn),
                ("issuer_id", &issuer.id),
                ("issuer_name", &issuer.name),
                ("session_name", &issuer.session),
            ] {
                config.insert(name.to_owned(), value.as_str().into());
            }
        }
        "aws_iam_role" => {
            let doing = "reading IAM Role";
            let name = text(&config, "name").unwrap_or_default().to_owned();
            let role = api.role(&name).await.map_err(|source| DataError::Api { doing, source })?;
            for (member, value) in
                [("id", &name), ("arn", &role.arn), ("path", &role.path), ("unique_id", &role.id)]
            {
                config.insert(member.to_owned(), value.as_str().into());
            }
            config.insert("max_session_duration".to_owned(), Value::Number(3600.0));
        }
        _ => return Err(DataError::Unknown(type_name.to_owned())),
    }
    Ok(config)
}

/// The issuer of a caller's ARN.
#[derive(Debug, PartialEq, Eq)]
struct Issuer {
    arn: String,
    id: String,
    name: String,
    session: String,
}

impl Issuer {
    fn of(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let &["arn", partition, service, _, account, resource] = parts.as_slice() else { return None };
        let assumed = resource.strip_prefix("assumed-role/").filter(|_| service == "sts");
        Some(match assumed.and_then(|rest| rest.split_once('/')) {
            Some((role, session)) => Self {
                arn: format!("arn:{partition}:iam::{account}:role/{role}"),
                id: role_id(role),
                name: role.to_owned(),
                session: session.to_owned(),
            },
            // A caller without a session is its own issuer.
            None => {
                Self { arn: arn.to_owned(), id: String::new(), name: String::new(), session: String::new() }
            }
        })
    }
}

/// An ID in IAM's format, constant for a name.
fn role_id(name: &str) -> String {
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase());
    let mut id: String = letters.map(char::from).take(17).collect();
    while id.len() < 17 {
        id.push('X');
    }
    format!("AROA{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_resolved_to_its_role() {
        let issuer = Issuer::of("arn:aws-cn:sts::123456789012:assumed-role/ops/anna@example.com").unwrap();
        assert_eq!(issuer.arn, "arn:aws-cn:iam::123456789012:role/ops");
        assert_eq!((issuer.name.as_str(), issuer.session.as_str()), ("ops", "anna@example.com"));
    }

    #[test]
    fn a_user_is_resolved_to_the_user() {
        let arn = "arn:aws:iam::123456789012:user/anna";
        assert_eq!(Issuer::of(arn).unwrap().arn, arn);
        assert_eq!(Issuer::of("anna"), None);
    }
}
