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
use queue::{Queue, Refusal};

use crate::session::Session;

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
    /// In batches that failed.
    pub failed_rows: AtomicU64,
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
    /// When the operating system gives no more threads.
    pub fn start(
        name: &str,
        sessions: Vec<Box<dyn Session>>,
        limits: BatchLimits,
        first: Rows,
    ) -> std::io::Result<Self> {
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
        while warmed.recv().is_ok() {}
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
        self.shared.drop_unwanted(dropped);
        match result {
            Ok(()) if several => self.shared.wake.notify_all(),
            Ok(()) => self.shared.wake.notify_one(),
            Err(Refusal::Expired) => {
                Counters::add(&self.counters().expired_rows, len);
                return Err(ScoreError::DeadlineExceeded);
            }
            Err(Refusal::Full { waiting, capacity }) => {
                Counters::add(&self.counters().refused_rows, len);
                return Err(ScoreError::Full { waiting, capacity });
            }
        }
        Ok(())
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
    /// Answers parts that will not be run, and counts them.
    fn drop_unwanted(&self, parts: Vec<Part>) {
        use queue::Entry as _;
        for part in parts {
            let counter = if part.abandoned() { &self.counters.abandoned_rows } else { &self.counters.expired_rows };
            Counters::add(counter, part.rows());
            part.fail(&ScoreError::DeadlineExceeded);
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
