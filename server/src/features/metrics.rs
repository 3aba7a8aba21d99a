//! The feature views as Prometheus sees them: read from their sources when Prometheus asks.

use std::{fmt, sync::Arc};

use aibuyer_features::SourceStats;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::Views;
use crate::metrics::{counters, gauges};

/// Reads the views.
pub(crate) struct Collect(pub(crate) Arc<Views>);

impl fmt::Debug for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collect")
    }
}

impl Collector for Collect {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let stats: Vec<(&str, SourceStats)> =
            self.0.sources.iter().map(|source| (source.rows.view().name, source.rows.stats())).collect();
        let label = |view: &str| vec![("view", view.to_owned())];
        let lookups = stats.iter().flat_map(|(view, s)| {
            [("present", s.present), ("stale", s.stale), ("absent", s.absent), ("failed", s.failed)]
                .map(|(outcome, n)| ([label(view), vec![("outcome", outcome.to_owned())]].concat(), n))
        });
        let help =
            "Entities looked up in a feature view: present, stale (a newer row is due), absent (it has no row), failed";
        counters(&mut encoder, "aibuyer_feature_lookups", help, lookups)?;
        let of = |read: fn(&SourceStats) -> u64| stats.iter().map(move |(view, s)| (label(view), read(s)));
        counters(&mut encoder, "aibuyer_feature_queries", "Queries of a feature view", of(|s| s.queries))?;
        let help = "Queries of a feature view that brought nothing";
        counters(&mut encoder, "aibuyer_feature_query_failures", help, of(|s| s.failed_queries))?;
        let help = "Keys of a cached view that queries answered; rows of a mirrored one that they brought";
        counters(&mut encoder, "aibuyer_feature_fetched", help, of(|s| s.fetched))?;
        gauges(&mut encoder, "aibuyer_feature_rows", "Rows of a feature view in memory", of(|s| s.entries))?;
        gauges(&mut encoder, "aibuyer_feature_bytes", "Bytes that these take, about", of(|s| s.bytes))?;
        let ages = stats.iter().filter_map(|(view, s)| Some((label(view), s.refreshed?.as_secs())));
        let help = "Seconds since a mirrored view's rows were asked for";
        gauges(&mut encoder, "aibuyer_feature_mirror_age_seconds", help, ages)
    }
}
