//! What each model version has done since it was loaded, request by request. What the batcher counts is read from
//! there; this is the rest.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use aibuyer_loader::CtrServable;

/// How often something happened, and how long it took in all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Tally {
    fn add(&self, elapsed: Duration) {
        self.count.fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Count, and nanoseconds in all.
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.count.load(Relaxed), self.nanos.load(Relaxed))
    }
}

/// Counts of one version's requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Those that were answered.
    pub(crate) answered: Tally,
    /// All others.
    pub(crate) failed: Tally,
    /// Stages of those that were answered, in the order of [`crate::metrics::STAGES`].
    pub(crate) stages: [Tally; 4],
    /// Milliseconds since 1970.
    last_answer: AtomicU64,
}

impl Requests {
    /// When the last request was answered, in milliseconds since 1970; 0 if none was.
    pub(crate) fn last_answer(&self) -> u64 {
        self.last_answer.load(Relaxed)
    }
}

/// Counts by servable. They end with it: a version that is loaded again begins anew.
#[derive(Debug, Default)]
pub(crate) struct Statistics(RwLock<HashMap<usize, Entry>>);

#[derive(Debug)]
struct Entry {
    /// Keeps the address, which is the key, from being used again.
    servable: Weak<CtrServable>,
    requests: Arc<Requests>,
}

impl Statistics {
    /// The counts of a servable.
    pub(crate) fn of(&self, servable: &Arc<CtrServable>) -> Arc<Requests> {
        let key = Arc::as_ptr(servable).addr();
        if let Some(entry) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(&entry.requests);
        }
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Versions come for ever.
        entries.retain(|_, entry| entry.servable.strong_count() > 0);
        let new = || Entry { servable: Arc::downgrade(servable), requests: Arc::default() };
        Arc::clone(&entries.entry(key).or_insert_with(new).requests)
    }

    /// A request has found its servable: it counts as failed unless [`Attempt::answered`] is called.
    pub(crate) fn begin(&self, servable: &Arc<CtrServable>, started: Instant) -> Attempt {
        Attempt { requests: self.of(servable), started, answered: false }
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Attempt {
    requests: Arc<Requests>,
    started: Instant,
    answered: bool,
}

impl Attempt {
    /// The request is answered; `stages` are in the order of [`crate::metrics::STAGES`].
    pub(crate) fn answered(mut self, stages: [Duration; 4]) {
        self.answered = true;
        for (tally, elapsed) in self.requests.stages.iter().zip(stages) {
            tally.add(elapsed);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.requests.last_answer.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let tally = if self.answered { &self.requests.answered } else { &self.requests.failed };
        tally.add(self.started.elapsed());
    }
}
