//! `--report`: what the page tells of real runs, and how it looks in a browser.

mod look;
mod runs;
mod sample;
