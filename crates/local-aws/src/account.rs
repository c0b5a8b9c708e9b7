//! The caller of a request, with account and region.
//!
//! Signatures are not verified; everything else in a `SigV4` header is used, because only it contains the region and the service of a
//! request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::fault::Fault;
use crate::http::{header, query, value};
use crate::policy::Principal;
use crate::quirks::Quirk;
use crate::scope::{Scope, partition};
use crate::time::now_millis;

/// The caller of one signed request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) access_key: String,
    pub(crate) service: String,
    pub(crate) scope: Scope,
    pub(crate) principal: String,
}

/// Why a request has no caller.
pub(crate) enum CallerError {
    Unsigned,
    Malformed,
    Expired,
    /// The signature's time differs too much from the current time.
    Skewed,
}

impl Caller {
    /// Reads the caller from the `Authorization` header or from a presigned query.
    ///
    /// An access key of twelve digits belongs to that account; one from [`session_key`] to an assumed role; one starting with `expired` has
    /// expired.
    pub(crate) fn of(parts: &Parts, app: &App) -> Result<Self, CallerError> {
        let mut caller = Self::signed(parts, &app.config.account)?;
        if let Some(user) = app.identities.user(&caller.access_key) {
            caller.principal =
                format!("arn:{}:iam::{}:user/{user}", caller.scope.partition(), caller.scope.account);
        }
        if app.quirks.is_on(&Quirk::SessionExpired) {
            return Err(CallerError::Expired);
        }
        if app.quirks.is_on(&Quirk::ClockSkew) { Err(CallerError::Skewed) } else { Ok(caller) }
    }

    fn signed(parts: &Parts, default_account: &str) -> Result<Self, CallerError> {
        let credential = match header(parts, "authorization") {
            Some(text) => {
                let fields = text.strip_prefix("AWS4-HMAC-SHA256").ok_or(CallerError::Malformed)?;
                let field = |name: &str| fields.split(',').find_map(|field| field.trim().strip_prefix(name));
                if field("Signature=").is_none_or(str::is_empty)
                    || field("SignedHeaders=").is_none_or(str::is_empty)
                {
                    return Err(CallerError::Malformed);
                }
                field("Credential=").ok_or(CallerError::Malformed)?.to_owned()
            }
            None => value(&query(parts), "X-Amz-Credential").ok_or(CallerError::Unsigned)?.to_owned(),
        };
        // From the right: an access key might contain a slash.
        let mut fields = credential.rsplitn(5, '/');
        let (Some("aws4_request"), Some(service), Some(region), Some(_date), Some(access_key)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(CallerError::Malformed);
        };
        if access_key.starts_with("expired") {
            return Err(CallerError::Expired);
        }
        Ok(Self::from_key(access_key, service, region, default_account))
    }

    fn from_key(access_key: &str, service: &str, region: &str, default_account: &str) -> Self {
        let own_account = access_key.len() == 12 && access_key.bytes().all(|b| b.is_ascii_digit());
        let account = if own_account { access_key } else { default_account }.to_owned();
        let partition = partition(region);
        let principal = match session_of(access_key) {
            Some((role, session)) => format!("arn:{partition}:sts::{account}:assumed-role/{role}/{session}"),
            None if own_account => format!("arn:{partition}:iam::{account}:user/local"),
            None => format!("arn:{partition}:iam::{account}:user/{access_key}"),
        };
        Self {
            access_key: access_key.to_owned(),
            service: service.to_owned(),
            scope: Scope { account, region: region.to_owned() },
            principal,
        }
    }

    /// A caller without a key.
    pub(crate) fn anonymous(app: &App) -> Self {
        Self::from_key("anonymous", "sts", "us-east-1", &app.config.account)
    }

    /// The principal for policies.
    pub(crate) fn principal(&self) -> Principal {
        Principal { arn: self.principal.clone(), account: self.scope.account.clone() }
    }

    /// `AIDA…` or `AROA…:session`, stable for an access key.
    pub(crate) fn user_id(&self) -> String {
        let hash = crate::digest::sha256(self.access_key.as_bytes())[7..24].to_uppercase();
        match session_of(&self.access_key) {
            Some((_, session)) => format!("AROA{hash}:{session}"),
            None => format!("AIDA{hash}"),
        }
    }
}

/// Prefix of the access keys of sessions.
const SESSION: &str = "ASIAROLE";

/// The access key of a role's session. It contains the role, so that it survives a restart, in the characters of AWS's keys.
pub(crate) fn session_key(role: &str, session: &str) -> String {
    format!("{SESSION}{}", hex::encode(format!("{role}/{session}")))
}

/// The role and the session's name in an access key.
fn session_of(access_key: &str) -> Option<(String, String)> {
    let bytes = hex::decode(access_key.strip_prefix(SESSION)?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once('/').map(|(role, session)| (role.to_owned(), session.to_owned()))
}

impl CallerError {
    /// The error, as the JSON and query services return it.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Unsigned => {
                Fault::client("MissingAuthenticationTokenException", "Missing Authentication Token")
            }
            Self::Malformed => Fault::client(
                "IncompleteSignatureException",
                "Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters",
            ),
            Self::Expired => Fault::client(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
            Self::Skewed => Fault::client(
                "InvalidSignatureException",
                "Signature expired: 20261122T094400Z is now earlier than 20261122T095900Z (20261122T101400Z - 15 min.)",
            ),
        }
    }
}

/// The token of `GetAuthorizationToken`. It contains all its data, so nothing is stored for it and it survives a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RegistryToken {
    #[serde(flatten)]
    pub(crate) scope: Scope,
    pub(crate) principal: String,
    /// Milliseconds since the epoch.
    pub(crate) expires: i64,
    pub(crate) nonce: u64,
    check: String,
}

impl RegistryToken {
    pub(crate) fn issue(caller: &Caller, lifetime: std::time::Duration) -> Self {
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX / 2);
        let mut token = Self {
            scope: caller.scope.clone(),
            principal: caller.principal.clone(),
            expires: now_millis() + lifetime,
            nonce: fastrand::u64(..),
            check: String::new(),
        };
        token.check = token.checksum();
        token
    }

    /// The principal for policies.
    pub(crate) fn principal(&self) -> Principal {
        Principal { arn: self.principal.clone(), account: self.scope.account.clone() }
    }

    /// Not a signature, which is not needed on loopback: it distinguishes a token from a typing error.
    fn checksum(&self) -> String {
        let text = format!("{}/{}/{}/{}", self.scope.account, self.scope.region, self.expires, self.nonce);
        crate::digest::sha256(text.as_bytes())
    }

    /// The password of `docker login`.
    pub(crate) fn password(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// `authorizationToken` of the API: `AWS:<password>`, again in base64.
    pub(crate) fn authorization(&self) -> String {
        STANDARD.encode(format!("AWS:{}", self.password()))
    }

    /// Parses the token of a Basic header.
    pub(crate) fn from_basic(authorization: &str) -> Option<Self> {
        let (scheme, encoded) = authorization.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let password = pair.strip_prefix("AWS:")?;
        let token: Self = serde_json::from_slice(&STANDARD.decode(password).ok()?).ok()?;
        (token.check == token.checksum()).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(authorization: &str) -> Parts {
        http::Request::builder().header("authorization", authorization).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_caller_comes_from_the_header() {
        let caller = Caller::signed(
            &parts("AWS4-HMAC-SHA256 Credential=local/20261122/eu-west-1/ecr/aws4_request, SignedHeaders=host, Signature=0"),
            "123456789012",
        )
        .ok()
        .unwrap();
        assert_eq!(caller.principal, "arn:aws:iam::123456789012:user/local");
        assert_eq!((caller.service.as_str(), caller.scope.region.as_str()), ("ecr", "eu-west-1"));
    }

    #[test]
    fn another_account_a_role_and_other_partitions() {
        let caller = |key: &str, region: &str| Caller::from_key(key, "sts", region, "123456789012").principal;
        assert_eq!(caller("210987654321", "cn-north-1"), "arn:aws-cn:iam::210987654321:user/local");
        assert_eq!(
            caller(&session_key("ops", "ann"), "us-east-1"),
            "arn:aws:sts::123456789012:assumed-role/ops/ann"
        );
    }

    #[test]
    fn a_damaged_header_is_refused() {
        let refused = |text| matches!(Caller::signed(&parts(text), "1"), Err(CallerError::Malformed));
        assert!(refused("AWS4-HMAC-SHA256 Credential=local/20261122/eu-west-1/ecr/aws4_request"));
        assert!(refused("AWS4-HMAC-SHA256 Credential=local, SignedHeaders=host, Signature=0"));
        assert!(refused("Bearer x"));
    }

    #[test]
    fn a_token_is_read_back_and_a_changed_one_is_not() {
        let caller = Caller::from_key("local", "ecr", "eu-west-1", "123456789012");
        let token = RegistryToken::issue(&caller, std::time::Duration::from_secs(60));
        let back = RegistryToken::from_basic(&format!("Basic {}", token.authorization())).unwrap();
        assert_eq!(back.scope, caller.scope);
        let mut forged = token;
        forged.expires += 1;
        assert!(RegistryToken::from_basic(&format!("Basic {}", forged.authorization())).is_none());
        assert!(RegistryToken::from_basic("Basic QVdTOng=").is_none());
    }
}
