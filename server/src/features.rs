//! The feature views, wired to ClickHouse: what requests ask for stored features.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::feature_view::FeatureView;
use aibuyer_features::{
    CachedView, ClickHouseStore, Connection, Lookup,
    store::{FeatureStore, StoreError},
};
use tokio::runtime::Handle;

use crate::config::FeaturesConfig;

/// A request waits no longer than this before its deadline: it wants to be scored, too.
const TO_SCORE: Duration = Duration::from_millis(2);

/// One source for each of [`FeatureView::all`], in its order.
pub(crate) struct Views {
    /// None where no ClickHouse is configured.
    sources: Vec<CachedView>,
    max_wait: Duration,
}

impl Views {
    /// Connects as configured. A ClickHouse that does not answer is no error: it may come.
    ///
    /// # Errors
    /// When a table does not fit its view.
    pub(crate) async fn open(config: &FeaturesConfig, clickhouse: Option<&Connection>) -> Result<Self, String> {
        let FeaturesConfig { cache, query_timeout, max_wait, .. } = *config;
        let Some(clickhouse) = clickhouse else {
            return Ok(Self { sources: Vec::new(), max_wait });
        };
        let store = ClickHouseStore::new(clickhouse, query_timeout);
        let mut sources = Vec::new();
        for view in FeatureView::all() {
            match store.check(&view).await {
                Err(error @ StoreError::Schema { .. }) => return Err(error.to_string()),
                Err(error) => tracing::warn!(%error, "stored features are not to be had yet"),
                Ok(()) => {}
            }
            let store = Arc::new(store.clone()) as Arc<dyn FeatureStore>;
            sources.push(CachedView::new(view, store, cache, Handle::current()));
        }
        Ok(Self { sources, max_wait })
    }

    /// What is known of each key in the view at `index`, within the configured time and the deadline.
    pub(crate) async fn get(&self, index: usize, keys: &[&str], deadline: Instant) -> Vec<Result<Lookup, StoreError>> {
        let Some(source) = self.sources.get(index) else {
            return keys.iter().map(|_| Err(StoreError::Unconfigured)).collect();
        };
        let until = (Instant::now() + self.max_wait).min(deadline.checked_sub(TO_SCORE).unwrap_or(deadline));
        source.get(keys, until.into()).await
    }
}
