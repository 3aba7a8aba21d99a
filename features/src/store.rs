//! Where rows of features come from.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{
    CallError,
    view::{EntityKey, FeatureRow, FeatureView},
};

/// Rows by key. A key that was asked for and is not here has no row.
pub type Rows = HashMap<EntityKey, FeatureRow, foldhash::fast::RandomState>;

/// A query under way. Dropping it ends the query.
pub type Fetch<'a> = Pin<Box<dyn Future<Output = Result<Rows, StoreError>> + Send + 'a>>;

/// Answers for many entities at once.
pub trait FeatureStore: Send + Sync + 'static {
    /// The rows of the keys. It ends by itself, with an error where the store does not answer.
    fn fetch<'a>(&'a self, view: &'a FeatureView, keys: &'a [EntityKey]) -> Fetch<'a>;

    /// All rows. It ends by itself, with an error where they do not come `within` the time, and with
    /// [`StoreError::TooLarge`] once they take more than `most` bytes ([`bytes()`]).
    fn fetch_all<'a>(&'a self, view: &'a FeatureView, most: u64, within: Duration) -> Fetch<'a>;
}

/// What a row of its own takes in [`Rows`] beside its key's text and its values, about.
const ROW_BYTES: usize = 128;

/// Bytes that a row takes in [`Rows`], about.
#[must_use]
pub fn bytes(key: &EntityKey, row: &FeatureRow) -> u64 {
    (ROW_BYTES + key.as_str().len() + row.bytes()) as u64
}

/// Rows that cannot be had. Small and cheap to clone: each key that waited gets its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store does not answer, or refuses.
    #[error("feature view {view}, table {table}: {error}")]
    Call {
        /// The view.
        view: &'static str,
        /// Its table.
        table: &'static str,
        /// Why.
        error: Arc<CallError>,
    },
    /// The table does not fit the view.
    #[error("feature view {view}, table {table}: {reason}; run `aibuyer-server migrate`, which names what differs")]
    Schema {
        /// The view.
        view: &'static str,
        /// Its table.
        table: &'static str,
        /// What does not fit.
        reason: Arc<str>,
    },
    /// There are more rows than may be held.
    #[error(
        "feature view {view}, table {table}: its rows take more than the {most} bytes of its mirror; give the mirror more, \
         or use the cache for this view"
    )]
    TooLarge {
        /// The view.
        view: &'static str,
        /// Its table.
        table: &'static str,
        /// Bytes that they may take.
        most: u64,
    },
    /// A mirror whose rows never came, or too long ago.
    #[error("feature view {0}: its rows are being loaded; try again in a moment")]
    Loading(&'static str),
    /// Too many keys wait already.
    #[error("feature view {0}: too many entities are being looked up; try again in a moment")]
    Busy(&'static str),
    /// It did not come while the caller could wait; it will be there for the next one.
    #[error(
        "feature view {0}: the row did not come while the request could wait (features.max_wait, its deadline); try again"
    )]
    Late(&'static str),
    /// There is no store.
    #[error("no ClickHouse is configured: set clickhouse.url")]
    Unconfigured,
    /// The query ended without an outcome.
    #[error("feature view {0}: the lookup was broken off; try again")]
    Broken(&'static str),
}
