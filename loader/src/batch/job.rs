//! One request on its way through the lanes.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aibuyer_domain::{ErrorKind, ctr::Rows};
use tokio::sync::oneshot;

use super::queue::Entry;
use crate::session::Outputs;

/// The model's outputs for one request, and where its time went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Log-odds and variances, in the order of the request's rows.
    pub outputs: Outputs,
    /// Time from the submission until a lane took the last part.
    pub queue: Duration,
    /// Longest run of a batch that held a part.
    pub compute: Duration,
    /// Rows of the largest such batch.
    pub batch_rows: usize,
}

/// Why a request has no scores.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// No room in the queue.
    #[error("{waiting} rows are waiting, {rows} more would be over the {capacity} that may; retry with back-off")]
    Full {
        /// Rows of the request.
        rows: usize,
        /// Rows waiting.
        waiting: usize,
        /// Rows that may wait.
        capacity: usize,
    },
    /// More rows than the queue could ever hold.
    #[error("{rows} candidates are more than the queue of {capacity} rows can hold: send fewer in one request")]
    TooLarge {
        /// Rows of the request.
        rows: usize,
        /// Rows that may wait.
        capacity: usize,
    },
    /// The deadline passed before a lane was free.
    #[error("the deadline passed before the request could be computed")]
    DeadlineExceeded,
    /// The model failed on the batch; the text is for the log.
    #[error("the model failed: {0}")]
    Failed(String),
    /// The servable is being taken down.
    #[error("the model version is being unloaded; retry")]
    Closed,
}

impl ScoreError {
    /// What the failure means to the caller.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { .. } => ErrorKind::Overloaded,
            Self::TooLarge { .. } => ErrorKind::Invalid,
            Self::DeadlineExceeded => ErrorKind::DeadlineExceeded,
            Self::Failed(_) => ErrorKind::Internal,
            Self::Closed => ErrorKind::NotReady,
        }
    }
}

/// Where a request's answer goes.
pub(super) type Reply = oneshot::Sender<Result<Scores, ScoreError>>;

/// A request's rows and its answer in the making.
#[derive(Debug)]
pub(super) struct Job {
    rows: Rows,
    slots: usize,
    columns: usize,
    submitted: Instant,
    deadline: Instant,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    scores: Scores,
    missing: usize,
    /// Gone once answered.
    reply: Option<Reply>,
}

/// Some of a request's rows: what a lane takes.
#[derive(Debug, Clone)]
pub(super) struct Part {
    job: Arc<Job>,
    range: Range<usize>,
}

impl Job {
    pub(super) fn new(rows: Rows, submitted: Instant, deadline: Instant, reply: Reply) -> Self {
        let len = rows.len;
        let outputs = Outputs { logits: vec![f32::NAN; len], variances: None };
        Self {
            slots: rows.ids.len() / len.max(1),
            columns: rows.dense.len() / len.max(1),
            rows,
            submitted,
            deadline,
            progress: Mutex::new(Progress {
                scores: Scores { outputs, ..Scores::default() },
                missing: len,
                reply: Some(reply),
            }),
        }
    }

    /// Cuts the job into parts of at most `max` rows, of as equal a size as can be.
    pub(super) fn parts(self, max: usize) -> Vec<Part> {
        let len = self.rows.len;
        let count = len.div_ceil(max);
        let job = Arc::new(self);
        (0..count).map(|i| Part { job: Arc::clone(&job), range: i * len / count..(i + 1) * len / count }).collect()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    pub(super) fn ids(&self) -> &[i64] {
        &self.job.rows.ids[self.range.start * self.job.slots..self.range.end * self.job.slots]
    }

    pub(super) fn dense(&self) -> &[f32] {
        &self.job.rows.dense[self.range.start * self.job.columns..self.range.end * self.job.columns]
    }

    /// Hands in the outputs of a batch in which this part stood at `at`; answers when it was the last part.
    pub(super) fn complete(&self, batch: &Outputs, at: usize, started: Instant, compute: Duration) {
        let mut progress = self.job.progress();
        let Progress { scores, missing, reply } = &mut *progress;
        if reply.is_none() {
            return;
        }
        let len = self.range.len();
        scores.outputs.logits[self.range.clone()].copy_from_slice(&batch.logits[at..at + len]);
        if let Some(variances) = &batch.variances {
            let all = scores.outputs.variances.get_or_insert_with(|| vec![f32::NAN; self.job.rows.len]);
            all[self.range.clone()].copy_from_slice(&variances[at..at + len]);
        }
        scores.queue = scores.queue.max(started.saturating_duration_since(self.job.submitted));
        scores.compute = scores.compute.max(compute);
        scores.batch_rows = scores.batch_rows.max(batch.logits.len());
        *missing -= len;
        if *missing == 0
            && let Some(reply) = reply.take()
        {
            // A caller that left has no use for the answer.
            let _ = reply.send(Ok(std::mem::take(scores)));
        }
    }

    /// Whether the request has been answered.
    pub(super) fn answered(&self) -> bool {
        self.job.progress().reply.is_none()
    }

    /// Answers the whole request with an error, unless it has been answered.
    pub(super) fn fail(&self, error: &ScoreError) {
        if let Some(reply) = self.job.progress().reply.take() {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

impl Entry for Part {
    fn rows(&self) -> usize {
        self.range.len()
    }

    fn deadline(&self) -> Instant {
        self.job.deadline
    }

    fn abandoned(&self) -> bool {
        self.job.progress().reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}
