//! `scenarios.md`: the answer of each side, and why they differ.

use std::path::{Path, PathBuf};

/// One call of one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) call: String,
    pub(crate) local: String,
    pub(crate) moto: String,
    /// Why the two differ, written by hand; empty if they do not.
    pub(crate) reason: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

const HEAD: &str = "\
# local-aws and moto, call by call

Written by `UPDATE=1 cargo test -p local-aws --test it scenarios`, the reasons by hand; the test of that name fails when an
outcome is another one. `=` is the same outcome as local-aws's. moto is 5.2.5.

| scenario | call | local-aws | moto | difference |
|---|---|---|---|---|
";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios.md")
}

impl Table {
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        let lines = text.lines().filter(|line| line.starts_with("| ")).skip(1);
        let row = |line: &str| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [scenario, call, local, moto, reason] = cells[..] else { panic!("five cells: {line}") };
            let plain = |cell: &str| cell.trim_matches('`').to_owned();
            let moto = if moto == "=" { plain(local) } else { plain(moto) };
            Row {
                scenario: scenario.into(),
                call: call.into(),
                local: plain(local),
                moto,
                reason: reason.into(),
            }
        };
        Self { rows: lines.map(row).collect() }
    }

    pub(crate) fn write(&self) {
        let mut text = HEAD.to_owned();
        for row in &self.rows {
            let moto = if row.moto == row.local { "=".to_owned() } else { format!("`{}`", row.moto) };
            let Row { scenario, call, local, reason, .. } = row;
            text += &format!("| {scenario} | {call} | `{local}` | {moto} | {reason} |\n");
        }
        std::fs::write(path(), text).unwrap();
    }

    fn row(&self, scenario: &str, call: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.scenario == scenario && row.call == call)
    }

    pub(crate) fn moto(&self, scenario: &str, call: &str) -> String {
        self.row(scenario, call).map(|row| row.moto.clone()).unwrap_or_default()
    }

    pub(crate) fn reason(&self, scenario: &str, call: &str) -> String {
        self.row(scenario, call).map(|row| row.reason.clone()).unwrap_or_default()
    }

    /// The calls whose outcome in `found` is different.
    pub(crate) fn changes(&self, found: &Self) -> Vec<String> {
        let gone = self.rows.iter().filter(|row| found.row(&row.scenario, &row.call).is_none());
        let gone = gone.map(|row| format!("{}, {}: no such call any more", row.scenario, row.call));
        let other = found.rows.iter().filter_map(|row| {
            let known = self.row(&row.scenario, &row.call);
            (known != Some(row)).then(|| format!("written down: {known:?}\n       found: {row:?}"))
        });
        gone.chain(other).collect()
    }

    /// One line for each scenario.
    pub(crate) fn summary(&self) -> String {
        let mut lines = vec![format!("{:<22} {:>5}  {:>4}  {}", "SCENARIO", "CALLS", "SAME", "DIFFERENT")];
        for scenario in self.rows.chunk_by(|a, b| a.scenario == b.scenario) {
            let different: Vec<&str> =
                scenario.iter().filter(|row| row.local != row.moto).map(|row| row.call.as_str()).collect();
            lines.push(format!(
                "{:<22} {:>5}  {:>4}  {}",
                scenario[0].scenario,
                scenario.len(),
                scenario.len() - different.len(),
                different.join(", ")
            ));
        }
        lines.join("\n")
    }
}
