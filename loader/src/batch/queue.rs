//! The queue of one servable: bounded in rows, earliest deadline first, no clock and no threads of its own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Something that waits to be run.
pub trait Entry {
    /// Rows it adds to a batch, 1 to the queue's largest batch.
    fn rows(&self) -> usize;
    /// When its answer stops being wanted.
    fn deadline(&self) -> Instant;
    /// Whether its caller has left.
    fn abandoned(&self) -> bool;
    /// Whether it is worth running.
    fn wanted(&self, now: Instant) -> bool {
        self.deadline() > now && !self.abandoned()
    }
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
    /// What will not be run.
    pub dropped: Dropped<E>,
}

/// Entries that left the queue without being run.
#[derive(Debug)]
pub struct Dropped<E> {
    /// Whose deadline passed: to be told so.
    pub expired: Vec<E>,
    /// Whose callers left before their deadline.
    pub abandoned: Vec<E>,
}

impl<E> Default for Dropped<E> {
    fn default() -> Self {
        Self { expired: Vec::new(), abandoned: Vec::new() }
    }
}

impl<E: Entry> Dropped<E> {
    /// Sorts out an entry that nobody waits for; gives back one that somebody does.
    fn sort(&mut self, entry: E, now: Instant) -> Option<E> {
        if entry.deadline() <= now {
            self.expired.push(entry);
        } else if entry.abandoned() {
            self.abandoned.push(entry);
        } else {
            return Some(entry);
        }
        None
    }
}

/// A bounded queue that forms batches.
#[derive(Debug)]
pub struct Queue<E> {
    waiting: Waiting<E>,
    capacity: usize,
    max_batch: usize,
    /// When callers that left were last looked for.
    swept: Option<Instant>,
}

impl<E: Entry> Queue<E> {
    /// A queue for at most `capacity` waiting rows that forms batches of at most `max_batch` rows.
    #[must_use]
    pub fn new(capacity: usize, max_batch: usize) -> Self {
        Self { waiting: Waiting::default(), capacity, max_batch, swept: None }
    }

    /// Rows waiting.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.waiting.rows
    }

    /// Queues the parts of one request, all or none.
    ///
    /// When there is no room, entries that nobody waits for are dropped first: those that expired always,
    /// those whose callers left at most every 10 ms, because finding them takes a look at every entry.
    pub fn push(&mut self, parts: Vec<E>, now: Instant) -> (Result<(), Refusal>, Dropped<E>) {
        let mut dropped = Dropped::default();
        if parts.iter().any(|p| p.deadline() <= now) {
            return (Err(Refusal::Expired), dropped);
        }
        let needed: usize = parts.iter().map(Entry::rows).sum();
        if self.rows() + needed > self.capacity {
            self.sweep(now, &mut dropped);
        }
        if self.rows() + needed > self.capacity {
            return (Err(Refusal::Full { waiting: self.rows(), capacity: self.capacity }), dropped);
        }
        for part in parts {
            self.waiting.insert(part);
        }
        (Ok(()), dropped)
    }

    /// Forms the next batch: entries in order of their deadlines while they fit, without those that expired
    /// or whose callers left.
    pub fn poll(&mut self, now: Instant) -> Polled<E> {
        let mut polled = Polled { batch: Vec::new(), dropped: Dropped::default() };
        let mut rows = 0;
        while let Some(next) = self.waiting.first() {
            if rows > 0 && rows + next.rows() > self.max_batch && next.wanted(now) {
                break;
            }
            let Some(entry) = self.waiting.pop() else { break };
            if let Some(entry) = polled.dropped.sort(entry, now) {
                rows += entry.rows();
                polled.batch.push(entry);
            }
        }
        polled
    }

    fn sweep(&mut self, now: Instant, dropped: &mut Dropped<E>) {
        const PAUSE: Duration = Duration::from_millis(10);
        while self.waiting.first().is_some_and(|next| next.deadline() <= now) {
            dropped.expired.extend(self.waiting.pop());
        }
        if self.swept.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE) {
            self.swept = Some(now);
            dropped.abandoned.extend(self.waiting.take_abandoned());
        }
    }
}

/// Entries by deadline, then by arrival, and how many rows they are: the two change together, here only.
#[derive(Debug)]
struct Waiting<E> {
    entries: BTreeMap<(Instant, u64), E>,
    rows: usize,
    arrivals: u64,
}

impl<E> Default for Waiting<E> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), rows: 0, arrivals: 0 }
    }
}

impl<E: Entry> Waiting<E> {
    fn first(&self) -> Option<&E> {
        self.entries.first_key_value().map(|(_, entry)| entry)
    }

    fn insert(&mut self, entry: E) {
        self.rows += entry.rows();
        self.entries.insert((entry.deadline(), self.arrivals), entry);
        self.arrivals += 1;
    }

    fn pop(&mut self) -> Option<E> {
        let (_, entry) = self.entries.pop_first()?;
        self.rows -= entry.rows();
        Some(entry)
    }

    fn take_abandoned(&mut self) -> impl Iterator<Item = E> {
        let gone = self.entries.extract_if(.., |_, entry| entry.abandoned());
        gone.map(|(_, entry)| entry).inspect(|entry| self.rows -= entry.rows())
    }
}

#[cfg(test)]
mod tests {
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
        /// Against a list that is searched anew each time: what is batched, what is dropped and why, and how
        /// many rows wait.
        #[test]
        fn behaves_as_a_naive_list(steps in proptest::collection::vec(step(), 1..80)) {
            let mut queue = Queue::new(CAPACITY, MAX_BATCH);
            let mut list: Vec<Fake> = Vec::new();
            let (mut now, mut next_id, mut swept) = (Instant::now(), 0, None);
            let waiting = |l: &[Fake]| l.iter().map(|e| e.rows).sum::<usize>();
            for step in steps {
                list.sort_by_key(|e| (e.deadline, e.id));
                match step {
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                    Step::Push(rows, ms, abandoned) => {
                        let deadline = now + Duration::from_millis(ms);
                        let parts: Vec<Fake> = rows.iter().map(|rows| {
                            next_id += 1;
                            Fake { id: next_id, rows: *rows, deadline, abandoned }
                        }).collect();
                        let needed: usize = rows.iter().sum();
                        let (result, dropped) = queue.push(parts.clone(), now);
                        let (mut expired, mut gone) = (vec![], vec![]);
                        let expect = if ms == 0 {
                            Err(Refusal::Expired)
                        } else {
                            if waiting(&list) + needed > CAPACITY {
                                expired = list.extract_if(.., |e| e.deadline <= now).collect();
                                if swept.is_none_or(|s: Instant| now - s >= Duration::from_millis(10)) {
                                    swept = Some(now);
                                    gone = list.extract_if(.., |e| e.abandoned).collect();
                                }
                            }
                            if waiting(&list) + needed > CAPACITY {
                                Err(Refusal::Full { waiting: waiting(&list), capacity: CAPACITY })
                            } else {
                                list.extend(parts);
                                Ok(())
                            }
                        };
                        prop_assert_eq!(result, expect);
                        prop_assert_eq!((dropped.expired, dropped.abandoned), (expired, gone));
                    }
                    Step::Poll => {
                        let polled = queue.poll(now);
                        let (mut batch, mut expired, mut gone) = (vec![], vec![], vec![]);
                        while let Some(e) = list.first().cloned() {
                            let dead = e.abandoned || e.deadline <= now;
                            if !dead && !batch.is_empty() && waiting(&batch) + e.rows > MAX_BATCH {
                                break;
                            }
                            list.remove(0);
                            if e.deadline <= now { &mut expired } else if e.abandoned { &mut gone } else { &mut batch }.push(e);
                        }
                        prop_assert!(waiting(&batch) <= MAX_BATCH);
                        prop_assert_eq!(polled.batch, batch);
                        prop_assert_eq!((polled.dropped.expired, polled.dropped.abandoned), (expired, gone));
                    }
                }
                prop_assert_eq!(queue.rows(), waiting(&list));
                prop_assert!(queue.rows() <= CAPACITY);
            }
        }
    }
}
