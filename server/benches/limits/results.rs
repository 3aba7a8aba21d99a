//! What the benchmark found, as a table for readers and JSON for programs.

use std::{
    fmt::{self, Write as _},
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use aibuyer_loadtest::machine::Machine;
use serde::Serialize;

use crate::{requests::Scenario, rounds::Rounds};

/// A scenario's figures, a value a round.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    scenario: String,
    #[serde(skip)]
    shape: String,
    #[serde(skip)]
    load: String,
    pub(crate) requests_per_second: Rounds,
    pub(crate) p50_us: Rounds,
    pub(crate) p99_us: Rounds,
    pub(crate) server_cpu_us: Rounds,
    pub(crate) beyond_compute_us: Rounds,
    pub(crate) over_in_process: Rounds,
    pub(crate) over_bare_tonic: Rounds,
    pub(crate) in_process_rows_per_second: Rounds,
    pub(crate) bare_tonic_requests_per_second: Rounds,
    pub(crate) resident_mb: Rounds,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:?}, {} × {}", self.model, self.form, self.candidates, self.callers)
    }
}

impl Row {
    pub(crate) fn new(scenario: Scenario) -> Self {
        Self {
            scenario: scenario.to_string(),
            shape: format!("{}, {:?}", scenario.model, scenario.form),
            load: format!("{} × {}", scenario.candidates, scenario.callers),
            ..Self::default()
        }
    }

    fn markdown(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} |",
            self.shape,
            self.load,
            self.requests_per_second.cell(0),
            self.p50_us.cell(0),
            self.p99_us.cell(0),
            self.server_cpu_us.cell(0),
            self.beyond_compute_us.cell(0),
            self.over_in_process.cell(3),
            self.over_bare_tonic.cell(2),
            self.resident_mb.median(),
        )
    }
}

/// All rows and what they were measured on.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    date: String,
    machine: Machine,
    how: String,
    rows: Vec<Row>,
}

impl Results {
    pub(crate) fn new(lanes: usize, rounds: usize, round: Duration) -> Self {
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            machine: Machine::this(),
            how: format!(
                "Closed loop, client and server on this machine, {rounds} interleaved rounds of {round:?}, {lanes} lanes"
            ),
            rows: Vec::new(),
        }
    }

    /// Adds a row and shows it.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("{}", row.markdown());
        self.rows.push(row);
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "# Limits\n\nHow near the server comes to ONNX Runtime in process and to a bare tonic server. Written by \
             `make bench`.\n\n{}. {}.\n{}; median (least–most).\n\n",
            self.date,
            self.machine.line(),
            self.how
        );
        text.push_str(
            "| model, form | rows × callers | requests/s | p50 µs | p99 µs | server CPU µs/request | beyond compute \
             | rows/s ÷ in process | requests/s ÷ bare tonic | RSS MB |\n|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.markdown());
        }
        text
    }

    /// Writes `limits.md` and `limits.json`.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("limits.md"), self.markdown()).unwrap();
        let json = serde_json::to_string_pretty(self).unwrap();
        fs::write(folder.join("limits.json"), json + "\n").unwrap();
        println!("written: {0}/limits.md, {0}/limits.json", folder.display());
    }
}
