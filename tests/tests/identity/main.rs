//! One run, one identity: whatever the shell has, one access key signs all requests of a run to AWS, including terraform's; and
//! `--local` takes no AWS setting from this machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod addresses;
mod credentials;
mod machine;
mod one_key;
