//! The feature views, wired to ClickHouse: what requests ask for stored features.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aibuyer_domain::feature_view::FeatureView;
use aibuyer_features::{
    CachedView, ClickHouseStore, Lookup,
    store::{FeatureStore, StoreError},
};
use tokio::runtime::Handle;

use crate::{clickhouse, config::Config};

/// One source for each of [`FeatureView::all`], in its order.
pub(crate) struct Views {
    sources: Vec<FeatureSource>,
    max_wait: Duration,
}

impl Views {
    /// No ClickHouse: whatever is asked for cannot be had.
    pub(crate) fn none() -> Self {
        Self { sources: Vec::new(), max_wait: Duration::ZERO }
    }
}
