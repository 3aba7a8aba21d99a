//! `aibuyer.serving.v1.ForecastService`: one series a call, or many on one stream.
//!
//! A Prophet model's forecast is a function of the model's file and the request, so equal ones are computed once: a
//! request that finds an equal one under way waits for its answer, and answers stay in memory for a while. They are
//! computed by the executor, whose threads give way to the click-through rates.
//!
//! An ONNX model's forecast is computed by the version's lanes, in batches with others ([`window`]). It is not kept: each
//! new value of a series is another request, and a row of a batch takes microseconds.

mod answer;
pub(super) mod question;
mod window;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::forecast::FutureError;
use aibuyer_loader::{
    ForecastServable, Servable,
    executor::{Executor, ExecutorError},
    requests::Attempt,
    serving_map::Serving,
};
use aibuyer_proto::serving::v1::{
    self as pb, forecast_batch_response::Result as Outcome, forecast_service_server::ForecastService,
};
use moka::future::Cache;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status, Streaming};

use super::{
    selector::{self, Forecaster},
    streams::{Answer, Answers, Order, Streams},
};
use crate::{
    layers::deadline::{self, deadline},
    status,
};
use question::Question;

/// The stream's method, as metrics name it.
const BATCH: &str = "aibuyer.serving.v1.ForecastService/ForecastBatch";
/// How long an answer that nobody asks for stays in memory.
const IDLE: Duration = Duration::from_secs(600);

/// Why there is no forecast.
#[derive(Debug)]
enum Failure {
    Question(FutureError),
    Executor(ExecutorError),
}

/// Answers that were computed, by model file and request.
pub(crate) type ForecastCache = Cache<[u8; 32], Arc<pb::ForecastResponse>>;

/// A cache of so many bytes.
pub(crate) fn cache(bytes: u64) -> ForecastCache {
    let weigh = |_: &[u8; 32], answer: &Arc<pb::ForecastResponse>| {
        u32::try_from(answer.encoded_len()).unwrap_or(u32::MAX).saturating_add(256)
    };
    Cache::builder().max_capacity(bytes).weigher(weigh).time_to_idle(IDLE).build()
}

/// Forecasts time series.
#[derive(Debug, Clone)]
pub(crate) struct Forecasts {
    serving: Serving,
    streams: Streams,
    executor: Executor,
    default_deadline: Duration,
    cache: ForecastCache,
}

impl Forecasts {
    pub(crate) fn new(
        serving: Serving,
        streams: Streams,
        executor: Executor,
        default_deadline: Duration,
        cache: ForecastCache,
    ) -> Self {
        Self { serving, streams, executor, default_deadline, cache }
    }

    /// The answer to a request that was taken up at `started`.
    async fn answer(
        &self,
        mut request: pb::ForecastRequest,
        started: Instant,
        deadline: Instant,
    ) -> Result<pb::ForecastResponse, Status> {
        let servable = match selector::forecaster(&self.serving, request.model.take().as_ref())? {
            Forecaster::Prophet(servable) => servable,
            Forecaster::Window(servable) => return window::answer(servable, request, started, deadline).await,
        };
        let attempt = Attempt::new(Servable::Forecast(Arc::clone(&servable)), started);
        let key = Sha256::new().chain_update(servable.digest).chain_update(request.encode_to_vec()).finalize().into();
        let question = Arc::new(Question::read(request, &servable.model)?);
        let asked = Instant::now();
        let (answer, cached) = loop {
            let compute = self.compute(&servable, &question, deadline);
            let found = self.cache.entry(key).or_try_insert_with(compute);
            match tokio::time::timeout_at(deadline.into(), found).await {
                Err(_) => return Err(status::too_late()),
                Ok(Ok(entry)) => {
                    let cached = !entry.is_fresh();
                    break (entry.into_value(), cached);
                }
                Ok(Err(failure)) => match &*failure {
                    // The time that was over may have been that of the one who asked first.
                    Failure::Executor(ExecutorError::DeadlineExceeded) if Instant::now() < deadline => {}
                    Failure::Executor(error) => return Err(status::from_executor(error)),
                    Failure::Question(error) => return Err(question::refusal(error)),
                },
            }
        };
        let computed = Instant::now();
        let id = &servable.id;
        let model = Some(pb::ServedModel { name: id.name.to_string(), version: id.version.get() });
        let answer = pb::ForecastResponse { model, cached, ..(*answer).clone() };
        attempt.answered([asked - started, Duration::ZERO, computed - asked, computed.elapsed()]);
        Ok(answer)
    }

    /// Computes an answer on the executor.
    async fn compute(
        &self,
        servable: &Arc<ForecastServable>,
        question: &Arc<Question>,
        deadline: Instant,
    ) -> Result<Arc<pb::ForecastResponse>, Failure> {
        let (model, question) = (Arc::clone(&servable.model), Arc::clone(question));
        let rows = question.frame.times().len();
        let work = move || {
            let forecast = model.forecast(&question.frame, &question.options)?;
            Ok(Arc::new(answer::message(forecast, &question)))
        };
        self.executor.run(rows, deadline, work).await.map_err(Failure::Executor)?.map_err(Failure::Question)
    }

    async fn batch_answer(
        self: Arc<Self>,
        request: pb::ForecastBatchRequest,
        started: Instant,
    ) -> Answer<pb::ForecastBatchResponse> {
        let pb::ForecastBatchRequest { id, request, timeout_micros } = request;
        let timeout = timeout_micros.map(Duration::from_micros);
        let answer = async {
            let deadline = deadline::of_message(timeout, started, self.default_deadline)?;
            let request = request.ok_or_else(|| status::invalid_field("request", "is required"))?;
            self.answer(request, started, deadline).await
        };
        let (result, code) = match answer.await {
            Ok(response) => (Outcome::Response(response), status::OK),
            Err(error) => (Outcome::Error(status::as_message(&error)), status::name_of(&error)),
        };
        Answer { message: pb::ForecastBatchResponse { id, result: Some(result) }, code }
    }
}

#[tonic::async_trait]
impl ForecastService for Forecasts {
    async fn forecast(&self, request: Request<pb::ForecastRequest>) -> Result<Response<pb::ForecastResponse>, Status> {
        let started = Instant::now();
        let deadline = deadline(&request, started, self.default_deadline)?;
        self.answer(request.into_inner(), started, deadline).await.map(Response::new)
    }

    type ForecastBatchStream = Answers<pb::ForecastBatchResponse>;

    async fn forecast_batch(
        &self,
        request: Request<Streaming<pb::ForecastBatchRequest>>,
    ) -> Result<Response<Self::ForecastBatchStream>, Status> {
        let forecasts = Arc::new(self.clone());
        let answer = move |request, started| Arc::clone(&forecasts).batch_answer(request, started);
        Ok(self.streams.open(BATCH, Order::AsReady, request.into_inner(), answer))
    }
}
