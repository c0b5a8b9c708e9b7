//! The presigned URLs for downloading layers, in a bucket of ECR.

use crate::app::App;
use crate::digest;
use crate::scope::Scope;
use crate::time::{compact, now_millis};

const EXPIRES_SECONDS: i64 = 3600;

/// The signature for access to `path` until `expiry`, in seconds since the epoch.
pub(crate) fn signature(path: &str, expiry: i64) -> String {
    digest::sha256(format!("GET {path} until {expiry}").as_bytes())["sha256:".len()..].to_owned()
}

/// A presigned URL for `wanted`, valid for an hour.
pub(crate) fn presign(app: &App, scope: &Scope, wanted: &str) -> String {
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let path = format!("/prod-{}-starport-layer-bucket/{}/{hex}", scope.region, scope.account);
    let now = now_millis();
    let expiry = now / 1000 + EXPIRES_SECONDS;
    format!(
        "{}{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={}&X-Amz-SignedHeaders=host&X-Amz-Expires={EXPIRES_SECONDS}\
         &x-local-expiry={expiry}&X-Amz-Signature={}",
        app.layer_origin(),
        compact(now),
        signature(&path, expiry)
    )
}
