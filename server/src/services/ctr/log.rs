//! What a prediction leaves in the prediction log.

use std::{sync::Arc, time::SystemTime};

use aibuyer_domain::ctr::{Level, Rejected};
use aibuyer_features::sink::Stages;
use aibuyer_proto::serving::v1 as pb;
use tonic::Status;

use super::predict::Scored;
use crate::{
    prediction_log::{Inputs, LoggedRequest, PredictionLog, ViewAges},
    status,
};

/// Longest id of a request, in bytes.
const LONGEST_ID: usize = 128;

/// A request's id, if it is short enough.
pub(super) fn checked_id(id: String) -> Result<String, Status> {
    if id.len() > LONGEST_ID {
        let reason = format!("has {} bytes, at most {LONGEST_ID} are taken", id.len());
        return Err(status::invalid_field("request_id", reason));
    }
    Ok(id)
}

/// A request that is logged: what it takes from the request before that is gone.
pub(super) struct Note<'a> {
    log: &'a PredictionLog,
    inputs: Inputs,
    stored: Vec<ViewAges>,
    /// The candidates that have no prediction because of their features.
    rejected: Vec<usize>,
}

impl<'a> Note<'a> {
    pub(super) fn new(log: &'a PredictionLog, inputs: Inputs, stored: Vec<ViewAges>, rejected: &[Rejected]) -> Self {
        Self { log, inputs, stored, rejected: rejected.iter().map(|r| r.candidate).collect() }
    }
}

/// Hands in what was predicted, if it is logged; gives the id that the reply says.
pub(super) fn offer(
    note: Option<Note>,
    given: String,
    scored: Scored,
    level: Level,
    timings: &pb::StageTimings,
) -> String {
    let Some(Note { log, inputs, stored, rejected }) = note else { return given };
    let request_id = log.request_id(given);
    let Scored { servable, scores, .. } = scored;
    let micros = |nanos: u64| u32::try_from(nanos / 1000).unwrap_or(u32::MAX);
    log.offer(LoggedRequest {
        model: servable.id.clone(),
        spec: Arc::clone(&servable.spec),
        request_id: request_id.clone(),
        at: SystemTime::now(),
        level,
        outputs: scores.outputs,
        rejected,
        inputs,
        stored,
        stages: Stages {
            encode_us: micros(timings.encode_ns),
            features_us: micros(timings.features_ns),
            queue_us: micros(timings.queue_ns),
            compute_us: micros(timings.compute_ns),
            total_us: micros(timings.total_ns),
        },
        batch_rows: timings.batch_rows,
    });
    request_id
}
