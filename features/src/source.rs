//! Where requests get a view's rows: a cache, or a mirror.

use std::sync::Arc;

use crate::{
    CachedView, Mirror, SourceStats,
    store::StoreError,
    view::{FeatureRow, FeatureView},
};

/// What is known of an entity. The age of its values is [`FeatureRow::age`].
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// Fetched not long ago.
    Present(Arc<FeatureRow>),
    /// Fetched so long ago that a newer one is being asked for, if the store answers.
    Stale(Arc<FeatureRow>),
    /// The store has no row of it.
    Absent,
}

/// A view's rows in memory.
pub enum FeatureSource {
    /// Those that are asked for, fetched when they are: for views of any size.
    Cached(CachedView),
    /// All of them, fetched again and again: for small views. It never makes a caller wait.
    Mirror(Mirror),
}

impl FeatureSource {
    /// The view.
    #[must_use]
    pub fn view(&self) -> &FeatureView {
        match self {
            Self::Cached(cached) => cached.view(),
            Self::Mirror(mirror) => mirror.view(),
        }
    }

    /// What is known of each key, in the order of the keys.
    ///
    /// # Errors
    /// Each key's own: see [`CachedView::get`] and [`Mirror::get`].
    pub async fn get(&self, keys: &[&str]) -> Vec<Result<Lookup, StoreError>> {
        match self {
            Self::Cached(cached) => cached.get(keys).await,
            Self::Mirror(mirror) => mirror.get(keys),
        }
    }

    /// What it has done and holds. It walks over parts of the cache and does what moka has put off: for metrics, not
    /// for each request.
    #[must_use]
    pub fn stats(&self) -> SourceStats {
        match self {
            Self::Cached(cached) => cached.stats(),
            Self::Mirror(mirror) => mirror.stats(),
        }
    }
}
