//! An image's configuration in one form, independent of the builder (<https://github.com/opencontainers/image-spec/blob/main/config.md>).

use dockerfile::Layer;
use jiff::Timestamp;
use registry::Digest;
use serde_json::{Map, Value, json};

use super::Base;
use crate::archive::ArchiveError;

/// Fields that builders write about themselves and about the container of a build.
const NOTES: [&str; 6] = ["container", "container_config", "docker_version", "id", "parent", "Size"];
/// Such fields in the containers' settings. `ArgsEscaped` is for Windows only.
const CONTAINER_NOTES: [&str; 5] = ["Hostname", "Domainname", "Image", "MacAddress", "ArgsEscaped"];
/// The label with the version of Podman's builder.
const LABEL: &str = "io.buildah.version";

/// The default search path for programs; BuildKit writes it into each image.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration: `layers` are the uncompressed digests, lowest first; `made` has for each of the build's own layers whether it is
/// among them, and `instructions` are those of the Dockerfile that make layers.
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
    // The default for arm64.
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

/// A time in the format of configurations.
fn created(seconds: u64) -> Value {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    json!(time.unwrap_or(Timestamp::MAX).to_string())
}

/// Sorted by name, as each builder adds its own variables at another position; two with one name keep their order.
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

/// Removes empty values; returns whether the value itself is empty.
fn drop_empty(value: &mut Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !*value,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => {
            // A volume or a port is a name with an empty value; a label's value may be empty.
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

/// serde_json keeps the original order if any crate of the build enables that.
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

/// The steps that can make layers, each with the Dockerfile's own text: the builder's text contains its own file names or digests, and the
/// build arguments, such as the base's address.
fn own_history(steps: &[Value], made: &[bool], instructions: &[Layer], created: &Value) -> Vec<Value> {
    let mut made = made.iter().copied();
    let mut own = Vec::new();
    for step in steps {
        let text = step.get("created_by").and_then(Value::as_str).unwrap_or_default();
        let is_empty = step.get("empty_layer").and_then(Value::as_bool).unwrap_or_default();
        let is_made = !is_empty && made.next().unwrap_or_default();
        let keyword = keyword(text);
        // Other steps only change the configuration itself.
        if is_made || ["RUN", "COPY", "ADD"].contains(&keyword) {
            own.push((keyword, is_made));
        }
    }
    // A layer without a step.
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

/// The instruction of a step, in the form of BuildKit or of the legacy builder and podman, which put the shell and `#(nop)` before
/// instructions that run no program.
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
