//! The gRPC stack: the one ordered list of what a request passes on its way to a service.

use std::sync::Arc;

use aibuyer_features::analytics::Analytics as Past;
use aibuyer_loader::{executor::Executor, serving_map::Serving};
use aibuyer_proto::{
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    serving::v1::{
        analytics_service_server::AnalyticsServiceServer, anomaly_service_server::AnomalyServiceServer,
        budget_service_server::BudgetServiceServer, ctr_service_server::CtrServiceServer,
        forecast_service_server::ForecastServiceServer, model_service_server::ModelServiceServer,
    },
};
use tonic::{
    service::Routes,
    transport::server::{Router, Server},
};
use tonic_health::pb::health_server::HealthServer;
use tower::layer::util::{Identity, Stack};

use crate::{
    config::Config,
    features::Views,
    layers::{deadline::DeadlineLayer, mend::MendLayer, observe::ObserveLayer},
    metrics::Metrics,
    prediction_log::PredictionLog,
    promotions::Promotions,
    readiness::Readiness,
    reload::Reload,
    services::{
        analytics::Analytics,
        anomaly::Anomalies,
        budget::Budget,
        ctr::Ctr,
        forecast::{ForecastCache, Forecasts},
        health::Health,
        models::Models,
        open_inference::OpenInference,
        streams::Streams,
    },
};

/// All layers, innermost first.
pub(crate) type Layers = Stack<DeadlineLayer, Stack<MendLayer, Stack<ObserveLayer, Identity>>>;

/// What the services need of the engine.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) serving: Serving,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Readiness,
    pub(crate) reload: Reload,
    pub(crate) promotions: Arc<Promotions>,
    /// For work that is long on a processor.
    pub(crate) executor: Executor,
    pub(crate) forecasts: ForecastCache,
    /// What analytics are asked of, if it is configured.
    pub(crate) past: Option<Past>,
    pub(crate) views: Arc<Views>,
    pub(crate) log: Option<PredictionLog>,
}

/// The stack, ready to serve.
pub(crate) fn build(config: &Config, parts: Parts) -> Result<Router<Layers>, tonic_reflection::server::Error> {
    let Parts { serving, metrics, readiness, reload, promotions, executor, forecasts, views, past, log } = parts;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(aibuyer_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl can show what error details say.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let streams = Streams {
        metrics: Arc::clone(&metrics),
        readiness: readiness.clone(),
        max_message_bytes: config.max_message_bytes,
    };
    let forecasts =
        Forecasts::new(serving.clone(), streams.clone(), executor.clone(), config.default_deadline, forecasts);
    let forecasts = ForecastServiceServer::new(forecasts).max_decoding_message_size(config.max_message_bytes);
    let models = Models { serving: serving.clone(), promotions, problems: reload.watcher.problems().clone() };
    let open_inference = OpenInference {
        serving: serving.clone(),
        readiness: readiness.clone(),
        streams: streams.clone(),
        reload,
        max_rows: config.max_candidates,
        default_deadline: config.default_deadline,
    };
    let open_inference =
        GrpcInferenceServiceServer::new(open_inference).max_decoding_message_size(config.max_message_bytes);
    let health = Health { serving: serving.clone(), readiness };
    let anomalies = Anomalies {
        serving: serving.clone(),
        executor: executor.clone(),
        streams: streams.clone(),
        default_deadline: config.default_deadline,
    };
    let anomalies = AnomalyServiceServer::new(anomalies).max_decoding_message_size(config.max_message_bytes);
    let analytics = Analytics { serving: serving.clone(), past, default_deadline: config.default_deadline };
    let analytics = AnalyticsServiceServer::new(analytics).max_decoding_message_size(config.max_message_bytes);
    let ctr = Ctr {
        serving,
        streams,
        views,
        max_candidates: config.max_candidates,
        default_deadline: config.default_deadline,
        log,
    };
    let ctr = CtrServiceServer::new(ctr).max_decoding_message_size(config.max_message_bytes);
    let budget = Budget { executor, default_deadline: config.default_deadline };
    let budget = BudgetServiceServer::new(budget).max_decoding_message_size(config.max_message_bytes);
    let routes = Routes::new(ctr)
        .add_service(analytics)
        .add_service(anomalies)
        .add_service(budget)
        .add_service(ModelServiceServer::new(models))
        .add_service(forecasts)
        .add_service(open_inference)
        .add_service(HealthServer::new(health))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(Server::builder()
        // A reply is one small write: never wait for more to fill a packet.
        .tcp_nodelay(true)
        // Tonic lifts hyper's default; without a bound one connection could hold any number of requests.
        .max_concurrent_streams(1024)
        // Callers with tight deadlines give up in numbers while the server is busy. h2's bound of 20, against
        // rapid resets (CVE-2023-44487), would close the connection that they share; as many as may be open at
        // once still bounds what an attacker can pile up.
        .http2_max_pending_accept_reset_streams(Some(1024))
        // A window is what a caller may send in one round trip; 64 KiB, h2's own, are less than one request of 1,000
        // encoded candidates, and less than what 64 callers of 32 send on a shared connection.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        // Finds peers that vanished without a word.
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(std::time::Duration::from_secs(20)))
        // Outermost of ours: sees every call, answered or given up.
        .layer(ObserveLayer { metrics })
        // Inside it, so that the rewritten status is the one that is counted.
        .layer(MendLayer { limit: config.max_message_bytes })
        // Innermost: the clock of the handlers starts here.
        .layer(DeadlineLayer { longest: config.default_deadline })
        .add_routes(routes))
}
