//! The credentials in the text of docker's config.json or podman's auth.json, and which of them is for a server.

use std::collections::BTreeMap;

use registry::{Credential, Server};
use serde_json::{Map, Value};

use crate::login::{self, field};

/// Docker's name for Docker Hub in this file: <https://github.com/docker/cli/blob/master/cli/config/configfile/file.go> and moby's
/// registry.IndexServer.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The credential helpers to use, and the credentials in the file. `Debug` shows no secret, as [`Credential`]'s does not.
#[derive(Debug, Default)]
pub(super) struct DockerConfig {
    auths: BTreeMap<String, Credential>,
    helpers: BTreeMap<String, String>,
    store: String,
}

impl DockerConfig {
    /// Parses the file's text. Errors never quote the text.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        // Added by some editors.
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let value: Value = serde_json::from_slice(text).map_err(|why| {
            // Not serde_json's message, which may quote the text.
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
            let key = key.trim();
            config.auths.extend(login::stored(key, entry)?.map(|credential| (key.to_owned(), credential)));
        }
        for (key, helper) in object(&root, "credHelpers")? {
            let key = key.trim();
            let helper = helper_name(&format!("credHelpers.\"{key}\""), helper)?;
            config.helpers.insert(key.to_owned(), helper);
        }
        if let Some(store) = field(&root, "credsStore") {
            config.store = helper_name("credsStore", store)?;
        }
        Ok(config)
    }

    /// The credential helper for a server. An empty name means no helper, even if there is one for all other servers.
    pub(super) fn helper(&self, server: &Server) -> Option<&str> {
        let helper = find(&self.helpers, &server.whole()).unwrap_or(&self.store);
        Some(helper.as_str()).filter(|helper| !helper.is_empty())
    }

    /// The file's own credential for a server or its namespace.
    pub(super) fn stored(&self, server: &Server) -> Option<Credential> {
        find(&self.auths, server).cloned()
    }

    /// The namespaces and repositories of a server that have their own logins.
    pub(super) fn namespaces(&self, server: &Server) -> Vec<String> {
        let own = self.auths.keys().filter(|key| is_for(key, server)).map(|key| Key::of(key).namespace);
        own.filter(|namespace| !namespace.is_empty()).map(str::to_owned).collect()
    }
}

/// A server's name in requests to helpers.
pub(super) fn server_address(server: &Server) -> String {
    if server.is_docker_hub() { DOCKER_HUB_KEY.to_owned() } else { server.host().to_owned() }
}

/// The entry for a server: by its name, else by any key for the same host and namespace.
fn find<'m, T>(entries: &'m BTreeMap<String, T>, server: &Server) -> Option<&'m T> {
    let meant = |key: &str| is_for(key, server) && Key::of(key).namespace == server.namespace();
    let is_whole = server.namespace().is_empty();
    let own = Some(DOCKER_HUB_KEY).filter(|_| is_whole && server.is_docker_hub());
    own.and_then(|key| entries.get(key))
        .or_else(|| entries.get(server.host()).filter(|_| is_whole))
        // A bare host has precedence over a URL.
        .or_else(|| {
            let meant = entries.iter().filter(|(key, _)| meant(key));
            meant.min_by_key(|(key, _)| key.len()).map(|(_, value)| value)
        })
}

/// A key of `auths`, split into its parts.
struct Key<'k> {
    scheme: &'k str,
    host: String,
    path: &'k str,
    /// The part of the host that the key is for. In a URL, the path is docker's own and has no meaning
    /// (<https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md>).
    namespace: &'k str,
}

impl<'k> Key<'k> {
    fn of(key: &'k str) -> Self {
        let (scheme, bare) = key.split_once("://").map_or(("", key), |(scheme, bare)| (scheme, bare));
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        let path = path.trim_end_matches('/');
        let path = if matches!(path, "v1" | "v2") { "" } else { path };
        let namespace = if scheme.is_empty() { path } else { "" };
        Self { scheme, host: host.to_ascii_lowercase(), path, namespace }
    }
}

/// Whether a key is for this server or a namespace there. If the connection is not encrypted, only a key without `https://` and without
/// another path is.
fn is_for(key: &str, server: &Server) -> bool {
    let Key { scheme, host, path, namespace } = Key::of(key);
    if server.is_exposed() {
        let is_plain = scheme != "https" && path == namespace;
        return is_plain && host.strip_suffix(":80").unwrap_or(&host) == server.host();
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
    match field(root, key) {
        None | Some(Value::Null) => Ok(None.into_iter().flatten()),
        Some(Value::Object(entries)) => Ok(Some(entries).into_iter().flatten()),
        Some(_) => Err(format!("{key} is not an object")),
    }
}

fn helper_name(key: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        // It becomes the name of a program, so it must not lead outside of PATH.
        Value::String(name) if !name.contains(['/', '\\']) => Ok(name.trim().to_owned()),
        _ => Err(format!("{key} is not a valid name of a credential helper")),
    }
}
