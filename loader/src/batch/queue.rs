//! What waits for a lane: bounded in rows, most important first, then earliest deadline first. No clock and
//! no threads of its own.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What is served first, whatever the deadlines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Before all others.
    High,
    /// The usual.
    #[default]
    Normal,
    /// What nobody waits for dearly. It may fill half of the queue only, so that it never shuts others out.
    Low,
}

impl Priority {
    /// How many of a queue's rows it may fill.
    #[must_use]
    pub fn share_of(self, capacity: usize) -> usize {
        match self {
            Self::Low => capacity.div_ceil(2),
            Self::High | Self::Normal => capacity,
        }
    }
}

/// Something that waits to be run.
pub trait Entry: Sized {
    /// Rows it adds to a batch, 1 or more.
    fn rows(&self) -> usize;
    /// When its answer stops being wanted.
    fn deadline(&self) -> Instant;
    /// Its rank.
    fn priority(&self) -> Priority;
    /// Whether its caller has left.
    fn abandoned(&self) -> bool;
    /// Cuts off its first `rows`, fewer than it has.
    fn cut(&mut self, rows: usize) -> Self;
    /// Whether it is worth running.
    fn wanted(&self, now: Instant) -> bool {
        self.deadline() > now && !self.abandoned()
    }
}

/// No room for an entry's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// Rows waiting.
    pub waiting: usize,
    /// Rows that may wait, of the entry's priority.
    pub capacity: usize,
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
    /// Whether nothing was dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expired.is_empty() && self.abandoned.is_empty()
    }

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

/// A bounded queue.
#[derive(Debug)]
pub struct Queue<E> {
    waiting: Waiting<E>,
    capacity: usize,
    /// When callers that left were last looked for.
    swept: Option<Instant>,
}

impl<E: Entry> Queue<E> {
    /// A queue for at most `capacity` waiting rows. Deadlines are told apart from `now` on.
    #[must_use]
    pub fn new(capacity: usize, now: Instant) -> Self {
        let (entries, by_deadline) = (BTreeMap::new(), BTreeMap::new());
        let waiting = Waiting { entries, rows: 0, by_deadline, arrivals: 0, epoch: now };
        Self { waiting, capacity, swept: None }
    }

    /// Rows waiting.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.waiting.rows
    }

    /// Rows that will be run before an entry of this rank, within a millisecond's worth.
    #[must_use]
    pub fn rows_before(&self, priority: Priority, deadline: Instant) -> usize {
        self.waiting.before(priority, deadline)
    }

    /// The deadline of what is next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.first().map(Entry::deadline)
    }

    /// Queues an entry.
    ///
    /// When there is no room, entries that nobody waits for are dropped first: those that expired always,
    /// those whose callers left at most every 10 ms, because finding them takes a look at every entry.
    ///
    /// # Errors
    /// [`Full`] when there is no room still.
    pub fn push(&mut self, entry: E, now: Instant, dropped: &mut Dropped<E>) -> Result<(), Full> {
        let capacity = entry.priority().share_of(self.capacity);
        if self.rows() + entry.rows() > capacity {
            self.sweep(now, dropped);
        }
        if self.rows() + entry.rows() > capacity {
            return Err(Full { waiting: self.rows(), capacity });
        }
        self.waiting.insert(entry);
        Ok(())
    }

    /// Takes the next entries out, `limit` rows at most, without those that expired or whose callers left.
    ///
    /// An entry that fits into one batch is not cut for the sake of filling another; one of more than `limit`
    /// rows gives up an equal share of them.
    pub fn take(&mut self, limit: usize, now: Instant, dropped: &mut Dropped<E>) -> Vec<E> {
        let mut batch: Vec<E> = Vec::new();
        let mut rows = 0;
        while rows < limit
            && let Some(next) = self.waiting.first()
        {
            let len = next.rows();
            if next.wanted(now) && rows + len > limit {
                if rows == 0 {
                    batch.extend(self.waiting.cut(len.div_ceil(len.div_ceil(limit))));
                }
                break;
            }
            let Some(entry) = self.waiting.pop() else { break };
            if let Some(entry) = dropped.sort(entry, now) {
                rows += entry.rows();
                batch.push(entry);
            }
        }
        batch
    }

    fn sweep(&mut self, now: Instant, dropped: &mut Dropped<E>) {
        const PAUSE: Duration = Duration::from_millis(10);
        dropped.expired.extend(self.waiting.take_expired(now));
        if self.swept.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE) {
            self.swept = Some(now);
            dropped.abandoned.extend(self.waiting.take_abandoned());
        }
    }
}

/// Rank of an entry: priority, deadline, arrival.
type Rank = (Priority, Instant, u64);

/// Entries by rank, and their rows: what changes together does so here only.
#[derive(Debug)]
struct Waiting<E> {
    entries: BTreeMap<Rank, E>,
    /// Rows of all.
    rows: usize,
    /// Rows by priority and millisecond of the deadline; no entry is zero.
    by_deadline: BTreeMap<(Priority, u128), usize>,
    arrivals: u64,
    /// What milliseconds are counted from.
    epoch: Instant,
}

impl<E: Entry> Waiting<E> {
    fn first(&self) -> Option<&E> {
        self.entries.first_key_value().map(|(_, entry)| entry)
    }

    fn insert(&mut self, entry: E) {
        self.rows += entry.rows();
        *self.by_deadline.entry(self.slot(&entry)).or_default() += entry.rows();
        self.entries.insert((entry.priority(), entry.deadline(), self.arrivals), entry);
        self.arrivals += 1;
    }

    fn pop(&mut self) -> Option<E> {
        let (_, entry) = self.entries.pop_first()?;
        self.gone(&entry);
        Some(entry)
    }

    /// Cuts the first `rows` off the first entry.
    fn cut(&mut self, rows: usize) -> Option<E> {
        let part = self.entries.first_entry()?.get_mut().cut(rows);
        self.gone(&part);
        Some(part)
    }

    fn before(&self, priority: Priority, deadline: Instant) -> usize {
        let end = (priority, self.millis(deadline));
        self.by_deadline.range(..=end).map(|(_, rows)| rows).sum()
    }

    fn take_expired(&mut self, now: Instant) -> Vec<E> {
        let mut expired = Vec::new();
        for priority in [Priority::High, Priority::Normal, Priority::Low] {
            while let Some((rank, _)) = self.entries.range((priority, self.epoch, 0)..=(priority, now, u64::MAX)).next()
            {
                let rank = *rank;
                let Some(entry) = self.entries.remove(&rank) else { break };
                self.gone(&entry);
                expired.push(entry);
            }
        }
        expired
    }

    fn take_abandoned(&mut self) -> Vec<E> {
        let abandoned: Vec<E> = self.entries.extract_if(.., |_, entry| entry.abandoned()).map(|(_, e)| e).collect();
        for entry in &abandoned {
            self.gone(entry);
        }
        abandoned
    }

    fn gone(&mut self, entry: &E) {
        self.rows -= entry.rows();
        let slot = self.slot(entry);
        if let Some(rows) = self.by_deadline.get_mut(&slot) {
            *rows -= entry.rows();
            if *rows == 0 {
                self.by_deadline.remove(&slot);
            }
        }
    }

    fn slot(&self, entry: &E) -> (Priority, u128) {
        (entry.priority(), self.millis(entry.deadline()))
    }

    fn millis(&self, at: Instant) -> u128 {
        at.saturating_duration_since(self.epoch).as_millis()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Fake {
        id: u64,
        rows: usize,
        deadline: Instant,
        priority: Priority,
        abandoned: bool,
    }

    impl Entry for Fake {
        fn rows(&self) -> usize {
            self.rows
        }
        fn deadline(&self) -> Instant {
            self.deadline
        }
        fn priority(&self) -> Priority {
            self.priority
        }
        fn abandoned(&self) -> bool {
            self.abandoned
        }
        fn cut(&mut self, rows: usize) -> Self {
            self.rows -= rows;
            Self { rows, ..self.clone() }
        }
    }

    const CAPACITY: usize = 40;

    #[derive(Debug, Clone)]
    enum Step {
        /// Rows, time to the deadline in ms, rank, whether the caller leaves at once.
        Push(usize, u64, Priority, bool),
        /// At most so many rows.
        Take(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let priority = prop_oneof![Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)];
        prop_oneof![
            3 => (1usize..20, 1u64..30, priority, proptest::bool::weighted(0.2))
                .prop_map(|(rows, ms, priority, gone)| Step::Push(rows, ms, priority, gone)),
            2 => (1usize..12).prop_map(Step::Take),
            1 => (0u64..12).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Against a list that is searched anew each time: what is taken, what is dropped and why, how many
        /// rows wait, and how many of them come first.
        #[test]
        fn behaves_as_a_naive_list(steps in proptest::collection::vec(step(), 1..80)) {
            let (mut now, mut next_id, mut swept) = (Instant::now(), 0, None);
            let mut queue = Queue::new(CAPACITY, now);
            let mut list: Vec<Fake> = Vec::new();
            let waiting = |l: &[Fake]| l.iter().map(|e| e.rows).sum::<usize>();
            for step in steps {
                list.sort_by_key(|e| (e.priority, e.deadline, e.id));
                let mut dropped = Dropped::default();
                let (mut expired, mut gone) = (vec![], vec![]);
                match step {
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                    Step::Push(rows, ms, priority, abandoned) => {
                        next_id += 1;
                        let deadline = now + Duration::from_millis(ms);
                        let entry = Fake { id: next_id, rows, deadline, priority, abandoned };
                        let before = list.iter().filter(|e| (e.priority, e.deadline) <= (priority, deadline));
                        prop_assert_eq!(queue.rows_before(priority, deadline), before.map(|e| e.rows).sum::<usize>());
                        let result = queue.push(entry.clone(), now, &mut dropped);
                        let capacity = if priority == Priority::Low { CAPACITY / 2 } else { CAPACITY };
                        if waiting(&list) + rows > capacity {
                            expired = list.extract_if(.., |e| e.deadline <= now).collect();
                            if swept.is_none_or(|s: Instant| now - s >= Duration::from_millis(10)) {
                                swept = Some(now);
                                gone = list.extract_if(.., |e| e.abandoned).collect();
                            }
                        }
                        if waiting(&list) + rows > capacity {
                            prop_assert_eq!(result, Err(Full { waiting: waiting(&list), capacity }));
                        } else {
                            prop_assert_eq!(result, Ok(()));
                            list.push(entry);
                        }
                    }
                    Step::Take(limit) => {
                        let taken = queue.take(limit, now, &mut dropped);
                        let mut batch: Vec<Fake> = vec![];
                        while waiting(&batch) < limit && let Some(e) = list.first().cloned() {
                            let dead = e.abandoned || e.deadline <= now;
                            if !dead && waiting(&batch) + e.rows > limit {
                                if batch.is_empty() {
                                    let shares = e.rows.div_ceil(limit);
                                    batch.push(list[0].cut(e.rows.div_ceil(shares)));
                                }
                                break;
                            }
                            list.remove(0);
                            if e.deadline <= now { &mut expired } else if e.abandoned { &mut gone } else { &mut batch }.push(e);
                        }
                        prop_assert!(waiting(&batch) <= limit);
                        prop_assert_eq!(taken, batch);
                    }
                }
                prop_assert_eq!((dropped.expired, dropped.abandoned), (expired, gone));
                prop_assert_eq!(queue.rows(), waiting(&list));
                prop_assert_eq!(queue.rows_before(Priority::Low, now + Duration::from_secs(60)), queue.rows());
                prop_assert!(queue.rows() <= CAPACITY);
            }
        }
    }
}
