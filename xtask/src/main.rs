//! `cargo xtask`.
#[expect(dead_code, reason = "the commands that start programs land next")]
mod process;
fn main() {}
