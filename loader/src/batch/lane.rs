//! A lane: an OS thread that owns one session and runs one batch at a time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, mpsc},
    thread,
    time::Instant,
};

use aibuyer_domain::ctr::Rows;

use super::{
    Counters, Shared,
    job::{Part, ScoreError},
    queue::Entry as _,
};
use crate::session::{Inputs, Outputs, Session};

/// Starts a lane. It runs the rows of `first`, drops the sender, and works. It ends, and drops its session and `alive` on its own thread, once the batcher is closed
/// and nothing waits.
pub(super) fn spawn(
    name: String,
    mut session: Box<dyn Session>,
    first: (Arc<Rows>, mpsc::Sender<()>),
    shared: Arc<Shared>,
    alive: Arc<()>,
) -> std::io::Result<()> {
    thread::Builder::new().name(name).spawn(move || {
        let (rows, warm) = first;
        // The same rows have been run and checked on the loader's thread.
        let _ = session.run(Inputs { rows: rows.len, ids: &rows.ids, dense: &rows.dense });
        drop((rows, warm));
        let mut lane = Lane { session, shared, ids: Vec::new(), dense: Vec::new() };
        while let Some(batch) = lane.next() {
            lane.run(&batch);
        }
        drop(lane);
        drop(alive);
    })?;
    Ok(())
}

struct Lane {
    session: Box<dyn Session>,
    shared: Arc<Shared>,
    /// Buffers of the batch's inputs, reused.
    ids: Vec<i64>,
    dense: Vec<f32>,
}

impl Lane {
    /// The next batch; `None` when there will be none.
    fn next(&self) -> Option<Vec<Part>> {
        let mut state = self.shared.state();
        loop {
            let polled = state.queue.poll(Instant::now());
            Counters::add(&self.shared.counters.abandoned_rows, polled.abandoned_rows);
            if !polled.expired.is_empty() {
                // Answering takes the jobs' locks and wakes callers: not under the queue's lock.
                drop(state);
                self.shared.drop_unwanted(polled.expired);
                if polled.batch.is_empty() {
                    state = self.shared.state();
                    continue;
                }
                return Some(polled.batch);
            }
            if !polled.batch.is_empty() {
                return Some(polled.batch);
            }
            if state.closed {
                return None;
            }
            state = self.shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&mut self, batch: &[Part]) {
        self.ids.clear();
        self.dense.clear();
        let mut rows = 0;
        for part in batch {
            self.ids.extend_from_slice(part.ids());
            self.dense.extend_from_slice(part.dense());
            rows += part.rows();
        }
        let inputs = Inputs { rows, ids: &self.ids, dense: &self.dense };
        let started = Instant::now();
        // A panic fails its own batch only. The session holds no state between runs that it could leave torn.
        let result = catch_unwind(AssertUnwindSafe(|| self.session.run(inputs)));
        let compute = started.elapsed();
        let counters = &self.shared.counters;
        let failure = match result {
            Ok(Ok(outputs)) if fits(&outputs, rows) => {
                Counters::add(&counters.batches, 1);
                Counters::add(&counters.rows, rows);
                let mut at = 0;
                for part in batch {
                    part.complete(&outputs, at, started, compute);
                    at += part.rows();
                }
                return;
            }
            Ok(Ok(outputs)) => format!("{rows} rows went in, {} logits came out", outputs.logits.len()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the session panicked".to_owned(),
        };
        Counters::add(&counters.failed_rows, rows);
        tracing::error!(rows, error = %failure, "batch failed");
        let error = ScoreError::Failed(failure);
        for part in batch {
            part.fail(&error);
        }
    }
}

fn fits(outputs: &Outputs, rows: usize) -> bool {
    outputs.logits.len() == rows && outputs.variances.as_ref().is_none_or(|v| v.len() == rows)
}
