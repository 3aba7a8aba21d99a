//! The thread behind the log: requests become batches, and batches are sent, kept or put by.
//!
//! Everything goes in one order: what is on disk, then closed batches, then the open one, then requests. Only the oldest
//! batch is sent, again and again if it must be, so nothing of this process comes between an insert whose acknowledgement
//! was lost and its second try. While ClickHouse takes nothing, or the disk has what is older, closed batches go to disk.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aibuyer_features::{CallError, sink::PredictionRows};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    Inserting, LoggedRequest, Shared, Sink,
    counters::Reason,
    mixed,
    spill::{Batch, Spill},
};

/// A batch is closed when it has so many rows, or so many bytes, or is so old.
pub(super) const BATCH_ROWS: usize = 10_000;
const BATCH_BYTES: usize = 16 << 20;
pub(super) const BATCH_AGE: Duration = Duration::from_secs(1);
/// The longest row.
const ROW_BYTES: usize = 1 << 20;
/// Bytes of all rows in memory.
const MEMORY_BYTES: usize = 256 << 20;
/// How often requests are collected: waking for each would cost the thread that hands it in a call of the system.
const COLLECTED_EVERY: Duration = Duration::from_millis(50);
/// The first wait after a failure, doubled with each, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often drops are told of.
const TOLD_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Worker {
    shared: Arc<Shared>,
    sink: Arc<dyn Sink>,
    spill: Spill,
    requests: mpsc::UnboundedReceiver<LoggedRequest>,
    stop: watch::Receiver<Option<Instant>>,
    /// Dropped when the worker ends.
    _ending: oneshot::Sender<()>,
    open: PredictionRows,
    /// When the open batch got its first row.
    opened: Option<Instant>,
    /// Oldest first.
    closed: VecDeque<Batch>,
    sending: Option<Sending>,
    trouble: Option<Trouble>,
    /// The disk failed: when it is tried again.
    disk_failed: Option<Instant>,
    told: (Instant, u64),
}

struct Sending {
    insert: Inserting,
    token: String,
    rows: usize,
    from: From,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Memory,
    Disk,
    /// From disk and out of turn, to learn whether the table refuses one batch or all.
    Probe,
}

/// ClickHouse does not take rows.
struct Trouble {
    /// Failures in a row.
    failures: u32,
    retry_at: Instant,
    /// The table refused the oldest batch on disk: the newest is tried next.
    refused: bool,
    /// It has taken that one: refused once more, the oldest is set aside.
    proven: bool,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        sink: Arc<dyn Sink>,
        spill: Spill,
        requests: mpsc::UnboundedReceiver<LoggedRequest>,
        stop: watch::Receiver<Option<Instant>>,
        ending: oneshot::Sender<()>,
    ) -> Self {
        Self {
            shared,
            sink,
            spill,
            requests,
            stop,
            _ending: ending,
            open: PredictionRows::default(),
            opened: None,
            closed: VecDeque::new(),
            sending: None,
            trouble: None,
            disk_failed: None,
            told: (Instant::now(), 0),
        }
    }

    /// Works until it is stopped.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            self.collect(now);
            if self.opened.is_some_and(|opened| now >= opened + BATCH_AGE) {
                self.close();
            }
            self.put_by(now);
            self.send(now);
            self.tell_of_drops(now);
            let idle = self.opened.is_none();
            let collect = self.opened.map(|opened| (now + COLLECTED_EVERY).min(opened + BATCH_AGE));
            let waits = self.sending.is_none() && !(self.closed.is_empty() && self.spill.is_empty());
            let retry = self.trouble.as_ref().filter(|_| waits).map(|trouble| trouble.retry_at);
            let wake = [collect, retry, self.disk_failed].into_iter().flatten().min();
            tokio::select! {
                biased;
                _ = self.stop.changed() => break,
                outcome = sent(&mut self.sending) => self.settle(outcome),
                // Waits for a request only when it has none: see COLLECTED_EVERY.
                Some(request) = self.requests.recv(), if idle => self.take(&request, Instant::now()),
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
        self.finish().await;
    }

    /// Takes all requests that have come.
    fn collect(&mut self, now: Instant) {
        while let Ok(request) = self.requests.try_recv() {
            self.take(&request, now);
        }
    }

    fn take(&mut self, request: &LoggedRequest, now: Instant) {
        let mut held = self.open.size() + self.closed.iter().map(|batch| batch.bytes.len()).sum::<usize>();
        let payload = self.shared.payload;
        let shared = Arc::clone(&self.shared);
        let lose = |reason| shared.lose(reason, 1);
        request.each(payload, |row| {
            let Some(row) = row else { return lose(Reason::NotFinite) };
            let before = self.open.size();
            if held > MEMORY_BYTES || !self.open.push(row, ROW_BYTES) {
                return lose(Reason::TooLarge);
            }
            held += self.open.size() - before;
            self.opened.get_or_insert(now);
            if self.open.len() >= BATCH_ROWS || self.open.size() >= BATCH_BYTES {
                self.close();
            }
        });
    }

    fn close(&mut self) {
        let rows = std::mem::take(&mut self.open);
        self.opened = None;
        if !rows.is_empty() {
            let token = Batch::token(self.spill.sequence(), self.shared.run);
            self.closed.push_back(Batch { token, rows: rows.len(), bytes: rows.into_bytes() });
        }
    }

    /// Puts closed batches on disk where they cannot be sent at once.
    fn put_by(&mut self, now: Instant) {
        self.disk_failed = self.disk_failed.filter(|retry_at| now < *retry_at);
        if (self.trouble.is_none() && self.spill.is_empty()) || self.disk_failed.is_some() {
            return;
        }
        // Its fate is not known yet.
        if self.sending.as_ref().is_some_and(|sending| sending.from == From::Memory) {
            return;
        }
        while let Some(batch) = self.closed.front() {
            let put = self.spill.put(batch);
            self.shared.counters.spill_full.store(matches!(put, Ok(false)), Ordering::Relaxed);
            match put {
                Ok(true) => {
                    self.shared.counters.spilled.fetch_add(batch.rows as u64, Ordering::Relaxed);
                    self.shared.counters.waiting.fetch_sub(batch.rows, Ordering::Relaxed);
                    self.closed.pop_front();
                }
                Ok(false) => return,
                Err(error) => {
                    let folder = self.spill.folder().display();
                    tracing::error!(%folder, %error, "prediction log: rows cannot be put by on disk; they stay in memory");
                    self.disk_failed = Some(now + LONGEST_WAIT);
                    return;
                }
            }
        }
    }

    /// Begins to send the oldest batch, unless one is under way or it is too early.
    fn send(&mut self, now: Instant) {
        if self.sending.is_some() || self.trouble.as_ref().is_some_and(|trouble| now < trouble.retry_at) {
            return;
        }
        let probe = self.spill.len() > 1 && self.trouble.as_ref().is_some_and(|trouble| trouble.refused);
        let batch = match self.spill.get(probe, &self.shared.counters) {
            Some(batch) => Some((batch, if probe { From::Probe } else { From::Disk })),
            None => self.closed.front().map(|batch| (batch.clone(), From::Memory)),
        };
        if let Some((Batch { token, rows, bytes }, from)) = batch {
            self.shared.counters.inserts.fetch_add(1, Ordering::Relaxed);
            self.sending = Some(Sending { insert: self.sink.insert(bytes, token.clone()), token, rows, from });
        }
    }

    /// Takes note of how an insert ended.
    fn settle(&mut self, outcome: Result<(), CallError>) {
        let Some(Sending { token, rows, from, .. }) = self.sending.take() else { return };
        match outcome {
            Ok(()) => self.written(&token, rows, from),
            Err(error) => self.failed(&token, rows, from, &error),
        }
    }

    fn written(&mut self, token: &str, rows: usize, from: From) {
        let counters = &self.shared.counters;
        counters.written.fetch_add(rows as u64, Ordering::Relaxed);
        if from == From::Memory {
            counters.waiting.fetch_sub(rows, Ordering::Relaxed);
            self.closed.pop_front();
        } else {
            counters.replayed.fetch_add(rows as u64, Ordering::Relaxed);
            self.spill.remove(token);
            counters.spill_full.store(false, Ordering::Relaxed);
        }
        match &mut self.trouble {
            Some(trouble) if from == From::Probe => {
                (trouble.refused, trouble.proven) = (false, true);
                trouble.retry_at = Instant::now();
            }
            trouble => {
                if trouble.take().is_some() {
                    tracing::info!("prediction log: ClickHouse takes rows again");
                }
                self.shared.problem(None);
            }
        }
    }

    fn failed(&mut self, token: &str, rows: usize, from: From, error: &CallError) {
        let counters = &self.shared.counters;
        counters.failures.fetch_add(1, Ordering::Relaxed);
        let refused = error.is_schema();
        if refused && from == From::Disk && self.trouble.as_ref().is_some_and(|trouble| trouble.proven) {
            // The table takes others.
            counters.drop_rows(Reason::Refused, rows);
            self.spill.set_aside(token, "refused", &error.to_string());
            self.trouble = None;
            self.shared.problem(None);
            return;
        }
        let remedy = if refused { "; the table is not as it should be: run `aibuyer-server migrate`" } else { "" };
        let problem = format!("{error}{remedy}");
        let failures = self.trouble.as_ref().map_or(0, |trouble| trouble.failures);
        if self.shared.problem(Some(problem.clone())) != Some(problem.clone()) || failures == 0 {
            tracing::warn!(
                error = problem, folder = %self.spill.folder().display(),
                "prediction log: ClickHouse takes no rows; they are kept, on disk up to prediction_log.spill_bytes, and sent when it does"
            );
        }
        let wait = wait(failures, self.shared.run);
        self.trouble = Some(Trouble {
            failures: failures + 1,
            retry_at: Instant::now() + wait,
            refused: refused && from == From::Disk,
            proven: false,
        });
    }

    /// Says at most once a minute that rows were lost.
    fn tell_of_drops(&mut self, now: Instant) {
        let dropped: u64 = self.shared.counters.dropped().map(|(_, rows)| rows).sum();
        let (next, told) = self.told;
        if dropped > told && now >= next {
            let by = |(reason, rows): (Reason, u64)| (rows > 0).then(|| format!("{} {rows}", reason.name()));
            let reasons: Vec<_> = self.shared.counters.dropped().filter_map(by).collect();
            tracing::warn!(rows = dropped - told, all = reasons.join(", "), "prediction log: rows were dropped");
            self.told = (now + TOLD_EVERY, dropped);
        }
    }

    /// Sends what it can before the deadline, which may be brought forward, and puts the rest by.
    async fn finish(mut self) {
        self.requests.close();
        let mut now = Instant::now();
        self.collect(now);
        self.close();
        loop {
            let deadline = self.stop.borrow_and_update().unwrap_or(now);
            self.put_by(now);
            if self.closed.is_empty() || now >= deadline {
                break;
            }
            self.send(now);
            let retry = self.trouble.as_ref().filter(|_| self.sending.is_none()).map(|trouble| trouble.retry_at);
            tokio::select! {
                biased;
                changed = self.stop.changed() => if changed.is_err() { break },
                outcome = sent(&mut self.sending) => self.settle(outcome),
                () = sleep_until(retry.map_or(deadline, |retry| retry.min(deadline))) => {}
            }
            now = Instant::now();
        }
        // What is under way now may arrive or not: it is put by with its token, and sent again.
        self.sending = None;
        self.trouble.get_or_insert(Trouble { failures: 0, retry_at: now, refused: false, proven: false });
        self.disk_failed = None;
        self.put_by(now);
        let lost: usize = self.closed.drain(..).map(|batch| batch.rows).sum();
        let counters = &self.shared.counters;
        let full = counters.spill_full.load(Ordering::Relaxed);
        self.shared.lose(if full { Reason::SpillFull } else { Reason::Stopped }, lost);
        let on_disk = self.spill.rows();
        tracing::info!(written = counters.written.load(Ordering::Relaxed), on_disk, lost, "prediction log: stopped");
    }
}

/// The outcome of what is being sent; never comes where nothing is.
async fn sent(sending: &mut Option<Sending>) -> Result<(), CallError> {
    match sending {
        Some(sending) => sending.insert.as_mut().await,
        None => std::future::pending().await,
    }
}

/// How long to wait after so many failures: doubled with each, and for half of it at random, so that engines that lost
/// ClickHouse together do not come back together.
fn wait(failures: u32, run: u64) -> Duration {
    let longest = LONGEST_WAIT.min(FIRST_WAIT * 2_u32.pow(failures.min(16)));
    #[allow(clippy::cast_precision_loss)] // any number will do
    let random = (mixed(run.wrapping_add(failures.into())) >> 11) as f64 / (1_u64 << 53) as f64;
    longest.mul_f64(0.5 + 0.5 * random)
}
