//! What has become of a version's requests, and where their time went: counts that end with the version.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use crate::servable::Servable;

/// Stages of a request, in order.
pub const STAGES: [&str; 4] = ["encode", "queue", "compute", "reply"];

/// Upper bounds of a histogram's buckets, in seconds. They begin low: encoding takes microseconds.
pub const BOUNDS: [f64; 16] =
    [1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 1.0];

/// How often something happened, and how long it took each time.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Counts of durations up to each bound and above the one before; the last is above all.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    fn add(&self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// How many durations fell into each bucket.
    #[must_use]
    pub fn counts(&self) -> [u64; BOUNDS.len() + 1] {
        self.buckets.each_ref().map(|count| count.load(Relaxed))
    }

    /// How many durations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// Nanoseconds in all.
    #[must_use]
    pub fn nanos(&self) -> u64 {
        self.nanos.load(Relaxed)
    }
}

/// Counts of one version's requests.
#[derive(Debug, Default)]
pub struct Requests {
    /// Those that were answered.
    pub answered: Histogram,
    /// All others.
    pub failed: Histogram,
    /// [`STAGES`] of those that were answered.
    pub stages: [Histogram; STAGES.len()],
    last_answer: AtomicU64,
}

impl Requests {
    /// When the last request was answered, in milliseconds since 1970; 0 if none was.
    #[must_use]
    pub fn last_answer(&self) -> u64 {
        self.last_answer.load(Relaxed)
    }
}

/// A request that has found its servable. It counts as failed unless [`Attempt::answered`] is called.
#[derive(Debug)]
pub struct Attempt {
    servable: Servable,
    started: Instant,
    answered: bool,
}

impl Attempt {
    /// Of a request that was taken up at `started`.
    #[must_use]
    pub fn new(servable: Servable, started: Instant) -> Self {
        Self { servable, started, answered: false }
    }

    /// The request is answered, after these [`STAGES`].
    pub fn answered(mut self, stages: [Duration; STAGES.len()]) {
        self.answered = true;
        let requests = &self.servable.requests;
        for (histogram, elapsed) in requests.stages.iter().zip(stages) {
            histogram.add(elapsed);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        requests.last_answer.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let requests = &self.servable.requests;
        let histogram = if self.answered { &requests.answered } else { &requests.failed };
        histogram.add(self.started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        for nanos in [0, 1_000, 1_001, 1_000_000_000, 1_000_000_001] {
            histogram.add(Duration::from_nanos(nanos));
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
        assert_eq!((histogram.count(), histogram.nanos()), (5, 2_000_002_002));
    }
}
