//! Every kind of login besides user name and password: how it is stored, and which server gets what.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rows::{PLAIN, Row};

/// A login in docker's config.json. The last digit of what a token service gets is the user's number.
pub fn entry(kind: &str, user: usize) -> Value {
    match kind {
        "identity" => json!({ "identitytoken": format!("hush-hush-{user}") }),
        "token" => json!({ "registrytoken": format!("for-{user}") }),
        _ => json!({ "auth": STANDARD.encode(format!("{user}:hush-hush")) }),
    }
}

pub const KINDS: &[Row] = &[
    // A registry token needs no token service, and goes to no other host.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://sso.corp/token"),
        redirect: Some("https://store.corp"),
        logins: &["token mirror.corp", "sso.corp", "store.corp"],
        sent: &["https://mirror.corp token 0"],
        ..PLAIN
    },
    Row {
        upstream: Some("https://mirror.corp"),
        logins: &["token mirror.corp"],
        sent: &["https://mirror.corp token 0"],
        ..PLAIN
    },
    Row { upstream: Some("http://mirror.corp:81"), logins: &["token mirror.corp"], ..PLAIN },
    // An identity token is only for a token service.
    Row {
        upstream: Some("https://mirror.corp"),
        realm: Some("https://sso.corp/token"),
        redirect: Some("https://store.corp"),
        logins: &["identity mirror.corp", "sso.corp", "store.corp"],
        sent: &[
            "https://sso.corp grant_type=refresh_token&client_id=htc-grid-xtask&refresh_token=hush-hush-0",
            "https://mirror.corp token 0",
        ],
        ..PLAIN
    },
    Row { upstream: Some("https://mirror.corp"), logins: &["identity mirror.corp"], ..PLAIN },
    Row {
        upstream: Some("http://mirror.corp"),
        realm: Some("https://sso.corp/token"),
        logins: &["identity mirror.corp"],
        ..PLAIN
    },
];
