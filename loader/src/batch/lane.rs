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
    queue::{Entry as _, Polled},
};
use crate::session::{Inputs, Outputs, RunError, Session};

/// Starts a lane. It runs the rows of `first`, drops the sender, and works. It ends, and drops its session and `alive` on its own thread, once the batcher is closed
/// and nothing waits.
pub(super) fn spawn(
    name: String,
    mut session: Box<dyn Session>,
    first: (Arc<Rows>, mpsc::Sender<Result<(), RunError>>),
    shared: Arc<Shared>,
    alive: Arc<()>,
) -> std::io::Result<()> {
    thread::Builder::new().name(name).spawn(move || {
        let (rows, warm) = first;
        let inputs = Inputs { rows: rows.len, ids: &rows.ids, dense: &rows.dense };
        let result = run(session.as_mut(), inputs).map(|_| ());
        let failed = result.is_err();
        // Nobody listens only when another lane failed before.
        let _ = warm.send(result);
        drop((rows, warm));
        if failed {
            return;
        }
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
            let Polled { batch, dropped } = state.queue.poll(Instant::now());
            if !(batch.is_empty() && dropped.expired.is_empty() && dropped.abandoned.is_empty()) {
                drop(state);
                self.shared.discard(dropped);
                if !batch.is_empty() {
                    return Some(batch);
                }
                state = self.shared.state();
                continue;
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
        let result = run(self.session.as_mut(), inputs);
        let compute = started.elapsed();
        let counters = &self.shared.counters;
        let failure = match result {
            Ok(outputs) => {
                Counters::add(&counters.batches, 1);
                Counters::add(&counters.rows, rows);
                let mut at = 0;
                for part in batch {
                    part.complete(&outputs, at, started, compute);
                    at += part.rows();
                }
                return;
            }
            Err(RunError(failure)) => failure,
        };
        Counters::add(&counters.failed_rows, rows);
        tracing::error!(rows, error = %failure, "batch failed");
        let error = ScoreError::Failed(failure);
        for part in batch {
            part.fail(&error);
        }
    }
}

/// Runs a batch; a panic is a failure of this batch. The session holds no state between runs that it could
/// leave torn.
fn run(session: &mut dyn Session, inputs: Inputs) -> Result<Outputs, RunError> {
    let outputs = catch_unwind(AssertUnwindSafe(|| session.run(inputs)))
        .unwrap_or_else(|_| Err(RunError("the session panicked".to_owned())))?;
    let variances = outputs.variances.as_ref().map_or(inputs.rows, Vec::len);
    if (outputs.logits.len(), variances) != (inputs.rows, inputs.rows) {
        let (rows, logits) = (inputs.rows, outputs.logits.len());
        return Err(RunError(format!("{rows} rows went in, {logits} logits and {variances} variances came out")));
    }
    Ok(outputs)
}
