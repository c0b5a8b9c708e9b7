//! Runs the comparisons: cell by cell, round by round, tool by tool.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::accesslog::{self, Requests};
use crate::catalog::{Catalog, Set, Variant};
use crate::cells::{Cell, cells};
use crate::link::{Kind, Link};
use crate::measure::{Cost, Spec};
use crate::process::{check_interrupt, run_measuring, watch_for_interrupts};
use crate::registry::Registry;
use crate::report::{self, CellResult, Phase, Report, Row, Run};
use crate::sets;
use crate::store::Store;
use crate::tools::{Plan, Task, Tool, docker_engine};
use crate::{Options, copies, runtimes, say, tell};

/// When the default run starts nothing new, and when it ends what is still running: within 20 minutes.
const DEFAULT_LIMIT: Duration = Duration::from_secs(18 * 60 + 30);
const DEFAULT_END: Duration = Duration::from_secs(19 * 60 + 30);
/// Time limit of a single run.
const RUN_LIMIT: Duration = Duration::from_secs(600);
/// Time limit with 10,000 images, also if the machine has other work.
const SOAK_LIMIT: Duration = Duration::from_secs(1_800);

struct Bench<'a> {
    options: &'a Options,
    out: PathBuf,
    xtask: PathBuf,
    source: Store,
    target: Store,
    started: Instant,
    versions: HashMap<Tool, Result<String, String>>,
    catalogs: HashMap<Set, Catalog>,
}

/// The registries at the ends of one link.
struct Site {
    source: Registry,
    target: Registry,
    /// The registries' addresses for the client.
    source_addr: String,
    target_addr: String,
    /// The command prefix for programs at the client's end.
    prefix: Vec<String>,
    /// Dropped last, after the registries that listen on it.
    _link: Option<Link>,
}

/// Measures according to the options and writes `report.md`, `report.json` and `report.svg`.
///
/// # Errors
/// The registries or the measurement fail; a tool that fails is a row of the table.
pub fn run(options: &Options) -> Result<()> {
    watch_for_interrupts()?;
    let beside = std::env::current_exe()?;
    let beside = beside.parent().context("this program has no directory")?;
    let out = match &options.out {
        Some(out) => out.clone(),
        // target/debug/bench -> target/bench
        None => beside.parent().unwrap_or(beside).join("bench"),
    };
    fs::create_dir_all(&out).with_context(|| format!("could not make {}", out.display()))?;
    let out = fs::canonicalize(out)?;
    let xtask = options.xtask.clone().unwrap_or_else(|| beside.join("xtask"));
    let xtask = fs::canonicalize(&xtask).unwrap_or(xtask);
    if options.only.contains(&Set::Runtimes) {
        anyhow::ensure!(options.only.len() == 1, "--only runtimes cannot be combined with other image sets");
        return runtimes::run(options, &out, &xtask);
    }
    let versions = Tool::ALL.into_iter().map(|tool| (tool, tool.available(&xtask))).collect();
    let mut bench = Bench {
        options,
        source: Store::new(out.join("source")),
        target: Store::new(out.join("target")),
        out,
        xtask,
        started: Instant::now(),
        versions,
        catalogs: HashMap::new(),
    };
    let report = bench.measure()?;
    bench.target.wipe()?;
    say(&report::markdown(&report));
    tell(&format!("written: report.md, report.json and report.svg in {}", bench.out.display()));
    if options.soak {
        let bars = &report.bars;
        let rows = || report.cells.iter().flat_map(|cell| &cell.rows);
        if let Some(why) = rows().find_map(|row| row.error().or(row.missing.as_deref())) {
            anyhow::bail!("it was not measured: {why}");
        }
        anyhow::ensure!(rows().count() > 0 && report.left_out.is_empty(), "it was not measured to its end");
        let missed: Vec<&str> = bars.iter().filter(|bar| !bar.met()).map(|bar| bar.text.as_str()).collect();
        anyhow::ensure!(missed.is_empty(), "more than is asked: {}", missed.join("; "));
    }
    Ok(())
}

impl Bench<'_> {
    fn measure(&mut self) -> Result<Report> {
        let cells = cells(self.options);
        let mut report = Report::new(self.options, &self.versions);
        let mut sites: HashMap<Kind, Result<(), String>> = HashMap::new();
        let mut current: Option<(Kind, Site)> = None;
        for cell in &cells {
            check_interrupt()?;
            let title = report::cell_title(cell);
            if self.out_of_time() {
                report.left_out.push(format!("{title}: no time left (--full has no limit)"));
                continue;
            }
            if let Some(Err(why)) = sites.get(&cell.link) {
                report.left_out.push(format!("{title}: {why}"));
                continue;
            }
            if current.as_ref().is_none_or(|(kind, _)| *kind != cell.link) {
                // The old one is removed first: the new one uses the same address and namespace.
                drop(current.take());
                match self.site(cell.link, &mut report) {
                    Ok(site) => current = Some((cell.link, site)),
                    Err(error) => {
                        check_interrupt()?;
                        let why = format!("the link could not be set up: {error:#}");
                        tell(&format!("{title}: {why}"));
                        report.left_out.push(format!("{title}: {why}"));
                        sites.insert(cell.link, Err(why));
                        continue;
                    }
                }
            }
            if let Some((_, site)) = &mut current {
                let result = self.cell(cell, site)?;
                report.cells.push(result);
                report.finish();
                self.write(&report)?;
            }
        }
        self.write(&report)?;
        Ok(report)
    }

    fn out_of_time(&self) -> bool {
        !self.options.full && !self.options.soak && self.started.elapsed() > DEFAULT_LIMIT
    }

    fn run_limit(&self) -> Duration {
        let left = DEFAULT_END.saturating_sub(self.started.elapsed());
        match (self.options.soak, self.options.full) {
            (true, _) => SOAK_LIMIT,
            (_, true) => RUN_LIMIT,
            _ => RUN_LIMIT.min(left),
        }
    }

    fn write(&self, report: &Report) -> Result<()> {
        fs::write(self.out.join("report.json"), serde_json::to_vec_pretty(report)?)?;
        fs::write(self.out.join("report.md"), report::markdown(report))?;
        fs::write(self.out.join("report.svg"), report::svg(report))?;
        Ok(())
    }

    fn site(&self, kind: Kind, report: &mut Report) -> Result<Site> {
        let dir = self.out.join("registries");
        let mut link = match kind {
            Kind::Loopback | Kind::Static => None,
            Kind::Gigabit | Kind::Slow => Some(Link::up(kind)?),
        };
        let ip = link.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), Link::ip);
        let source = match kind {
            Kind::Static => Registry::serve("source", ip, &self.source, &dir)?,
            _ => Registry::start("source", ip, &self.source, &dir)?,
        };
        self.target.wipe()?;
        let target = Registry::start("target", ip, &self.target, &dir)?;
        let (mut source_addr, mut target_addr) = (source.addr().to_string(), target.addr().to_string());
        let mut prefix = Vec::new();
        if let Some(link) = &mut link {
            if !report.links.iter().any(|probe| probe.link == kind) {
                let probe = link.probe(&self.out).context("curl could not measure the link")?;
                tell(&report::probe_line(&probe));
                report.links.push(probe);
            }
            source_addr = link.relay(source.addr())?.to_string();
            target_addr = link.relay(target.addr())?.to_string();
            prefix = link.prefix();
        }
        Ok(Site { source, target, source_addr, target_addr, prefix, _link: link })
    }

    fn catalog(&mut self, set: Set) -> Result<Catalog> {
        if let Some(catalog) = self.catalogs.get(&set) {
            return Ok(catalog.clone());
        }
        let started = Instant::now();
        let catalog = sets::make(set, &self.source, &self.out.join("sets"))?;
        let (pairs, pair_bytes) = catalog.pairs();
        tell(&format!(
            "set {}: {} images, {} unique blobs, {:.1} MiB; {pairs} pairs, {:.1} MiB ({:.1} s)",
            set.name(),
            catalog.images.len(),
            catalog.unique().len(),
            report::mib(catalog.unique_bytes()),
            report::mib(pair_bytes),
            started.elapsed().as_secs_f64()
        ));
        self.catalogs.insert(set, catalog.clone());
        Ok(catalog)
    }

    fn cell(&mut self, cell: &Cell, site: &mut Site) -> Result<CellResult> {
        let catalog = self.catalog(cell.set)?;
        let mut result = CellResult::new(cell, &catalog);
        for tool in &cell.tools {
            let missing = self.versions.get(tool).and_then(|found| found.as_ref().err().cloned());
            result.rows.push(Row::new(*tool, missing));
        }
        tell(&format!("{}:", report::cell_title(cell)));
        for round in 0..cell.rounds {
            for (index, tool) in cell.tools.iter().enumerate() {
                let Some(row) = result.rows.get_mut(index) else { continue };
                // A tool that fails is not run again: each failure may take a run's whole time limit.
                let failed = row.runs.iter().any(|run| run.cost.error.is_some());
                if row.missing.is_some() || failed || round >= cell.rounds_of(*tool, self.options) {
                    continue;
                }
                if self.out_of_time() {
                    result.cut_short = true;
                    break;
                }
                let runs = self.turn(cell, *tool, &catalog, site, round)?;
                for run in &runs {
                    tell(&format!("  round {}: {}", round + 1, report::run_line(*tool, run)));
                }
                row.runs.extend(runs);
            }
        }
        if cell.tools.contains(&Tool::Docker) {
            self.forget_docker(cell.variant, &catalog, site);
        }
        Ok(result)
    }

    fn task<'t>(
        &'t self,
        variant: Variant,
        catalog: &'t Catalog,
        files: &'t Files,
        site: &'t Site,
    ) -> Task<'t> {
        Task {
            catalog,
            catalog_file: &files.catalog,
            source_store: &self.source.root,
            variant,
            source: &site.source_addr,
            target: &site.target_addr,
            home: &files.home,
            xtask: &self.xtask,
            floor_jobs: self.options.floor_jobs,
        }
    }

    fn forget_docker(&self, variant: Variant, catalog: &Catalog, site: &Site) {
        let files = Files::new(&self.out, Tool::Docker, catalog.set);
        self.task(variant, catalog, &files, site).forget_docker();
    }

    /// One tool's turn: a cold copy, then a run with nothing to do.
    fn turn(
        &self,
        cell: &Cell,
        tool: Tool,
        catalog: &Catalog,
        site: &mut Site,
        round: u32,
    ) -> Result<Vec<Run>> {
        let files = Files::new(&self.out, tool, catalog.set);
        // With caches of an earlier turn, this one would not be cold.
        match fs::remove_dir_all(&files.home) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir_all(&files.home)?,
        }
        let plan = {
            let task = self.task(cell.variant, catalog, &files, site);
            if tool == Tool::Docker {
                task.forget_docker();
            }
            task.plan(tool)?
        };
        self.target.wipe()?;
        let mut runs = Vec::new();
        if cell.cold {
            runs.push(self.once(cell, tool, &plan, catalog, site, (round, Phase::Cold))?);
        } else {
            copies::fill(&self.target, &self.source, catalog, cell.variant)?;
            if tool.learns() {
                // Not counted: it fills the client's caches, as a copy of its own would.
                let warm = self.once(cell, tool, &plan, catalog, site, (round, Phase::Idle))?;
                if warm.cost.error.is_some() {
                    return Ok(vec![warm]);
                }
            }
        }
        if tool != Tool::Floor && runs.iter().all(|run| run.cost.error.is_none()) {
            runs.push(self.once(cell, tool, &plan, catalog, site, (round, Phase::Idle))?);
        }
        Ok(runs)
    }

    fn once(
        &self,
        cell: &Cell,
        tool: Tool,
        plan: &Plan,
        catalog: &Catalog,
        site: &mut Site,
        (round, phase): (u32, Phase),
    ) -> Result<Run> {
        let files = Files::new(&self.out, tool, catalog.set);
        let (from_source, from_target) = (site.source.mark()?, site.target.mark()?);
        let spec = Spec {
            chains: plan.chains.clone(),
            jobs: plan.jobs,
            env: plan.env.clone(),
            cwd: files.home.clone(),
            log: self.out.join(format!("{}.log", report::key(tool))),
            answer: files.home.join("bench-answer.json"),
            timeout_s: self.run_limit().as_secs(),
            daemon: (tool == Tool::Docker).then(docker_engine).flatten(),
            watch_files: cell.watch_files,
        };
        let spec_file = files.home.join("bench-spec.json");
        fs::write(&spec_file, serde_json::to_vec(&spec)?)?;
        run_measuring(&site.prefix, &spec_file)?;
        let mut cost: Cost = serde_json::from_slice(&fs::read(&spec.answer)?)?;
        let sizes = catalog.sizes();
        let source: Requests = accesslog::count(&site.source.since(from_source)?, &sizes);
        let target: Requests = accesslog::count(&site.target.since(from_target)?, &sizes);
        if cost.error.is_none() {
            let fault = copies::fault(site.target.store(), catalog, cell.variant, tool.exact(cell.variant));
            cost.error = fault.map(|fault| format!("it succeeded, but {fault}"));
        }
        Ok(Run::new(round, phase, cost, source, target))
    }
}

/// The files of one tool.
struct Files {
    home: PathBuf,
    catalog: PathBuf,
}

impl Files {
    fn new(out: &Path, tool: Tool, set: Set) -> Self {
        let home = out.join("home").join(report::key(tool));
        Self { home, catalog: out.join("sets").join(format!("{}.json", set.name())) }
    }
}
