//! `--report`: what the page tells of real runs, and how it looks in a browser.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod look;
mod runs;
mod sample;
