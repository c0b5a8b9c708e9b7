//! Events during the work on a grid's resources, for the user interface.

use std::fmt;

use aws::lease;
use terraform::Event;

use crate::inventory::NULL_RESOURCE;

/// An event.
#[derive(Debug)]
pub enum GridEvent {
    /// News about the lease on the grid's images.
    Lease(lease::LeaseEvent),
    /// The lease could not be released.
    LeaseKept(anyhow::Error),
    /// The state of the Makefile's module was imported.
    MakefileImported {
        /// How many resources were removed from the state.
        removed: usize,
        /// The location of the copy of the state.
        copy: String,
    },
    /// An existing resource was added to the state.
    Recorded {
        /// The resource's address in the module.
        address: String,
        /// The reason, as a phrase after the address.
        why: &'static str,
    },
    /// This program released terraform's lock on the state, because terraform had no permission to.
    Unlocked,
    /// The run was interrupted and waits for terraform to finish.
    Finishing,
}

impl fmt::Display for GridEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(event) => event.fmt(f),
            Self::LeaseKept(error) => {
                write!(f, "the lease could not be released and expires in a few minutes: {error:#}")
            }
            Self::MakefileImported { removed, copy } => {
                let plural = if *removed == 1 { "" } else { "s" };
                write!(
                    f,
                    "imported the Makefile's state: {removed} {NULL_RESOURCE}{plural} removed from it, nothing in AWS changed; a \
                     copy is {copy}"
                )
            }
            Self::Recorded { address, why } => write!(f, "{address} {why}: it is in the state now"),
            Self::Unlocked => {
                f.write_str("released the lock on the terraform state, which terraform could not")
            }
            Self::Finishing => f.write_str(
                "interrupted: terraform finishes what it has begun and records it; another Ctrl-C stops it in the middle, \
                 and the next run then looks for what it could not record",
            ),
        }
    }
}

/// Receives events.
pub trait Watch: Send + Sync {
    /// Receives one event.
    fn on_event(&self, event: &GridEvent);

    /// A `terraform init` starts. Returns the callback for its lines.
    fn init(&self) -> Box<dyn FnMut(&str) + Send>;

    /// A `terraform plan` starts. Returns the callback for its events.
    fn plan(&self) -> Box<dyn FnMut(&Event) + Send>;

    /// A `terraform apply` starts. Returns the callback for its events.
    fn apply(&self) -> Box<dyn FnMut(&Event) + Send>;
}
