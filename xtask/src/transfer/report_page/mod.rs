//! `--report`: one HTML page about the run, written at its end, even if it failed.

mod content;
mod registry_data;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use failure::{FailWith as _, Kind, failure};
use images_config::atomic;
use jiff::Timestamp;
use registry::mirror::{Blob, Planned};

use super::completed::Completed;
use super::show::Report;
use super::{Plan, Request};
use crate::context::Context;
use crate::exit_codes::Ending;

use registry_data::RegistryData;
pub(super) use registry_data::read_registry_data;

/// The content of the page so far.
#[derive(Debug, Default)]
pub struct Draft(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    report: Option<Report>,
    /// The blobs of each image in the plan. `None` if the plan does not have all of them.
    blobs: Vec<Option<Vec<Blob>>>,
    /// The registry's data about images and runtimes, by name.
    looked: BTreeMap<String, RegistryData>,
    /// What could not be read, one line each.
    notes: Vec<String>,
    /// Errors of copies, by the images' positions in the plan.
    errors: BTreeMap<usize, String>,
    /// Whether the report covers the complete run.
    is_final: bool,
}

impl Draft {
    /// Stores the plan.
    pub(super) fn plan(&self, report: Report, plan: &Plan<'_>) {
        let blobs = plan.images.images.iter().map(|planned| whole(planned).map(<[Blob]>::to_vec)).collect();
        self.change(|known| *known = Known { report: Some(report), blobs, ..Known::default() });
    }

    /// Stores the results, and the registry's data about them.
    pub(super) fn end(&self, report: Report, (looked, notes): (BTreeMap<String, RegistryData>, Vec<String>)) {
        self.change(|known| {
            let blobs = std::mem::take(&mut known.blobs);
            *known = Known { report: Some(report), blobs, looked, notes, is_final: true, ..Known::default() };
        });
    }

    /// An image was not copied. An interrupted run has no other report of this.
    pub(super) fn failed(&self, image: usize, error: &registry::Error) {
        self.change(|known| {
            known.errors.insert(image, error.to_string());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The blobs of an image, if the plan has read all its manifests.
fn whole(planned: &Planned) -> Option<&[Blob]> {
    let content = planned.content().filter(|content| content.manifests_present == 0)?;
    Some(&content.blobs)
}

/// The location of the page.
pub(super) struct Place {
    path: PathBuf,
    began: Timestamp,
}

impl Place {
    /// Refuses a location that cannot be written to, before any work is done.
    ///
    /// # Errors
    /// It is not a file, or its directory is missing or cannot be written to.
    pub(super) fn check(path: &Path) -> anyhow::Result<Self> {
        let shown = || format!("--report {}", path.display());
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(failure(Kind::Usage, format!("{} is a directory", shown())));
            }
            Ok(found) if !found.is_file() => {
                return Err(failure(Kind::Usage, format!("{} is not a file", shown())));
            }
            Ok(found) if found.permissions().readonly() => {
                return Err(failure(Kind::Usage, format!("{} is read-only", shown())));
            }
            _ => {}
        }
        atomic::check(path)
            .with_context(|| format!("{} cannot be written", shown()))
            .hint(Kind::Usage, "the directory has to exist and to be writable; nothing was changed")?;
        Ok(Self { path: path.to_owned(), began: Timestamp::now() })
    }

    /// Writes the page of a run with this `result`, and returns the result. If the page cannot be written, that is the error,
    /// unless the run has already failed.
    pub(super) fn write(
        &self,
        context: &Context,
        request: &Request,
        completed: &Completed,
        result: anyhow::Result<Ending>,
    ) -> anyhow::Result<Ending> {
        let known = std::mem::take(&mut *completed.draft.0.lock().unwrap_or_else(PoisonError::into_inner));
        let story =
            content::EndedRun { context, request, completed, began: self.began, result: result.as_ref() };
        let page = report::render(&story.page(known));
        let written = atomic::write(&self.path, page.as_bytes());
        let written = written.with_context(|| format!("could not write the report {}", self.path.display()));
        match (written, result) {
            (Ok(()), result) => {
                context.printer.line(format!("report of this run: {}", self.path.display()));
                result
            }
            (Err(error), Ok(_)) => Err(error).hint(Kind::Config, "the run itself is done"),
            (Err(error), Err(own)) => {
                context.printer.warn(format!("{error:#}"));
                Err(own)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwritable_page_is_refused_by_name_and_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let refused = |path: &Path, words: &str| {
            let error = Place::check(path).err().unwrap();
            let told = failure::render(&error);
            assert!(told.contains(&path.display().to_string()) && told.contains(words), "{told}");
            assert_eq!(failure::kind_of(&error), Kind::Usage, "{told}");
        };
        refused(dir.path(), "is a directory");
        refused(&path("missing/run.html"), "cannot be written");
        assert!(!path("missing").exists());
        refused(Path::new("/dev/null"), "is not a file");
        std::fs::write(path("kept.html"), "kept").unwrap();
        let mut permissions = std::fs::metadata(path("kept.html")).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(path("kept.html"), permissions).unwrap();
        refused(&path("kept.html"), "is read-only");
        refused(&path("kept.html/run.html"), "cannot be written");
        Place::check(&path("new.html")).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept.html"]);
    }
}
