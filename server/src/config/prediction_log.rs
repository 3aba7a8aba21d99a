//! What of the predictions is logged, and how much of the log may wait.

use super::{ClickHouseConfig, ConfigError, reader::Reader};

/// The prediction log.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionLogConfig {
    /// Share of the requests that are logged, above 0 and up to 1.
    pub sample_rate: f64,
    /// Rows that may wait in memory.
    pub buffer_rows: usize,
    /// Bytes that may wait on disk.
    pub spill_bytes: u64,
    /// Whether features are logged.
    pub payload: bool,
}

impl PredictionLogConfig {
    /// `None` where nothing is logged; all settings are checked even so.
    pub(super) fn new(
        r: &Reader,
        clickhouse: Option<&ClickHouseConfig>,
        max_candidates: usize,
    ) -> Result<Option<Self>, ConfigError> {
        let sample_rate = r.number("prediction_log.sample_rate")?;
        if sample_rate > 1.0 {
            return Err(r.fail("prediction_log.sample_rate", "needs a number from 0 to 1"));
        }
        if sample_rate > 0.0 && clickhouse.is_none() {
            return Err(r.fail("prediction_log.sample_rate", "needs clickhouse.url: where is the log to be written?"));
        }
        let buffer_rows = r.integer("prediction_log.buffer_rows", 1, 100_000_000)?;
        if buffer_rows < max_candidates {
            let needs = format!("needs at least limits.max_candidates, which is {max_candidates}");
            return Err(r.fail("prediction_log.buffer_rows", &needs));
        }
        let spill_bytes = r.integer("prediction_log.spill_bytes", 0, usize::MAX)? as u64;
        let payload = r.flag("prediction_log.payload")?;
        Ok((sample_rate > 0.0).then_some(Self { sample_rate, buffer_rows, spill_bytes, payload }))
    }
}
