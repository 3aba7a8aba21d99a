//! The two forms of a prediction: named columns, and tensors that the caller encoded. Both become rows, and from
//! there on are one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::ctr::{EncodeError, Encoded, Level, Rejected, SplitTensor, Violation};
use aibuyer_loader::{CtrScores, CtrServable, Servable, batch::queue::Priority, requests::Attempt};
use aibuyer_proto::serving::v1 as pb;
use tokio::runtime::Handle;
use tonic::Status;

use super::{
    Clock, Ctr,
    log::{self, Note},
    lookup::{self, LookedUp, Terms},
};
use crate::{
    prediction_log::{Inputs, PredictionLog},
    services::{columns, predictions, selector},
    status,
};

/// Scored rows on their way to a reply.
pub(super) struct Scored {
    pub(super) servable: Arc<CtrServable>,
    clock: Clock,
    features: Duration,
    encode: Duration,
    pub(super) scores: CtrScores,
    scored: Instant,
    rejected: Vec<Rejected>,
}

impl Ctr {
    /// Predicts from named columns.
    pub(super) async fn named(
        &self,
        mut request: pb::PredictCtrRequest,
        clock: Clock,
    ) -> Result<pb::PredictCtrResponse, Status> {
        let request_id = log::checked_id(std::mem::take(&mut request.request_id))?;
        let log = self.log.as_ref().filter(|log| log.sample());
        let servable = self.servable(request.model.as_ref())?;
        let attempt = Attempt::new(Servable::Ctr(Arc::clone(&servable)), clock.started);
        let (level, priority) = (level(request.interval_level, &servable)?, priority(request.priority)?);
        let count = request.candidate_count.map(|count| count as usize);
        let count = count.or_else(|| request.candidates.first().map(columns::rows)).unwrap_or(0);
        if count == 0 {
            // A column without values says more than that there are no candidates.
            columns::borrow("candidates", &request.candidates).map_err(|e| status::invalid(&e))?;
        }
        let candidates = self.candidates(count)?;
        let include_timings = request.include_timings;
        let payload = log.map(PredictionLog::payload);
        let before = Instant::now();
        let (request, looked_up) = self.look_up(&servable, request, candidates, clock).await?;
        let features = before.elapsed();
        let encoded = {
            let servable = Arc::clone(&servable);
            aside(candidates, move || {
                let mut context = columns::borrow("context", &request.context)?;
                let mut columns = columns::borrow("candidates", &request.candidates)?;
                looked_up.extend(&mut context, &mut columns);
                let encoded = servable.encoder.encode(&context, &columns, candidates)?;
                let mut inputs =
                    payload.map_or_else(Inputs::default, |all| Inputs::new(request.context, request.candidates, all));
                if payload == Some(true) {
                    looked_up.log(&mut inputs);
                }
                Ok((encoded, looked_up, inputs))
            })
        };
        let (mut encoded, looked_up, inputs) = encoded.await.map_err(|e: EncodeError| status::invalid(&e))?;
        looked_up.explain(&mut encoded)?;
        let note = log.map(|log| Note::new(log, inputs, looked_up.ages(), &encoded.rejected));
        let reports = looked_up.reports();
        let mut scored = self.score(servable, clock, features, priority, encoded).await?;
        let (scored, (predictions, not_finite)) = aside(candidates, move || {
            let rejected = std::mem::take(&mut scored.rejected);
            let predictions = predictions::by_candidate(candidates, rejected, &scored.scores, level);
            (scored, predictions)
        })
        .await;
        let (model, interval_level, timings) = self.finish(&scored, attempt, level, not_finite);
        let request_id = log::offer(note, request_id, scored, level, &timings);
        Ok(pb::PredictCtrResponse {
            model: Some(model),
            interval_level,
            predictions,
            timings: include_timings.then_some(timings),
            request_id,
            features: reports,
        })
    }

    /// What the model has in feature views and the request does not carry.
    async fn look_up(
        &self,
        servable: &Arc<CtrServable>,
        request: pb::PredictCtrRequest,
        candidates: usize,
        clock: Clock,
    ) -> Result<(pb::PredictCtrRequest, LookedUp), Status> {
        if servable.stored.entities.is_empty() {
            return Ok((request, LookedUp::default()));
        }
        let (views, servable) = (Arc::clone(&self.views), Arc::clone(servable));
        let looking = async move {
            let borrow = |group, columns| columns::borrow(group, columns).map_err(|e| status::invalid(&e));
            let (context, columns) = (borrow("context", &request.context)?, borrow("candidates", &request.candidates)?);
            let max_age = request.max_feature_age_ms.map(|age| Duration::from_millis(age.into()));
            let terms = Terms { max_age, deadline: clock.deadline };
            let found = lookup::look_up(&views, &servable.stored, &context, &columns, candidates, terms).await?;
            Ok((request, found))
        };
        if candidates < MUCH {
            return looking.await;
        }
        let here = Handle::current();
        aside(candidates, move || here.block_on(looking)).await
    }

    /// Predicts from tensors.
    pub(super) async fn encoded(
        &self,
        request: pb::PredictCtrEncodedRequest,
        clock: Clock,
    ) -> Result<pb::PredictCtrEncodedResponse, Status> {
        let request_id = log::checked_id(request.request_id)?;
        let log = self.log.as_ref().filter(|log| log.sample());
        let servable = self.servable(request.model.as_ref())?;
        let attempt = Attempt::new(Servable::Ctr(Arc::clone(&servable)), clock.started);
        pinned(request.model.as_ref(), &servable)?;
        let (level, priority) = (level(request.interval_level, &servable)?, priority(request.priority)?);
        if request.candidate_count == 0 {
            return Err(status::invalid_field("candidate_count", "is required: the number of candidates"));
        }
        let candidates = self.candidates(request.candidate_count as usize)?;
        let include_timings = request.include_timings;
        let encoded = {
            let servable = Arc::clone(&servable);
            aside(candidates, move || {
                let ids = SplitTensor {
                    context_columns: &request.context_slots,
                    context: &request.context_ids,
                    candidates: &request.candidate_ids,
                };
                let dense = SplitTensor {
                    context_columns: &request.context_columns,
                    context: &request.context_dense,
                    candidates: &request.candidate_dense,
                };
                servable.assembler.assemble(ids, dense, candidates)
            })
        };
        let encoded = encoded.await.map_err(|e| status::invalid(&e))?;
        let note = log.map(|log| Note::new(log, Inputs::default(), Vec::new(), &encoded.rejected));
        let mut scored = self.score(servable, clock, Duration::ZERO, priority, encoded).await?;
        let (scored, mut reply) = aside(candidates, move || {
            let rejected = std::mem::take(&mut scored.rejected);
            let reply = predictions::by_column(candidates, rejected, &scored.scores, level);
            (scored, reply)
        })
        .await;
        let not_finite = predictions::not_finite(&reply);
        let (model, interval_level, timings) = self.finish(&scored, attempt, level, not_finite);
        reply.request_id = log::offer(note, request_id, scored, level, &timings);
        reply.model = Some(model);
        reply.interval_level = interval_level;
        reply.timings = include_timings.then_some(timings);
        Ok(reply)
    }

    /// The servable that the request asks for.
    fn servable(&self, selector: Option<&pb::ModelSelector>) -> Result<Arc<CtrServable>, Status> {
        let service = match selector::resolve(&self.serving, selector)? {
            Servable::Ctr(servable) => return Ok(servable),
            Servable::Plain(_) => "inference.GRPCInferenceService",
            Servable::Forecast(_) | Servable::Window(_) => "aibuyer.serving.v1.ForecastService",
        };
        let name = selector.map_or("", |selector| &selector.name);
        Err(status::invalid_field("model.name", format!("{name:?} is not a CTR model: call {service}")))
    }

    /// How many candidates the request has.
    fn candidates(&self, count: usize) -> Result<usize, Status> {
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

    /// Runs the rows through the model; an error if there is none because every candidate is bad.
    async fn score(
        &self,
        servable: Arc<CtrServable>,
        clock: Clock,
        features: Duration,
        priority: Priority,
        encoded: Encoded,
    ) -> Result<Scored, Status> {
        let Encoded { rows, rejected } = encoded;
        if rows.len == 0 {
            return Err(status::invalid(&EncodeError(rejected.into_iter().map(violation).collect())));
        }
        let now = Instant::now();
        let scores = servable.score(rows, priority, now, clock.deadline).await.map_err(|e| status::from_score(&e))?;
        let encode = (now - clock.started).saturating_sub(features);
        Ok(Scored { servable, clock, features, encode, scores, scored: Instant::now(), rejected })
    }

    /// Measures the call; what every reply says.
    fn finish(
        &self,
        scored: &Scored,
        attempt: Attempt,
        level: Level,
        not_finite: usize,
    ) -> (pb::ServedModel, Option<f64>, pb::StageTimings) {
        let Scored { servable, clock, features, encode, scores, scored, .. } = scored;
        let reply = scored.elapsed();
        attempt.answered([*encode, scores.queue, scores.compute, reply]);
        if not_finite > 0 {
            servable.batcher().count_not_finite(not_finite);
        }
        let model = pb::ServedModel { name: servable.id.name.to_string(), version: servable.id.version.get() };
        let timings = pb::StageTimings {
            features_ns: nanos(*features),
            encode_ns: nanos(*encode),
            queue_ns: nanos(scores.queue),
            compute_ns: nanos(scores.compute),
            reply_ns: nanos(reply),
            total_ns: nanos(clock.started.elapsed()),
            batch_rows: u32::try_from(scores.batch_rows).unwrap_or(u32::MAX),
        };
        (model, scores.outputs.variances.is_some().then(|| level.get()), timings)
    }
}

/// From so many candidates on the work takes longer, about a millisecond, than handing it over.
const MUCH: usize = 1000;

/// Does a request's work, on a thread of its own where it is much: the one that speaks gRPC has other
/// connections to serve.
async fn aside<T: Send + 'static>(candidates: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if candidates < MUCH {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

/// The request's rank.
fn priority(asked: i32) -> Result<Priority, Status> {
    match pb::Priority::try_from(asked) {
        Ok(pb::Priority::Unspecified | pb::Priority::Normal) => Ok(Priority::Normal),
        Ok(pb::Priority::High) => Ok(Priority::High),
        Ok(pb::Priority::Low) => Ok(Priority::Low),
        Err(_) => Err(status::invalid_field("priority", format!("{asked} is not a priority: 1 high, 2 normal, 3 low"))),
    }
}

/// Rows of a vocabulary mean something to one version only, so the caller must have named it.
fn pinned(selector: Option<&pb::ModelSelector>, servable: &CtrServable) -> Result<(), Status> {
    let exact = matches!(selector.and_then(|s| s.pick.as_ref()), Some(pb::model_selector::Pick::Version(_)));
    if exact || !servable.spec.has_vocabulary() {
        return Ok(());
    }
    let reason = "is required: the model has vocabularies, whose rows differ from version to version";
    Err(status::invalid_field("model.version", reason))
}

/// The level of the reply's intervals.
fn level(asked: Option<f64>, servable: &CtrServable) -> Result<Level, Status> {
    match (asked, servable.default_level()) {
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
