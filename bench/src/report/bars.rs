//! Compares the results with the project's own goals (the mirror's "Done when").

use serde::{Deserialize, Serialize};

use super::{CellResult, Phase, Summary};
use crate::catalog::{Set, Variant};
use crate::link::Kind;
use crate::stats::{lost, noise, pairwise};
use crate::tools::Tool;

/// One goal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bar {
    /// Its description.
    pub text: String,
    /// The measured value.
    pub measured: f64,
    /// The largest accepted value.
    pub at_most: f64,
}

impl Bar {
    /// Whether it is met.
    pub fn met(&self) -> bool {
        self.measured <= self.at_most
    }
}

/// The goals for which `cells` have results.
pub fn bars(cells: &[CellResult]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for cell in cells {
        let title = super::text::result_title(cell);
        let mut add = |text: String, measured: Option<f64>, at_most: f64| {
            if let Some(measured) = measured {
                bars.push(Bar { text: format!("{title}: {text}"), measured, at_most });
            }
        };
        let Some(ours) = cell.row(Tool::Ours) else { continue };
        let by = |tool: Tool| {
            cell.row(tool).and_then(|row| pairwise(&ours.walls(Phase::Cold), &row.walls(Phase::Cold)))
        };
        let cpu_by = |tool: Tool| {
            cell.row(tool).and_then(|row| pairwise(&ours.cpus(Phase::Cold), &row.cpus(Phase::Cold)))
        };
        let (cold, idle) = (ours.cold.as_ref(), ours.idle.as_ref());
        match (cell.set, cell.link) {
            (Set::Grid | Set::Small, Kind::Loopback) => {
                let at_most = if cell.set == Set::Grid { 0.65 } else { 0.60 };
                add("wall by skopeo, 4 at once".to_owned(), by(Tool::SkopeoX4), at_most);
                add("wall by the floor".to_owned(), by(Tool::Floor), 1.40);
                add("client CPU by skopeo's".to_owned(), cpu_by(Tool::SkopeoX4), 0.30);
            }
            (Set::Grid | Set::Small, Kind::Gigabit) => {
                let needs = cell.link.needs(cell.unique_bytes, 15);
                add(
                    "wall by what the link needs for the unique bytes, plus 15 round trips".to_owned(),
                    cold.zip(needs).map(|(cold, needs)| cold.wall_s / needs),
                    1.5,
                );
                if cell.set == Set::Small {
                    add("wall by skopeo, 4 at once".to_owned(), by(Tool::SkopeoX4), 1.0 / 1.5);
                }
            }
            (Set::Grid | Set::Small, Kind::Slow) => {
                let needs = cell.link.needs(cell.unique_bytes, 0);
                add(
                    "wall by what the link needs for the unique bytes".to_owned(),
                    cold.zip(needs).map(|(cold, needs)| cold.wall_s / needs),
                    1.10,
                );
            }
            (Set::Big, _) => {
                add("peak memory, MiB".to_owned(), cold.map(|cold| cold.peak_mib), 40.0);
                let files = ours.runs.iter().filter_map(|run| run.cost.files.as_ref());
                let large = |name: &&String| !is_record(name);
                let files: usize =
                    files.map(|files| files.iter().filter(large).count()).max().unwrap_or_default();
                add("files of content open for writing".to_owned(), cold.map(|_| files as f64), 0.0);
                let written = ours.runs.iter().map(|run| run.cost.written_bytes).max();
                add("MiB written to disk".to_owned(), written.map(super::mib), 1.0);
            }
            (Set::Scale100 | Set::Scale1000 | Set::Scale10000, _) => {
                add("wall by the floor".to_owned(), by(Tool::Floor), 1.30);
                add("peak memory, MiB".to_owned(), cold.map(|cold| cold.peak_mib), 100.0);
                let thousands = cell.images as f64 / 1_000.0;
                add("CPU, s".to_owned(), cold.map(|cold| cold.cpu_s), (2.5 * thousands).max(1.0));
                add(
                    "nothing to do, CPU, s".to_owned(),
                    idle.map(|idle| idle.cpu_s),
                    (0.5 * thousands).max(0.5),
                );
            }
            (Set::Tiny, Kind::Gigabit) => {
                add("500 images with nothing to do, s".to_owned(), idle.map(|idle| idle.wall_s), 3.0);
            }
            _ => {}
        }
        for phase in [Phase::Cold, Phase::Idle] {
            // The floor is not a peer: it copies nothing.
            let peers = cell.rows.iter().filter(|row| !matches!(row.tool, Tool::Ours | Tool::Floor));
            let best = peers
                .map(|row| (row.tool, lost(&ours.walls(phase), &row.walls(phase))))
                .filter(|(_, (_, rounds))| *rounds > 0)
                .max_by_key(|(_, (won, _))| *won);
            if let Some((peer, (won, rounds))) = best {
                let (phase, peer) = (phase.title(), peer.short());
                let text = format!("{phase}, rounds of {rounds} that {peer} won (more is beyond noise)");
                add(text, Some(f64::from(won)), f64::from(noise(rounds)));
            }
        }
        if let Some(idle) = idle {
            for (side, requests) in [("source", &idle.source), ("target", &idle.target)] {
                let others =
                    requests.total() - requests.by_kind.get("HEAD manifest").copied().unwrap_or_default();
                let heads = requests.total() - others;
                add(
                    format!("nothing to do, HEADs at the {side} for each image"),
                    Some(heads as f64 / cell.images as f64),
                    1.0,
                );
                // A challenge and a token: these registries require neither, but a client may check once.
                add(format!("nothing to do, other requests at the {side}"), Some(others as f64), 1.0);
            }
        }
        if let Some(cold) = cold.filter(|_| cell.link == Kind::Loopback) {
            let count = |requests: &crate::accesslog::Requests, kind: &str| {
                requests.by_kind.get(kind).copied().unwrap_or_default() as f64
            };
            let (blobs, images) = (cell.unique_blobs as f64, cell.images as f64);
            // For an index, both the index and the selected child are fetched; the target gets only the child.
            let manifests = if cell.variant == Variant::Index { 2.0 * images } else { images };
            add("GET of blobs at the source".to_owned(), Some(count(&cold.source, "GET blob")), blobs);
            add(
                "GET of manifests at the source".to_owned(),
                Some(count(&cold.source, "GET manifest")),
                manifests,
            );
            add(
                "POST and PUT of blobs at the target".to_owned(),
                Some(
                    count(&cold.target, "POST upload")
                        + count(&cold.target, "PUT upload")
                        + count(&cold.target, "PATCH upload")
                        + count(&cold.target, "POST mount-refused"),
                ),
                2.0 * blobs,
            );
            add(
                "POST of mounts at the target".to_owned(),
                Some(count(&cold.target, "POST mount")),
                cell.pairs as f64 - blobs,
            );
            add(
                "PUT of manifests at the target".to_owned(),
                Some(count(&cold.target, "PUT manifest")),
                images,
            );
            // Nothing is checked before it is sent. Each copy is read back once: its manifest, and a HEAD for each blob.
            add(
                "HEAD of blobs at the target".to_owned(),
                Some(count(&cold.target, "HEAD blob")),
                cell.pairs as f64,
            );
            add(
                "GET of manifests at the target".to_owned(),
                Some(count(&cold.target, "GET manifest")),
                images,
            );
            add("GET of blobs at the target".to_owned(), Some(count(&cold.target, "GET blob")), 0.0);
        }
    }
    bars.extend(slope(cells));
    bars
}

/// The cost of an image among 10,000 relative to that among 1,000: it must not depend on the number of images.
fn slope(cells: &[CellResult]) -> Vec<Bar> {
    let ours = |set: Set, phase: Phase| -> Option<(f64, &Summary)> {
        let cell = cells.iter().find(|cell| cell.set == set)?;
        let row = cell.row(Tool::Ours)?;
        let summary = if phase == Phase::Cold { &row.cold } else { &row.idle };
        Some((cell.images as f64, summary.as_ref()?))
    };
    let mut bars = Vec::new();
    for phase in [Phase::Cold, Phase::Idle] {
        let (Some((few, less)), Some((many, more))) =
            (ours(Set::Scale1000, phase), ours(Set::Scale10000, phase))
        else {
            continue;
        };
        type Value = fn(&Summary) -> f64;
        let values: [(&str, Value); 3] = [
            ("wall", |summary| summary.wall_s),
            ("CPU", |summary| summary.cpu_s),
            ("peak memory", |summary| summary.peak_mib),
        ];
        for (name, value) in values {
            let text = format!("{}: {name} an image, among 10,000 by among 1,000", phase.title());
            bars.push(Bar { text, measured: value(more) / many / (value(less) / few), at_most: 1.3 });
        }
    }
    bars
}

/// A file with a client's own records; content would have no such name.
fn is_record(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ["json", "toml", "lock", "log", "tmp"].iter().any(|end| name.rsplit('.').next() == Some(end))
        && name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{cell, report};

    #[test]
    fn a_cost_that_grows_with_the_list_misses_its_limit() {
        let mut cells = vec![cell(Kind::Loopback), cell(Kind::Loopback)];
        for (cell, (set, images)) in
            cells.iter_mut().zip([(Set::Scale1000, 1_000), (Set::Scale10000, 10_000)])
        {
            (cell.set, cell.images) = (set, images);
            cell.finish();
        }
        let wall = |cells: &[CellResult]| {
            let bars = slope(cells);
            assert_eq!(bars.len(), 6);
            bars.into_iter().find(|bar| bar.text.starts_with("cold: wall")).unwrap()
        };
        // Both took the same time: one image of ten thousand took a tenth.
        assert!((wall(&cells).measured - 0.1).abs() < 1e-9);
        for run in &mut cells[1].rows[0].runs {
            run.cost.wall_s *= 14.0;
        }
        cells[1].finish();
        assert!((wall(&cells).measured - 1.4).abs() < 1e-9 && !wall(&cells).met());
        assert!(slope(&cells[..1]).is_empty(), "one alone has no slope");
    }

    #[test]
    fn limits_are_compared_with_figures() {
        let report = report();
        let find = |part: &str| report.bars.iter().find(|bar| bar.text.contains(part)).unwrap();
        let skopeo = find("loopback: wall by skopeo");
        assert!((skopeo.measured - 0.5).abs() < 1e-9 && skopeo.met());
        let cpu = find("client CPU");
        assert!((cpu.measured - 0.5).abs() < 1e-9 && !cpu.met());
        let link = find("what the link needs for the unique bytes, plus");
        assert!((link.measured - 1.2 / 2.227_4).abs() < 0.01, "{}", link.measured);
        assert!(find("HEADs at the source").met());
        assert!(is_record("/a/mapping.json") && !is_record("/a/blob"));
    }
}
