//! `inference.GRPCInferenceService`: the Open Inference Protocol, version 2, with Triton's extensions, for clients
//! that know tensors.
//!
//! Any ONNX model answers here. A CTR model takes `ids` and `dense` and gives `logit` and `logit_variance`, as its
//! file has them; rates and intervals are `CtrService`'s. A request with one bad value fails as a whole, by itself.

mod infer;
mod model;
mod repository;
mod statistics;
mod tensors;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::model::Pick;
use aibuyer_loader::serving_map::Serving;
use aibuyer_proto::inference::{self as pb, grpc_inference_service_server::GrpcInferenceService};
use tonic::{Request, Response, Status, Streaming};

use super::streams::{Answers, Order, Streams};
use crate::{layers::deadline::deadline, readiness::Readiness, reload::Reload, status};

/// What the server has beyond the protocol, by Triton's names.
const EXTENSIONS: [&str; 3] = ["model_repository", "model_configuration", "statistics"];

/// Speaks the protocol.
#[derive(Debug, Clone)]
pub(crate) struct OpenInference {
    pub(crate) serving: Serving,
    pub(crate) readiness: Readiness,
    pub(crate) streams: Streams,
    pub(crate) reload: Reload,
    pub(crate) max_rows: usize,
    pub(crate) default_deadline: Duration,
}

/// A version number or an alias; empty is the default.
fn pick(version: &str) -> Result<Pick, Status> {
    if version.is_empty() {
        return Ok(Pick::Default);
    }
    match (version.parse(), version.parse()) {
        (Ok(number), _) => Ok(Pick::Version(number)),
        (_, Ok(alias)) => Ok(Pick::Alias(alias)),
        (_, Err(error)) => Err(status::invalid_field("model_version", error.to_string())),
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for OpenInference {
    async fn server_live(&self, _: Request<pb::ServerLiveRequest>) -> Result<Response<pb::ServerLiveResponse>, Status> {
        Ok(Response::new(pb::ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<pb::ServerReadyRequest>,
    ) -> Result<Response<pb::ServerReadyResponse>, Status> {
        let ready = self.readiness.look(&self.serving.load());
        Ok(Response::new(pb::ServerReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<pb::ServerMetadataRequest>,
    ) -> Result<Response<pb::ServerMetadataResponse>, Status> {
        Ok(Response::new(pb::ServerMetadataResponse {
            name: "aibuyer".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_ready(
        &self,
        request: Request<pb::ModelReadyRequest>,
    ) -> Result<Response<pb::ModelReadyResponse>, Status> {
        let pb::ModelReadyRequest { name, version } = request.into_inner();
        let ready = self.serving.load().resolve(&name, &pick(&version)?).is_ok();
        Ok(Response::new(pb::ModelReadyResponse { ready }))
    }

    async fn model_metadata(
        &self,
        request: Request<pb::ModelMetadataRequest>,
    ) -> Result<Response<pb::ModelMetadataResponse>, Status> {
        let pb::ModelMetadataRequest { name, version } = request.into_inner();
        self.metadata(name, &version).map(Response::new)
    }

    async fn model_config(
        &self,
        request: Request<pb::ModelConfigRequest>,
    ) -> Result<Response<pb::ModelConfigResponse>, Status> {
        let pb::ModelConfigRequest { name, version } = request.into_inner();
        let config = Some(self.config(name, &version)?);
        Ok(Response::new(pb::ModelConfigResponse { config }))
    }

    async fn model_infer(
        &self,
        request: Request<pb::ModelInferRequest>,
    ) -> Result<Response<pb::ModelInferResponse>, Status> {
        let started = Instant::now();
        let deadline = deadline(&request, started, self.default_deadline)?;
        self.infer(request.into_inner(), started, deadline).await.map(Response::new)
    }

    type ModelStreamInferStream = Answers<pb::ModelStreamInferResponse>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<pb::ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let service = Arc::new(self.clone());
        let answer = move |request, started| Arc::clone(&service).answer(request, started);
        Ok(self.streams.open(infer::STREAM_METHOD, Order::AsAsked, request.into_inner(), answer))
    }

    async fn model_statistics(
        &self,
        request: Request<pb::ModelStatisticsRequest>,
    ) -> Result<Response<pb::ModelStatisticsResponse>, Status> {
        let pb::ModelStatisticsRequest { name, version } = request.into_inner();
        let model_stats = self.statistics(&name, &version)?;
        Ok(Response::new(pb::ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<pb::RepositoryIndexRequest>,
    ) -> Result<Response<pb::RepositoryIndexResponse>, Status> {
        let pb::RepositoryIndexRequest { repository_name, ready } = request.into_inner();
        repository::the_only(&repository_name)?;
        Ok(Response::new(repository::index(&self.serving.load(), ready)))
    }

    async fn repository_model_load(
        &self,
        request: Request<pb::RepositoryModelLoadRequest>,
    ) -> Result<Response<pb::RepositoryModelLoadResponse>, Status> {
        let pb::RepositoryModelLoadRequest { repository_name, model_name, parameters } = request.into_inner();
        repository::the_only(&repository_name)?;
        repository::no_parameters(&parameters)?;
        self.reload.model(&model_name).await.map_err(|e| status::from_reload(&e))?;
        Ok(Response::new(pb::RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        _: Request<pb::RepositoryModelUnloadRequest>,
    ) -> Result<Response<pb::RepositoryModelUnloadResponse>, Status> {
        Err(status::unload_refused())
    }
}
