//! The text of docker's config.json, as far as it is about credentials.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use registry::Credential;
use serde_json::{Map, Value};

/// How docker calls Docker Hub in its file:
/// <https://github.com/docker/cli/blob/master/cli/config/configfile/file.go> and moby's registry.IndexServer.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whom to ask, and what the file itself holds. `Debug` shows no secret, for [`Credential`]'s does not.
#[derive(Debug, Default)]
pub(super) struct DockerConfig {
    auths: BTreeMap<String, Credential>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

impl DockerConfig {
    /// Reads the file's text. A problem never repeats what stands there.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|why| {
            // Not its message: that may quote the text.
            format!("is not JSON from line {}, column {} on", why.line(), why.column())
        })?;
        let Value::Object(root) = value else { return Err("is not a JSON object".to_owned()) };
        let mut config = Self::default();
        for (key, entry) in object(&root, "auths")? {
            let Value::Object(entry) = entry else {
                return Err(format!("auths.\"{key}\" is not an object"));
            };
            config.auths.extend(credential(key, entry)?.map(|credential| (key.clone(), credential)));
        }
        for (key, helper) in object(&root, "credHelpers")? {
            config.helpers.insert(key.clone(), helper_name(&format!("credHelpers.\"{key}\""), helper)?);
        }
        if let Some(store) = root.get("credsStore").filter(|store| store.as_str() != Some("")) {
            config.store = Some(helper_name("credsStore", store)?);
        }
        Ok(config)
    }

    /// The helper that knows a registry.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        find(&self.helpers, registry).or(self.store.as_ref()).map(String::as_str)
    }

    /// What the file itself holds for a registry.
    pub(super) fn stored(&self, registry: &str) -> Option<Credential> {
        find(&self.auths, registry).cloned()
    }
}

/// The name by which a registry is known to helpers.
pub(super) fn server_address(registry: &str) -> String {
    if is_docker_hub(registry) { DOCKER_HUB_KEY.to_owned() } else { registry.to_owned() }
}

/// The entry for a registry: by its name, else by any key that means the same host.
fn find<'m, T>(entries: &'m BTreeMap<String, T>, registry: &str) -> Option<&'m T> {
    let wanted = host(registry);
    entries
        .get(&server_address(registry))
        .or_else(|| entries.get(registry))
        // A bare host before a URL, a URL before a host with a path.
        .or_else(|| {
            entries
                .iter()
                .filter(|(key, _)| host(key) == wanted)
                .min_by_key(|(key, _)| key.len())
                .map(|(_, value)| value)
        })
}

/// A key without scheme and path, Docker Hub under one name.
fn host(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = bare.split('/').next().unwrap_or_default().to_ascii_lowercase();
    if is_docker_hub(&host) { "docker.io".to_owned() } else { host }
}

fn is_docker_hub(host: &str) -> bool {
    ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host)
}

fn object<'v>(
    root: &'v Map<String, Value>,
    key: &str,
) -> Result<impl Iterator<Item = (&'v String, &'v Value)>, String> {
    match root.get(key) {
        None | Some(Value::Null) => Ok(None.into_iter().flatten()),
        Some(Value::Object(entries)) => Ok(Some(entries).into_iter().flatten()),
        Some(_) => Err(format!("{key} is not an object")),
    }
}

fn helper_name(key: &str, value: &Value) -> Result<String, String> {
    match value.as_str() {
        // It becomes the name of a program: nothing that leads out of PATH.
        Some(name) if !name.is_empty() && !name.contains(['/', '\\']) => Ok(name.to_owned()),
        _ => Err(format!("{key} is not the name of a credential helper")),
    }
}

fn credential(key: &str, entry: &Map<String, Value>) -> Result<Option<Credential>, String> {
    let field = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("auths.\"{key}\".{name} is not a string")),
    };
    let token = field("identitytoken")?;
    if !token.is_empty() {
        return Ok(Some(Credential::IdentityToken(token.to_owned())));
    }
    let auth = field("auth")?;
    let (username, password) = if auth.is_empty() {
        (field("username")?.to_owned(), field("password")?.to_owned())
    } else {
        let broken = || format!("auths.\"{key}\".auth is not base64 of user:password");
        let bytes = BASE64.decode(auth.trim()).map_err(|_| broken())?;
        let text = String::from_utf8(bytes).map_err(|_| broken())?;
        let (username, password) = text.split_once(':').ok_or_else(broken)?;
        // Old clients padded with zeros; docker cuts them off too.
        (username.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    // A helper's entries stand in the file with nothing in them.
    let known = !username.is_empty() && !password.is_empty();
    Ok(known.then_some(Credential::Basic { username, password }))
}
