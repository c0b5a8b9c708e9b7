//! The crate with registries in this process, which count requests and fail on unknown ones.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "all of it is a test: what fails may panic, and what is skipped is said aloud"
)]

mod addresses;
mod ambiguous_manifests;
mod artifacts;
mod artifacts_later;
mod auth;
mod bulk_tags;
mod challenges;
mod check;
mod client;
mod copying;
mod counted_pulls;
mod cross_check;
mod faults;
mod invalid_http;
mod memory;
mod misleading_replies;
mod moved_tags;
mod other_registries;
mod pace;
mod parsers;
mod quirks;
mod reported;
mod shared_blobs;
mod support;
mod time_limits;
mod transfers;
