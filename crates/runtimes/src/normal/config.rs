//! An image's configuration in the one form that there is of it
//! (<https://github.com/opencontainers/image-spec/blob/main/config.md>).

use dockerfile::Layer;
use jiff::Timestamp;
use registry::Digest;
use serde_json::{Map, Value, json};

use super::Base;
use crate::archive::ArchiveError;

/// What builders note about themselves, and about the container that a build ran in.
const NOTES: [&str; 6] = ["container", "container_config", "docker_version", "id", "parent", "Size"];
/// The same in what containers get. `ArgsEscaped` is of Windows alone.
const CONTAINER_NOTES: [&str; 5] = ["Hostname", "Domainname", "Image", "MacAddress", "ArgsEscaped"];
/// Podman's builder writes its version there.
const LABEL: &str = "io.buildah.version";

/// Where programs are looked for in an image that says nothing of it; BuildKit writes it into each image.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration: `layers` are the uncompressed digests, lowest first; `made` says of each of the build's own layers whether
/// it is among them, and `instructions` are those of the Dockerfile that make layers.
pub(super) fn normal(
    config: &[u8],
    base: &Base,
    layers: &[Digest],
    made: &[bool],
    instructions: &[Layer],
) -> Result<Vec<u8>, ArchiveError> {
    let failed = |source| ArchiveError::Json { what: "configuration", source };
    let mut config: Map<String, Value> = serde_json::from_slice(config).map_err(failed)?;
    let history = match config.remove("history") {
        Some(Value::Array(history)) => history,
        _ => Vec::new(),
    };
    config.retain(|name, _| !NOTES.contains(&name.as_str()) && !name.starts_with("moby."));
    // What arm64 means without it.
    if config.get("architecture") == Some(&json!("arm64")) && config.get("variant") == Some(&json!("v8")) {
        config.remove("variant");
    }
    let created = created(base.time);
    config.insert("created".to_owned(), created.clone());
    let mut run = match config.remove("config") {
        Some(Value::Object(run)) => run,
        _ => Map::new(),
    };
    run.retain(|name, _| !CONTAINER_NOTES.contains(&name.as_str()));
    if let Some(Value::Object(labels)) = run.get_mut("Labels") {
        labels.remove(LABEL);
    }
    environment(&mut run);
    if run.get("WorkingDir") == Some(&json!("/")) {
        run.remove("WorkingDir");
    }
    config.insert("config".to_owned(), Value::Object(run));
    config.retain(|_, value| !drop_empty(value));
    let diff_ids: Vec<String> = layers.iter().map(Digest::to_string).collect();
    config.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    let mut all = base.history.clone();
    all.extend(own_history(
        history.get(base.history.len()..).unwrap_or_default(),
        made,
        instructions,
        &created,
    ));
    config.insert("history".to_owned(), Value::Array(all));
    serde_json::to_vec(&sorted(Value::Object(config))).map_err(failed)
}

/// A time as configurations have it.
fn created(seconds: u64) -> Value {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    json!(time.unwrap_or(Timestamp::MAX).to_string())
}

/// In the order of names, as each builder adds its own at another place; two of one name stay as they are.
fn environment(run: &mut Map<String, Value>) {
    let mut variables = match run.remove("Env") {
        Some(Value::Array(variables)) => variables,
        _ => Vec::new(),
    };
    let text = |variable: &Value| variable.as_str().unwrap_or_default().to_owned();
    if !variables.iter().any(|variable| text(variable).starts_with("PATH=")) {
        variables.push(json!(PATH));
    }
    variables.sort_by_key(|variable| text(variable).split('=').next().map(str::to_owned));
    run.insert("Env".to_owned(), Value::Array(variables));
}

/// Takes away what says nothing; whether the value itself does.
fn drop_empty(value: &mut Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !*value,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => {
            // A volume or a port is a name with nothing behind it, a label may be.
            for name in ["Volumes", "ExposedPorts", "Labels"] {
                if map.get(name).is_some_and(|value| value.as_object().is_none_or(Map::is_empty)) {
                    map.remove(name);
                }
            }
            map.retain(|name, value| match name.as_str() {
                "Volumes" | "ExposedPorts" | "Labels" => true,
                _ => !drop_empty(value),
            });
            map.is_empty()
        }
        Value::Number(_) => false,
    }
}

/// serde_json keeps the order of names where any crate of the build asks for that.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut all: Vec<(String, Value)> = map.into_iter().collect();
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(all.into_iter().map(|(name, value)| (name, sorted(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// The steps that can make layers, each by the Dockerfile's own words: a builder's have file names or digests of its own in them,
/// and the build arguments, a base's address among these.
fn own_history(steps: &[Value], made: &[bool], instructions: &[Layer], created: &Value) -> Vec<Value> {
    let mut made = made.iter().copied();
    let mut own = Vec::new();
    for step in steps {
        let text = step.get("created_by").and_then(Value::as_str).unwrap_or_default();
        let is_empty = step.get("empty_layer").and_then(Value::as_bool).unwrap_or_default();
        let is_made = !is_empty && made.next().unwrap_or_default();
        let keyword = keyword(text);
        // What makes no layer is in the configuration itself.
        if is_made || ["RUN", "COPY", "ADD"].contains(&keyword) {
            own.push((keyword, is_made));
        }
    }
    // A layer that no step made.
    own.extend(made.filter(|is_made| *is_made).map(|_| ("", true)));
    // Triggers of the base come first.
    let mut words = instructions.iter().rev();
    let mut texts: Vec<String> = own
        .iter()
        .rev()
        .map(|(keyword, _)| match words.clone().next() {
            Some(next) if next.keyword == *keyword => {
                words.next();
                next.text.clone()
            }
            _ => (*keyword).to_owned(),
        })
        .collect();
    texts.reverse();
    let step = |((_, is_made), text): ((&str, bool), String)| match is_made {
        true => json!({ "created": created, "created_by": text }),
        false => json!({ "created": created, "created_by": text, "empty_layer": true }),
    };
    own.into_iter().zip(texts).map(step).collect()
}

/// The instruction of a step: as BuildKit writes it, or as the legacy builder and podman do, which put the shell and `#(nop)` in
/// front of what starts no program.
fn keyword(created_by: &str) -> &'static str {
    let (text, is_nop) = match created_by.split_once("#(nop) ") {
        Some((_, instruction)) => (instruction, true),
        None => (created_by, false),
    };
    let first = text.split_whitespace().next().unwrap_or_default();
    const KEYWORDS: [&str; 16] = [
        "RUN",
        "COPY",
        "ADD",
        "WORKDIR",
        "ENV",
        "ARG",
        "USER",
        "LABEL",
        "ENTRYPOINT",
        "CMD",
        "EXPOSE",
        "VOLUME",
        "STOPSIGNAL",
        "SHELL",
        "HEALTHCHECK",
        "ONBUILD",
    ];
    let known = KEYWORDS.iter().find(|keyword| **keyword == first);
    known.copied().unwrap_or(if is_nop { "" } else { "RUN" })
}
