//! The program behind `cargo xtask`. It uses the files of its workspace and includes none.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::main(&[])
}
