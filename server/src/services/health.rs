//! `grpc.health.v1.Health`, answered from the serving map.
//!
//! Service names: the empty one and `aibuyer.serving.v1.CtrService` for the engine as a whole, and
//! `models/<name>` for each model.

use aibuyer_loader::serving_map::Serving;
use aibuyer_proto::serving::v1::ctr_service_server::SERVICE_NAME as CTR_SERVICE;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server};

use crate::{readiness::Readiness, status};

/// Answers health checks.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) serving: Serving,
    pub(crate) readiness: Readiness,
}

impl Health {
    /// The status of a service; `None` if there is none of that name.
    fn status(&self, service: &str) -> Option<ServingStatus> {
        let map = self.serving.load();
        let ready = match service.strip_prefix("models/") {
            Some(model) => map.model(model)?.ready() && !self.readiness.stopping(),
            None if service.is_empty() || service == CTR_SERVICE => self.readiness.look(&map),
            None => return None,
        };
        Some(if ready { ServingStatus::Serving } else { ServingStatus::NotServing })
    }
}

fn reply(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status(&service) {
            Some(status) => Ok(Response::new(reply(status))),
            None => Err(status::unknown_health_service(&service)),
        }
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    /// Sends the status now and each time it changes. A service that is not there is SERVICE_UNKNOWN and may
    /// come later, as the protocol says. The stream ends when the engine stops, so as not to hold it up.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let service = request.into_inner().service;
        let (news, stream) = mpsc::channel(1);
        let health = self.clone();
        tokio::spawn(async move {
            let mut changed = health.serving.subscribe();
            let mut last = None;
            loop {
                // Marked as seen before the status is read, so that no change is missed.
                changed.borrow_and_update();
                let stopping = health.readiness.stopping();
                let status = health.status(&service).unwrap_or(ServingStatus::ServiceUnknown);
                if last != Some(status) && news.send(Ok(reply(status))).await.is_err() {
                    return;
                }
                last = Some(status);
                if stopping {
                    return;
                }
                tokio::select! {
                    result = changed.changed() => if result.is_err() { return },
                    () = health.readiness.stopped() => {}
                    () = news.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
