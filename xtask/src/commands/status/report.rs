//! The output of `status`, for users and programs.

use std::collections::BTreeMap;

use aws::lease::holders::ActiveRun;
use aws::scans::Scan;
use clap::ValueEnum;
use serde::Serialize;

use crate::transfer::CombinedReport;
use crate::ui::{units, wrap};

/// ECR's severities (<https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanFinding.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Severity {
    /// The least one.
    Informational,
    Low,
    Medium,
    High,
    /// The worst one.
    Critical,
}

impl Severity {
    /// From the worst to the least.
    pub(super) const ALL: [Self; 5] =
        [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Informational];

    /// The name in ECR's spelling.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Informational => "INFORMATIONAL",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

/// The status in `--format json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) account: Option<String>,
    pub(super) region: Option<String>,
    pub(super) tag: String,
    pub(super) registry: String,
    /// `None` with `--registry`.
    pub(super) resources: Option<Resources>,
    pub(super) images: Presence,
    pub(super) runtimes: Presence,
    /// The runs that work on the images.
    pub(super) at_work: Vec<ActiveRun>,
    /// The result of the last run that had work to do.
    pub(super) last_run: Option<CombinedReport>,
    /// `None` with `--registry`.
    pub(super) findings: Option<Findings>,
}

/// The AWS resources required by images.toml.
#[derive(Debug, Serialize)]
pub(super) struct Resources {
    /// The terraform state.
    pub(super) state: String,
    pub(super) repositories: usize,
    pub(super) rules: usize,
    /// Whether the grid's own key exists. Repositories created by others have their own keys.
    pub(super) key: bool,
    /// Missing resources, one line each.
    pub(super) missing: Vec<String>,
}

/// Images, or runtimes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Presence {
    pub(super) wanted: usize,
    pub(super) present: usize,
    /// Those that are missing.
    pub(super) absent: Vec<String>,
}

/// The findings of ECR's scans.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    /// Images that were scanned.
    pub(super) scanned: usize,
    /// Images that were not scanned.
    pub(super) not_scanned: Vec<String>,
    /// Findings by severity, of all images.
    pub(super) counts: BTreeMap<String, u64>,
    /// Images with findings.
    pub(super) images: Vec<ImageFindings>,
}

/// An image with findings.
#[derive(Debug, Serialize)]
pub(super) struct ImageFindings {
    pub(super) name: String,
    pub(super) counts: BTreeMap<String, u64>,
}

impl Findings {
    /// Combines these scans, with the images' names.
    pub(super) fn of(scans: &[(&str, Option<Scan>)]) -> Self {
        let mut all = Self::default();
        for (name, scan) in scans {
            let Some(scan) = scan else {
                all.not_scanned.push((*name).to_owned());
                continue;
            };
            all.scanned += 1;
            if scan.counts.values().any(|count| *count > 0) {
                all.images.push(ImageFindings { name: (*name).to_owned(), counts: scan.counts.clone() });
            }
            for (severity, count) in &scan.counts {
                *all.counts.entry(severity.clone()).or_default() += count;
            }
        }
        all
    }
}

/// `2 critical, 14 high`.
pub(super) fn in_words(counts: &BTreeMap<String, u64>) -> String {
    let known = Severity::ALL.iter().map(|severity| severity.name());
    let others =
        counts.keys().map(String::as_str).filter(|name| !Severity::ALL.iter().any(|s| s.name() == *name));
    let words = known.chain(others).filter_map(|name| {
        let count = counts.get(name).filter(|count| **count > 0)?;
        Some(format!("{count} {}", name.to_lowercase()))
    });
    words.collect::<Vec<_>>().join(", ")
}

impl Report {
    /// The text to show, wrapped between words for a terminal of `columns`.
    pub(super) fn text(&self, columns: Option<usize>) -> String {
        let mut lines: Vec<(&str, String)> = Vec::new();
        lines.push(match (&self.account, &self.region) {
            (Some(account), Some(region)) => {
                ("grid", format!("{} in account {account}, region {region}", self.tag))
            }
            _ => ("grid", format!("{} in {}", self.tag, self.registry)),
        });
        if let Some(resources) = &self.resources {
            let key = if resources.key { "key, " } else { "" };
            lines.push((
                "resources",
                format!(
                    "{key}{}, {}; state {}",
                    units::count(resources.repositories, "repository"),
                    units::count(resources.rules, "pull-through rule"),
                    resources.state
                ),
            ));
            lines.extend(resources.missing.iter().map(|missing| ("", format!("missing: {missing}"))));
        }
        for (what, present) in [("images", &self.images), ("runtimes", &self.runtimes)] {
            lines.push((what, format!("{} of {} in place", present.present, present.wanted)));
            lines.extend(present.absent.iter().map(|absent| ("", format!("missing: {absent}"))));
        }
        if self.resources.is_some() {
            lines
                .push(("at work", if self.at_work.is_empty() { "nobody".to_owned() } else { String::new() }));
        }
        lines.extend(self.at_work.iter().map(|holder| ("", holding(holder))));
        match (&self.last_run, &self.resources) {
            (Some(run), _) => {
                lines.extend(
                    run.lines()
                        .into_iter()
                        .enumerate()
                        .map(|(at, line)| (if at == 0 { "last run" } else { "" }, line)),
                );
            }
            (None, Some(_)) => lines.push(("last run", "no record of one".to_owned())),
            (None, None) => {}
        }
        if let Some(findings) = &self.findings {
            let words = in_words(&findings.counts);
            let words = if words.is_empty() { "none".to_owned() } else { words };
            lines.push((
                "findings",
                format!("{words} in {}", units::count(findings.scanned, "scanned image")),
            ));
            lines.extend(
                findings
                    .images
                    .iter()
                    .map(|image| ("", format!("{}: {}", image.name, in_words(&image.counts)))),
            );
            if !findings.not_scanned.is_empty() {
                lines.push(("", format!("not scanned: {}", findings.not_scanned.join(", "))));
            }
        }
        lines
            .iter()
            .filter(|(what, words)| !(what.is_empty() && words.is_empty()))
            .map(|(what, words)| wrap(&format!("{what:<11}"), words, columns.unwrap_or(usize::MAX)))
            .collect()
    }
}

fn holding(holder: &ActiveRun) -> String {
    let what = holder.shard.as_ref().map_or_else(String::new, |shard| format!(" on shard {shard}"));
    let gone = if holder.gone { "; its process is gone, and the next run takes over" } else { "" };
    format!("{}{what} since {}, until {} unless renewed{gone}", holder.who, holder.since, holder.expires)
}
