//! What a source of features has done and holds, for metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{Answer, Lookup};

/// Counts since the start, and what is held now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Keys that were answered with a row of an age that is meant.
    pub present: u64,
    /// Keys that were answered with an older one.
    pub stale: u64,
    /// Keys that have no row.
    pub absent: u64,
    /// Keys that were answered with an error.
    pub failed: u64,
    /// Queries that ended, well or not.
    pub queries: u64,
    /// Those that brought nothing.
    pub failed_queries: u64,
    /// Keys of a cache's queries that were answered; rows of a mirror's.
    pub fetched: u64,
    /// Rows in memory; in a cache also keys of which it is known that they have none.
    pub entries: u64,
    /// Bytes that these take, about.
    pub bytes: u64,
    /// How long ago a mirror asked for the rows that it holds; `None` for a cache, and before the first came.
    pub refreshed: Option<Duration>,
}

/// The same while it counts.
#[derive(Default)]
pub(crate) struct Counts {
    present: AtomicU64,
    stale: AtomicU64,
    absent: AtomicU64,
    failed: AtomicU64,
    queries: AtomicU64,
    failed_queries: AtomicU64,
    fetched: AtomicU64,
}

impl Counts {
    /// A call that was answered.
    pub(crate) fn answered(&self, answers: &[Answer<'_>]) {
        let (mut present, mut stale, mut absent, mut failed) = (0, 0, 0, 0);
        for answer in answers {
            match answer {
                Ok(Lookup::Present(_)) => present += 1,
                Ok(Lookup::Stale(_)) => stale += 1,
                Ok(Lookup::Absent) => absent += 1,
                Err(_) => failed += 1,
            }
        }
        let outcomes = [(&self.present, present), (&self.stale, stale), (&self.absent, absent), (&self.failed, failed)];
        for (count, more) in outcomes {
            // Most calls have one outcome: the others' cache lines are left alone.
            if more > 0 {
                count.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// A query that ended; `None`: it brought nothing.
    pub(crate) fn queried(&self, fetched: Option<usize>) {
        self.queries.fetch_add(1, Ordering::Relaxed);
        match fetched {
            Some(fetched) => self.fetched.fetch_add(fetched as u64, Ordering::Relaxed),
            None => self.failed_queries.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// As they stand, with nothing held.
    pub(crate) fn stats(&self) -> SourceStats {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SourceStats {
            present: read(&self.present),
            stale: read(&self.stale),
            absent: read(&self.absent),
            failed: read(&self.failed),
            queries: read(&self.queries),
            failed_queries: read(&self.failed_queries),
            fetched: read(&self.fetched),
            ..SourceStats::default()
        }
    }
}
