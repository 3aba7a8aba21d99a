//! The batcher with real threads and fake sessions. Queue order has its own tests beside the queue.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::{
    sync::{atomic::AtomicU64, mpsc},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::fake::{FAIL, FakeSession, PANIC, rows};

const LIMITS: BatchLimits = BatchLimits { max_batch_rows: 8, queue_rows: 1000 };

fn batcher(lanes: usize, limits: BatchLimits) -> Batcher {
    let sessions = (0..lanes).map(|_| Box::new(FakeSession { gate: None }) as Box<dyn Session>).collect();
    Batcher::start("fake", sessions, limits, rows(&[0])).unwrap()
}

/// A batcher of one lane that runs one batch for each permit sent.
fn gated(limits: BatchLimits) -> (Batcher, mpsc::Sender<()>) {
    let (permit, gate) = mpsc::channel();
    let session = Box::new(FakeSession { gate: Some(gate) });
    permit.send(()).unwrap(); // for the lane's first run
    (Batcher::start("gated", vec![session], limits, rows(&[0])).unwrap(), permit)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits for the first part to be taken, so that what follows finds the lane busy.
fn until_empty(batcher: &Batcher) {
    while batcher.waiting_rows() > 0 {
        std::thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Many requests at once, some longer than a batch, some whose callers leave: each caller that stays
    /// gets exactly its own rows in its own order; failures and panics reach only batches that held one.
    #[test]
    fn each_caller_gets_its_own_rows(
        sizes in proptest::collection::vec((1usize..30, proptest::bool::weighted(0.2)), 1..40),
        bad in proptest::option::of((0usize..40, proptest::bool::ANY)),
        lanes in 1usize..4,
    ) {
        let batcher = batcher(lanes, LIMITS);
        let mut next = 0;
        let mut requests: Vec<Vec<i64>> = sizes.iter().map(|(size, _)| {
            let ids = (next..next + *size as i64).collect();
            next += *size as i64;
            ids
        }).collect();
        let bad = bad.filter(|(i, _)| *i < requests.len());
        if let Some((i, panics)) = bad {
            requests[i][0] = if panics { PANIC } else { FAIL };
        }
        let (now, deadline) = (Instant::now(), soon());
        let results: Vec<Option<Result<Scores, ScoreError>>> = runtime().block_on(async {
            let mut calls: Vec<_> = requests.iter().map(|ids| Box::pin(batcher.score(rows(ids), now, deadline))).collect();
            // Every call is under way before the first answer is awaited, and some are dropped then.
            let mut early = Vec::new();
            for call in &mut calls {
                early.push(tokio::time::timeout(Duration::ZERO, call).await.ok());
            }
            let mut results = Vec::new();
            for ((call, early), (_, leaves)) in calls.into_iter().zip(early).zip(&sizes) {
                results.push(match early {
                    _ if *leaves => None,
                    Some(result) => Some(result),
                    None => Some(call.await),
                });
            }
            results
        });
        for (i, (ids, result)) in requests.iter().zip(results).enumerate() {
            match result {
                None => {}
                Some(Ok(scores)) => {
                    let logits: Vec<f32> = ids.iter().map(|id| *id as f32).collect();
                    let variances: Vec<f32> = ids.iter().map(|id| -(*id as f32)).collect();
                    prop_assert_eq!(scores.outputs.logits, logits);
                    prop_assert_eq!(scores.outputs.variances, Some(variances));
                    prop_assert!(bad.is_none_or(|(b, _)| b != i));
                }
                Some(Err(error)) => {
                    prop_assert!(bad.is_some(), "{error}");
                    prop_assert_eq!(error.kind(), aibuyer_domain::ErrorKind::Internal);
                }
            }
        }
    }
}

#[test]
fn what_expires_in_the_queue_is_never_run() {
    let (batcher, permit) = gated(LIMITS);
    runtime().block_on(async {
        let now = Instant::now();
        let mut first = Box::pin(batcher.score(rows(&[1]), now, soon()));
        let _ = tokio::time::timeout(Duration::ZERO, &mut first).await;
        until_empty(&batcher);
        let brief = now + Duration::from_millis(20);
        let error = batcher.score(rows(&[2, 3]), now, brief).await.unwrap_err();
        assert_eq!(error, ScoreError::DeadlineExceeded);
        permit.send(()).unwrap();
        assert_eq!(first.await.unwrap().outputs.logits, [1.0]);
        drop(permit);
        assert_eq!(batcher.score(rows(&[4]), Instant::now(), soon()).await.unwrap().outputs.logits, [4.0]);
    });
    let counters = batcher.counters();
    assert_eq!(read(&counters.rows), 2, "rows 1 and 4 only");
    assert_eq!((read(&counters.expired_rows), read(&counters.abandoned_rows)), (2, 0));
}

#[test]
fn a_deadline_in_the_past_is_refused_at_admission() {
    let batcher = batcher(1, LIMITS);
    let now = Instant::now();
    let error = runtime().block_on(batcher.score(rows(&[1, 2]), now, now)).unwrap_err();
    assert_eq!(error, ScoreError::DeadlineExceeded);
    assert_eq!(read(&batcher.counters().expired_rows), 2);
    assert_eq!(read(&batcher.counters().batches), 0);
}

#[test]
fn a_full_queue_refuses_at_once_and_a_request_it_could_never_hold_is_invalid() {
    let (batcher, permit) = gated(BatchLimits { max_batch_rows: 4, queue_rows: 6 });
    runtime().block_on(async {
        let start = |ids: &[i64]| {
            let mut call = Box::pin(batcher.score(rows(ids), Instant::now(), soon()));
            let poll = call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            (call, poll)
        };
        let (first, _) = start(&[1]);
        until_empty(&batcher);
        let (leaves, poll) = start(&[2, 3, 4]);
        assert!(poll.is_pending());
        let (stays, poll) = start(&[5, 6, 7]);
        assert!(poll.is_pending());
        drop(leaves);
        let (makes_use, poll) = start(&[8, 9, 10]);
        assert!(poll.is_pending(), "a caller that leaves makes room");
        let (_, poll) = start(&[11]);
        assert_eq!(poll, std::task::Poll::Ready(Err(ScoreError::Full { rows: 1, waiting: 6, capacity: 6 })));
        let (_, poll) = start(&[0; 7]);
        assert_eq!(poll, std::task::Poll::Ready(Err(ScoreError::TooLarge { rows: 7, capacity: 6 })));
        drop(permit);
        assert_eq!(first.await.unwrap().outputs.logits, [1.0]);
        assert_eq!(stays.await.unwrap().outputs.logits, [5.0, 6.0, 7.0]);
        assert_eq!(makes_use.await.unwrap().outputs.logits, [8.0, 9.0, 10.0]);
    });
    assert_eq!(read(&batcher.counters().refused_rows), 1);
    assert_eq!(read(&batcher.counters().abandoned_rows), 3);
}

#[test]
fn dropping_the_batcher_finishes_what_waits_and_frees_the_sessions() {
    let (batcher, permit) = gated(LIMITS);
    let lanes = batcher.lanes();
    let answer = {
        let (reply, answer) = oneshot::channel();
        batcher.submit(rows(&[7]), Instant::now(), soon(), reply).unwrap();
        answer
    };
    drop(batcher);
    assert!(lanes.upgrade().is_some(), "the lane still works");
    drop(permit);
    assert_eq!(answer.blocking_recv().unwrap().unwrap().outputs.logits, [7.0]);
    while lanes.upgrade().is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn a_lane_that_cannot_make_its_first_run_is_not_started() {
    for (id, expect) in [(FAIL, "told to fail"), (PANIC, "panicked")] {
        let session: Box<dyn Session> = Box::new(FakeSession { gate: None });
        let error = Batcher::start("fake", vec![session], LIMITS, rows(&[id])).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
}

#[test]
fn large_requests_are_cut_evenly() {
    let (reply, _answer) = oneshot::channel();
    let ids: Vec<i64> = (0..17).collect();
    let parts = Job::new(rows(&ids), Instant::now(), soon(), reply).parts(8);
    let sizes: Vec<usize> = parts.iter().map(queue::Entry::rows).collect();
    assert_eq!(sizes, [5, 6, 6]);
    let back: Vec<i64> = parts.iter().flat_map(|p| p.ids().to_vec()).collect();
    assert_eq!(back, ids);
}
