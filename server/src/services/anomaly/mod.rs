//! `aibuyer.serving.v1.AnomalyService`: what is abnormal in a window, by a detector or a
//! forecaster, on the executor; or on a stream of values, where each request is a few microseconds' work for the thread that read it.

mod by_model;
mod detector;
mod stream;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_loader::{
    Servable,
    executor::{Executor, ExecutorError},
    requests::Attempt,
    serving_map::Serving,
};
use aibuyer_proto::serving::v1::{self as pb, anomaly_service_server::AnomalyService, detect_anomalies_request::Judge};
use tonic::{Request, Response, Status, Streaming};

use super::{
    selector::{self, Forecaster},
    streams::{Answers, Order, Streams},
};
use crate::{layers::deadline::deadline, status};

/// Points of one window.
const MAX_POINTS: usize = 200_000;

/// Finds anomalies.
#[derive(Debug, Clone)]
pub(crate) struct Anomalies {
    pub(crate) serving: Serving,
    pub(crate) executor: Executor,
    pub(crate) streams: Streams,
    pub(crate) default_deadline: Duration,
}

impl Anomalies {
    /// Does it on the executor's threads.
    async fn execute<T: Send + 'static>(
        &self,
        points: usize,
        deadline: Instant,
        work: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let done = tokio::time::timeout_at(deadline.into(), self.executor.run(points, deadline, work)).await;
        done.unwrap_or(Err(ExecutorError::DeadlineExceeded)).map_err(|e| status::from_executor(&e))?
    }
}

#[tonic::async_trait]
impl AnomalyService for Anomalies {
    async fn detect_anomalies(
        &self,
        request: Request<pb::DetectAnomaliesRequest>,
    ) -> Result<Response<pb::DetectAnomaliesResponse>, Status> {
        let started = Instant::now();
        let deadline = deadline(&request, started, self.default_deadline)?;
        let mut request = request.into_inner();
        let points = request.points.len();
        if points > MAX_POINTS {
            let reason = format!("{points} are more than the {MAX_POINTS} of one window: go on from a state instead");
            return Err(status::invalid_field("points", reason));
        }
        let answer = match request.judge.take() {
            Some(Judge::ByModel(judge)) => {
                let Forecaster::Prophet(servable) = selector::forecaster(&self.serving, judge.model.as_ref())? else {
                    let reason = "gives a few quantiles, not the law that a p-value needs: name a Prophet model";
                    return Err(status::invalid_field("by_model.model", reason));
                };
                let attempt = Attempt::new(Servable::Forecast(Arc::clone(&servable)), started);
                let question = by_model::Question::read(judge, request)?;
                let asked = Instant::now();
                let answer = self.execute(points, deadline, move || question.answer(&servable)).await?;
                attempt.answered([asked - started, Duration::ZERO, asked.elapsed(), Duration::ZERO]);
                answer
            }
            Some(Judge::Detector(from)) => {
                self.execute(points, deadline, move || window(Some(&from), &request)).await?
            }
            None => self.execute(points, deadline, move || window(None, &request)).await?,
        };
        Ok(Response::new(answer))
    }

    type StreamAnomaliesStream = Answers<pb::StreamAnomaliesResponse>;

    async fn stream_anomalies(
        &self,
        request: Request<Streaming<pb::StreamAnomaliesRequest>>,
    ) -> Result<Response<Self::StreamAnomaliesStream>, Status> {
        let series = stream::Series::default();
        // Done before the next request is read, so that each series sees its values in order.
        let answer = move |request, _| std::future::ready(series.answer(request));
        Ok(self.streams.open(stream::METHOD, Order::AsAsked, request.into_inner(), answer))
    }
}

fn window(
    from: Option<&pb::StreamingDetector>,
    request: &pb::DetectAnomaliesRequest,
) -> Result<pb::DetectAnomaliesResponse, Status> {
    let mut detector = detector::open(from, "detector")?;
    let readings = detector::readings(&mut detector, &request.points, request.alerts_only);
    let alerts = readings.iter().filter(|reading| reading.alert).count();
    Ok(pb::DetectAnomaliesResponse {
        readings,
        alerts: u32::try_from(alerts).unwrap_or(u32::MAX),
        state: request.return_state.then(|| detector::state(&detector)).transpose()?,
        ..Default::default()
    })
}
