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

use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use self::{
    entries::{Entries, Entry},
    flights::{Flights, Joined, Outcome, PAUSE},
};
use crate::{
    Answer, Lookup, SourceStats,
    counts::Counts,
    store::{FeatureStore, StoreError},
    view::{FeatureRow, FeatureView},
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

/// What is known of a key, kept while others are waited for.
type Known = Result<Lookup, StoreError>;

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
    fn judge<'a>(&self, entry: &'a Entry, now: Instant) -> Option<Lookup<&'a FeatureRow>> {
        let age = now.saturating_duration_since(entry.fetched);
        match &entry.row {
            None => (age < self.options.absent_age).then_some(Lookup::Absent),
            Some(row) if age < self.options.soft_age => Some(Lookup::Present(row)),
            Some(row) => (age < self.options.hard_age).then_some(Lookup::Stale(row)),
        }
    }

    fn get(&self, key: &str, now: Instant) -> Option<Lookup> {
        self.judge(self.entries.pin().get(key)?, now).map(Lookup::cloned)
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

    /// What `take` makes of what is known of each key, in the order of the keys; waits for those of which nothing is, but
    /// not beyond `until`: a query goes on without its callers, for the next ones. A key that is empty or longer than
    /// [`EntityKey::LONGEST`](crate::view::EntityKey::LONGEST) names no entity: it is absent.
    ///
    /// # Errors
    /// Each key's own: [`StoreError`] where the store did not answer for it in time.
    pub async fn read<T>(&self, keys: &[&str], until: Instant, take: impl FnOnce(&[Answer<'_>]) -> T) -> T {
        let Shared { entries, counts, .. } = &*self.shared;
        let now = Instant::now();
        entries.note(keys);
        let (mut known, missed) = {
            let pinned = entries.pin();
            let (mut missed, mut due) = (Vec::new(), Vec::new());
            let mut answers: Vec<Answer<'_>> = Vec::with_capacity(keys.len());
            for (index, slot) in pinned.all(keys).enumerate() {
                let lookup = slot.and_then(|slot| self.shared.judge(&slot.entry, now));
                match (&lookup, slot) {
                    (None, _) => missed.push(index),
                    (Some(Lookup::Stale(_)), Some(slot)) if pinned.is_due(slot, now, PAUSE) => due.push((index, slot)),
                    _ => {}
                }
                // Overwritten where it was missed.
                answers.push(Ok(lookup.unwrap_or(Lookup::Absent)));
            }
            if !due.is_empty() && self.flights.refresh(due.iter().map(|(index, _)| keys[*index]), now) {
                due.iter().for_each(|(_, slot)| pinned.refreshing(slot, now));
            }
            if missed.is_empty() {
                counts.answered(&answers);
                return take(&answers);
            }
            // Nothing stays pinned while a query is waited for.
            let known: Vec<Known> =
                answers.into_iter().map(|answer| answer.map(Lookup::cloned).map_err(Clone::clone)).collect();
            let joined = self.flights.join(missed.iter().map(|index| keys[*index]), now);
            (known, missed.into_iter().zip(joined))
        };
        self.wait(keys, until, missed, &mut known).await;
        let answers: Vec<Answer<'_>> = known.iter().map(|known| known.as_ref().map(Lookup::as_ref)).collect();
        counts.answered(&answers);
        take(&answers)
    }

    /// Waits for what was missed, and puts it into its places.
    async fn wait(
        &self,
        keys: &[&str],
        until: Instant,
        missed: impl Iterator<Item = (usize, Joined)>,
        known: &mut [Known],
    ) {
        let mut landed: Vec<(u64, Outcome)> = Vec::new();
        for (index, joined) in missed {
            known[index] = match joined {
                Joined::Known(lookup) => Ok(lookup),
                Joined::Refused => Err(StoreError::Busy(self.shared.view.name)),
                Joined::Flight(flight) => {
                    let at = match landed.iter().position(|(id, _)| *id == flight.id) {
                        Some(at) => at,
                        None => {
                            let (id, name) = (flight.id, self.shared.view.name);
                            let outcome = timeout_at(until, flight.outcome(name)).await;
                            landed.push((id, outcome.unwrap_or(Err(StoreError::Late(name)))));
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
    }
}
