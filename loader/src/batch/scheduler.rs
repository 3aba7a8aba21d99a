//! Decides what runs, when, and in batches of what size. No clock, no threads, no sessions: it is told what
//! happens and asked what to do.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    BatchLimits,
    cost::CostModel,
    pace::Pace,
    queue::{Dropped, Entry, Full, Queue},
};

/// What handing work to another thread costs: the wake of a sleeping core.
const HOP: Duration = Duration::from_micros(50);

/// Lanes that have work for so long gain little by more of it meanwhile. About one time slice of Linux's: what a thread may
/// wait for its turn.
const BACKLOG: Duration = Duration::from_micros(1500);

/// Why a request was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its deadline has passed.
    Expired,
    /// It would be finished after its deadline.
    Late {
        /// Time that it is predicted to take.
        predicted: Duration,
    },
    /// No room for its rows.
    Full(Full),
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Poll<E> {
    /// Run these as one batch, in this order.
    Run(Vec<E>),
    /// Nothing, until an arrival, the end of a run, or this time.
    Wait(Option<Instant>),
}

/// Runs of one batch size that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// Time that they took in all.
    pub took: Duration,
}

/// The queue of one servable and what decides about it.
#[derive(Debug)]
pub struct Scheduler<E> {
    queue: Queue<E>,
    cost: CostModel,
    pace: Pace,
    limits: BatchLimits,
    /// Since when the first of those that wait is kept waiting for company.
    held: Option<Instant>,
    /// For each session, when its run is predicted to end; `None` where it is idle.
    running: Vec<Option<Instant>>,
    /// By rows, without padding.
    runs: BTreeMap<usize, Runs>,
}

impl<E: Entry> Scheduler<E> {
    /// A scheduler for as many sessions. Deadlines are told apart from `now` on.
    #[must_use]
    pub fn new(sessions: usize, limits: BatchLimits, cost: CostModel, now: Instant) -> Self {
        let queue = Queue::new(limits.queue_rows, now);
        Self {
            queue,
            cost,
            pace: Pace::default(),
            limits,
            held: None,
            running: vec![None; sessions],
            runs: BTreeMap::new(),
        }
    }

    /// Rows waiting.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.queue.rows()
    }

    /// What has been run, by rows of the batch without padding.
    #[must_use]
    pub fn runs(&self) -> &BTreeMap<usize, Runs> {
        &self.runs
    }

    /// The cost model.
    #[must_use]
    pub fn cost(&self) -> &CostModel {
        &self.cost
    }

    /// Takes note of a request. Every request is told of once, before [`Self::lonely`] or [`Self::push`].
    pub fn arrived(&mut self, now: Instant) {
        self.pace.arrived(now);
    }

    /// Whether a request of so many rows should run at once and by itself: nothing waits, a session is idle,
    /// the run is short, and it is likely over before the next request comes.
    #[must_use]
    pub fn lonely(&self, rows: usize) -> bool {
        let took = self.estimate(rows);
        rows <= self.limits.preferred_batch_rows
            && took <= self.limits.inline
            && took < self.pace.gap()
            && self.queue.rows() == 0
            && self.idle() == self.running.len()
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`Refusal`] says why it was not queued.
    pub fn push(&mut self, entry: E, now: Instant, dropped: &mut Dropped<E>) -> Result<(), Refusal> {
        if entry.deadline() <= now {
            return Err(Refusal::Expired);
        }
        let predicted = self.predict(&entry, now);
        if now + predicted > entry.deadline() {
            return Err(Refusal::Late { predicted });
        }
        self.queue.push(entry, now, dropped).map_err(Refusal::Full)
    }

    /// Time until an entry would be finished, at best: it shares its batches with nobody, and what comes later
    /// with an earlier deadline is not known yet.
    ///
    /// On an idle engine it is zero. A prediction that were wrong for good could refuse everything for good:
    /// what runs when nothing else does keeps it true.
    fn predict(&self, entry: &E, now: Instant) -> Duration {
        let ahead = self.queue.rows_before(entry.priority(), entry.deadline());
        let ends = self.running.iter().map(|end| end.map_or(Duration::ZERO, |e| e.saturating_duration_since(now)));
        let (first, busy) = ends.fold((Duration::MAX, Duration::ZERO), |(least, sum), e| (least.min(e), sum + e));
        if ahead == 0 && busy.is_zero() {
            return Duration::ZERO;
        }
        let start = first.max(busy / self.sessions() + self.drain(ahead));
        match entry.rows() {
            rows if rows <= self.limits.preferred_batch_rows => {
                start + self.estimate(rows.div_ceil(self.running.len().max(1)))
            }
            rows => start + self.drain(rows),
        }
    }

    /// Predicted time until all sessions together have run so many rows.
    fn drain(&self, rows: usize) -> Duration {
        let full = self.limits.preferred_batch_rows;
        self.estimate(full).mul_f64(rows as f64 / full as f64) / self.sessions()
    }

    /// Whether every session has work for a while, whatever else comes.
    #[must_use]
    pub fn behind(&self) -> bool {
        self.idle() == 0 && self.drain(self.queue.rows()) >= BACKLOG
    }

    /// How many more lanes should wake than are at work.
    #[must_use]
    pub fn lanes_wanted(&self) -> usize {
        match self.queue.rows() {
            0 => 0,
            rows => rows.div_ceil(self.share(rows)).min(self.idle()),
        }
    }

    /// What an idle session should do.
    pub fn poll(&mut self, now: Instant, dropped: &mut Dropped<E>) -> Poll<E> {
        let waiting = self.queue.rows();
        if waiting == 0 {
            return Poll::Wait(None);
        }
        if let Some(until) = self.worth_waiting(waiting, now) {
            self.held.get_or_insert(now);
            return Poll::Wait(Some(until));
        }
        self.held = None;
        let batch = self.queue.take(self.size(waiting, now), now, dropped);
        if batch.is_empty() { Poll::Wait(None) } else { Poll::Run(batch) }
    }

    /// Until when to wait for company, if at all.
    ///
    /// The next request to come will save the overhead of a run of its own; each row that waits for it loses
    /// the time until then. So it is worth waiting while the loss is smaller, somebody is likely to come, the
    /// loss so far is no more than there is to gain, and a deadline does not forbid it.
    fn worth_waiting(&self, waiting: usize, now: Instant) -> Option<Instant> {
        let (overhead, gap) = (self.cost.overhead(), self.pace.gap());
        if waiting >= self.limits.preferred_batch_rows || gap * u32::try_from(waiting).ok()? >= overhead {
            return None;
        }
        let in_time = self.queue.next_deadline()?.checked_sub(self.estimate(waiting + 1) * 2)?;
        let until = self.pace.next_by()?.min(self.held.unwrap_or(now) + overhead).min(in_time);
        // What is shorter than a wake takes is no wait.
        (until > now + HOP).then_some(until)
    }

    /// Rows of the next batch, of `waiting` ones: an equal share of them for each idle session that is worth
    /// waking, cut down where a smaller batch is cheaper, or the only one in time for the first deadline.
    fn size(&self, waiting: usize, now: Instant) -> usize {
        let share = self.share(waiting);
        let size = self.cost.cut(share, self.limits.padded);
        let left = self.queue.next_deadline().map_or(Duration::MAX, |d| d.saturating_duration_since(now));
        if self.estimate(size) <= left {
            return size;
        }
        // Too late for any size: whole, for the sake of those that follow.
        let in_time = std::iter::successors(Some(size / 2), |n| Some(n / 2)).take_while(|n| *n > 0);
        in_time.into_iter().find(|n| self.estimate(*n) <= left).unwrap_or(size)
    }

    /// An equal share of `rows` for each idle session, as long as one more saves more than its wake costs.
    fn share(&self, rows: usize) -> usize {
        let full = self.full(rows);
        let share = |n: usize| rows.div_ceil(n).min(full);
        let mut best = 1;
        for n in 2..=self.idle().min(rows) {
            if self.estimate(share(best)) > self.estimate(share(n)) + HOP {
                best = n;
            }
        }
        share(best)
    }

    /// Takes note that a session begins a run.
    pub fn started(&mut self, session: usize, rows: usize, now: Instant) {
        self.running[session] = Some(now + self.estimate(rows));
    }

    /// Takes note that a session ended a run; `took` is `None` where the run failed.
    pub fn ended(&mut self, session: usize, rows: usize, took: Option<Duration>) {
        self.running[session] = None;
        if let Some(took) = took {
            self.cost.learn(self.run_rows(rows), took);
            let runs = self.runs.entry(rows).or_default();
            runs.count += 1;
            runs.took += took;
        }
    }

    /// Predicted time of a run of so many rows.
    fn estimate(&self, rows: usize) -> Duration {
        self.cost.estimate(self.run_rows(rows))
    }

    /// Rows that are really run: the padding costs as much as what it stands beside.
    fn run_rows(&self, rows: usize) -> usize {
        if self.limits.padded { self.cost.bucket(rows) } else { rows }
    }

    /// Rows of the largest batch while so many wait: the more run at once, the less each costs, and the longer it takes.
    fn full(&self, rows: usize) -> usize {
        let BatchLimits { max_batch_rows, preferred_batch_rows, .. } = self.limits;
        if rows >= max_batch_rows * self.running.len() { max_batch_rows } else { preferred_batch_rows }
    }

    fn sessions(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX).max(1)
    }

    fn idle(&self) -> usize {
        self.running.iter().filter(|end| end.is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::queue::Priority;

    #[derive(Debug, PartialEq, Eq)]
    struct Fake {
        rows: usize,
        deadline: Instant,
    }

    impl Entry for Fake {
        fn rows(&self) -> usize {
            self.rows
        }
        fn deadline(&self) -> Instant {
            self.deadline
        }
        fn priority(&self) -> Priority {
            Priority::Normal
        }
        fn abandoned(&self) -> bool {
            false
        }
        fn cut(&mut self, rows: usize) -> Self {
            self.rows -= rows;
            Self { rows, deadline: self.deadline }
        }
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// One millisecond, and another for each row.
    fn scheduler(sessions: usize, now: Instant) -> Scheduler<Fake> {
        let limits =
            BatchLimits { max_batch_rows: 16, preferred_batch_rows: 16, queue_rows: 100, inline: ms(3), padded: false };
        let cost = CostModel::new(&[1, 2, 4, 8, 16].map(|rows| (rows, ms(1 + rows as u64))));
        Scheduler::new(sessions, limits, cost.unwrap_or_else(|| unreachable!()), now)
    }

    fn push(scheduler: &mut Scheduler<Fake>, rows: usize, within: Duration, now: Instant) -> Result<(), Refusal> {
        scheduler.push(Fake { rows, deadline: now + within }, now, &mut Dropped::default())
    }

    /// Polls for one session after another until there is nothing; the batches' sizes.
    fn run(scheduler: &mut Scheduler<Fake>, sessions: usize, now: Instant) -> Vec<usize> {
        let mut sizes = Vec::new();
        for session in 0..sessions {
            let Poll::Run(batch) = scheduler.poll(now, &mut Dropped::default()) else { break };
            let rows = batch.iter().map(Entry::rows).sum();
            scheduler.started(session, rows, now);
            sizes.push(rows);
        }
        sizes
    }

    #[test]
    fn rows_are_shared_among_idle_sessions_while_that_is_faster() {
        let now = Instant::now();
        for (rows, sessions, expect) in [
            (12, 1, vec![12]),
            (12, 2, vec![6, 6]),
            (12, 3, vec![4, 4, 4]),
            (1, 3, vec![1]),
            (40, 2, vec![14, 13]), // of 40 rows a batch can hold 16 at most
        ] {
            let mut scheduler = scheduler(sessions, now);
            assert_eq!(push(&mut scheduler, rows, ms(1000), now), Ok(()));
            assert_eq!(scheduler.lanes_wanted(), expect.len(), "{rows} rows, {sessions} sessions");
            assert_eq!(run(&mut scheduler, sessions, now), expect, "{rows} rows, {sessions} sessions");
        }
    }

    #[test]
    fn a_batch_is_cut_down_so_that_the_first_deadline_holds() {
        let now = Instant::now();
        let mut scheduler = scheduler(1, now);
        assert_eq!(push(&mut scheduler, 4, ms(6), now), Ok(()));
        assert_eq!(push(&mut scheduler, 12, ms(1000), now), Ok(()));
        assert_eq!(run(&mut scheduler, 1, now), [4], "16 rows would take 17 ms");
    }

    #[test]
    fn what_would_be_late_is_refused_but_never_on_an_idle_engine() {
        let now = Instant::now();
        let mut scheduler = scheduler(2, now);
        assert_eq!(push(&mut scheduler, 8, ms(1), now), Ok(()), "estimates may be wrong: running tells");
        assert_eq!(run(&mut scheduler, 2, now), [4, 4]);
        // Both sessions are busy for 5 ms.
        let late = push(&mut scheduler, 4, ms(7), now);
        assert_eq!(late, Err(Refusal::Late { predicted: ms(5 + 3) }));
        assert_eq!(push(&mut scheduler, 4, ms(8), now), Ok(()));
        // What is more urgent than all that waits has only the running to wait for.
        assert_eq!(push(&mut scheduler, 16, ms(1000), now), Ok(()));
        assert_eq!(push(&mut scheduler, 2, ms(8), now), Err(Refusal::Late { predicted: ms(5) + ms(17) / 8 + ms(2) }));
        assert_eq!(push(&mut scheduler, 2, ms(0), now), Err(Refusal::Expired));
        let full = Refusal::Full(crate::batch::queue::Full { waiting: 20, capacity: 100 });
        assert_eq!(push(&mut scheduler, 90, ms(5000), now), Err(full));
    }

    #[test]
    fn waiting_for_company_is_for_costly_runs_and_busy_times() {
        let start = Instant::now();
        let limits =
            BatchLimits { max_batch_rows: 16, preferred_batch_rows: 16, queue_rows: 100, inline: ms(0), padded: true };
        // A GPU: the run costs 10 ms, its rows next to nothing.
        let cost = CostModel::new(&[1, 2, 4, 8, 16].map(|rows| (rows, ms(10))));
        let mut scheduler = Scheduler::new(1, limits, cost.unwrap_or_else(|| unreachable!()), start);
        let mut now = start;
        let poll = |s: &mut Scheduler<Fake>, now| match s.poll(now, &mut Dropped::default()) {
            Poll::Run(batch) => Err(batch.len()),
            Poll::Wait(until) => Ok(until),
        };
        scheduler.arrived(now);
        assert_eq!(push(&mut scheduler, 1, ms(1000), now), Ok(()));
        assert_eq!(poll(&mut scheduler, now), Err(1), "nobody is known to come");
        for _ in 0..100 {
            now += ms(2);
            scheduler.arrived(now);
        }
        assert_eq!(push(&mut scheduler, 1, ms(1000), now), Ok(()));
        let gap = scheduler.pace.gap();
        assert_eq!(poll(&mut scheduler, now), Ok(Some(now + gap * 2)), "in 2 ms another should come");
        assert_eq!(poll(&mut scheduler, now + gap * 2), Err(1), "it did not");
        assert_eq!(push(&mut scheduler, 1, ms(15), now), Ok(()));
        assert_eq!(poll(&mut scheduler, now), Err(1), "its deadline does not allow for a wait");
        for _ in 0..6 {
            assert_eq!(push(&mut scheduler, 1, ms(1000), now), Ok(()));
        }
        assert_eq!(poll(&mut scheduler, now), Err(6), "six that wait 2 ms lose more than a run costs");
    }

    #[test]
    fn batches_grow_once_there_is_a_large_one_for_every_session() {
        let now = Instant::now();
        for (waiting, expect) in [(63, [16, 16]), (64, [32, 16]), (96, [32, 32])] {
            let mut scheduler = scheduler(2, now);
            scheduler.limits.max_batch_rows = 32;
            for _ in 0..waiting {
                assert_eq!(push(&mut scheduler, 1, ms(1000), now), Ok(()));
            }
            assert_eq!(run(&mut scheduler, 2, now), expect, "{waiting} rows");
        }
    }

    #[test]
    fn it_is_behind_while_every_session_has_work_for_a_while() {
        let now = Instant::now();
        let mut scheduler = scheduler(2, now);
        // 17 ms for 16 rows, by two sessions: 0.53 ms a row.
        assert_eq!(push(&mut scheduler, 5, ms(1000), now), Ok(()));
        assert!(!scheduler.behind(), "both are idle");
        scheduler.started(0, 1, now);
        assert!(!scheduler.behind(), "one is");
        scheduler.started(1, 1, now);
        assert!(scheduler.behind(), "2.7 ms");
        assert_eq!(run(&mut scheduler, 1, now), [5]);
        assert_eq!(push(&mut scheduler, 2, ms(1000), now), Ok(()));
        assert!(!scheduler.behind(), "1.1 ms");
    }

    #[test]
    fn a_padded_run_costs_what_its_bucket_does_and_teaches_no_other() {
        let now = Instant::now();
        let mut scheduler = scheduler(1, now);
        scheduler.limits.padded = true;
        // 9 rows run as 16, which take 17 ms and always did.
        for _ in 0..200 {
            scheduler.started(0, 9, now);
            assert_eq!(scheduler.running[0], Some(now + ms(17)));
            scheduler.ended(0, 9, Some(ms(17)));
        }
        let measured: Vec<_> = scheduler.cost().measured().collect();
        assert_eq!(measured, [1, 2, 4, 8, 16].map(|rows| (rows, ms(1 + rows as u64))));
        scheduler.ended(0, 9, None);
        let runs = Runs { count: 200, took: ms(17 * 200) };
        assert_eq!(scheduler.runs(), &BTreeMap::from([(9, runs)]), "the batch as it was sent, and no failures");
    }

    #[test]
    fn only_a_short_run_with_nobody_near_is_lonely() {
        let mut now = Instant::now();
        let mut scheduler = scheduler(1, now);
        scheduler.arrived(now);
        assert!(scheduler.lonely(2), "3 ms");
        assert!(!scheduler.lonely(3), "4 ms are longer than allowed");
        for _ in 0..100 {
            now += ms(1);
            scheduler.arrived(now);
        }
        assert!(!scheduler.lonely(1), "the next request comes before this one is done");
        for _ in 0..100 {
            now += ms(10);
            scheduler.arrived(now);
        }
        scheduler.started(0, 1, now);
        assert!(!scheduler.lonely(1), "no session is idle");
        scheduler.ended(0, 1, Some(ms(2)));
        assert!(scheduler.lonely(1));
        assert_eq!(push(&mut scheduler, 1, ms(100), now), Ok(()));
        assert!(!scheduler.lonely(1), "another waits");
    }
}
