//! What a reader gets: a summary on the terminal, JSON in ghz's form, and a page with charts.

mod chart;
mod ghz;
mod html;
mod text;

use std::time::Duration;

use crate::{machine::Machine, slo::Line, tally::Measured};

pub use text::latency;

/// The limits that figures are held against, measured on the same machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ceilings {
    /// Of ONNX Runtime in process.
    pub rows_per_second: Option<f64>,
    /// Of a tonic server that answers without thinking.
    pub requests_per_second: Option<f64>,
}

/// Loads, one after the other, and what they ran against.
#[derive(Debug, Clone)]
pub struct Report {
    /// Title.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// `package.Service/Method`.
    pub method: String,
    /// Name and version that the server gives.
    pub server: Option<String>,
    /// HTTP/2 connections.
    pub connections: usize,
    /// Of each call.
    pub deadline: Option<Duration>,
    /// How calls were timed, for a reader.
    pub schedule: String,
    /// Different requests, and bytes of one on average.
    pub requests: (usize, usize),
    /// Candidates of a request, on average.
    pub rows: Option<f64>,
    /// Where it ran.
    pub machine: Machine,
    /// What figures are held against.
    pub ceilings: Ceilings,
    /// The loads, in their order.
    pub steps: Vec<Step>,
}

/// One load.
#[derive(Debug, Clone)]
pub struct Step {
    /// `500/s` or `64 callers`.
    pub label: String,
    /// Calls a second asked for; callers of a closed loop.
    pub load: Load,
    /// What came of it.
    pub measured: Measured,
    /// Objectives, judged.
    pub verdict: Vec<Line>,
}

/// What a step asked for.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// Calls a second.
    Rate(f64),
    /// Callers, each with one call at a time.
    Callers(usize),
}

impl Step {
    /// Rows answered a second, if a request's rows are known.
    #[must_use]
    pub fn rows_per_second(&self, rows: Option<f64>) -> Option<f64> {
        rows.map(|rows| rows * self.measured.rate())
    }
}

impl Report {
    /// Whether every step kept every objective.
    #[must_use]
    pub fn kept(&self) -> bool {
        self.steps.iter().all(|step| step.verdict.iter().all(|line| line.kept))
    }

    /// Figures of one step over the ceilings: rows, then requests.
    fn ratios(&self, step: &Step) -> (Option<f64>, Option<f64>) {
        let over = |figure: Option<f64>, ceiling: Option<f64>| Some(figure? / ceiling.filter(|c| *c > 0.0)?);
        (
            over(step.rows_per_second(self.rows), self.ceilings.rows_per_second),
            over(Some(step.measured.rate()), self.ceilings.requests_per_second),
        )
    }
}
