//! What happens while a grid's resources are worked on, for whoever shows it.

use std::fmt;

use aws::lease;
use terraform::Event;

use crate::inventory::NULL_RESOURCE;

/// Something that happened.
#[derive(Debug)]
pub enum News {
    /// Of the lease on the grid's images.
    Lease(lease::News),
    /// The lease could not be released.
    LeaseKept(anyhow::Error),
    /// The state of the Makefile's module is this module's now.
    MakefileImported {
        /// How many resources left the state.
        removed: usize,
        /// Where the copy of the state is.
        copy: String,
    },
    /// What stands is in the state now.
    Recorded {
        /// The resource's address in the module.
        address: String,
        /// Where it came from.
        why: &'static str,
    },
    /// Terraform's own lock on the state was released, which terraform had no permission for.
    Unlocked,
    /// The run was interrupted while terraform works: it is waited for.
    Finishing,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(news) => news.fmt(f),
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

/// Hears what happens.
pub trait Watch: Send + Sync {
    /// Hears one thing.
    fn hear(&self, news: &News);

    /// A `terraform init` begins: what hears its lines until it ends.
    fn init(&self) -> Box<dyn FnMut(&str) + Send>;

    /// A `terraform plan` begins: what hears its events until it ends.
    fn plan(&self) -> Box<dyn FnMut(&Event) + Send>;

    /// A `terraform apply` begins: what hears its events until it ends.
    fn apply(&self) -> Box<dyn FnMut(&Event) + Send>;
}
