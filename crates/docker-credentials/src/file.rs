//! The text of docker's config.json, as far as it is about credentials.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use registry::{Credential, Server};
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
            let entry = match entry {
                Value::Object(entry) => entry,
                Value::Null => continue,
                _ => return Err(format!("auths.\"{key}\" is not an object")),
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

    /// The helper that knows a server.
    pub(super) fn helper(&self, server: &Server) -> Option<&str> {
        find(&self.helpers, server).or(self.store.as_ref()).map(String::as_str)
    }

    /// What the file itself holds for a server.
    pub(super) fn stored(&self, server: &Server) -> Option<Credential> {
        find(&self.auths, server).cloned()
    }
}

/// The name by which a server is known to helpers.
pub(super) fn server_address(server: &Server) -> String {
    if server.is_docker_hub() { DOCKER_HUB_KEY.to_owned() } else { server.host().to_owned() }
}

/// The entry for a server: by its name, else by any key that means the same host.
fn find<'m, T>(entries: &'m BTreeMap<String, T>, server: &Server) -> Option<&'m T> {
    let own = if server.is_docker_hub() { Some(DOCKER_HUB_KEY) } else { None };
    own.and_then(|key| entries.get(key))
        .or_else(|| entries.get(server.host()))
        // A bare host before a URL, a URL before a host with a path.
        .or_else(|| {
            entries
                .iter()
                .filter(|(key, _)| is_for(key, server))
                .min_by_key(|(key, _)| key.len())
                .map(|(_, value)| value)
        })
}

/// Whether a key means this server. Where everybody on the way reads along, only a key without `https://` and without a
/// namespace does.
fn is_for(key: &str, server: &Server) -> bool {
    let (scheme, bare) = key.split_once("://").map_or(("", key), |(scheme, bare)| (scheme, bare));
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let host = host.to_ascii_lowercase();
    if server.is_exposed() {
        let is_whole = matches!(path.trim_end_matches('/'), "" | "v1" | "v2");
        return scheme != "https" && is_whole && host.strip_suffix(":80").unwrap_or(&host) == server.host();
    }
    let own = |host: &str| Server::of(&format!("https://{host}"));
    own(&host).is_some_and(|known| {
        known.host() == server.host() || (known.is_docker_hub() && server.is_docker_hub())
    })
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
        _ => Err(format!("{key} is not a valid name of a credential helper")),
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
        // `base64` breaks lines, and docker reads over them.
        let auth: String = auth.split_ascii_whitespace().collect();
        let bytes = BASE64.decode(auth).map_err(|_| broken())?;
        let text = String::from_utf8(bytes).map_err(|_| broken())?;
        let (username, password) = text.split_once(':').ok_or_else(broken)?;
        // Old clients padded with zeros; docker cuts them off too.
        (username.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    // A helper's entries stand in the file with nothing in them.
    let known = !username.is_empty() && !password.is_empty();
    Ok(known.then_some(Credential::Basic { username, password }))
}
