//! The log before a sink that fails as ClickHouse does, under a clock that the tests move.

mod fake;
mod keeping;
mod property;
mod rows;
mod sending;

use std::{path::Path, sync::Arc, time::SystemTime};

use aibuyer_domain::{
    ctr::{FeatureSpec, Level},
    model::{ServableId, Version},
};
use aibuyer_features::sink::Stages;
use aibuyer_loader::stages::Outputs;

use super::{Inputs, LoggedRequest, PredictionLog, Running};
use crate::config::PredictionLogConfig;

use fake::Fake;

/// Everything is logged and there is room for it.
fn config() -> PredictionLogConfig {
    PredictionLogConfig { sample_rate: 1.0, buffer_rows: 100_000, spill_bytes: 1 << 30, payload: false }
}

/// A log whose worker is a task of the test.
fn start(config: &PredictionLogConfig, sink: &Fake, folder: &Path) -> (PredictionLog, Running) {
    let (log, worker, running) = PredictionLog::new(config, Arc::new(sink.clone()), folder);
    tokio::spawn(worker.run());
    (log, running)
}

/// The demo model's features.
fn spec() -> FeatureSpec {
    FeatureSpec::parse(include_bytes!("../../../../models/ctr-upworthy/1/feature_spec.json")).unwrap()
}

/// A request of some rows, without inputs.
fn request(id: &str, rows: usize) -> LoggedRequest {
    LoggedRequest {
        model: ServableId { name: "m".parse().unwrap(), version: Version::new(1).unwrap() },
        spec: Arc::new(spec()),
        request_id: id.to_owned(),
        at: SystemTime::UNIX_EPOCH,
        level: Level::new(0.9).unwrap(),
        outputs: Outputs { logits: vec![0.0; rows], variances: None },
        rejected: Vec::new(),
        inputs: Inputs::default(),
        stored: Vec::new(),
        stages: Stages::default(),
        batch_rows: 1,
    }
}

/// Offers requests `r<from>` to `r<to - 1>` of one row each.
fn offer(log: &PredictionLog, ids: std::ops::Range<usize>) {
    let one = request("", 1);
    for id in ids {
        log.offer(LoggedRequest { request_id: format!("r{id}"), ..one.clone() });
    }
}

/// The ids of such requests.
fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|id| format!("r{id}")).collect()
}
