//! The log as Prometheus sees it: read from its counters and its folder's index when Prometheus asks.

use std::{fmt, sync::atomic::Ordering};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::PredictionLog;
use crate::metrics::counters;

/// Reads a log.
#[derive(Debug)]
pub(crate) struct Collect(pub(crate) PredictionLog);

impl Collector for Collect {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let c = self.0.counters();
        let requests = c.requests.load(Ordering::Relaxed);
        let skipped = c.skipped.load(Ordering::Relaxed);
        let sampled = [("sampled", requests.saturating_sub(skipped)), ("skipped", skipped)];
        let sampled = sampled.map(|(outcome, n)| (vec![("outcome", outcome.to_owned())], n));
        let help = "Requests for click-through rates: sampled for the prediction log, or skipped";
        counters(&mut encoder, "aibuyer_prediction_log_requests", help, sampled.into_iter())?;
        for (name, help, value) in [
            ("offered_rows", "Rows handed to the prediction log", &c.offered),
            ("written_rows", "Rows that ClickHouse has acknowledged", &c.written),
            ("spilled_rows", "Rows that were put by on disk", &c.spilled),
            ("replayed_rows", "Of the written rows those that came from the disk", &c.replayed),
            ("inserts", "Batches that were sent to ClickHouse", &c.inserts),
            ("insert_failures", "Of them those that failed", &c.failures),
        ] {
            let name = format!("aibuyer_prediction_log_{name}");
            one(&mut encoder, &name, help, &ConstCounter::new(value.load(Ordering::Relaxed)))?;
        }
        let dropped = c.dropped().map(|(reason, rows)| (vec![("reason", reason.name().to_owned())], rows));
        let help = "Rows that are not in the prediction log, by reason";
        counters(&mut encoder, "aibuyer_prediction_log_dropped_rows", help, dropped)?;
        let (rows, bytes, aside) = self.0.on_disk();
        for (name, help, value) in [
            ("waiting_rows", "Rows in memory", c.waiting.load(Ordering::Relaxed) as u64),
            ("disk_rows", "Rows on disk that wait for ClickHouse", rows),
            ("disk_bytes", "Bytes on disk that wait for ClickHouse", bytes),
            ("set_aside_bytes", "Bytes on disk that nobody sends: see the log", aside),
            (
                "failing",
                "1 while ClickHouse takes no rows; the status page says why",
                self.0.problem().is_some().into(),
            ),
        ] {
            one(&mut encoder, &format!("aibuyer_prediction_log_{name}"), help, &ConstGauge::new(value))?;
        }
        Ok(())
    }
}

fn one(encoder: &mut DescriptorEncoder, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
