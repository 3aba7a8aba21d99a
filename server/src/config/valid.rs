//! Settings that make sense, in the types that the engine uses.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use aibuyer_loader::{
    device::CudaRun,
    gate::{Gate, SignatureRule},
    onnx::DeviceOptions,
};

use super::{ClickHouseConfig, ConfigError, FeaturesConfig, PredictionLogConfig, Raw, RegistryConfig, reader::Reader};

/// The engine's configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Address of the gRPC services.
    pub grpc_listen: SocketAddr,
    /// Address of the status page, metrics and health checks.
    pub http_listen: SocketAddr,
    /// Threads that speak gRPC.
    pub grpc_threads: usize,
    /// How long requests under way may take after a signal to stop.
    pub shutdown_grace: Duration,
    /// Where models come from.
    pub registry: RegistryConfig,
    /// Folder for what outlives a restart.
    pub storage_path: PathBuf,
    /// How long a version that was replaced stays loaded.
    pub keep_warm: Duration,
    /// What a version must fulfil to take over from the one that serves.
    pub gate: Gate,
    /// ONNX Runtime's shared library, if configured.
    pub onnxruntime_library: Option<PathBuf>,
    /// Where models run.
    pub device: DeviceOptions,
    /// Cores of this machine.
    pub cores: usize,
    /// Sessions of each model version; 0: as fits the device.
    pub lanes: usize,
    /// Largest batch, in rows; 0: as fits the device.
    pub max_batch_rows: usize,
    /// Rows that may wait for each model version.
    pub queue_rows: usize,
    /// Longest run on the thread of its caller.
    pub inline_limit: Duration,
    /// Threads for forecasts and budgets.
    pub executor_threads: usize,
    /// Rows of such work that may wait.
    pub executor_rows: usize,
    /// Bytes of forecasts that are kept in memory.
    pub forecast_cache_bytes: u64,
    /// ClickHouse, if configured.
    pub clickhouse: Option<ClickHouseConfig>,
    /// How stored features are kept and waited for.
    pub features: FeaturesConfig,
    /// The prediction log, if predictions are to be logged.
    pub prediction_log: Option<PredictionLogConfig>,
    /// Candidates in one request.
    pub max_candidates: usize,
    /// Size of a request message, in bytes.
    pub max_message_bytes: usize,
    /// Deadline of a request that brings none, and the longest that any may bring.
    pub default_deadline: Duration,
    /// Least severe level that is logged.
    pub log_level: tracing::Level,
    /// Whether the log is JSON.
    pub log_json: bool,
}

impl Config {
    /// Checks every setting. `cores` is what 0 threads mean.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the setting, where it was set, and what it needs.
    pub fn new(raw: &Raw, cores: usize) -> Result<Self, ConfigError> {
        let r = Reader { raw };
        let queue_rows = r.integer("batching.queue_rows", 1, 100_000_000)?;
        let library = r.text("onnxruntime.library")?;
        let grpc_threads = r.integer("server.grpc_threads", 0, 256)?;
        let clickhouse = ClickHouseConfig::new(&r)?;
        let max_candidates = r.integer("limits.max_candidates", 1, usize::MAX)?;
        if max_candidates > queue_rows {
            let needs = format!("needs at most batching.queue_rows, which is {queue_rows}");
            return Err(r.fail("limits.max_candidates", &needs));
        }
        Ok(Self {
            grpc_threads: if grpc_threads == 0 { cores } else { grpc_threads },
            grpc_listen: r.address("server.grpc_listen")?,
            http_listen: r.address("server.http_listen")?,
            shutdown_grace: r.duration("server.shutdown_grace", Duration::ZERO)?,
            registry: RegistryConfig::new(&r)?,
            storage_path: r.text("storage.path")?.into(),
            keep_warm: r.duration("loading.keep_warm", Duration::ZERO)?,
            gate: Gate {
                max_slowdown: r.number("loading.max_slowdown")?,
                signature: match r.one_of("loading.signature", &["compatible", "any"])?.as_str() {
                    "any" => SignatureRule::Any,
                    _ => SignatureRule::Compatible,
                },
            },
            onnxruntime_library: (!library.is_empty()).then(|| library.into()),
            device: DeviceOptions {
                choice: r.text("onnxruntime.device")?.parse().map_err(|e: String| r.fail("onnxruntime.device", &e))?,
                memory: r.integer("onnxruntime.device_memory", 0, usize::MAX)?,
                run: match r.one_of("onnxruntime.cuda_run", &["graphs", "bound", "plain"])?.as_str() {
                    "bound" => CudaRun::Bound,
                    "plain" => CudaRun::Plain,
                    _ => CudaRun::Graphs,
                },
            },
            cores,
            lanes: r.integer("batching.lanes", 0, 256)?,
            max_batch_rows: r.integer("batching.max_batch_rows", 0, 65_536)?,
            queue_rows,
            inline_limit: r.duration("batching.inline_limit", Duration::ZERO)?,
            executor_threads: match r.integer("executor.threads", 0, 256)? {
                0 => cores.div_ceil(2),
                threads => threads,
            },
            executor_rows: r.integer("executor.queue_rows", 1, 1_000_000_000)?,
            forecast_cache_bytes: r.integer("executor.cache_bytes", 0, usize::MAX)? as u64,
            features: FeaturesConfig::new(&r)?,
            prediction_log: PredictionLogConfig::new(&r, clickhouse.as_ref(), max_candidates)?,
            clickhouse,
            max_candidates,
            max_message_bytes: r.integer("limits.max_message_bytes", 1024, 1 << 30)?,
            default_deadline: r.duration("limits.default_deadline", Duration::from_millis(1))?,
            log_level: r
                .one_of("log.level", &["error", "warn", "info", "debug", "trace"])?
                .parse()
                .map_err(|e: tracing::metadata::ParseLevelError| r.fail("log.level", &e.to_string()))?,
            log_json: r.one_of("log.format", &["text", "json"])? == "json",
        })
    }
}
