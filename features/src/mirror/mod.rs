//! A view's rows, all of them, in memory.
//!
//! One query brings all rows, again each interval, and they are swapped in as a whole: readers wait for nothing and miss
//! nothing. An entity that is not among them has no row. Where a refresh fails, the rows before stay; they are stale
//! once they were asked for two intervals ago, so that a refresh that is late by less changes nothing, and are not served
//! from the hard age on. Tries after a failure come a second later, then two, four and so on, up to the interval.
//!
//! While rows are swapped there are two sets of them: memory must hold twice the capacity.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    runtime::Handle,
    task::{self, AbortHandle},
    time::{self, Instant},
};

use crate::{
    Answer, Lookup, SourceStats,
    counts::Counts,
    store::{FeatureStore, Rows, StoreError, bytes},
    view::FeatureView,
};

/// The first try after a failure comes so much later.
const RETRY: Duration = Duration::from_secs(1);

/// How often all rows are fetched, how long they may be used, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MirrorOptions {
    /// From one query to the next; none may take longer. Rows are stale from two of it on.
    pub interval: Duration,
    /// Rows that were asked for so long ago are not served. More than two intervals.
    pub hard_age: Duration,
    /// Bytes of rows, about, beyond which they are refused.
    pub capacity: u64,
}

/// The rows of one query.
struct Loaded {
    asked: Instant,
    rows: Rows,
    bytes: u64,
}

struct Shared {
    view: FeatureView,
    store: Arc<dyn FeatureStore>,
    options: MirrorOptions,
    loaded: ArcSwapOption<Loaded>,
    /// Why the last query brought nothing, if it did not.
    error: Mutex<Option<StoreError>>,
    counts: Counts,
}

/// All rows of a view.
pub struct Mirror {
    shared: Arc<Shared>,
    refresher: AbortHandle,
}

impl Mirror {
    /// Empty at first. The queries run on the runtime `on`, the first at once, until the mirror is dropped.
    #[must_use]
    pub fn new(view: FeatureView, store: Arc<dyn FeatureStore>, options: MirrorOptions, on: &Handle) -> Self {
        let (loaded, error) = (ArcSwapOption::empty(), Mutex::new(None));
        let shared = Arc::new(Shared { view, store, options, loaded, error, counts: Counts::default() });
        let refresher = on.spawn(Arc::clone(&shared).refresh()).abort_handle();
        Self { shared, refresher }
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &FeatureView {
        &self.shared.view
    }

    /// What `take` makes of what is known of each key, in the order of the keys.
    ///
    /// # Errors
    /// The same for each key: why there are no rows, or none that are young enough.
    pub fn read<T>(&self, keys: &[&str], take: impl FnOnce(&[Answer<'_>]) -> T) -> T {
        let shared = &self.shared;
        let loaded = shared.loaded.load();
        let known = loaded.as_ref().map(|loaded| (loaded, loaded.asked.elapsed()));
        let error;
        let answers: Vec<Answer<'_>> = match known {
            Some((loaded, age)) if age < shared.options.hard_age => {
                let outcome = if age < 2 * shared.options.interval { Lookup::Present } else { Lookup::Stale };
                // By itself, a loop so short that the processor looks for several rows at once.
                let rows: Vec<_> = keys.iter().map(|key| loaded.rows.get(*key)).collect();
                rows.into_iter().map(|row| Ok(row.map_or(Lookup::Absent, outcome))).collect()
            }
            _ => {
                let last = shared.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
                error = last.unwrap_or(StoreError::Loading(shared.view.name));
                vec![Err(&error); keys.len()]
            }
        };
        shared.counts.answered(&answers);
        take(&answers)
    }

    /// What it has done and holds.
    #[must_use]
    pub fn stats(&self) -> SourceStats {
        let stats = self.shared.counts.stats();
        match self.shared.loaded.load().as_ref() {
            None => stats,
            Some(loaded) => SourceStats {
                entries: loaded.rows.len() as u64,
                bytes: loaded.bytes,
                refreshed: Some(loaded.asked.elapsed()),
                ..stats
            },
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

impl Shared {
    async fn refresh(self: Arc<Self>) {
        let interval = self.options.interval;
        let mut retry = RETRY.min(interval);
        loop {
            let asked = Instant::now();
            match self.load(asked).await {
                Ok(()) => {
                    retry = RETRY.min(interval);
                    time::sleep_until(asked + interval).await;
                }
                Err(error) => {
                    tracing::warn!(view = self.view.name, %error, "the mirror was not refreshed");
                    *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    time::sleep(retry).await;
                    retry = (2 * retry).min(interval);
                }
            }
        }
    }

    async fn load(self: &Arc<Self>, asked: Instant) -> Result<(), StoreError> {
        let shared = Arc::clone(self);
        // A task of its own: a panic in the store does not end the refreshing.
        let query = task::spawn(async move {
            let MirrorOptions { interval, capacity, .. } = shared.options;
            shared.store.fetch_all(&shared.view, capacity, interval).await
        });
        let rows = query.await.unwrap_or(Err(StoreError::Broken(self.view.name)));
        self.counts.queried(rows.as_ref().ok().map(|rows| rows.len()));
        let rows = rows?;
        let bytes = rows.iter().map(|(key, row)| bytes(key, row)).sum();
        let before = self.loaded.swap(Some(Arc::new(Loaded { asked, rows, bytes })));
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(before) = before {
            dispose(before).await;
        }
        Ok(())
    }
}

/// Drops a set of rows where nobody waits for it: the last reader of a million would be held up.
async fn dispose(mut rows: Arc<Loaded>) {
    loop {
        match Arc::try_unwrap(rows) {
            Ok(rows) => {
                let _ = task::spawn_blocking(move || drop(rows)).await;
                return;
            }
            Err(read) => rows = read,
        }
        time::sleep(Duration::from_millis(1)).await;
    }
}
