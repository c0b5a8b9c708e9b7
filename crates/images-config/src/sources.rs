//! The files that images.toml refers to, and their paths.

use std::path::{Component, Path, PathBuf};

/// HTC-Grid's folder of images.toml: the folder that contains it is the top of a checkout, even without `.git`.
const FOLDER: &str = "deployment/image_repository";

/// The folders with the sources of runtimes.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The top of the checkout that contains images.toml. Its paths are relative to it.
    pub top: PathBuf,
    /// The default context of runtimes: runtimes/ of this project.
    pub runtimes: PathBuf,
}

impl Sources {
    /// The folders for `images` (images.toml) in the project at `project`.
    pub fn of(images: &Path, project: &Path) -> Self {
        Self { top: top_of(images, project), runtimes: project.join("runtimes") }
    }

    /// A path in images.toml, which must be inside the checkout.
    ///
    /// # Errors
    /// The reason, as a lowercase fragment.
    pub(super) fn resolve(&self, text: &str) -> Result<PathBuf, String> {
        let outside = || format!("`{text}` is outside of the checkout");
        let mut path = PathBuf::new();
        for part in Path::new(text).components() {
            match part {
                Component::Normal(name) => path.push(name),
                Component::CurDir => {}
                Component::ParentDir if path.pop() => {}
                Component::ParentDir => return Err(outside()),
                Component::RootDir | Component::Prefix(_) => {
                    return Err(format!("`{text}` must be relative to the top of the checkout"));
                }
            }
        }
        let path = self.top.join(path);
        let real = path.canonicalize().map_err(|_| format!("there is no `{text}` in the checkout"))?;
        let top = self.top.canonicalize().map_err(|why| why.to_string())?;
        if real.starts_with(top) { Ok(path) } else { Err(outside()) }
    }

    /// A file's name in errors.
    pub(super) fn shown(&self, path: &Path) -> String {
        let project = self.runtimes.parent().unwrap_or(&self.runtimes);
        let below = path.strip_prefix(&self.top).or_else(|_| path.strip_prefix(project));
        below.unwrap_or(path).display().to_string()
    }
}

/// The top of the checkout that contains a file: the project's, otherwise the nearest parent folder with `.git` or
/// `deployment/image_repository`, otherwise the file's own folder.
pub fn top_of(file: &Path, project: &Path) -> PathBuf {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    if file.starts_with(project) {
        return project.to_owned();
    }
    let folder = file.parent().unwrap_or(&file);
    let is_top = |folder: &&Path| folder.join(".git").exists() || folder.join(FOLDER).is_dir();
    folder.ancestors().find(is_top).unwrap_or(folder).to_owned()
}
