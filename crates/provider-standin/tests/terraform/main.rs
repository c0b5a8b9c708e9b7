//! Real terraform with the stand-in provider.
#![expect(clippy::disallowed_methods, reason = "process.rs is the xtask's; this crate stands below it")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod lifecycle;
mod module;
mod workspace;
