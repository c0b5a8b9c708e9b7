//! The tool as one file, for where there is no Rust and no checkout: what `cargo xtask` does, with a grid's files in it.
//!
//! It is a package of its own so that an edit of these files compiles nothing of what cargo's alias runs.

use std::process::ExitCode;

use xtask::ShippedFile;

/// Each file with its path from the workspace's top.
macro_rules! files {
    ($($path:literal,)*) => {
        &[$(ShippedFile { path: $path, content: include_bytes!(concat!("../../../", $path)) },)*]
    };
}

/// All of the folders that a run reads; a test holds the list against them.
const FILES: &[ShippedFile] = files![
    "deployment/image_repository/images.toml",
    "deployment/image_repository/terraform/README.md",
    "deployment/image_repository/terraform/kms.tf",
    "deployment/image_repository/terraform/outputs.tf",
    "deployment/image_repository/terraform/providers.tf",
    "deployment/image_repository/terraform/pull_through_cache.tf",
    "deployment/image_repository/terraform/repositories.tf",
    "deployment/image_repository/terraform/tests/module.tftest.hcl",
    "deployment/image_repository/terraform/variables.tf",
    "runtimes/.dockerignore",
    "runtimes/Dockerfile",
    "runtimes/lambda_entry_point.sh",
    "runtimes/lambda_entry_point_provided.sh",
];

fn main() -> ExitCode {
    xtask::main(FILES)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::FILES;

    fn top() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
    }

    /// The files at `path` or below it, but for what terraform leaves there.
    fn below(path: &str, found: &mut BTreeSet<String>) {
        let full = top().join(path);
        if full.is_file() {
            found.insert(path.to_owned());
            return;
        }
        for entry in full.read_dir().unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.starts_with(".terraform") {
                below(&format!("{path}/{name}"), found);
            }
        }
    }

    #[test]
    fn every_file_of_the_folders_is_in_the_program() {
        let mut there = BTreeSet::new();
        for path in
            ["deployment/image_repository/images.toml", "deployment/image_repository/terraform", "runtimes"]
        {
            below(path, &mut there);
        }
        let listed: BTreeSet<String> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(listed, there);
    }

    #[test]
    fn a_file_is_written_with_its_original_mode() {
        for file in FILES {
            let mode = std::fs::metadata(top().join(file.path)).unwrap().permissions().mode();
            assert_eq!(file.mode() & 0o100, mode & 0o100, "{}", file.path);
        }
    }
}
