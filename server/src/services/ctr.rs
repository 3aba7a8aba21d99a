//! `aibuyer.serving.v1.CtrService`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::{
    ctr::{Column, EncodeError, Encoded, Estimate, Level, Rejected, Violation, estimate},
    model::{Pick, Version},
};
use aibuyer_loader::{CtrServable, batch::Scores, serving_map::Serving};
use aibuyer_proto::serving::v1::{self as pb, ctr_service_server::CtrService};
use tonic::{Request, Response, Status};

use super::columns;
use crate::{layers::deadline::Deadline, metrics::Metrics, status};

/// Predicts click-through rates.
#[derive(Debug)]
pub(crate) struct Ctr {
    pub(crate) serving: Serving,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) max_candidates: usize,
    pub(crate) default_deadline: Duration,
}

#[tonic::async_trait]
impl CtrService for Ctr {
    async fn predict_ctr(
        &self,
        request: Request<pb::PredictCtrRequest>,
    ) -> Result<Response<pb::PredictCtrResponse>, Status> {
        let started = Instant::now();
        let deadline = match request.extensions().get::<Deadline>() {
            Some(Deadline(deadline)) => *deadline,
            None => started + self.default_deadline,
        };
        if deadline <= started {
            return Err(status::too_late());
        }
        let request = request.into_inner();
        let servable = self.servable(request.model.as_ref())?;
        let context = columns::borrow("context", &request.context).map_err(|e| status::invalid(&e))?;
        let columns = columns::borrow("candidates", &request.candidates).map_err(|e| status::invalid(&e))?;
        let candidates = self.candidates(request.candidate_count, &columns)?;
        let level = level(&request, &servable)?;
        let encoded = servable.encoder.encode(&context, &columns, candidates);
        let Encoded { rows, rejected } = encoded.map_err(|e| status::invalid(&e))?;
        if rejected.len() == candidates {
            return Err(status::invalid(&EncodeError(rejected.into_iter().map(violation).collect())));
        }
        let encoded = Instant::now();
        let scores = servable.score(rows, encoded, deadline).await.map_err(|e| status::from_score(&e))?;
        let scored = Instant::now();
        let (predictions, not_finite) = predictions(candidates, rejected, &scores, level);
        if not_finite > 0 {
            servable.batcher().count_not_finite(not_finite);
        }
        let (encode, reply) = (encoded - started, scored.elapsed());
        self.metrics.stages(&servable, encode, &scores, reply);
        Ok(Response::new(pb::PredictCtrResponse {
            model: Some(pb::ServedModel { name: servable.id.name.to_string(), version: servable.id.version.get() }),
            interval_level: scores.outputs.variances.is_some().then(|| level.get()),
            predictions,
            timings: request.include_timings.then(|| pb::StageTimings {
                encode_ns: nanos(encode),
                queue_ns: nanos(scores.queue),
                compute_ns: nanos(scores.compute),
                reply_ns: nanos(reply),
                total_ns: nanos(started.elapsed()),
                batch_rows: u32::try_from(scores.batch_rows).unwrap_or(u32::MAX),
            }),
        }))
    }
}

impl Ctr {
    /// The servable that the request asks for.
    fn servable(&self, selector: Option<&pb::ModelSelector>) -> Result<Arc<CtrServable>, Status> {
        let map = self.serving.load();
        let selector = selector.filter(|s| !s.name.is_empty()).ok_or_else(|| {
            let names: Vec<&str> = map.models.keys().map(|n| n.as_str()).collect();
            status::invalid_field("model.name", format!("is required; there are: {}", names.join(", ")))
        })?;
        let pick = match &selector.pick {
            None => Pick::Default,
            Some(pb::model_selector::Pick::Alias(alias)) => {
                Pick::Alias(alias.parse().map_err(|e: aibuyer_domain::model::NameError| {
                    status::invalid_field("model.alias", e.to_string())
                })?)
            }
            Some(pb::model_selector::Pick::Version(number)) => Pick::Version(
                Version::new(*number).ok_or_else(|| status::invalid_field("model.version", "must be 1 or greater"))?,
            ),
        };
        map.resolve(&selector.name, &pick).map_err(|e| status::from_resolve(&e))
    }

    /// How many candidates the request has.
    fn candidates(&self, said: Option<u32>, columns: &[Column]) -> Result<usize, Status> {
        let count = match said {
            Some(count) => count as usize,
            None => columns.first().map_or(0, |column| column.values.rows()),
        };
        if count == 0 {
            let reason =
                "there are no candidates: send candidate columns, or candidate_count if the context says it all";
            return Err(status::invalid_field("candidates", reason));
        }
        if count > self.max_candidates {
            let reason =
                format!("{count} candidates are more than the {} of limits.max_candidates", self.max_candidates);
            return Err(status::invalid_field("candidates", reason));
        }
        Ok(count)
    }
}

/// The level of the reply's intervals.
fn level(request: &pb::PredictCtrRequest, servable: &CtrServable) -> Result<Level, Status> {
    match (request.interval_level, servable.default_level()) {
        (Some(level), _) => Level::new(level),
        (None, Some(level)) => Ok(level),
        // No intervals, so any level will do.
        (None, None) => Level::new(0.9),
    }
    .map_err(|e| status::invalid_field("interval_level", e.to_string()))
}

fn violation(rejected: Rejected) -> Violation {
    Violation { field: format!("candidates[{:?}][{}]", rejected.field, rejected.candidate), reason: rejected.reason }
}

/// One prediction for each candidate: the scored ones in order, with the rejected ones in their places; and
/// how many outputs are not finite.
fn predictions(
    candidates: usize,
    rejected: Vec<Rejected>,
    scores: &Scores,
    level: Level,
) -> (Vec<pb::CtrPrediction>, usize) {
    use pb::candidate_error::Kind;
    let outputs = &scores.outputs;
    let mut rejected = rejected.into_iter().peekable();
    let (mut row, mut not_finite) = (0, 0);
    let mut predictions = Vec::with_capacity(candidates);
    for candidate in 0..candidates {
        if let Some(rejected) = rejected.next_if(|r| r.candidate == candidate) {
            predictions.push(failed(Kind::InvalidFeature, rejected.field, rejected.reason));
            continue;
        }
        let logit = outputs.logits[row];
        let variance = outputs.variances.as_ref().map(|v| v[row]);
        row += 1;
        predictions.push(match estimate(logit, variance, level) {
            Some(Estimate { ctr, bounds }) => pb::CtrPrediction {
                ctr: Some(ctr),
                ctr_lower: bounds.map(|(lower, _)| lower),
                ctr_upper: bounds.map(|(_, upper)| upper),
                error: None,
            },
            None => {
                not_finite += 1;
                let output = if logit.is_finite() { "logit_variance" } else { "logit" };
                let reason = "the model's output is not a finite number: tell the model's owner".to_owned();
                failed(Kind::ModelOutput, output.to_owned(), reason)
            }
        });
    }
    (predictions, not_finite)
}

fn failed(kind: pb::candidate_error::Kind, field: String, reason: String) -> pb::CtrPrediction {
    let error = Some(pb::CandidateError { kind: kind.into(), field, reason });
    pb::CtrPrediction { ctr: None, ctr_lower: None, ctr_upper: None, error }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
