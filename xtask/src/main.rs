//! The program behind `cargo xtask`: it works with the files of its workspace, and has none in it.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::main(&[])
}
