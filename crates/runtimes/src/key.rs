//! The build key: a hash of everything that determines a build's result.
//!
//! `docs/build-key.md` specifies the encoding byte by byte; its test vector is checked here. [`Inputs`] is the data behind the key:
//! `--explain` shows it, an image label keeps it, and `--why` compares two of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The version of the encoding, part of the key tag (`<runtime>-k2-<key>`).
///
/// 2: builds of version 1 may have other files than their key says (BuildKit used a cached file instead of the edited one).
pub const VERSION: u64 = 2;

/// The label that names an image's build key.
pub const KEY_LABEL: &str = "io.htc-grid.build-key";
/// The label that keeps the key's inputs.
pub const INPUTS_LABEL: &str = "io.htc-grid.build-inputs";

/// Largest label, in bytes: a program's argument is limited to 128 KiB, and registries limit a configuration to not much more.
const LABEL_LIMIT: usize = 32 * 1024;

/// git's mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// An ordinary file.
    #[serde(rename = "100644")]
    File,
    /// An executable file.
    #[serde(rename = "100755")]
    Executable,
    /// A symbolic link.
    #[serde(rename = "120000")]
    Symlink,
}

impl Mode {
    /// The six digits.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
        }
    }
}

/// One file of a build context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextFile {
    /// Path relative to the context, separated by `/`.
    pub path: String,
    /// git's mode.
    pub mode: Mode,
    /// SHA-256 of the content, or of a symlink's target, in hex.
    pub sha256: String,
}

/// Everything that a build key is made of. Times, the account, the registry's host and the base's source are never part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The version of the encoding.
    pub version: u64,
    /// SHA-256 of the Dockerfile, in hex.
    pub dockerfile: String,
    /// The context after the ignore file, sorted by path; `None` only in a label that was too small for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<ContextFile>>,
    /// SHA-256 of the encoded context, in hex: the part of the key.
    pub context: String,
    /// Build arguments by their logical values.
    pub args: BTreeMap<String, String>,
    /// The stage to build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The platforms, sorted.
    pub platforms: Vec<String>,
    /// The digest of the base image, `sha256:...`; `None` for a build from scratch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The builder's flags that change the result, sorted.
    pub flags: Vec<String>,
    /// Change it to rebuild with otherwise equal inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

impl Inputs {
    /// The inputs of a build of these files; the other fields are empty and public.
    pub fn new(dockerfile: &[u8], mut files: Vec<ContextFile>) -> Self {
        files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        let mut encoded = Encoder::default();
        encoded.number(files.len() as u64);
        for file in &files {
            encoded.text(&file.path);
            encoded.text(file.mode.as_str());
            encoded.text(&file.sha256);
        }
        Self {
            version: VERSION,
            dockerfile: sha256(dockerfile),
            context: sha256(&encoded.0),
            files: Some(files),
            args: BTreeMap::new(),
            target: None,
            platforms: Vec::new(),
            base: None,
            flags: Vec::new(),
            epoch: None,
        }
    }

    /// The bytes that are hashed: `docs/build-key.md`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.text("htc-grid runtime build key");
        out.number(self.version);
        out.text(&self.dockerfile);
        out.text(&self.context);
        out.number(self.args.len() as u64);
        for (name, value) in &self.args {
            out.text(name);
            out.text(value);
        }
        out.optional(self.target.as_deref());
        out.list(&self.platforms);
        out.optional(self.base.as_deref());
        out.list(&self.flags);
        out.optional(self.epoch.as_deref());
        out.0
    }

    /// The key: 64 hex digits.
    pub fn key(&self) -> String {
        sha256(&self.encode())
    }

    /// The inputs for the label: JSON on one line, the same bytes for the same inputs. A context too large for a label is replaced by its
    /// digest.
    pub fn to_label(&self) -> String {
        let json = |inputs: &Self| serde_json::to_string(inputs).unwrap_or_default();
        let whole = json(self);
        if whole.len() <= LABEL_LIMIT { whole } else { json(&Self { files: None, ..self.clone() }) }
    }

    /// Parses a label; `None` if it has another version or was not written by this tool.
    pub fn from_label(label: &str) -> Option<Self> {
        serde_json::from_str::<Self>(label).ok().filter(|inputs| inputs.version == VERSION)
    }

    /// The inputs as text, one per line.
    pub fn explain(&self) -> String {
        let (mut text, flags) = (String::new(), self.flags.join(" "));
        let mut line = |name: &str, value: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12}{value}");
        };
        line("key", &format!("k{} {}", self.version, self.key()));
        line("base", self.base.as_deref().unwrap_or("scratch"));
        line("platforms", &self.platforms.join(", "));
        line("dockerfile", &format!("sha256:{}", self.dockerfile));
        for (name, value) in &self.args {
            line("argument", &format!("{name}={value}"));
        }
        line("target", self.target.as_deref().unwrap_or("(last stage)"));
        line("flags", if self.flags.is_empty() { "(none)" } else { &flags });
        if let Some(epoch) = &self.epoch {
            line("epoch", epoch);
        }
        line("context", &format!("sha256:{}", self.context));
        for file in self.files.iter().flatten() {
            line("file", &format!("{} sha256:{} {}", file.mode.as_str(), file.sha256, file.path));
        }
        text
    }

    /// What changed from `before` to these inputs; empty if the keys are equal.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut one = |what: Input, old: Option<&str>, new: Option<&str>| {
            if old != new {
                changes.push(Change { what, old: old.map(str::to_owned), new: new.map(str::to_owned) });
            }
        };
        one(Input::Base, before.base.as_deref(), self.base.as_deref());
        one(Input::Dockerfile, Some(&before.dockerfile), Some(&self.dockerfile));
        match (&before.files, &self.files) {
            (Some(old), Some(new)) => {
                let index = |files: &[ContextFile]| -> BTreeMap<String, String> {
                    let value = |file: &ContextFile| format!("{} {}", file.mode.as_str(), file.sha256);
                    files.iter().map(|file| (file.path.clone(), value(file))).collect()
                };
                let (old, new) = (index(old), index(new));
                for path in union(old.keys(), new.keys()) {
                    let value = |files: &BTreeMap<String, String>| files.get(path).cloned();
                    one(Input::File(path.clone()), value(&old).as_deref(), value(&new).as_deref());
                }
            }
            _ => one(Input::Context, Some(&before.context), Some(&self.context)),
        }
        for name in union(before.args.keys(), self.args.keys()) {
            let what = Input::Argument(name.clone());
            one(what, before.args.get(name).map(String::as_str), self.args.get(name).map(String::as_str));
        }
        one(Input::Target, before.target.as_deref(), self.target.as_deref());
        let (old, new) = (before.platforms.join(","), self.platforms.join(","));
        one(Input::Platforms, Some(&old), Some(&new));
        let (old, new) = (before.flags.join(" "), self.flags.join(" "));
        one(Input::Flags, Some(&old), Some(&new));
        one(Input::Epoch, before.epoch.as_deref(), self.epoch.as_deref());
        changes
    }
}

/// One input that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Which input.
    pub what: Input,
    /// Its value before; `None` if it is new.
    pub old: Option<String>,
    /// Its value now; `None` if it was removed.
    pub new: Option<String>,
}

/// An input of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The base image's digest.
    Base,
    /// The Dockerfile.
    Dockerfile,
    /// A file of the context.
    File(String),
    /// The context, if it was too large for the label.
    Context,
    /// A build argument.
    Argument(String),
    /// The stage.
    Target,
    /// The platforms.
    Platforms,
    /// The builder's flags.
    Flags,
    /// The epoch.
    Epoch,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let values = |old: &Option<String>, new: &Option<String>| {
            let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
            format!("from {} to {}", show(old), show(new))
        };
        match &self.what {
            Input::Base => write!(f, "base moved {}", values(&self.old, &self.new)),
            Input::Dockerfile => f.write_str("the Dockerfile changed"),
            Input::Context => f.write_str("a file of the context changed"),
            Input::File(path) => {
                let mode = |value: &Option<String>| {
                    value.as_deref().and_then(|v| v.split_once(' ')).map(|(mode, _)| mode.to_owned())
                };
                match (&self.old, &self.new, mode(&self.old), mode(&self.new)) {
                    (None, _, _, _) => write!(f, "file {path} was added"),
                    (_, None, _, _) => write!(f, "file {path} was removed"),
                    (_, _, Some(old), Some(new)) if old != new => {
                        write!(f, "file {path} changed its mode from {old} to {new}")
                    }
                    _ => write!(f, "file {path} changed"),
                }
            }
            Input::Argument(name) => write!(f, "argument {name} changed {}", values(&self.old, &self.new)),
            Input::Target => write!(f, "target changed {}", values(&self.old, &self.new)),
            Input::Platforms => write!(f, "platforms changed {}", values(&self.old, &self.new)),
            Input::Flags => write!(f, "builder flags changed {}", values(&self.old, &self.new)),
            Input::Epoch => write!(f, "epoch changed {}", values(&self.old, &self.new)),
        }
    }
}

fn union<'a>(
    a: impl Iterator<Item = &'a String>,
    b: impl Iterator<Item = &'a String>,
) -> std::collections::BTreeSet<&'a String> {
    a.chain(b).collect()
}

/// SHA-256 in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list(&mut self, items: &[String]) {
        self.number(items.len() as u64);
        for item in items {
            self.text(item);
        }
    }

    fn optional(&mut self, item: Option<&str>) {
        match item {
            Some(item) => {
                self.number(1);
                self.text(item);
            }
            None => self.number(0),
        }
    }
}
