//! `aibuyer.serving.v1.AnomalyService`: what is abnormal in a window, on the executor, or on a stream of values, where each
//! request is a few microseconds' work for the thread that read it.

mod detector;
mod stream;

use std::time::{Duration, Instant};

use aibuyer_loader::executor::{Executor, ExecutorError};
use aibuyer_proto::serving::v1::{self as pb, anomaly_service_server::AnomalyService, detect_anomalies_request::Judge};
use tonic::{Request, Response, Status, Streaming};

use super::streams::{Answers, Order, Streams};
use crate::{layers::deadline::deadline, status};

/// Points of one window.
const MAX_POINTS: usize = 200_000;

/// Finds anomalies.
#[derive(Debug, Clone)]
pub(crate) struct Anomalies {
    pub(crate) executor: Executor,
    pub(crate) streams: Streams,
    pub(crate) default_deadline: Duration,
}

#[tonic::async_trait]
impl AnomalyService for Anomalies {
    async fn detect_anomalies(
        &self,
        request: Request<pb::DetectAnomaliesRequest>,
    ) -> Result<Response<pb::DetectAnomaliesResponse>, Status> {
        let deadline = deadline(&request, Instant::now(), self.default_deadline)?;
        let request = request.into_inner();
        let points = request.points.len();
        if points > MAX_POINTS {
            let reason = format!("{points} are more than the {MAX_POINTS} of one window: go on from a state instead");
            return Err(status::invalid_field("points", reason));
        }
        let work = self.executor.run(points, deadline, move || window(&request));
        let done = tokio::time::timeout_at(deadline.into(), work).await;
        done.unwrap_or(Err(ExecutorError::DeadlineExceeded)).map_err(|e| status::from_executor(&e))?.map(Response::new)
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

fn window(request: &pb::DetectAnomaliesRequest) -> Result<pb::DetectAnomaliesResponse, Status> {
    let from = request.judge.as_ref().map(|Judge::Detector(detector)| detector);
    let mut detector = detector::open(from, "detector")?;
    let readings = detector::readings(&mut detector, &request.points, request.alerts_only);
    let alerts = readings.iter().filter(|reading| reading.alert).count();
    Ok(pb::DetectAnomaliesResponse {
        readings,
        alerts: u32::try_from(alerts).unwrap_or(u32::MAX),
        state: request.return_state.then(|| detector::state(&detector)).transpose()?,
    })
}
