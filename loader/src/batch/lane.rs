//! A lane: an OS thread that takes an idle session and runs one batch at a time.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    Counters, Shared, State,
    job::{Part, Run, ScoreError},
    queue::{Dropped, Entry as _},
    scheduler::Poll,
};
use crate::{
    session::{RunError, Session},
    tensor::Tensor,
};

/// A session and its place among the sessions of its servable.
pub(super) type Numbered = (usize, Box<dyn Session>);

/// What every lane runs before it takes work, and where it says how that went.
pub(super) type First = (Arc<Vec<Vec<Tensor>>>, mpsc::Sender<Result<(), RunError>>);

/// Starts a lane. It runs `first`, drops the sender, and works. It ends, and drops a session and `alive` on its
/// own thread, once the batcher is closed and nothing waits.
pub(super) fn spawn(
    name: String,
    session: Numbered,
    first: First,
    shared: Arc<Shared>,
    alive: Arc<()>,
) -> std::io::Result<()> {
    thread::Builder::new().name(name).spawn(move || {
        let (mut session, (runs, warm)) = (session, first);
        let place = session.0;
        let result = runs.iter().try_for_each(|inputs| run(session.1.as_mut(), inputs).map(|_| ()));
        let failed = result.is_err();
        shared.state().idle.push(session);
        // Nobody listens only when another lane failed before.
        let _ = warm.send(result);
        drop((runs, warm));
        if failed {
            return;
        }
        let own = shared.limits.inline.is_zero().then_some(place);
        let mut lane = Lane { shared, own, inputs: Vec::new() };
        while let Some((session, batch)) = lane.next() {
            lane.run(session, &batch);
        }
        let session = lane.shared.state().take(lane.own);
        // A session's memory takes milliseconds to free: not under the lock.
        drop(session);
        drop(lane);
        drop(alive);
    })?;
    Ok(())
}

struct Lane {
    shared: Arc<Shared>,
    /// The place of the one session that it runs; any where callers borrow them.
    own: Option<usize>,
    /// The inputs of a batch of several parts; reused.
    inputs: Vec<Tensor>,
}

impl Lane {
    /// A session and the next batch for it; `None` when there will be none.
    fn next(&self) -> Option<(Numbered, Vec<Part>)> {
        let mut state = self.shared.state();
        loop {
            let (now, mut dropped) = (Instant::now(), Dropped::default());
            let todo = state.next(self.own, now, &mut dropped);
            if let Todo::Run(..) = &todo {
                self.shared.wake(&mut state);
            }
            state.note_backlog();
            let clean = dropped.is_empty();
            match todo {
                Todo::Run(session, batch) => {
                    drop(state);
                    self.shared.discard(dropped);
                    return Some((session, batch));
                }
                _ if !clean => {
                    drop(state);
                    self.shared.discard(dropped);
                    state = self.shared.state();
                }
                Todo::End => return None,
                Todo::Wait(until) => {
                    state = self.shared.park(state, until.map(|until| until.saturating_duration_since(now)));
                }
            }
        }
    }

    fn run(&mut self, (place, mut session): Numbered, batch: &[Part]) {
        let rows = batch.iter().map(Part::rows).sum();
        let started = Instant::now();
        let result = match batch {
            [part] if part.is_whole() && !self.shared.limits.padded => run(session.as_mut(), part.inputs()),
            parts => {
                self.gather(parts, rows);
                run(session.as_mut(), &self.inputs)
            }
        };
        let took = started.elapsed();
        self.shared.give_back((place, session), rows, result.is_ok().then_some(took));
        let run = Run { rows, started, took };
        self.shared.settle(batch, result, &run);
    }

    /// Puts the parts' rows together, and padding after them where only whole buckets run.
    fn gather(&mut self, parts: &[Part], rows: usize) {
        let limits = self.shared.limits;
        let bucket = if limits.padded { self.shared.state().scheduler.cost().bucket(rows) } else { rows };
        if self.inputs.is_empty() {
            self.inputs.extend(parts[0].inputs().iter().map(|input| input.empty_like(limits.max_batch_rows)));
        }
        for (i, input) in self.inputs.iter_mut().enumerate() {
            input.clear();
            for part in parts {
                input.append(&part.inputs()[i], part.range());
            }
            // The first row over again is as good as any: what is right for the model once is so twice.
            for _ in rows..bucket {
                input.append(&parts[0].inputs()[i], 0..1);
            }
        }
    }
}

/// What a lane should do.
enum Todo {
    Run(Numbered, Vec<Part>),
    /// Nothing, until it is called or this time.
    Wait(Option<Instant>),
    /// There will be nothing.
    End,
}

impl State {
    /// An idle session, or the one of a place.
    fn take(&mut self, place: Option<usize>) -> Option<Numbered> {
        match place {
            None => self.idle.pop(),
            Some(place) => self.idle.iter().position(|s| s.0 == place).map(|i| self.idle.swap_remove(i)),
        }
    }

    fn next(&mut self, own: Option<usize>, now: Instant, dropped: &mut Dropped<Part>) -> Todo {
        // None idle: a caller has borrowed one, and calls when it is done.
        let Some(session) = self.take(own) else { return Todo::Wait(None) };
        let wait = match self.scheduler.poll(now, dropped) {
            Poll::Run(batch) => {
                self.scheduler.started(session.0, batch.iter().map(Part::rows).sum(), now);
                return Todo::Run(session, batch);
            }
            Poll::Wait(_) if self.closed => Todo::End,
            Poll::Wait(until) => Todo::Wait(until),
        };
        self.idle.push(session);
        wait
    }
}

impl Shared {
    /// Waits for a call, or for `wait` at most.
    fn park<'a>(&self, mut state: super::Guard<'a>, wait: Option<Duration>) -> super::Guard<'a> {
        state.parked += 1;
        let mut state = match wait {
            None => self.call.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(wait) => self.call.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
        };
        state.parked -= 1;
        state.called = state.called.saturating_sub(1);
        state
    }

    /// Calls as many parked lanes as the scheduler has work for. A call is a system call, so none is made that
    /// is not needed.
    pub(super) fn wake(&self, state: &mut State) {
        let lanes = state.scheduler.lanes_wanted().min(state.parked).saturating_sub(state.called);
        state.called += lanes;
        for _ in 0..lanes {
            self.call.notify_one();
        }
    }

    /// Takes note of the end of a run, and its session back.
    pub(super) fn give_back(&self, session: Numbered, rows: usize, took: Option<Duration>) {
        let mut state = self.state();
        state.scheduler.ended(session.0, rows, took);
        state.idle.push(session);
        self.wake(&mut state);
    }

    /// Answers the requests of a batch.
    fn settle(&self, batch: &[Part], result: Result<Vec<Tensor>, RunError>, run: &Run) {
        let rows = run.rows;
        if result.is_ok() {
            // Before anybody is answered, so that whoever was finds it counted.
            Counters::add(&self.counters.batches, 1);
            Counters::add(&self.counters.rows, rows);
        }
        let counted = |n: usize, waited: bool| if waited { 0 } else { n };
        let wasted = match (result, batch) {
            (Ok(outputs), [part]) if part.is_whole() && !self.limits.padded => {
                counted(rows, part.complete_alone(outputs, run))
            }
            (Ok(outputs), parts) if outputs.iter().all(|o| o.rows() >= rows) => {
                let mut at = 0;
                parts.iter().fold(0, |wasted, part| {
                    let here = at;
                    at += part.rows();
                    wasted + counted(part.rows(), part.complete(&outputs, here, run))
                })
            }
            (Ok(outputs), _) => {
                let shapes: Vec<_> = outputs.into_iter().map(|o| o.shape).collect();
                return self.fail(batch, format!("{rows} rows went in, outputs have shapes {shapes:?}"));
            }
            (Err(RunError(failure)), _) => return self.fail(batch, failure),
        };
        Counters::add(&self.counters.wasted_rows, wasted);
    }

    fn fail(&self, batch: &[Part], failure: String) {
        let rows = batch.iter().map(Part::rows).sum();
        Counters::add(&self.counters.failed_rows, rows);
        tracing::error!(rows, error = %failure, "batch failed");
        let error = ScoreError::Failed(failure);
        for part in batch {
            part.fail(&error);
        }
    }
}

/// Runs a batch; a panic is a failure of this batch. The session holds no state between runs that it could
/// leave torn.
pub(super) fn run(session: &mut dyn Session, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
    catch_unwind(AssertUnwindSafe(|| session.run(inputs)))
        .unwrap_or_else(|_| Err(RunError("the session panicked".to_owned())))
}
