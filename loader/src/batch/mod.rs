//! Batches requests onto a servable's lanes.
//!
//! A request's rows become a job, cut into parts of at most one batch. [`queue`] holds the parts, a pure
//! data structure; lanes, an OS thread for each session, take the next batch whenever they are free, so
//! batches grow with load and nobody waits for company on an idle engine. Encoding before and calibration
//! after are the caller's work.

mod job;
mod lane;
pub mod queue;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Instant,
};

use aibuyer_domain::ctr::Rows;
use tokio::sync::oneshot;

use job::{Job, Part};
pub use job::{ScoreError, Scores};
use queue::{Dropped, Queue, Refusal};

use crate::session::{RunError, Session};

/// Sizes of a servable's queue and batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Largest batch, in rows.
    pub max_batch_rows: usize,
    /// Rows that may wait.
    pub queue_rows: usize,
}

/// Counts since the servable was loaded. Rows, unless they say otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches run.
    pub batches: AtomicU64,
    /// Rows run.
    pub rows: AtomicU64,
    /// Dropped because the deadline passed.
    pub expired_rows: AtomicU64,
    /// Dropped because the caller left.
    pub abandoned_rows: AtomicU64,
    /// Not admitted: queue full.
    pub refused_rows: AtomicU64,
    /// In batches that failed, or of requests that another batch failed.
    pub failed_rows: AtomicU64,
    /// Run, with an output that is not a finite number.
    pub not_finite_rows: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// What the batcher's handle and its lanes share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct State {
    queue: Queue<Part>,
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batcher that did not start.
#[derive(Debug, thiserror::Error)]
pub enum BatcherError {
    /// The operating system gives no more threads.
    #[error("no thread for a lane: {0}")]
    Threads(#[from] std::io::Error),
    /// A lane's first run failed.
    #[error("the first run on a lane failed: {0}")]
    FirstRun(#[from] RunError),
}

/// A queue and its lanes. Dropping it lets the lanes finish what waits and end.
#[derive(Debug)]
pub struct Batcher {
    shared: Arc<Shared>,
    limits: BatchLimits,
    lanes: Arc<()>,
}

impl Batcher {
    /// Starts one lane for each session. `name` names the threads.
    ///
    /// Returns once every lane has run `first`, whose outputs nobody sees: a thread's first run pays for its
    /// memory, and no caller should.
    ///
    /// # Errors
    /// When the operating system gives no more threads, or a first run fails.
    pub fn start(
        name: &str,
        sessions: Vec<Box<dyn Session>>,
        limits: BatchLimits,
        first: Rows,
    ) -> Result<Self, BatcherError> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { queue: Queue::new(limits.queue_rows, limits.max_batch_rows), closed: false }),
            wake: Condvar::new(),
            counters: Arc::default(),
        });
        let batcher = Self { shared, limits, lanes: Arc::new(()) };
        let first = Arc::new(first);
        let (warm, warmed) = mpsc::channel();
        for (i, session) in sessions.into_iter().enumerate() {
            let first = (Arc::clone(&first), warm.clone());
            let (shared, alive) = (Arc::clone(&batcher.shared), Arc::clone(&batcher.lanes));
            lane::spawn(format!("{name}#{i}"), session, first, shared, alive)?;
        }
        drop(warm);
        // Ends when each lane has dropped its sender.
        for result in warmed {
            result?;
        }
        Ok(batcher)
    }

    /// Runs rows through the model.
    ///
    /// Dropping the future tells the lanes that nobody waits: parts that have not started are not run.
    ///
    /// # Errors
    /// [`ScoreError`] says whether a retry makes sense.
    pub async fn score(&self, rows: Rows, now: Instant, deadline: Instant) -> Result<Scores, ScoreError> {
        if rows.len == 0 {
            return Ok(Scores::default());
        }
        let (reply, answer) = oneshot::channel();
        self.submit(rows, now, deadline, reply)?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(scores)) => scores,
            // The lane ended without an answer: only when the servable is gone.
            Ok(Err(_)) => Err(ScoreError::Closed),
            Err(_) => Err(ScoreError::DeadlineExceeded),
        }
    }

    fn submit(&self, rows: Rows, now: Instant, deadline: Instant, reply: job::Reply) -> Result<(), ScoreError> {
        let (len, capacity) = (rows.len, self.limits.queue_rows);
        if len > capacity {
            return Err(ScoreError::TooLarge { rows: len, capacity });
        }
        let parts = Job::new(rows, now, deadline, reply).parts(self.limits.max_batch_rows);
        let several = parts.len() > 1;
        let (result, dropped) = self.shared.state().queue.push(parts, now);
        self.shared.discard(dropped);
        match result {
            Ok(()) if several => self.shared.wake.notify_all(),
            Ok(()) => self.shared.wake.notify_one(),
            Err(Refusal::Expired) => {
                Counters::add(&self.counters().expired_rows, len);
                return Err(ScoreError::DeadlineExceeded);
            }
            Err(Refusal::Full { waiting, capacity }) => {
                Counters::add(&self.counters().refused_rows, len);
                return Err(ScoreError::Full { rows: len, waiting, capacity });
            }
        }
        Ok(())
    }

    /// Takes note of rows whose output is not a finite number.
    pub fn count_not_finite(&self, rows: usize) {
        Counters::add(&self.shared.counters.not_finite_rows, rows);
    }

    /// Counts since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Rows waiting now.
    #[must_use]
    pub fn waiting_rows(&self) -> usize {
        self.shared.state().queue.rows()
    }

    /// A token that lives as long as any lane: when it cannot be upgraded, every session is gone.
    #[must_use]
    pub fn lanes(&self) -> std::sync::Weak<()> {
        Arc::downgrade(&self.lanes)
    }
}

impl Shared {
    /// Answers and counts parts that will not be run. Takes the jobs' locks and wakes callers: not to be
    /// called under the queue's lock.
    fn discard(&self, dropped: Dropped<Part>) {
        use queue::Entry as _;
        for part in dropped.expired {
            Counters::add(&self.counters.expired_rows, part.rows());
            part.fail(&ScoreError::DeadlineExceeded);
        }
        for part in dropped.abandoned {
            // Of a request that another part of failed, the rest is not worth running either.
            let counter = if part.answered() { &self.counters.failed_rows } else { &self.counters.abandoned_rows };
            Counters::add(counter, part.rows());
        }
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.wake.notify_all();
    }
}

#[cfg(test)]
mod tests;
