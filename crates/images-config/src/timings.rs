//! How long copies, builds and terraform took in the last runs on this machine, and what a plan will take by that. It lives under
//! target/; losing it costs an estimate, nothing else.

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

/// The form of the file. What has another one is not read, and the next run replaces it.
const VERSION: u32 = 1;

/// Measurements in the file, of all targets.
const KEPT: usize = 60;

/// How many of the last measurements of one thing count. Of them it is the middle one: a laptop may have slept in the midst of a run.
const LAST: usize = 5;

/// Days after which a measurement no longer counts: the network may be another one by then.
const NEWS: u32 = 90;

/// The requests that an image needs beside its bytes, as bytes that take as long.
const REQUESTS: u64 = 1 << 20;

/// What was measured in a run, or in a part of one.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Measured {
    /// The host of the registry that was copied to.
    pub target: String,
    /// The copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<Copies>,
    /// Seconds of each runtime that was built and pushed, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub builds: BTreeMap<String, f64>,
    /// Terraform's work on the resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terraform: Option<Changes>,
}

/// Images that were copied.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Copies {
    /// How many.
    pub images: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Seconds from the first to the last.
    pub seconds: f64,
}

/// Resources that were made or changed.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Changes {
    /// How many.
    pub count: u64,
    /// Seconds of all of them.
    pub seconds: f64,
}

/// What a plan has to do.
#[derive(Clone, Debug, Default)]
pub struct Work<'a> {
    /// Images to copy.
    pub images: u64,
    /// Their bytes, at most.
    pub bytes: u64,
    /// Names of the runtimes to build.
    pub builds: Vec<&'a str>,
    /// How many are built at once.
    pub at_once: u64,
    /// Resources to make or change.
    pub changes: u64,
}

/// What a plan will take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds.
    pub seconds: u64,
    /// Whether terraform has something to do that was never measured here, and is not in these seconds.
    pub without_terraform: bool,
}

/// The measurements of earlier runs.
#[derive(Debug)]
pub struct Timings {
    path: PathBuf,
    /// The latest last.
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
    /// Opens the file; what cannot be read counts as nothing.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let measured = read(&path, today()).into_iter().map(|dated| dated.measured).collect();
        Self { path, measured }
    }

    /// Adds a measurement to the file, for later runs. What other runs have added meanwhile stays; what was measured of nothing is
    /// left out.
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

    /// What `work` will take at `target`: first terraform, then the copies beside the builds. None where some of the copies or builds
    /// have no like in an earlier run.
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
            // An engine is the same, wherever its builds go to.
            middle(self.measured.iter().rev().filter_map(|measured| measured.builds.get(*name).copied()))
        });
        let building: Vec<f64> = building.collect::<Option<_>>()?;
        let longest = building.iter().copied().fold(0.0, f64::max);
        let building = longest.max(building.iter().sum::<f64>() / number(work.at_once.max(1)));
        let terraform = match work.changes {
            0 => Some(0.0),
            changes => middle(here().filter_map(|measured| measured.terraform).map(|measured| {
                // It takes a while to start, however little there is to do.
                measured.seconds * (number(changes) / number(measured.count)).max(1.0)
            })),
        };
        if work.images == 0 && work.builds.is_empty() && (work.changes == 0 || terraform.is_none()) {
            return None;
        }
        let seconds = copying.max(building) + terraform.unwrap_or_default();
        let seconds = Duration::try_from_secs_f64(seconds).ok()?;
        // To say 0 of something that is done would be wrong as well.
        let seconds = seconds.as_secs() + u64::from(seconds.subsec_nanos() > 0);
        Some(Estimate { seconds, without_terraform: terraform.is_none() })
    }
}

/// The measurements in a file that still count at the end of `today`; those of a day that has not come were made by a wrong clock, and
/// count as well.
fn read(path: &Path, today: u32) -> Vec<Dated> {
    let kept = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    let measured = kept.filter(|kept| kept.version == VERSION).map(|kept| kept.measured).unwrap_or_default();
    let counts = |dated: &Dated| dated.day.saturating_add(NEWS) >= today && dated.measured.is_sound();
    measured.into_iter().filter(counts).collect()
}

impl Measured {
    /// Whether it can have been: a file may hold anything.
    fn is_sound(&self) -> bool {
        let is_time = |seconds: f64| seconds.is_finite() && seconds > 0.0;
        self.copies.is_none_or(|copies| copies.images > 0 && is_time(copies.seconds))
            && self.builds.values().copied().all(is_time)
            && self.terraform.is_none_or(|changes| changes.count > 0 && is_time(changes.seconds))
    }
}

/// How much there is to copy.
fn weight(images: u64, bytes: u64) -> f64 {
    number(images) * number(REQUESTS) + number(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn number(count: u64) -> f64 {
    count as f64
}

/// The middle one of the first few, the lower one of two: what takes too long is seen more often than what is too fast.
fn middle(latest_first: impl Iterator<Item = f64>) -> Option<f64> {
    let mut last: Vec<f64> = latest_first.take(LAST).collect();
    last.sort_by(f64::total_cmp);
    last.get(last.len().checked_sub(1)? / 2).copied()
}
