//! Formats events and changes as one line for users.

use std::fmt;

use super::{Action, Change, Event};

impl Action {
    /// The action as a verb, such as `create`.
    fn verb(self) -> &'static str {
        match self {
            Self::Noop => "keep",
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Move => "move",
            Self::Import => "import",
            Self::Remove => "forget",
            Self::Unknown => "change",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.previous_address {
            Some(before) if *before != self.address => {
                write!(f, "{} {} (was {before})", self.action.verb(), self.address)
            }
            _ => write!(f, "{} {}", self.action.verb(), self.address),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlannedChange { address, action } => write!(f, "{} {address}", action.verb()),
            Self::Drift { address, action } => {
                write!(f, "{address} was changed outside terraform ({})", action.verb())
            }
            Self::RefreshStart { address } => write!(f, "looking at {address}"),
            Self::RefreshComplete { address } => write!(f, "looked at {address}"),
            Self::ApplyStart { address, action } => write!(f, "{} {address}", action.verb()),
            Self::ApplyProgress { address, action, elapsed } => {
                write!(f, "{} {address}, {} s so far", action.verb(), elapsed.as_secs())
            }
            Self::ApplyComplete { address, action, .. } => write!(f, "{} {address}: done", action.verb()),
            Self::ApplyErrored { address, action, .. } => write!(f, "{} {address}: failed", action.verb()),
            Self::ChangeSummary { add, change, remove, .. } => {
                write!(f, "{add} to create, {change} to update, {remove} to delete")
            }
            Self::Outputs(outputs) => write!(f, "{} outputs", outputs.len()),
            Self::Diagnostic(diagnostic) => diagnostic.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}
