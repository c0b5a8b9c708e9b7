//! Terraform's diagnostics, and the holder of the lock in them.

use serde::Deserialize;

/// A warning or an error from terraform.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Diagnostic {
    /// Warning or error.
    pub severity: Severity,
    /// What happened.
    pub summary: String,
    /// More details.
    #[serde(default)]
    pub detail: String,
    /// The address of the resource it refers to.
    pub address: Option<String>,
}

/// The severity of a diagnostic.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Terraform continues.
    Warning,
    /// Terraform stops.
    Error,
    /// A severity that this program does not know.
    #[serde(other)]
    Unknown,
}

impl Diagnostic {
    /// Reads what terraform prints with `-no-color`: `Error: ` and a paragraph.
    pub(crate) fn from_text(text: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for line in text.lines() {
            // With colours there is a frame around it.
            let plain = without_colour(line);
            let line = plain.as_str();
            let line = line.trim_start_matches(['╷', '│', '╵']);
            let line = line.strip_prefix(' ').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
            if let Some((severity, summary)) = heading(line) {
                let (summary, detail, address) = (summary.to_owned(), String::new(), None);
                all.push(Self { severity, summary, detail, address });
            } else if let Some(last) = all.last_mut() {
                last.detail.push_str(line);
                last.detail.push('\n');
            }
        }
        for diagnostic in &mut all {
            diagnostic.detail = diagnostic.detail.trim().to_owned();
        }
        all.retain(|diagnostic| diagnostic.severity == Severity::Error);
        all
    }

    pub(super) fn plain(lines: &[String]) -> Self {
        let summary = lines.join("\n  ");
        Self { severity: Severity::Error, summary, detail: String::new(), address: None }
    }

    pub(super) fn contains(&self, words: &str) -> bool {
        unwrapped(&self.summary).contains(words) || unwrapped(&self.detail).contains(words)
    }
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(address) = &self.address {
            write!(f, "{address}: ")?;
        }
        f.write_str(&self.summary)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", unwrapped(&self.detail)) }
    }
}

fn heading(line: &str) -> Option<(Severity, &str)> {
    let error = line.strip_prefix("Error: ").map(|rest| (Severity::Error, rest));
    error.or_else(|| line.strip_prefix("Warning: ").map(|rest| (Severity::Warning, rest)))
}

/// The text without colour sequences.
fn without_colour(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

/// Terraform breaks lines at the width of the terminal.
pub(super) fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The holder of the lock on the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockHolder {
    /// The lock's ID, needed to release it.
    pub id: String,
    /// User and machine.
    pub who: String,
    /// When the lock was created.
    pub since: String,
    /// Terraform's operation, such as `OperationTypeApply`.
    pub operation: String,
    /// The state.
    pub path: String,
}

impl LockHolder {
    pub(super) fn parse(detail: &str) -> Option<Self> {
        let mut holder = Self::default();
        for line in detail.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim().to_owned();
            match name.trim() {
                "ID" => holder.id = value,
                "Path" => holder.path = value,
                "Operation" => {
                    value.strip_prefix("OperationType").unwrap_or(&value).clone_into(&mut holder.operation);
                    holder.operation.make_ascii_lowercase();
                }
                "Who" => holder.who = value,
                // Seconds are precise enough here.
                "Created" => holder.since = value.split('.').next().unwrap_or(&value).to_owned(),
                _ => {}
            }
        }
        (!holder.id.is_empty()).then_some(holder)
    }
}
