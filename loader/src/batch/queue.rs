//! The queue of one servable: bounded in rows, earliest deadline first, no clock and no threads of its own.

use std::{collections::BTreeMap, time::Instant};

/// Something that waits to be run.
pub trait Entry {
    /// Rows it adds to a batch, 1 to the queue's largest batch.
    fn rows(&self) -> usize;
    /// When its answer stops being wanted.
    fn deadline(&self) -> Instant;
    /// Whether its caller has left.
    fn abandoned(&self) -> bool;
}

/// Why a request was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No room for its rows.
    Full {
        /// Rows waiting.
        waiting: usize,
        /// Rows that may wait.
        capacity: usize,
    },
    /// Its deadline has passed.
    Expired,
}

/// What [`Queue::poll`] took out.
#[derive(Debug)]
pub struct Polled<E> {
    /// To be run as one batch, in this order; empty when nothing waits.
    pub batch: Vec<E>,
    /// Whose deadline passed: to be told so, not run.
    pub expired: Vec<E>,
    /// Rows whose callers left: dropped.
    pub abandoned_rows: usize,
}

/// A bounded queue that forms batches.
#[derive(Debug)]
pub struct Queue<E> {
    /// By deadline, then by arrival.
    waiting: BTreeMap<(Instant, u64), E>,
    arrivals: u64,
    /// Rows in `waiting`; only `insert` and `pop` touch either, so they cannot drift apart.
    rows: usize,
    capacity: usize,
    max_batch: usize,
}

impl<E: Entry> Queue<E> {
    /// A queue for at most `capacity` waiting rows that forms batches of at most `max_batch` rows.
    #[must_use]
    pub fn new(capacity: usize, max_batch: usize) -> Self {
        Self { waiting: BTreeMap::new(), arrivals: 0, rows: 0, capacity, max_batch }
    }

    /// Rows waiting.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Queues the parts of one request, all or none.
    ///
    /// # Errors
    /// [`Refusal`] when the deadline has passed or there is no room even after dropping entries that nobody
    /// waits for; those are returned to be answered in either case, as by [`Queue::poll`].
    pub fn push(&mut self, parts: Vec<E>, now: Instant) -> (Result<(), Refusal>, Vec<E>) {
        if parts.iter().any(|p| p.deadline() <= now) {
            return (Err(Refusal::Expired), Vec::new());
        }
        let needed: usize = parts.iter().map(Entry::rows).sum();
        let mut expired = Vec::new();
        if self.rows + needed > self.capacity {
            expired = self.sweep(now);
        }
        if self.rows + needed > self.capacity {
            return (Err(Refusal::Full { waiting: self.rows, capacity: self.capacity }), expired);
        }
        for part in parts {
            self.insert(part);
        }
        (Ok(()), expired)
    }

    /// Forms the next batch: entries in order of their deadlines while they fit, without those that expired
    /// or whose callers left.
    pub fn poll(&mut self, now: Instant) -> Polled<E> {
        let mut polled = Polled { batch: Vec::new(), expired: Vec::new(), abandoned_rows: 0 };
        let mut rows = 0;
        while let Some((_, next)) = self.waiting.first_key_value() {
            let (needed, expired, abandoned) = (next.rows(), next.deadline() <= now, next.abandoned());
            if !expired && !abandoned && rows + needed > self.max_batch && rows > 0 {
                break;
            }
            let Some(entry) = self.pop() else { break };
            if abandoned {
                polled.abandoned_rows += needed;
            } else if expired {
                polled.expired.push(entry);
            } else {
                rows += needed;
                polled.batch.push(entry);
            }
        }
        polled
    }

    /// Drops entries that nobody waits for; returns those that expired.
    fn sweep(&mut self, now: Instant) -> Vec<E> {
        let mut expired = Vec::new();
        for (_, entry) in std::mem::take(&mut self.waiting) {
            if entry.abandoned() || entry.deadline() <= now {
                self.rows -= entry.rows();
                expired.push(entry);
            } else {
                self.rows -= entry.rows();
                self.insert(entry);
            }
        }
        expired
    }

    fn insert(&mut self, entry: E) {
        self.rows += entry.rows();
        self.waiting.insert((entry.deadline(), self.arrivals), entry);
        self.arrivals += 1;
    }

    fn pop(&mut self) -> Option<E> {
        let (_, entry) = self.waiting.pop_first()?;
        self.rows -= entry.rows();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Fake {
        id: usize,
        rows: usize,
        deadline: Instant,
        abandoned: bool,
    }

    impl Entry for Fake {
        fn rows(&self) -> usize {
            self.rows
        }
        fn deadline(&self) -> Instant {
            self.deadline
        }
        fn abandoned(&self) -> bool {
            self.abandoned
        }
    }

    const CAPACITY: usize = 40;
    const MAX_BATCH: usize = 8;

    #[derive(Debug, Clone)]
    enum Step {
        /// Parts of (rows), time to the deadline in ms, whether the caller leaves at once.
        Push(Vec<usize>, u64, bool),
        Poll,
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (proptest::collection::vec(1..=MAX_BATCH, 1..4), 0u64..30, proptest::bool::weighted(0.2))
                .prop_map(|(rows, ms, gone)| Step::Push(rows, ms, gone)),
            2 => Just(Step::Poll),
            1 => (0u64..12).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Against a list that is searched anew each time.
        #[test]
        fn behaves_as_a_naive_list(steps in proptest::collection::vec(step(), 1..80)) {
            let mut queue = Queue::new(CAPACITY, MAX_BATCH);
            let mut list: Vec<Fake> = Vec::new();
            let (mut now, mut next_id) = (Instant::now(), 0);
            for step in steps {
                match step {
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                    Step::Push(rows, ms, abandoned) => {
                        let deadline = now + Duration::from_millis(ms);
                        let parts: Vec<Fake> = rows.iter().map(|rows| {
                            next_id += 1;
                            Fake { id: next_id, rows: *rows, deadline, abandoned }
                        }).collect();
                        let needed: usize = rows.iter().sum();
                        let (result, _) = queue.push(parts.clone(), now);
                        let waiting = |l: &[Fake]| l.iter().map(|e| e.rows).sum::<usize>();
                        if ms == 0 {
                            prop_assert_eq!(result, Err(Refusal::Expired));
                            continue;
                        }
                        if waiting(&list) + needed > CAPACITY {
                            list.retain(|e| !e.abandoned && e.deadline > now);
                        }
                        if waiting(&list) + needed > CAPACITY {
                            let full = Refusal::Full { waiting: waiting(&list), capacity: CAPACITY };
                            prop_assert_eq!(result, Err(full));
                        } else {
                            prop_assert_eq!(result, Ok(()));
                            list.extend(parts);
                        }
                    }
                    Step::Poll => {
                        let polled = queue.poll(now);
                        list.sort_by_key(|e| (e.deadline, e.id));
                        let (mut batch, mut rows) = (Vec::new(), 0);
                        while let Some(e) = list.first().cloned() {
                            let dead = e.abandoned || e.deadline <= now;
                            if !dead && rows > 0 && rows + e.rows > MAX_BATCH {
                                break;
                            }
                            list.remove(0);
                            if !dead {
                                rows += e.rows;
                                batch.push(e);
                            }
                        }
                        prop_assert!(polled.expired.iter().all(|e| e.deadline <= now && !e.abandoned));
                        prop_assert_eq!(polled.batch, batch);
                        prop_assert!(rows <= MAX_BATCH);
                    }
                }
                prop_assert_eq!(queue.rows(), list.iter().map(|e| e.rows).sum::<usize>());
                prop_assert!(queue.rows() <= CAPACITY);
            }
        }
    }
}
