//! Durations of copies, builds and terraform in the last runs on this machine, and an estimate for a plan. The file is below
//! target/; losing it costs only the estimate.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::cache::today;

/// The version of the file's format. Other versions are not read, and the next run replaces the file.
const VERSION: u32 = 1;

/// Number of measurements in the file, for all targets.
const KEPT: usize = 60;

/// How many of the last measurements count. The median is used, because a laptop may have slept during a run.
const LAST: usize = 5;

/// Days after which a measurement no longer counts: the network may have changed.
const NEWS: u32 = 90;

/// The cost of the requests for one image, in bytes that take equally long.
const REQUESTS: u64 = 1 << 20;

/// The measurements of a run, or of a part of one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Measured {
    /// The host of the target registry.
    pub target: String,
    /// The copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
    /// Seconds for each runtime that was built and pushed, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub builds: BTreeMap<String, f64>,
    /// Terraform's changes of the resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terraform: Option<Changes>,
}

/// The copies of images.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Copies {
    /// Number of images.
    pub images: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Seconds from the first to the last.
    pub seconds: f64,
}

/// The resources that were created or changed.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Changes {
    /// Number of resources.
    pub count: u64,
    /// Seconds for all of them.
    pub seconds: f64,
}

/// The work in a plan.
#[derive(Clone, Debug, Default)]
pub struct Work<'a> {
    /// Images to copy.
    pub images: u64,
    /// Their maximum size in bytes.
    pub bytes: u64,
    /// Names of the runtimes to build.
    pub builds: Vec<&'a str>,
    /// How many builds run in parallel.
    pub at_once: u64,
    /// Resources to create or change.
    pub changes: u64,
}

/// The estimated duration of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds.
    pub seconds: u64,
    /// Whether terraform has work that was never measured here, and that is not included in the seconds.
    pub without_terraform: bool,
}

/// The measurements of earlier runs.
#[derive(Debug)]
pub struct Timings {
    path: PathBuf,
    /// Oldest first.
    measured: Vec<Measured>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Kept {
    version: u32,
    measured: Vec<Dated>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Dated {
    /// Days since 1970.
    day: u32,
    #[serde(flatten)]
    measured: Measured,
}

impl Timings {
    /// Opens the file. An unreadable file counts as empty.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let measured = read(&path, today()).into_iter().map(|dated| dated.measured).collect();
        Self { path, measured }
    }

    /// Adds a measurement to the file, for later runs. Measurements of other runs stay; empty ones are skipped.
    pub fn add(&self, measured: Measured) {
        if measured.copies.is_none() && measured.builds.is_empty() && measured.terraform.is_none() {
            return;
        }
        if let Err(why) = self.write(measured) {
            tracing::debug!("how long this run took cannot be kept: {why}");
        }
    }

    fn write(&self, measured: Measured) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let lock = self.path.with_extension("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(lock)?;
        lock.lock()?;
        let day = today();
        let mut all = read(&self.path, day);
        all.push(Dated { day, measured });
        let measured = all.split_off(all.len().saturating_sub(KEPT));
        let text = serde_json::to_vec(&Kept { version: VERSION, measured })?;
        atomic::write_soon(&self.path, |file| file.write_all(&text))
    }

    /// The estimate for `work` at `target`: terraform first, then copies in parallel with builds. `None` if there is no earlier
    /// measurement of the copies or of one of the builds.
    pub fn estimate(&self, target: &str, work: &Work<'_>) -> Option<Estimate> {
        let here = || self.measured.iter().rev().filter(|measured| measured.target == target);
        let copying = match work.images {
            0 => 0.0,
            images => {
                let size = weight(images, work.bytes);
                middle(
                    here()
                        .filter_map(|measured| measured.copies)
                        .map(|copies| copies.seconds * size / weight(copies.images, copies.bytes)),
                )?
            }
        };
        let building = work.builds.iter().map(|name| {
            // The speed of the engine does not depend on the target.
            middle(self.measured.iter().rev().filter_map(|measured| measured.builds.get(*name).copied()))
        });
        let building: Vec<f64> = building.collect::<Option<_>>()?;
        let longest = building.iter().copied().fold(0.0, f64::max);
        let building = longest.max(building.iter().sum::<f64>() / number(work.at_once.max(1)));
        let terraform = match work.changes {
            0 => Some(0.0),
            changes => middle(here().filter_map(|measured| measured.terraform).map(|measured| {
                // Terraform needs some time to start even for little work.
                measured.seconds * (number(changes) / number(measured.count)).max(1.0)
            })),
        };
        if work.images == 0 && work.builds.is_empty() && (work.changes == 0 || terraform.is_none()) {
            return None;
        }
        let seconds = copying.max(building) + terraform.unwrap_or_default();
        let seconds = Duration::try_from_secs_f64(seconds).ok()?;
        // Rounded up: work that takes time must not show 0.
        let seconds = seconds.as_secs() + u64::from(seconds.subsec_nanos() > 0);
        Some(Estimate { seconds, without_terraform: terraform.is_none() })
    }
}

/// The measurements in a file that still count at the end of `today`. Those with a date in the future come from a wrong clock, and
/// count too.
fn read(path: &Path, today: u32) -> Vec<Dated> {
    let kept = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    let measured = kept.filter(|kept| kept.version == VERSION).map(|kept| kept.measured).unwrap_or_default();
    let counts = |dated: &Dated| dated.day.saturating_add(NEWS) >= today && dated.measured.is_sound();
    measured.into_iter().filter(counts).collect()
}

impl Measured {
    /// Whether the values are possible: the file may contain anything.
    fn is_sound(&self) -> bool {
        let is_time = |seconds: f64| seconds.is_finite() && seconds > 0.0;
        self.copies.is_none_or(|copies| copies.images > 0 && is_time(copies.seconds))
            && self.builds.values().copied().all(is_time)
            && self.terraform.is_none_or(|changes| changes.count > 0 && is_time(changes.seconds))
    }
}

/// The amount of work to copy.
fn weight(images: u64, bytes: u64) -> f64 {
    number(images) * number(REQUESTS) + number(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn number(count: u64) -> f64 {
    count as f64
}

/// The lower median of the first few: outliers are more often too slow than too fast.
fn middle(latest_first: impl Iterator<Item = f64>) -> Option<f64> {
    let mut last: Vec<f64> = latest_first.take(LAST).collect();
    last.sort_by(f64::total_cmp);
    last.get(last.len().checked_sub(1)? / 2).copied()
}
