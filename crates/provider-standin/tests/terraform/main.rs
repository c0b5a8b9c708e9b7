//! Real terraform with the stand-in provider.
#![expect(
    clippy::disallowed_methods,
    reason = "the crate `process` is the xtask's; the tests of this one need no more than std"
)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod aws;
mod lifecycle;
mod module;
mod workspace;
