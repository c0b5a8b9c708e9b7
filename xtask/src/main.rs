//! `cargo xtask`.
#[expect(dead_code, reason = "the commands that read the configuration land next")]
mod config;
#[expect(dead_code, reason = "the commands that ask source registries land next")]
mod credentials;
#[expect(dead_code, reason = "the commands that use the container client land next")]
mod docker;
#[expect(dead_code, reason = "the commands that start programs land next")]
mod process;
#[expect(dead_code, unused_imports, reason = "the commands that build runtimes land next")]
mod runtimes;
#[expect(dead_code, reason = "commands/transfer.rs, which runs it, lands next")]
#[expect(unused_imports, reason = "commands/transfer.rs, which runs it, lands next")]
mod terraform;
fn main() {}
