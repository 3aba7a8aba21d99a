//! `aibuyer.serving.v1.AnalyticsService`: what has happened, asked of ClickHouse. It adds up, the domain makes figures of
//! the sums, and the thread that speaks gRPC waits.

mod drift;
mod quality;
mod summary;

use std::time::{Duration, Instant};

use aibuyer_domain::ctr::{EncodeError, Violation};
use aibuyer_features::analytics::Analytics as Past;
use aibuyer_loader::serving_map::Serving;
use aibuyer_proto::serving::v1::{self as pb, analytics_service_server::AnalyticsService};
use tonic::{Request, Response, Status};

use crate::{layers::deadline::deadline, status};

/// Tells of campaigns and of models' quality.
#[derive(Clone)]
pub(crate) struct Analytics {
    pub(crate) serving: Serving,
    /// ClickHouse, where it is configured.
    pub(crate) past: Option<Past>,
    pub(crate) default_deadline: Duration,
}

impl Analytics {
    fn past(&self) -> Result<&Past, Status> {
        self.past.as_ref().ok_or_else(status::without_clickhouse)
    }
}

#[tonic::async_trait]
impl AnalyticsService for Analytics {
    async fn campaign_summary(
        &self,
        request: Request<pb::CampaignSummaryRequest>,
    ) -> Result<Response<pb::CampaignSummaryResponse>, Status> {
        let deadline = deadline(&request, Instant::now(), self.default_deadline)?;
        let question = summary::Question::read(request.into_inner())?;
        summary::answer(self.past()?, question, deadline).await.map(Response::new)
    }

    async fn model_quality(
        &self,
        request: Request<pb::ModelQualityRequest>,
    ) -> Result<Response<pb::ModelQualityResponse>, Status> {
        let deadline = deadline(&request, Instant::now(), self.default_deadline)?;
        let question = quality::Question::read(request.into_inner())?;
        self.quality(self.past()?, &question, deadline).await.map(Response::new)
    }
}

/// What is wrong with a request, collected.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Violation { field: field.into(), reason: reason.into() });
    }

    /// A value that may be wrong: the default stands in, since the request fails anyway.
    fn or_default<T: Default>(&mut self, field: &str, value: Result<T, String>) -> T {
        value.unwrap_or_else(|reason| {
            self.add(field, reason);
            T::default()
        })
    }

    fn check(self) -> Result<(), Status> {
        if self.0.is_empty() { Ok(()) } else { Err(status::invalid(&EncodeError(self.0))) }
    }
}
