//! Where requests get a view's rows: a cache, or a mirror.

use tokio::time::Instant;

use crate::{
    CachedView, Mirror, SourceStats,
    store::StoreError,
    view::{FeatureRow, FeatureView},
};

/// What is known of an entity: its row, borrowed or not. The age of its values is [`FeatureRow::age`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lookup<R = FeatureRow> {
    /// Fetched not long ago.
    Present(R),
    /// Fetched so long ago that a newer one is being asked for, if the store answers.
    Stale(R),
    /// The store has no row of it.
    Absent,
}

/// What a caller is given of each key, as long as it looks: a row that is read where it lies costs no count of references,
/// and the processor fetches several at once from memory.
pub type Answer<'a> = Result<Lookup<&'a FeatureRow>, &'a StoreError>;

impl<R> Lookup<R> {
    /// Borrows the row.
    pub fn as_ref(&self) -> Lookup<&R> {
        match self {
            Self::Present(row) => Lookup::Present(row),
            Self::Stale(row) => Lookup::Stale(row),
            Self::Absent => Lookup::Absent,
        }
    }
}

impl<R: Clone> Lookup<&R> {
    /// Takes the row along.
    pub fn cloned(self) -> Lookup<R> {
        match self {
            Self::Present(row) => Lookup::Present(row.clone()),
            Self::Stale(row) => Lookup::Stale(row.clone()),
            Self::Absent => Lookup::Absent,
        }
    }
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

    /// What `take` makes of what is known of each key, in the order of the keys; waits no longer than `until` for what is
    /// not in memory.
    ///
    /// # Errors
    /// Each key's own: see [`CachedView::read`] and [`Mirror::read`].
    pub async fn read<T>(&self, keys: &[&str], until: Instant, take: impl FnOnce(&[Answer<'_>]) -> T) -> T {
        match self {
            Self::Cached(cached) => cached.read(keys, until, take).await,
            Self::Mirror(mirror) => mirror.read(keys, take),
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
