//! The HTTP side: a status page for people, metrics for Prometheus, health for orchestrators.

use std::sync::Arc;

use aibuyer_loader::{device::Placement, serving_map::Serving};
use aibuyer_registry::Problems;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{Html, IntoResponse},
    routing::get,
};

use crate::{
    console, features::Views, metrics::Metrics, prediction_log::PredictionLog, promotions::Promotions,
    readiness::Readiness,
};

/// What the pages show.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) serving: Serving,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Readiness,
    pub(crate) problems: Problems,
    pub(crate) promotions: Arc<Promotions>,
    pub(crate) placement: Placement,
    pub(crate) grpc_address: std::net::SocketAddr,
    pub(crate) log: Option<PredictionLog>,
    pub(crate) views: Arc<Views>,
}

/// The routes.
pub(crate) fn router(admin: Admin) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz/live", get(|| async { "live\n" }))
        .route("/healthz/ready", get(ready))
        .with_state(admin)
}

async fn page(State(admin): State<Admin>) -> Html<String> {
    let map = admin.serving.load_full();
    let ready = admin.readiness.look(&map);
    Html(console::page(&admin, &map, ready, std::time::SystemTime::now()))
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.metrics.render() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text)
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], String::new())
        }
    }
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if admin.readiness.look(&admin.serving.load()) {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", console::summary(&admin.serving.load())))
    }
}
