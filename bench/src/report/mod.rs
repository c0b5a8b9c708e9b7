//! The results: raw runs, medians, ratios, and the project's own goals.

mod bars;
mod svg;
mod text;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::Options;
use crate::accesslog::Requests;
use crate::catalog::{Catalog, Set, Variant};
use crate::cells::Cell;
use crate::link::{Kind, Probe};
use crate::measure::Cost;
use crate::stats::{median, pairwise};
use crate::tools::Tool;

pub use bars::Bar;
pub use svg::svg;
pub use text::{cell_title, markdown, probe_line, run_line};

/// Bytes in MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A tool's name in files and JSON.
pub fn key(tool: Tool) -> String {
    serde_json::to_value(tool)
        .ok()
        .and_then(|value| value.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

/// The whole report.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Processors, memory, kernel.
    pub machine: BTreeMap<String, String>,
    /// Each tool's version, or why it is missing.
    pub tools: BTreeMap<String, String>,
    /// The floor's concurrent uploads.
    pub floor_jobs: usize,
    /// Each link's values measured with curl.
    pub links: Vec<Probe>,
    /// The comparisons.
    pub cells: Vec<CellResult>,
    /// Comparisons that were left out, with the reason.
    pub left_out: Vec<String>,
    /// The project's goals with their results.
    pub bars: Vec<Bar>,
}

/// One comparison.
#[derive(Debug, Serialize, Deserialize)]
pub struct CellResult {
    /// The images.
    pub set: Set,
    /// Their form at the source.
    pub variant: Variant,
    /// The link to the registries.
    pub link: Kind,
    /// Number of images.
    pub images: usize,
    /// Number of unique blobs.
    pub unique_blobs: usize,
    /// Their size in bytes.
    pub unique_bytes: u64,
    /// Repository/blob pairs.
    pub pairs: usize,
    /// Their size in bytes.
    pub pair_bytes: u64,
    /// Whether time was up before the last round.
    pub cut_short: bool,
    /// One per tool.
    pub rows: Vec<Row>,
}

/// One tool in a comparison.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// The tool.
    pub tool: Tool,
    /// Why it was not run.
    pub missing: Option<String>,
    /// Medians of the cold runs.
    pub cold: Option<Summary>,
    /// Medians of the runs with nothing to do.
    pub idle: Option<Summary>,
    /// Every run.
    pub runs: Vec<Run>,
}

/// The kind of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The target was empty before.
    Cold,
    /// The target had everything before.
    Idle,
}

impl Phase {
    /// Name for tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Idle => "nothing to do",
        }
    }
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Number of the round, from 0.
    pub round: u32,
    /// The kind of run.
    pub phase: Phase,
    /// Time, memory, files.
    #[serde(flatten)]
    pub cost: Cost,
    /// The requests to the source.
    pub source: Requests,
    /// The requests to the target.
    pub target: Requests,
}

/// Medians of one kind of run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Number of runs.
    pub runs: usize,
    /// Median wall time, in seconds.
    pub wall_s: f64,
    /// Fastest run, in seconds.
    pub min_s: f64,
    /// Slowest run, in seconds.
    pub max_s: f64,
    /// This tool's wall time divided by ours, median of the rounds.
    pub by_ours: Option<f64>,
    /// Median of user and system time, in seconds.
    pub cpu_s: f64,
    /// This tool's CPU time divided by ours, median of the rounds.
    pub cpu_by_ours: Option<f64>,
    /// The largest peak memory of one process, in MiB.
    pub peak_mib: f64,
    /// Requests to the source in the last run.
    pub source: Requests,
    /// Requests to the target in the last run.
    pub target: Requests,
}

impl Run {
    /// A run.
    pub fn new(round: u32, phase: Phase, cost: Cost, source: Requests, target: Requests) -> Self {
        Self { round, phase, cost, source, target }
    }
}

impl Row {
    /// A row without runs.
    pub fn new(tool: Tool, missing: Option<String>) -> Self {
        Self { tool, missing, cold: None, idle: None, runs: Vec::new() }
    }

    fn values(&self, phase: Phase, value: impl Fn(&Run) -> f64) -> Vec<(usize, f64)> {
        let good = self.runs.iter().filter(|run| run.phase == phase && run.cost.error.is_none());
        good.map(|run| (run.round as usize, value(run))).collect()
    }

    /// Wall times by round.
    pub fn walls(&self, phase: Phase) -> Vec<(usize, f64)> {
        self.values(phase, |run| run.cost.wall_s)
    }

    /// CPU times by round.
    pub fn cpus(&self, phase: Phase) -> Vec<(usize, f64)> {
        self.values(phase, |run| run.cost.cpu_s)
    }

    /// The first error.
    pub fn error(&self) -> Option<&str> {
        self.runs.iter().find_map(|run| run.cost.error.as_deref())
    }

    fn summary(&self, phase: Phase, ours: Option<&Self>) -> Option<Summary> {
        let walls = self.walls(phase);
        let plain: Vec<f64> = walls.iter().map(|(_, wall)| *wall).collect();
        let cpus = self.cpus(phase);
        let plain_cpus: Vec<f64> = cpus.iter().map(|(_, cpu)| *cpu).collect();
        let last = self.runs.iter().rfind(|run| run.phase == phase && run.cost.error.is_none())?;
        let peaks = self.values(phase, |run| run.cost.peak_kib as f64 / 1024.0);
        Some(Summary {
            runs: plain.len(),
            wall_s: median(&plain)?,
            min_s: plain.iter().copied().fold(f64::INFINITY, f64::min),
            max_s: plain.iter().copied().fold(0.0, f64::max),
            by_ours: ours.and_then(|ours| pairwise(&walls, &ours.walls(phase))),
            cpu_s: median(&plain_cpus)?,
            cpu_by_ours: ours.and_then(|ours| pairwise(&cpus, &ours.cpus(phase))),
            peak_mib: peaks.iter().map(|(_, peak)| *peak).fold(0.0, f64::max),
            source: last.source.clone(),
            target: last.target.clone(),
        })
    }
}

impl CellResult {
    /// A comparison without rows.
    pub fn new(cell: &Cell, catalog: &Catalog) -> Self {
        let (pairs, pair_bytes) = catalog.pairs();
        Self {
            set: cell.set,
            variant: cell.variant,
            link: cell.link,
            images: catalog.images.len(),
            unique_blobs: catalog.unique().len(),
            unique_bytes: catalog.unique_bytes(),
            pairs,
            pair_bytes,
            cut_short: false,
            rows: Vec::new(),
        }
    }

    /// The row of `tool`.
    pub fn row(&self, tool: Tool) -> Option<&Row> {
        self.rows.iter().find(|row| row.tool == tool)
    }

    fn finish(&mut self) {
        let summaries: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let ours = self.row(Tool::Ours);
                (row.summary(Phase::Cold, ours), row.summary(Phase::Idle, ours))
            })
            .collect();
        for (row, (cold, idle)) in self.rows.iter_mut().zip(summaries) {
            (row.cold, row.idle) = (cold, idle);
        }
    }
}

impl Report {
    /// A report without comparisons.
    pub fn new(options: &Options, versions: &HashMap<Tool, Result<String, String>>) -> Self {
        let tools = versions.iter().map(|(tool, version)| {
            let text = match version {
                Ok(version) => version.clone(),
                Err(why) => format!("missing: {why}"),
            };
            (key(*tool), text)
        });
        Self {
            machine: machine(),
            tools: tools.collect(),
            floor_jobs: options.floor_jobs,
            links: Vec::new(),
            cells: Vec::new(),
            left_out: Vec::new(),
            bars: Vec::new(),
        }
    }

    /// Calculates medians, ratios and goals.
    pub fn finish(&mut self) {
        for cell in &mut self.cells {
            cell.finish();
        }
        self.bars = bars::bars(&self.cells);
    }
}

fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let (cpu, memory, load) = (read("/proc/cpuinfo"), read("/proc/meminfo"), read("/proc/loadavg"));
    let memory = field(&memory, "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
    let registry = crate::process::read("docker-registry", &["--version"]);
    let registry = registry.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    [
        ("cores", Some(processors.to_string())),
        ("processor", field(&cpu, "model name")),
        ("memory", memory.map(|kib| format!("{} GiB", (kib + (1 << 19)) >> 20))),
        ("kernel", Some(read("/proc/sys/kernel/osrelease").trim().to_owned())),
        ("load when it began", load.split(' ').next().map(ToOwned::to_owned)),
        ("registry", registry.ok()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run that took `wall` seconds.
    pub fn run(round: u32, phase: Phase, wall: f64) -> Run {
        let cost = Cost { wall_s: wall, cpu_s: wall / 2.0, peak_kib: 10_240, ..Cost::default() };
        let mut source = Requests { bytes_out: 1 << 20, ..Requests::default() };
        source.by_kind.insert("HEAD manifest".to_owned(), 5);
        Run::new(round, phase, cost, source.clone(), source)
    }

    /// A comparison of the grid: ours takes 1 s, skopeo 2 s, five rounds, a twentieth of that with nothing to do.
    pub fn cell(link: Kind) -> CellResult {
        let mut cell = CellResult {
            set: Set::Grid,
            variant: Variant::Single,
            link,
            images: 5,
            unique_blobs: 38,
            unique_bytes: 194 << 20,
            pairs: 62,
            pair_bytes: 196 << 20,
            cut_short: false,
            rows: vec![
                Row::new(Tool::Ours, None),
                Row::new(Tool::Floor, None),
                Row::new(Tool::SkopeoX4, None),
                Row::new(Tool::CraneX4, Some("not in PATH".to_owned())),
            ],
        };
        for round in 0..5 {
            let drift = f64::from(round) * 0.1;
            for (index, wall) in [(0, 1.0 + drift), (1, 0.8 + drift), (2, 2.0 + 2.0 * drift)] {
                cell.rows[index].runs.push(run(round, Phase::Cold, wall));
                if index != 1 {
                    cell.rows[index].runs.push(run(round, Phase::Idle, wall / 20.0));
                }
            }
        }
        cell
    }

    /// A report of two links.
    pub fn report() -> Report {
        let mut report = Report {
            machine: BTreeMap::from([("cores".to_owned(), "2".to_owned())]),
            tools: BTreeMap::from([("skopeo".to_owned(), "skopeo <1.9>".to_owned())]),
            floor_jobs: 8,
            links: vec![Probe {
                link: Kind::Gigabit,
                rtt_ms: 40.2,
                first_ms: 80.5,
                down_mbit: 991.0,
                up_mbit: 985.0,
            }],
            cells: vec![cell(Kind::Loopback), cell(Kind::Gigabit)],
            left_out: vec!["the last one: no time left".to_owned()],
            bars: Vec::new(),
        };
        report.finish();
        report
    }

    #[test]
    fn medians_and_pairwise_ratios_of_a_cell() {
        let report = report();
        let skopeo = report.cells[0].row(Tool::SkopeoX4).unwrap().cold.as_ref().unwrap();
        assert_eq!(skopeo.runs, 5);
        assert!((skopeo.wall_s - 2.4).abs() < 1e-9);
        assert!((skopeo.by_ours.unwrap() - 2.0).abs() < 1e-9);
        assert!((skopeo.min_s - 2.0).abs() < 1e-9 && (skopeo.max_s - 2.8).abs() < 1e-9);
        assert!(report.cells[0].row(Tool::CraneX4).unwrap().cold.is_none());
        assert!(report.cells[0].row(Tool::Floor).unwrap().idle.is_none());
    }

    #[test]
    fn a_report_is_read_back_from_its_json() {
        let text = serde_json::to_string(&report()).unwrap();
        let back: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(back.cells[0].rows[0].runs.len(), 10);
        assert!(text.contains("\"tool\":\"skopeo-x4\""), "{text}");
    }

    #[test]
    fn a_failed_run_counts_in_no_median() {
        let mut cell = cell(Kind::Loopback);
        let mut failed = run(5, Phase::Cold, 99.0);
        failed.cost.error = Some("it fell over".to_owned());
        cell.rows[2].runs.push(failed);
        cell.finish();
        assert!((cell.rows[2].cold.as_ref().unwrap().max_s - 2.8).abs() < 1e-9);
        assert_eq!(cell.rows[2].error(), Some("it fell over"));
    }
}
