//! `--report`: the page's content for real runs, and its look in a browser.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not marked as such")]

mod look;
mod runs;
mod sample;
