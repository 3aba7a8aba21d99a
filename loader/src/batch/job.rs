//! One request on its way through the lanes.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aibuyer_domain::ErrorKind;
use tokio::sync::oneshot;

use super::queue::{Entry, Priority};
use crate::tensor::Tensor;

/// What a request asks of the model.
#[derive(Debug, Clone)]
pub struct Request {
    /// All inputs, in the signature's order.
    pub inputs: Vec<Tensor>,
    /// Rows of each, 1 or more. Inputs whose first dimension does not count rows are one row as a whole.
    pub rows: usize,
    /// Its rank in the queue.
    pub priority: Priority,
    /// When its answer stops being wanted.
    pub deadline: Instant,
}

/// The model's outputs for one request, and where its time went.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores<T = Vec<Tensor>> {
    /// All outputs, in the signature's order, rows in the request's order.
    pub outputs: T,
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
    /// The deadline would pass before the answer is there.
    #[error(
        "the answer would take about {predicted:?}, longer than the deadline allows: the engine is busy or the \
         deadline too short"
    )]
    Late {
        /// Time that it is predicted to take.
        predicted: Duration,
    },
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
            Self::DeadlineExceeded | Self::Late { .. } => ErrorKind::DeadlineExceeded,
            Self::Failed(_) => ErrorKind::Internal,
            Self::Closed => ErrorKind::NotReady,
        }
    }
}

/// Where a request's answer goes.
pub(super) type Reply = oneshot::Sender<Result<Scores, ScoreError>>;

/// A request and its answer in the making.
#[derive(Debug)]
pub(super) struct Job {
    request: Request,
    submitted: Instant,
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

/// A run that a part travelled in.
pub(super) struct Run {
    pub(super) rows: usize,
    pub(super) started: Instant,
    pub(super) took: Duration,
}

impl Part {
    /// All of a request.
    pub(super) fn whole(request: Request, submitted: Instant, reply: Reply) -> Self {
        let rows = request.rows;
        let progress = Progress { scores: Scores::default(), missing: rows, reply: Some(reply) };
        Self { job: Arc::new(Job { request, submitted, progress: Mutex::new(progress) }), range: 0..rows }
    }

    pub(super) fn inputs(&self) -> &[Tensor] {
        &self.job.request.inputs
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Whether it is all of its request.
    pub(super) fn is_whole(&self) -> bool {
        self.range.len() == self.job.request.rows
    }

    /// Hands in the outputs of a run of this part alone. Whether anybody waited for them.
    pub(super) fn complete_alone(&self, outputs: Vec<Tensor>, run: &Run) -> bool {
        if !self.is_whole() {
            return self.complete(&outputs, 0, run);
        }
        self.finish(run, |scores| scores.outputs = outputs)
    }

    /// Hands in the outputs of a run in which this part stood at `at`. Whether anybody waited for them.
    pub(super) fn complete(&self, outputs: &[Tensor], at: usize, run: &Run) -> bool {
        let (len, all) = (self.range.len(), self.job.request.rows);
        let rows = at..at + len;
        self.finish(run, |scores| {
            if self.is_whole() {
                scores.outputs.extend(outputs.iter().map(|o| {
                    let mut own = o.empty_like(len);
                    own.append(o, rows.clone());
                    own
                }));
                return;
            }
            if scores.outputs.is_empty() {
                scores.outputs.extend(outputs.iter().map(|o| o.zeros_like(all)));
            }
            for (own, output) in scores.outputs.iter_mut().zip(outputs) {
                own.replace(self.range.start, output, rows.clone());
            }
        })
    }

    /// Adds outputs to the answer, and gives it when they were the last.
    fn finish(&self, run: &Run, add: impl FnOnce(&mut Scores)) -> bool {
        let mut progress = self.job.progress();
        let Progress { scores, missing, reply } = &mut *progress;
        if reply.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return false;
        }
        add(scores);
        scores.queue = scores.queue.max(run.started.saturating_duration_since(self.job.submitted));
        scores.compute = scores.compute.max(run.took);
        scores.batch_rows = scores.batch_rows.max(run.rows);
        *missing -= self.range.len();
        let last = if *missing == 0 { reply.take() } else { None };
        let answer = last.map(|reply| (reply, std::mem::take(scores)));
        // Waking the caller is not for under the lock.
        drop(progress);
        answer.is_none_or(|(reply, scores)| reply.send(Ok(scores)).is_ok())
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

impl Job {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry for Part {
    fn rows(&self) -> usize {
        self.range.len()
    }

    fn deadline(&self) -> Instant {
        self.job.request.deadline
    }

    fn priority(&self) -> Priority {
        self.job.request.priority
    }

    fn abandoned(&self) -> bool {
        self.job.progress().reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn cut(&mut self, rows: usize) -> Self {
        let first = self.range.start..self.range.start + rows;
        self.range.start += rows;
        Self { job: Arc::clone(&self.job), range: first }
    }
}
