//! One run, one identity: whatever the shell holds, one access key signs all that a run asks of AWS, terraform's requests
//! among them; and `--local` takes nothing of AWS from this machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod addresses;
mod credentials;
mod machine;
mod one_key;
