//! Rows of one view, kept in memory.
//!
//! A row younger than the soft age is served as it is. Between the soft and the hard age it is served at once too, as
//! stale, and fetched again behind the caller's back. Older ones, and entities that are not known, are waited for: their
//! keys, of all callers together, go into one query ([`flights`]). That an entity has no row is remembered too, for a
//! shorter time; errors are not.
//!
//! Who stays when memory is short is decided beside the rows ([`entries`]). Ages are checked here, at the read, so that they
//! hold to the instant and follow the clock of the runtime.

mod entries;
mod flights;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::Instant};

use self::{
    entries::{Entries, Entry},
    flights::{Flights, Joined, Outcome},
};
use crate::{
    Lookup, SourceStats,
    counts::Counts,
    store::{FeatureStore, StoreError},
    view::FeatureView,
};

/// How long what is known may be used, and how much may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// From this age on a row is fetched again in the background.
    pub soft_age: Duration,
    /// From this age on a row is not served.
    pub hard_age: Duration,
    /// How long it is remembered that an entity has no row.
    pub absent_age: Duration,
    /// Bytes of entries, about.
    pub capacity: u64,
}

/// What a cache and its flights share.
struct Shared {
    view: FeatureView,
    store: Arc<dyn FeatureStore>,
    options: CacheOptions,
    entries: Entries,
    counts: Counts,
}

impl Shared {
    /// What an entry is worth now; `None`: nothing.
    fn judge(&self, entry: &Entry, now: Instant) -> Option<Lookup> {
        let age = now.saturating_duration_since(entry.fetched);
        match &entry.row {
            None => (age < self.options.absent_age).then_some(Lookup::Absent),
            Some(row) if age < self.options.soft_age => Some(Lookup::Present(Arc::clone(row))),
            Some(row) => (age < self.options.hard_age).then(|| Lookup::Stale(Arc::clone(row))),
        }
    }

    fn get(&self, key: &str, now: Instant) -> Option<Lookup> {
        self.entries.read(key, |entry| self.judge(entry, now))
    }
}

/// A view's rows from a store, through memory.
pub struct CachedView {
    shared: Arc<Shared>,
    flights: Arc<Flights>,
}

impl CachedView {
    /// An empty cache. Queries run on the runtime `on`, whoever asks: a caller that goes away, or the end of its
    /// runtime, ends none that others wait for.
    #[must_use]
    pub fn new(view: FeatureView, store: Arc<dyn FeatureStore>, options: CacheOptions, on: Handle) -> Self {
        let entries = Entries::new(options.capacity, options.hard_age.max(options.absent_age));
        let shared = Arc::new(Shared { view, store, options, entries, counts: Counts::default() });
        Self { flights: Arc::new(Flights::new(Arc::clone(&shared), on)), shared }
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &FeatureView {
        &self.shared.view
    }

    /// What it has done and holds. Of lookups those are counted whose caller stayed for the answer.
    #[must_use]
    pub fn stats(&self) -> SourceStats {
        let entries = &self.shared.entries;
        // First: it may evict some.
        let bytes = entries.bytes();
        SourceStats { entries: entries.count() as u64, bytes, ..self.shared.counts.stats() }
    }

    /// What is known of each key, in the order of the keys; waits for those of which nothing is. A key that is empty or
    /// longer than [`EntityKey::LONGEST`](crate::view::EntityKey::LONGEST) names no entity: it is absent.
    ///
    /// # Errors
    /// Each key's own: [`StoreError`] where the store did not answer for it.
    pub async fn get(&self, keys: &[&str]) -> Vec<Result<Lookup, StoreError>> {
        let answers = self.lookup(keys).await;
        self.shared.counts.answered(&answers);
        answers
    }

    async fn lookup(&self, keys: &[&str]) -> Vec<Result<Lookup, StoreError>> {
        let now = Instant::now();
        let (mut misses, mut stale) = (Vec::new(), Vec::new());
        let mut known = Vec::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            let lookup = self.shared.get(key, now);
            match &lookup {
                None => misses.push(index),
                Some(Lookup::Stale(_)) => stale.push(index),
                Some(_) => {}
            }
            // Overwritten where it is a miss.
            known.push(Ok(lookup.unwrap_or(Lookup::Absent)));
        }
        self.shared.entries.note(keys);
        if misses.is_empty() && stale.is_empty() {
            return known;
        }
        let joined = self.flights.join(keys, &misses, &stale, now);
        let mut landed: Vec<(u64, Outcome)> = Vec::new();
        for (index, joined) in misses.into_iter().zip(joined) {
            known[index] = match joined {
                Joined::Known(lookup) => Ok(lookup),
                Joined::Refused => Err(StoreError::Busy(self.shared.view.name)),
                Joined::Flight(flight) => {
                    let at = match landed.iter().position(|(id, _)| *id == flight.id) {
                        Some(at) => at,
                        None => {
                            landed.push((flight.id, flight.outcome(self.shared.view.name).await));
                            landed.len() - 1
                        }
                    };
                    match &landed[at].1 {
                        Err(error) => Err(error.clone()),
                        Ok(entries) => Ok(match entries.get(keys[index]).and_then(|entry| entry.row.clone()) {
                            Some(row) => Lookup::Present(row),
                            None => Lookup::Absent,
                        }),
                    }
                }
            };
        }
        known
    }
}
