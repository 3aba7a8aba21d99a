//! `aibuyer.serving.v1.CtrService`: named columns, and tensors that the caller encoded, one call a request or
//! many requests on one stream.

mod log;
mod lookup;
mod predict;
mod stream;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_loader::serving_map::Serving;
use aibuyer_proto::serving::v1::{self as pb, ctr_service_server::CtrService};
use tonic::{Request, Response, Status, Streaming};

use super::streams::{Answers, Order, Streams};
use crate::{features::Views, layers::deadline::deadline, prediction_log::PredictionLog};

/// Predicts click-through rates.
#[derive(Clone)]
pub(crate) struct Ctr {
    pub(crate) serving: Serving,
    pub(crate) streams: Streams,
    pub(crate) views: Arc<Views>,
    pub(crate) max_candidates: usize,
    pub(crate) default_deadline: Duration,
    /// Where predictions are logged, if they are.
    pub(crate) log: Option<PredictionLog>,
}

/// A request's clock.
#[derive(Clone, Copy)]
struct Clock {
    started: Instant,
    deadline: Instant,
}

impl Ctr {
    /// The call's clock; an error if its time is over.
    fn clock<T>(&self, request: &Request<T>) -> Result<Clock, Status> {
        let started = Instant::now();
        Ok(Clock { started, deadline: deadline(request, started, self.default_deadline)? })
    }
}

#[tonic::async_trait]
impl CtrService for Ctr {
    async fn predict_ctr(
        &self,
        request: Request<pb::PredictCtrRequest>,
    ) -> Result<Response<pb::PredictCtrResponse>, Status> {
        let clock = self.clock(&request)?;
        self.named(request.into_inner(), clock).await.map(Response::new)
    }

    async fn predict_ctr_encoded(
        &self,
        request: Request<pb::PredictCtrEncodedRequest>,
    ) -> Result<Response<pb::PredictCtrEncodedResponse>, Status> {
        let clock = self.clock(&request)?;
        self.encoded(request.into_inner(), clock).await.map(Response::new)
    }

    type StreamPredictCtrStream = Answers<pb::StreamPredictCtrResponse>;

    async fn stream_predict_ctr(
        &self,
        request: Request<Streaming<pb::StreamPredictCtrRequest>>,
    ) -> Result<Response<Self::StreamPredictCtrStream>, Status> {
        let ctr = Arc::new(self.clone());
        let answer = move |request, started| Arc::clone(&ctr).answer(request, started);
        Ok(self.streams.open(stream::METHOD, Order::AsReady, request.into_inner(), answer))
    }
}
