//! A tree with HTC-Grid's layout. Its runtimes have their own Dockerfile, which is used unchanged.

use std::path::Path;

use dockerfile::Dockerfile;

use crate::problem::{Problems, quoted};
use crate::reader::Entry;
use crate::{Sources, top_of};

/// The paths of the Dockerfile from the folder of images_config.json, which has had two locations.
const PLACES: [&str; 2] = ["lambda_runtimes/Dockerfile", "../lambda_runtimes/Dockerfile"];

/// The runtimes that HTC-Grid builds, and their entry points.
const RUNTIMES: [(&str, &str); 4] = [
    ("provided", "lambda_entry_point_provided.sh"),
    ("python3.8", "lambda_entry_point.sh"),
    ("dotnet5.0", "lambda_entry_point.sh"),
    ("java17", "lambda_entry_point.sh"),
];

/// The Dockerfile of the tree's runtimes.
#[derive(Debug)]
pub(super) struct Runtimes {
    /// Its path from the top of the tree.
    path: String,
    takes_entry_point: bool,
}

/// The runtimes of the tree that contains `json`. `None` if it has another layout, or is the project itself.
pub(super) fn of(json: &Path, project: &Path) -> Result<Option<(Runtimes, Sources)>, Problems> {
    let Some(folder) = json.canonicalize().ok().and_then(|json| json.parent().map(Path::to_owned)) else {
        return Ok(None);
    };
    let found = PLACES.iter().filter_map(|place| folder.join(place).canonicalize().ok()).next();
    let Some(file) = found else { return Ok(None) };
    let sources = Sources { top: top_of(json, project), runtimes: project.join("runtimes") };
    let Ok(path) = file.strip_prefix(&sources.top) else { return Ok(None) };
    let path = path.display().to_string();
    let of_file = |why: String| Problems::of_file(Path::new(&path), why);
    let bytes = std::fs::read(&file).map_err(|why| of_file(format!("cannot be read: {why}")))?;
    let dockerfile = Dockerfile::parse(&path, &bytes).map_err(|why| of_file(why.to_string()))?;
    let takes_entry_point = dockerfile.takes_entry_point();
    Ok(Some((Runtimes { path, takes_entry_point }, sources)))
}

impl Runtimes {
    /// The value of a runtime's entry. `None` if HTC-Grid does not build it.
    pub(super) fn entry(&self, entry: &Entry<'_>) -> Option<String> {
        let (_, entry_point) = RUNTIMES.iter().find(|(name, _)| *name == entry.name)?;
        let base = match entry.value.is_string() {
            true => entry.value.text()?,
            false => entry.value.table()?.take("base")?.text()?,
        };
        let entry_point = match self.takes_entry_point {
            true => format!(", entry_point = {}", quoted(entry_point)),
            false => String::new(),
        };
        Some(format!("{{ base = {}, dockerfile = {}{entry_point} }}", quoted(base), quoted(&self.path)))
    }
}
