//! A closed loop of callers against a process of its own.

use std::{thread, time::Duration};

use aibuyer_loadtest::{
    client::{ConnectError, Target},
    load::Load,
    requests::Pool,
    tally::Shared,
};
use tokio::runtime::Runtime;

use crate::{process::Process, requests::Scenario};

/// At most; more callers share them.
const CONNECTIONS: usize = 16;

/// What a round measured. Times in microseconds.
pub(crate) struct Round {
    pub(crate) rate: f64,
    pub(crate) median: f64,
    pub(crate) tail: f64,
    pub(crate) cpu_per_request: f64,
}

fn load(tokio: &Runtime, process: &Process, scenario: Scenario, pool: Pool) -> Result<Load, ConnectError> {
    let target = Target { address: process.address.clone(), path: pool.method.clone(), deadline: None };
    tokio.block_on(Load::open(&target, scenario.callers.min(CONNECTIONS), pool, Some(process.id())))
}

/// Waits until the scenario's model answers.
pub(crate) fn until_served(tokio: &Runtime, process: &Process, scenario: Scenario, pool: &Pool) {
    let answers = || {
        let one = Scenario { callers: 1, ..scenario };
        let Ok(load) = load(tokio, process, one, pool.clone()) else { return false };
        let measured = tokio.block_on(load.run_closed(1, Duration::from_millis(1), &Shared::default()));
        measured.tally.error_ratio() == 0.0
    };
    while !answers() {
        thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the scenario for `length`.
pub(crate) fn round(tokio: &Runtime, process: &Process, scenario: Scenario, pool: &Pool, length: Duration) -> Round {
    let load = load(tokio, process, scenario, pool.clone()).unwrap_or_else(|e| panic!("{e}"));
    let measured = tokio.block_on(load.run_closed(scenario.callers, length, &Shared::default()));
    assert!(measured.tally.errors.is_empty(), "{:?}", measured.tally.errors);
    let micros = |percent| measured.tally.latency.percentile(percent).as_secs_f64() * 1e6;
    Round {
        rate: measured.rate(),
        median: micros(50.0),
        tail: micros(99.0),
        cpu_per_request: measured.micros_per_call(measured.server).unwrap_or(f64::NAN),
    }
}
