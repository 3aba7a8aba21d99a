//! Wires the rooms together and runs them: nothing else.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use aibuyer_features::Connection;
use aibuyer_features::analytics::Analytics as Past;
use aibuyer_loader::{Beginning, Manager, executor::Executor, serving_map::Serving, session::Runtime};
use aibuyer_registry::Watcher;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    admin::{self, Admin},
    clickhouse,
    config::Config,
    features::{self, Views},
    lanes,
    metrics::Metrics,
    prediction_log::{self, PredictionLog},
    promotions::Promotions,
    readiness::Readiness,
    registry::{self, RegistryError},
    reload::Reload,
    services::forecast,
    shards::Shards,
    stack::{self, Parts},
    webhooks,
};

/// The engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address}: {source}; is another server running? Else set {setting}, for example --set {setting}=127.0.0.1:0"
    )]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// The registry cannot be used as configured.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Threads(std::io::Error),
    /// ClickHouse cannot be used as configured.
    #[error("{0}")]
    ClickHouse(String),
    /// The API's own description is broken.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running engine. Dropping it without [`App::stop`] cuts off requests under way.
#[derive(Debug)]
pub struct App {
    /// Address of the gRPC services, with the port that was given.
    pub grpc_address: SocketAddr,
    /// Address of the HTTP pages, with the port that was given.
    pub http_address: SocketAddr,
    serving: Serving,
    readiness: Readiness,
    grace: Duration,
    grpc: Shards,
    http: JoinHandle<()>,
    /// Put by at a drop, so that a stop that is broken off loses none of it.
    log: Option<prediction_log::Running>,
}

impl App {
    /// Starts everything. Models load in the background: see [`App::ready`].
    ///
    /// # Errors
    /// [`StartError`] says which setting to mend.
    pub async fn start(config: &Config, runtime: Arc<dyn Runtime>) -> Result<Self, StartError> {
        // First, so that a wrong folder is told whatever else is wrong.
        let source = opened(config).await?;
        let clickhouse = config.clickhouse.as_ref().map(clickhouse::connection).transpose();
        let clickhouse = clickhouse.map_err(StartError::ClickHouse)?;
        let views = Views::open(&config.features, clickhouse.as_ref()).await.map_err(StartError::ClickHouse)?;
        let views = Arc::new(views);
        let past = clickhouse.as_ref().map(Past::new);
        let (grpc_listener, grpc_address) = listen("server.grpc_listen", config.grpc_listen).await?;
        let (http_listener, http_address) = listen("server.http_listen", config.http_listen).await?;

        let placement = runtime.placement();
        let options = lanes::options(config, placement.device);
        tracing::info!(
            device = %placement, lanes = options.lanes, max_batch_rows = options.limits.max_batch_rows, "models run here"
        );
        let promotions = Arc::new(Promotions::open(&config.storage_path, &config.registry.source));
        let desired = source.first.as_ref().ok().map(|scan| scan.desired.clone());
        let beginning = Beginning { desired, last: promotions.last() };
        let observer = {
            let promotions = Arc::clone(&promotions);
            Box::new(move |transition| promotions.record(&transition))
        };
        let manager =
            Manager::start(source.store, runtime, options, beginning, observer).map_err(StartError::Threads)?;
        let manager = Arc::new(manager);
        let serving = manager.serving().clone();
        let watcher = {
            let manager = Arc::clone(&manager);
            let report = move |desired| manager.desire(desired);
            Watcher::spawn(source.registry, source.first, config.registry.poll_interval, report)
                .map_err(StartError::Threads)?
        };

        let problems = watcher.problems().clone();
        let (log, running) = logging(config, clickhouse.as_ref())?.unzip();
        let metrics = Arc::new(Metrics::new(serving.clone(), problems.clone(), &placement));
        if let Some(log) = log.clone() {
            metrics.add(prediction_log::Collect(log));
        }
        if clickhouse.is_some() {
            metrics.add(features::Collect(Arc::clone(&views)));
        }
        let readiness = Readiness::default();
        let watcher = Arc::new(watcher);
        let reload = Reload { watcher: Arc::clone(&watcher), manager, readiness: readiness.clone() };
        let parts = Parts {
            serving: serving.clone(),
            metrics: Arc::clone(&metrics),
            readiness: readiness.clone(),
            reload,
            promotions: Arc::clone(&promotions),
            forecasts: forecast::cache(config.forecast_cache_bytes),
            executor: Executor::start(config.executor_threads, config.executor_rows).map_err(StartError::Threads)?,
            views: Arc::clone(&views),
            past,
            log: log.clone(),
        };
        let routers = (0..config.grpc_threads).map(|_| stack::build(config, parts.clone()));
        let routers = routers.collect::<Result<_, _>>()?;
        let grpc = Shards::serve(grpc_listener, routers, || readiness.stopped()).map_err(StartError::Threads)?;
        let admin = admin::router(Admin {
            serving: serving.clone(),
            metrics,
            readiness: readiness.clone(),
            problems,
            promotions,
            placement,
            grpc_address,
            log,
            views,
        });
        let admin = match source.webhook {
            Some(webhook) => admin.merge(webhooks::router(webhook, watcher)),
            None => admin,
        };
        let http = tokio::spawn(async move {
            if let Err(error) = axum::serve(http_listener, admin).await {
                tracing::error!(%error, "HTTP server failed");
            }
        });
        let grace = config.shutdown_grace;
        Ok(Self { grpc_address, http_address, serving, readiness, grace, grpc, http, log: running })
    }

    /// Waits until the engine as a whole is ready.
    pub async fn ready(&self) {
        let mut changed = self.serving.subscribe();
        while !self.readiness.look(&self.serving.load()) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Stops: reports not ready, takes no new connections or requests, lets those under way finish for the
    /// configured grace. Returns whether all of them did. What is left of the grace is for the prediction log.
    pub async fn stop(mut self) -> bool {
        self.readiness.stop();
        let deadline = tokio::time::Instant::now() + self.grace;
        let finished = tokio::time::timeout_at(deadline, self.grpc.finished()).await.is_ok();
        if let Some(log) = self.log.take() {
            log.stop(deadline).await;
        }
        finished
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.http.abort();
    }
}

/// Starts the prediction log, if predictions are to be logged.
fn logging(
    config: &Config,
    clickhouse: Option<&Connection>,
) -> Result<Option<(PredictionLog, prediction_log::Running)>, StartError> {
    let (Some(log), Some(clickhouse)) = (&config.prediction_log, clickhouse) else { return Ok(None) };
    tracing::info!(?clickhouse, sample_rate = log.sample_rate, "predictions are logged");
    let folder = config.storage_path.join("prediction-log");
    PredictionLog::start(log, prediction_log::sink(clickhouse), &folder).map(Some).map_err(StartError::Threads)
}

/// Opens the registry on a thread of its own: it blocks.
async fn opened(config: &Config) -> Result<registry::Source, StartError> {
    let config = config.clone();
    let opened = tokio::task::spawn_blocking(move || registry::open(&config)).await;
    Ok(opened.map_err(|error| StartError::Threads(std::io::Error::other(error)))??)
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |source| StartError::Listen { setting, address, source };
    let listener = TcpListener::bind(address).await.map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}
