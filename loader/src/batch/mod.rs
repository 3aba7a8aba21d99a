//! Batches requests onto a servable's sessions.
//!
//! A request becomes a job in the [`queue`]; the [`scheduler`] knows what a run costs ([`cost`]) and decides
//! what runs, in batches of what size, and what is refused because it would be late: all pure data. Lanes, one OS
//! thread for each session, do what it says. A short request that finds an idle engine and no others on their way
//! runs on its caller's thread, where no other thread has to wake.
//!
//! Encoding before and calibration after are the caller's work.

pub mod cost;
mod job;
mod lane;
mod pace;
pub mod queue;
pub mod scheduler;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use cost::CostModel;
use job::Part;
pub use job::{Request, ScoreError, Scores};
use lane::Numbered;
use queue::{Dropped, Entry as _};
use scheduler::{Refusal, Runs, Scheduler};

use crate::{
    session::{RunError, Session},
    tensor::Tensor,
    threads::Backlog,
};

/// Sizes of a servable's queue and batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Largest batch, in rows: it runs once there is one of them for every lane.
    pub max_batch_rows: usize,
    /// Largest batch before that. What comes meanwhile waits for no more than such a one.
    pub preferred_batch_rows: usize,
    /// Rows that may wait.
    pub queue_rows: usize,
    /// A run that is predicted to take no longer than this may be made on the caller's thread. Zero: each session
    /// stays on one lane, as CUDA graphs want it, which belong to the thread that recorded them.
    pub inline: Duration,
    /// Whether only batches of a size that was measured run, smaller ones padded: what a GPU wants.
    pub padded: bool,
}

/// Counts since the servable was loaded. Rows, unless they say otherwise.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches run.
    pub batches: AtomicU64,
    /// Rows run.
    pub rows: AtomicU64,
    /// Of them, those that nobody waited for any more when they were done.
    pub wasted_rows: AtomicU64,
    /// Dropped because the deadline passed.
    pub expired_rows: AtomicU64,
    /// Dropped because the caller left.
    pub abandoned_rows: AtomicU64,
    /// Not admitted: the answer would have been late.
    pub late_rows: AtomicU64,
    /// Not admitted: queue full.
    pub refused_rows: AtomicU64,
    /// In batches that failed, or of requests that another batch failed.
    pub failed_rows: AtomicU64,
    /// Run, with an output that is not a finite number.
    pub not_finite_rows: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, n: usize) {
        if n > 0 {
            counter.fetch_add(n as u64, Ordering::Relaxed);
        }
    }
}

/// What the batcher's handle and its lanes share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Calls parked lanes.
    call: Condvar,
    limits: BatchLimits,
    counters: Counters,
}

struct State {
    scheduler: Scheduler<Part>,
    /// The sessions that run nothing.
    idle: Vec<Numbered>,
    /// Lanes that wait, and how many of them have been called and are not here yet.
    parked: usize,
    called: usize,
    closed: bool,
    /// While the scheduler is behind.
    backlog: Option<Backlog>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scheduler, idle, parked, closed, .. } = self;
        let debug = &mut f.debug_struct("State");
        debug.field("scheduler", scheduler).field("idle", &idle.len()).field("parked", parked);
        debug.field("closed", closed).finish_non_exhaustive()
    }
}

impl State {
    /// To be called when what waits has changed.
    fn note_backlog(&mut self) {
        let behind = self.scheduler.behind();
        if behind != self.backlog.is_some() {
            self.backlog = behind.then(Backlog::begin);
        }
    }
}

type Guard<'a> = MutexGuard<'a, State>;

impl Shared {
    fn state(&self) -> Guard<'_> {
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
    alive: Arc<()>,
}

impl Batcher {
    /// Starts one lane for each session. `name` names the threads, `cost` is what runs have been measured to
    /// take.
    ///
    /// Returns once every lane has run `first`, and where batches are padded its beginning of each measured size;
    /// nobody sees the outputs: a thread's first run pays for its memory, and no caller should.
    ///
    /// # Errors
    /// When the operating system gives no more threads, or a first run fails.
    pub fn start(
        name: &str,
        sessions: Vec<Box<dyn Session>>,
        limits: BatchLimits,
        first: Vec<Tensor>,
        cost: CostModel,
    ) -> Result<Self, BatcherError> {
        let first = Arc::new(first_runs(first, limits, &cost));
        let scheduler = Scheduler::new(sessions.len(), limits, cost, Instant::now());
        let state = State { scheduler, idle: Vec::new(), parked: 0, called: 0, closed: false, backlog: None };
        let shared = Shared { state: Mutex::new(state), call: Condvar::new(), limits, counters: Counters::default() };
        let batcher = Self { shared: Arc::new(shared), alive: Arc::new(()) };
        let (warm, warmed) = mpsc::channel();
        for session in sessions.into_iter().enumerate() {
            let first = (Arc::clone(&first), warm.clone());
            let (shared, alive) = (Arc::clone(&batcher.shared), Arc::clone(&batcher.alive));
            lane::spawn(format!("{name}#{}", session.0), session, first, shared, alive)?;
        }
        drop(warm);
        // Ends when each lane has dropped its sender.
        for result in warmed {
            result?;
        }
        Ok(batcher)
    }

    /// Runs a request through the model.
    ///
    /// Dropping the future tells the lanes that nobody waits: rows that have not started are not run.
    ///
    /// # Errors
    /// [`ScoreError`] says whether a retry makes sense.
    pub async fn score(&self, request: Request, now: Instant) -> Result<Scores, ScoreError> {
        if request.rows == 0 {
            return Ok(Scores::default());
        }
        let deadline = request.deadline;
        let answer = match self.submit(request, now) {
            Submitted::Answered(result) => return result,
            Submitted::Queued(answer) => answer,
        };
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(scores)) => scores,
            // The lane ended without an answer: only when the servable is gone.
            Ok(Err(_)) => Err(ScoreError::Closed),
            Err(_) => Err(ScoreError::DeadlineExceeded),
        }
    }

    fn submit(&self, request: Request, now: Instant) -> Submitted {
        let (rows, capacity) = (request.rows, request.priority.share_of(self.shared.limits.queue_rows));
        if rows > capacity {
            return Submitted::Answered(Err(ScoreError::TooLarge { rows, capacity }));
        }
        let mut state = self.shared.state();
        state.scheduler.arrived(now);
        if state.scheduler.lonely(rows)
            && request.deadline > now
            && let Some(session) = state.idle.pop()
        {
            state.scheduler.started(session.0, rows, now);
            drop(state);
            return Submitted::Answered(self.run_here(session, &request));
        }
        let (reply, answer) = oneshot::channel();
        let mut dropped = Dropped::default();
        let result = state.scheduler.push(Part::whole(request, now, reply), now, &mut dropped);
        if result.is_ok() {
            self.shared.wake(&mut state);
            state.note_backlog();
        }
        drop(state);
        self.shared.discard(dropped);
        let counters = &self.shared.counters;
        let (counter, error) = match result {
            Ok(()) => return Submitted::Queued(answer),
            Err(Refusal::Expired) => (&counters.expired_rows, ScoreError::DeadlineExceeded),
            Err(Refusal::Late { predicted }) => (&counters.late_rows, ScoreError::Late { predicted }),
            Err(Refusal::Full(queue::Full { waiting, capacity })) => {
                (&counters.refused_rows, ScoreError::Full { rows, waiting, capacity })
            }
        };
        Counters::add(counter, rows);
        Submitted::Answered(Err(error))
    }

    /// Runs a request on this thread.
    fn run_here(&self, (place, mut session): Numbered, request: &Request) -> Result<Scores, ScoreError> {
        let started = Instant::now();
        let result = lane::run(session.as_mut(), &request.inputs);
        let took = started.elapsed();
        self.shared.give_back((place, session), request.rows, result.is_ok().then_some(took));
        let counters = &self.shared.counters;
        match result {
            Ok(outputs) => {
                Counters::add(&counters.batches, 1);
                Counters::add(&counters.rows, request.rows);
                Ok(Scores { outputs, queue: Duration::ZERO, compute: took, batch_rows: request.rows })
            }
            Err(RunError(failure)) => {
                Counters::add(&counters.failed_rows, request.rows);
                tracing::error!(rows = request.rows, error = %failure, "batch failed");
                Err(ScoreError::Failed(failure))
            }
        }
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
        self.shared.state().scheduler.rows()
    }

    /// What has been run, by rows of the batch without padding.
    #[must_use]
    pub fn runs(&self) -> BTreeMap<usize, Runs> {
        self.shared.state().scheduler.runs().clone()
    }

    /// What runs are predicted to take now.
    #[must_use]
    pub fn cost(&self) -> CostModel {
        self.shared.state().scheduler.cost().clone()
    }

    /// A token that lives as long as any lane: when it cannot be upgraded, every session is gone.
    #[must_use]
    pub fn lanes(&self) -> std::sync::Weak<()> {
        Arc::downgrade(&self.alive)
    }
}

/// What each lane runs before it takes work: `largest`, and before it its beginning of each smaller size that may run.
fn first_runs(largest: Vec<Tensor>, limits: BatchLimits, cost: &CostModel) -> Vec<Vec<Tensor>> {
    let most = largest.first().map_or(0, Tensor::rows);
    let mut runs = Vec::new();
    for (rows, _) in cost.measured().filter(|(rows, _)| limits.padded && *rows < most) {
        let mut inputs = largest.clone();
        inputs.iter_mut().for_each(|input| input.truncate(rows));
        runs.push(inputs);
    }
    runs.push(largest);
    runs
}

/// What became of a request.
enum Submitted {
    Answered(Result<Scores, ScoreError>),
    Queued(oneshot::Receiver<Result<Scores, ScoreError>>),
}

impl Shared {
    /// Answers and counts parts that will not be run. Takes the jobs' locks and wakes callers: not to be
    /// called under the state's lock.
    fn discard(&self, dropped: Dropped<Part>) {
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
        self.shared.call.notify_all();
    }
}

#[cfg(test)]
mod tests;
