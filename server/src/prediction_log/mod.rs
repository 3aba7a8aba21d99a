//! The prediction log: what was predicted, written to ClickHouse after the reply.
//!
//! A handler asks [`PredictionLog::sample`] once and, when its reply is made, hands what it knows to
//! [`PredictionLog::offer`], which never waits. The rest happens on a thread of its own (`worker`): a request becomes rows
//! by the policies of its feature spec (`request`), rows become batches, and a batch is one insert under a token that
//! stays the same however often it is sent. A batch that ClickHouse does not take is put by on disk (`spill`) and sent,
//! oldest first, when it does, by this process or the next one. So a row is written once, or counted as dropped.
//!
//! What is not here: how rows travel ([`aibuyer_features::sink`]), and any wait on the way of a request.

mod counters;
mod metrics;
mod request;
mod spill;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod worker;

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use aibuyer_features::{CallError, sink::PredictionSink};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

pub(crate) use self::metrics::Collect;
pub use self::{
    counters::{Counters, Reason},
    request::{Inputs, LoggedRequest, StoredRow, ViewAges},
};
use self::{
    spill::{Shelf, Spill},
    worker::Worker,
};
use crate::config::PredictionLogConfig;

/// How long ClickHouse has to acknowledge a batch.
const INSERTED_WITHIN: Duration = Duration::from_secs(10);

/// An insert under way.
pub type Inserting = Pin<Box<dyn Future<Output = Result<(), CallError>> + Send>>;

/// Where batches go.
pub trait Sink: Send + Sync + 'static {
    /// Adds rows, all or none, and once a token however often it is sent. It ends by itself.
    fn insert(&self, rows: Bytes, token: String) -> Inserting;
}

impl Sink for PredictionSink {
    fn insert(&self, rows: Bytes, token: String) -> Inserting {
        let sink = self.clone();
        Box::pin(async move { sink.insert(rows, &token).await })
    }
}

/// A sink that writes to a database.
#[must_use]
pub fn sink(connection: &aibuyer_features::Connection) -> Arc<dyn Sink> {
    Arc::new(PredictionSink::new(connection, INSERTED_WITHIN))
}

/// Where predictions are handed in. Clones are one log.
#[derive(Clone)]
pub struct PredictionLog {
    shared: Arc<Shared>,
    requests: mpsc::UnboundedSender<LoggedRequest>,
}

impl fmt::Debug for PredictionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PredictionLog").field("counters", &self.shared.counters).finish_non_exhaustive()
    }
}

/// What those who hand in and the worker both see.
struct Shared {
    counters: Counters,
    /// Of all hashes of a request's number, those up to here are logged.
    threshold: u64,
    /// Tells this process from every other.
    run: u64,
    buffer_rows: usize,
    payload: bool,
    shelf: Arc<Mutex<Shelf>>,
    /// Why ClickHouse does not take rows, while it does not.
    problem: Mutex<Option<String>>,
}

impl Shared {
    /// Rows that were in memory are lost.
    fn lose(&self, reason: Reason, rows: usize) {
        self.counters.waiting.fetch_sub(rows, Ordering::Relaxed);
        self.counters.drop_rows(reason, rows);
    }

    /// Takes note of what keeps ClickHouse from taking rows; gives what did before.
    fn problem(&self, problem: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.problem.lock().unwrap_or_else(PoisonError::into_inner), problem)
    }
}

/// A log at work. Dropping it puts what waits by on disk.
#[derive(Debug)]
pub struct Running {
    /// Until when what waits may be written, once it is to stop.
    stop: watch::Sender<Option<Instant>>,
    ended: oneshot::Receiver<()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    /// Writes what waits until the deadline, and puts the rest by on disk.
    pub async fn stop(mut self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
        // An error is its end, too.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(Some(Instant::now()));
        // As long as it takes to write a few files.
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("prediction log: its thread has panicked, and rows in memory are lost");
        }
    }
}

impl PredictionLog {
    /// Starts a log whose spills are in the folder.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(config: &PredictionLogConfig, sink: Arc<dyn Sink>, folder: &Path) -> io::Result<(Self, Running)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (log, worker, mut running) = Self::new(config, sink, folder);
        let work = move || {
            runtime.block_on(worker.run());
            // A look-up of ClickHouse's name may still be under way.
            runtime.shutdown_background();
        };
        running.thread = Some(thread::Builder::new().name("prediction-log".to_owned()).spawn(work)?);
        Ok((log, running))
    }

    fn new(config: &PredictionLogConfig, sink: Arc<dyn Sink>, folder: &Path) -> (Self, Worker, Running) {
        let counters = Counters::default();
        let spill = Spill::open(folder, config.spill_bytes);
        let shared = Arc::new(Shared {
            counters,
            threshold: threshold(config.sample_rate),
            run: RandomState::new().build_hasher().finish(),
            buffer_rows: config.buffer_rows,
            payload: config.payload,
            shelf: spill.shelf(),
            problem: Mutex::new(None),
        });
        let (requests, received) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(None);
        let (ending, ended) = oneshot::channel();
        let worker = Worker::new(Arc::clone(&shared), sink, spill, received, stopped, ending);
        (Self { shared, requests }, worker, Running { stop, ended, thread: None })
    }

    /// Whether a request is to be logged. Ask once a request.
    #[must_use]
    pub fn sample(&self) -> bool {
        let Shared { counters, threshold, run, .. } = &*self.shared;
        let number = counters.requests.fetch_add(1, Ordering::Relaxed);
        let sampled = mixed(run.wrapping_add(number)) <= *threshold;
        if !sampled {
            counters.skipped.fetch_add(1, Ordering::Relaxed);
        }
        sampled
    }

    /// Whether features are logged.
    #[must_use]
    pub fn payload(&self) -> bool {
        self.shared.payload
    }

    /// The request's own id, or one for a request that has none.
    #[must_use]
    pub fn request_id(&self, given: String) -> String {
        if given.is_empty() {
            let number = self.shared.counters.named.fetch_add(1, Ordering::Relaxed);
            return format!("{:016x}-{number}", self.shared.run);
        }
        given
    }

    /// Takes what was predicted; if there is no room, counts its rows as dropped. Never waits.
    pub fn offer(&self, request: LoggedRequest) {
        let Shared { counters, buffer_rows, .. } = &*self.shared;
        let rows = request.rows();
        counters.offered.fetch_add(rows as u64, Ordering::Relaxed);
        let waiting = counters.waiting.fetch_add(rows, Ordering::Relaxed);
        let reason = if waiting + rows > *buffer_rows {
            if counters.spill_full.load(Ordering::Relaxed) { Reason::SpillFull } else { Reason::BufferFull }
        } else if self.requests.send(request).is_err() {
            Reason::Stopped
        } else {
            return;
        };
        self.shared.lose(reason, rows);
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Why ClickHouse does not take rows, while it does not.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rows and bytes on disk that wait to be sent, and bytes of batches that were set aside.
    fn on_disk(&self) -> (u64, u64, u64) {
        let shelf = self.shared.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        (shelf.rows(), shelf.bytes(), shelf.aside)
    }

    /// The log in a sentence, for the status page.
    pub(crate) fn summary(&self) -> String {
        let counters = self.counters();
        let (rows, ..) = self.on_disk();
        let written = counters.written.load(Ordering::Relaxed);
        let waiting = counters.waiting.load(Ordering::Relaxed);
        let dropped: u64 = counters.dropped().map(|(_, rows)| rows).sum();
        format!("{written} rows written, {waiting} waiting, {rows} on disk, {dropped} dropped")
    }
}

/// The greatest hash that is sampled.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to 1 times 2^64, and as saturates
fn threshold(rate: f64) -> u64 {
    const ALL: f64 = 18_446_744_073_709_551_616.0;
    (rate * ALL) as u64
}

/// The hash of a number: Vigna's splitmix64.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
