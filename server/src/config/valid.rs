//! Settings that make sense, in the types that the engine uses.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use aibuyer_loader::{device::CudaRun, onnx::DeviceOptions};
use toml::Value;

use super::{ConfigError, Raw};

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
    /// Folder of models.
    pub registry_path: PathBuf,
    /// How often it is looked at.
    pub poll_interval: Duration,
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
        Ok(Self {
            grpc_threads: if grpc_threads == 0 { cores } else { grpc_threads },
            grpc_listen: r.address("server.grpc_listen")?,
            http_listen: r.address("server.http_listen")?,
            shutdown_grace: r.duration("server.shutdown_grace", Duration::ZERO)?,
            registry_path: r.text("registry.path")?.into(),
            poll_interval: r.duration("registry.poll_interval", Duration::from_millis(100))?,
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
            max_candidates: {
                let most = r.integer("limits.max_candidates", 1, usize::MAX)?;
                if most > queue_rows {
                    let needs = format!("needs at most batching.queue_rows, which is {queue_rows}");
                    return Err(r.fail("limits.max_candidates", &needs));
                }
                most
            },
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

struct Reader<'a> {
    raw: &'a Raw,
}

impl Reader<'_> {
    fn value(&self, key: &str) -> Result<&Value, ConfigError> {
        // Only a key that is missing from the table of settings has no value: a bug, but not worth a panic.
        self.raw.get(key).map(|(value, _)| value).ok_or_else(|| self.fail(key, "has no default"))
    }

    fn fail(&self, key: &str, needs: &str) -> ConfigError {
        let (value, origin) = match self.raw.get(key) {
            Some((value, origin)) => (value.to_string(), origin.to_string()),
            None => (String::new(), String::new()),
        };
        ConfigError::Value { key: key.to_owned(), value, origin, needs: needs.to_owned() }
    }

    fn text(&self, key: &str) -> Result<String, ConfigError> {
        match self.value(key)? {
            Value::String(text) => Ok(text.clone()),
            _ => Err(self.fail(key, "needs a string")),
        }
    }

    fn one_of(&self, key: &str, choices: &[&str]) -> Result<String, ConfigError> {
        let text = self.text(key)?;
        if choices.contains(&text.as_str()) {
            Ok(text)
        } else {
            Err(self.fail(key, &format!("needs one of {}", choices.join(", "))))
        }
    }

    fn integer(&self, key: &str, least: usize, most: usize) -> Result<usize, ConfigError> {
        let number = match self.value(key)? {
            Value::Integer(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        number.filter(|n| (least..=most).contains(n)).ok_or_else(|| {
            let upto = if most == usize::MAX { "up".to_owned() } else { format!("to {most}") };
            self.fail(key, &format!("needs a whole number from {least} {upto}"))
        })
    }

    fn duration(&self, key: &str, least: Duration) -> Result<Duration, ConfigError> {
        let needs = "needs a duration such as \"250ms\", \"10s\" or \"5m\"";
        let duration = match self.value(key)? {
            Value::String(text) => humantime::parse_duration(text).map_err(|_| self.fail(key, needs))?,
            _ => return Err(self.fail(key, needs)),
        };
        if duration < least {
            return Err(self.fail(key, &format!("needs at least {}", humantime::format_duration(least))));
        }
        Ok(duration)
    }

    fn address(&self, key: &str) -> Result<SocketAddr, ConfigError> {
        let parsed = self.text(key)?.parse();
        parsed.map_err(|_| self.fail(key, "needs an IP address and port such as \"127.0.0.1:8500\" or \"[::]:8500\""))
    }
}
