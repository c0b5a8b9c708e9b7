//! `cargo xtask`.
#[expect(dead_code, reason = "the commands that read the configuration land next")]
mod config;
#[expect(dead_code, reason = "the commands that ask source registries land next")]
mod credentials;
#[expect(dead_code, reason = "the commands that start programs land next")]
mod process;
fn main() {}
