//! What the prediction log costs a request: the handler's part, on the thread that speaks gRPC.

use std::{path::PathBuf, sync::Arc, time::SystemTime};

use aibuyer_domain::{
    ctr::{FeatureSpec, Level},
    model::{ServableId, Version},
};
use aibuyer_features::sink::Stages;
use aibuyer_loader::stages::Outputs;
use aibuyer_proto::serving::v1 as pb;
use aibuyer_server::{
    config::PredictionLogConfig,
    prediction_log::{Inputs, Inserting, LoggedRequest, PredictionLog, Running, Sink},
};
use bytes::Bytes;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Takes everything at once.
struct Nowhere;

impl Sink for Nowhere {
    fn insert(&self, _: Bytes, _: String) -> Inserting {
        Box::pin(async { Ok(()) })
    }
}

fn log(folder: &std::path::Path) -> (PredictionLog, Running) {
    let config = PredictionLogConfig { sample_rate: 1.0, buffer_rows: 100_000_000, spill_bytes: 0, payload: false };
    PredictionLog::start(&config, Arc::new(Nowhere), folder).expect("a thread")
}

fn spec() -> Arc<FeatureSpec> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/ctr-upworthy/1/feature_spec.json");
    Arc::new(FeatureSpec::parse(&std::fs::read(file).expect("the demo model")).expect("its spec"))
}

/// A share that is not logged costs this.
#[divan::bench]
fn sample(bencher: Bencher) {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, _running) = log(folder.path());
    bencher.bench(|| log.sample());
}

/// As the handler does: a request of 32 candidates with their columns, none of which the log keeps.
#[divan::bench]
fn offer_32(bencher: Bencher) {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, _running) = log(folder.path());
    let spec = spec();
    let id = ServableId { name: "ctr-upworthy".parse().expect("a name"), version: Version::new(1).expect("a version") };
    let level = Level::new(0.9).expect("a level");
    let outputs = Outputs { logits: vec![-4.0; 32], variances: Some(vec![0.1; 32]) };
    bencher.with_inputs(|| (outputs.clone(), Inputs::new(Vec::<pb::Column>::new(), Vec::new(), false))).bench_values(
        |(outputs, inputs)| {
            if log.sample() {
                let request_id = log.request_id(String::new());
                log.offer(LoggedRequest {
                    model: id.clone(),
                    spec: Arc::clone(&spec),
                    request_id: black_box(request_id.clone()),
                    at: SystemTime::now(),
                    level,
                    outputs,
                    rejected: Vec::new(),
                    inputs,
                    stored: Vec::new(),
                    stages: Stages::default(),
                    batch_rows: 32,
                });
            }
        },
    );
}
