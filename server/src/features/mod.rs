//! The feature views, wired to ClickHouse: what requests ask for stored features.
//!
//! Each view has one source, a cache or a mirror, as configured. Waits are bounded here: by the configuration, and by the
//! time that a request's deadline leaves.

mod metrics;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aibuyer_domain::feature_view::FeatureView;
use aibuyer_features::{
    Answer, CachedView, ClickHouseStore, Connection, FeatureSource, Mirror, MirrorOptions,
    store::{FeatureStore, StoreError},
};
use tokio::runtime::Handle;

pub(crate) use self::metrics::Collect;
use crate::config::FeaturesConfig;

/// A request waits no longer than this before its deadline: it wants to be scored, too.
const TO_SCORE: Duration = Duration::from_millis(2);
/// How long the status page shows a failure.
const SHOWN: Duration = Duration::from_secs(60);

/// One source for each of [`FeatureView::all`], in its order.
pub(crate) struct Views {
    /// None where no ClickHouse is configured.
    sources: Vec<Source>,
    max_wait: Duration,
}

struct Source {
    rows: FeatureSource,
    /// The last failure of the store, and when.
    failure: Mutex<Option<(Instant, StoreError)>>,
}

impl Views {
    /// Connects as configured. A ClickHouse that does not answer is no error: it may come.
    ///
    /// # Errors
    /// When a table does not fit its view.
    pub(crate) async fn open(config: &FeaturesConfig, clickhouse: Option<&Connection>) -> Result<Self, String> {
        let max_wait = config.max_wait;
        let Some(clickhouse) = clickhouse else {
            return Ok(Self { sources: Vec::new(), max_wait });
        };
        let store = ClickHouseStore::new(clickhouse, config.query_timeout);
        let mut sources = Vec::new();
        for view in FeatureView::all() {
            match store.check(&view).await {
                Err(error @ StoreError::Schema { .. }) => return Err(error.to_string()),
                Err(error) => tracing::warn!(%error, "stored features are not to be had yet"),
                Ok(()) => {}
            }
            let store = Arc::new(store.clone()) as Arc<dyn FeatureStore>;
            let rows = if config.mirror.iter().any(|name| name == view.name) {
                let capacity = config.cache.capacity;
                let hard_age = config.cache.hard_age.max(3 * config.mirror_interval);
                let options = MirrorOptions { interval: config.mirror_interval, hard_age, capacity };
                FeatureSource::Mirror(Mirror::new(view, store, options, &Handle::current()))
            } else {
                FeatureSource::Cached(CachedView::new(view, store, config.cache, Handle::current()))
            };
            sources.push(Source { rows, failure: Mutex::new(None) });
        }
        Ok(Self { sources, max_wait })
    }

    /// What `take` makes of what is known of each key in the view at `index`, within the configured time and the deadline.
    pub(crate) async fn read<T>(
        &self,
        index: usize,
        keys: &[&str],
        deadline: Instant,
        take: impl FnOnce(&[Answer<'_>]) -> T,
    ) -> T {
        let Some(source) = self.sources.get(index) else {
            return take(&vec![Err(&StoreError::Unconfigured); keys.len()]);
        };
        let until = (Instant::now() + self.max_wait).min(deadline.checked_sub(TO_SCORE).unwrap_or(deadline));
        let take = |answers: &[Answer<'_>]| {
            if let Some(error) = answers.iter().find_map(|answer| answer.err()) {
                *source.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), error.clone()));
            }
            take(answers)
        };
        source.rows.read(keys, until.into(), take).await
    }

    /// A line for each view, and what failed of late.
    pub(crate) fn summary(&self) -> Vec<(String, Option<String>)> {
        let line = |source: &Source| {
            let stats = source.rows.stats();
            let name = source.rows.view().name;
            let kept = match source.rows {
                FeatureSource::Cached(_) => "cached",
                FeatureSource::Mirror(_) => "mirrored",
            };
            let lookups = stats.present + stats.stale + stats.absent + stats.failed;
            let line = format!(
                "{name}: {} rows {kept} ({:.1} MB), {lookups} lookups ({} stale, {} absent, {} failed), {} queries ({} failed)",
                stats.entries,
                megabytes(stats.bytes),
                stats.stale,
                stats.absent,
                stats.failed,
                stats.queries,
                stats.failed_queries,
            );
            let failure = source.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let failure = failure.filter(|(at, _)| at.elapsed() < SHOWN).map(|(_, error)| error.to_string());
            (line, failure)
        };
        self.sources.iter().map(line).collect()
    }
}

#[allow(clippy::cast_precision_loss)] // for people
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
