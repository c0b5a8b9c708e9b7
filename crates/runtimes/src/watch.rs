//! `--watch`: detects changes in the files of a build.

use std::time::Duration;

use dockerfile::Dockerfile;

use super::Runtime;
use super::context::{BuildContext, Reads};
use super::key::Inputs;

/// How often the files are read: they are few and small.
const EVERY: Duration = Duration::from_millis(250);

/// The files of some runtimes, as last seen.
///
/// Contents are compared instead of the system's notifications: an editor that writes the same content again, or a checkout that only
/// touches a file, changes nothing.
#[derive(Debug)]
pub struct Watch {
    runtimes: Vec<(Runtime, String)>,
}

impl Watch {
    /// Starts with the current files.
    pub fn new(runtimes: &[Runtime]) -> Self {
        let reads = Reads::default();
        Self { runtimes: runtimes.iter().map(|runtime| (runtime.clone(), state(runtime, &reads))).collect() }
    }

    /// Waits for a change and returns the runtimes that it affects. A change counts once it has been stable for a moment, so that a file is
    /// not built while it is being written. A context that cannot be read counts as a change too; building it shows the error.
    pub async fn changed(&mut self) -> Vec<Runtime> {
        let mut before: Vec<String> = Vec::new();
        loop {
            tokio::time::sleep(EVERY).await;
            let reads = Reads::default();
            let now: Vec<String> = self.runtimes.iter().map(|(runtime, _)| state(runtime, &reads)).collect();
            let is_stable = now == before;
            let mut changed = Vec::new();
            if is_stable {
                for ((runtime, seen), now) in self.runtimes.iter_mut().zip(&now) {
                    if seen != now {
                        seen.clone_from(now);
                        changed.push(runtime.clone());
                    }
                }
            }
            if !changed.is_empty() {
                return changed;
            }
            before = now;
        }
    }
}

fn state(runtime: &Runtime, reads: &Reads) -> String {
    match BuildContext::read(&runtime.context, &runtime.dockerfile, reads) {
        Ok(mut context) => {
            let dockerfile = Dockerfile::parse(&runtime.dockerfile, &context.dockerfile);
            // An unreadable Dockerfile leaves nothing out here: building it shows the error.
            let left_out = dockerfile.map(|dockerfile| runtime.left_out(&dockerfile));
            context.exclude(&left_out.unwrap_or_default());
            let inputs = Inputs::new(&context.dockerfile, context.files());
            format!("{} {}", inputs.dockerfile, inputs.context)
        }
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::directory;

    fn runtime(name: &str, root: &std::path::Path, leave_out: &str) -> Runtime {
        Runtime {
            name: name.to_owned(),
            base: None,
            base_argument: None,
            entry_point: None,
            context: root.to_owned(),
            dockerfile: "Dockerfile".to_owned(),
            leave_out: [leave_out.to_owned()].into(),
            args: [].into(),
            target: None,
            platforms: Vec::new(),
            epoch: None,
        }
    }

    #[tokio::test]
    async fn a_change_is_mapped_to_its_runtimes() {
        let root = directory(&[("Dockerfile", "FROM scratch\n"), ("a", "1"), ("b", "1")]);
        let mut watch = Watch::new(&[runtime("a", root.path(), "b"), runtime("b", root.path(), "a")]);
        let names =
            |changed: Vec<Runtime>| changed.into_iter().map(|runtime| runtime.name).collect::<Vec<_>>();
        std::fs::write(root.path().join("a"), "1").unwrap();
        std::fs::write(root.path().join("b"), "2").unwrap();
        assert_eq!(names(watch.changed().await), ["b"]);
        std::fs::remove_file(root.path().join("Dockerfile")).unwrap();
        assert_eq!(names(watch.changed().await), ["a", "b"]);
    }
}
