//! The batcher with real threads and fake sessions. Queue order has its own tests beside the queue.

#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::{
    sync::{atomic::AtomicU64, mpsc},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    fake::{FAIL, FakeSession, PANIC, rows},
    tensor::Elements,
};

/// Nothing runs on its caller's thread: these tests hold up lanes.
const LIMITS: BatchLimits =
    BatchLimits { max_batch_rows: 8, preferred_batch_rows: 8, queue_rows: 1000, inline: Duration::ZERO, padded: false };

/// What fake runs cost: nearly nothing, so that nothing is refused for being late.
fn cost() -> CostModel {
    CostModel::new(&[1, 2, 4, 8].map(|rows| (rows, Duration::from_nanos(10)))).unwrap()
}

fn batcher(lanes: usize, limits: BatchLimits) -> Batcher {
    let sessions = (0..lanes).map(|_| Box::new(FakeSession::default()) as Box<dyn Session>).collect();
    Batcher::start("fake", sessions, limits, rows(&[0]), cost()).unwrap()
}

/// A batcher of one lane that runs one batch for each permit sent.
fn gated(limits: BatchLimits, cost: CostModel) -> (Batcher, mpsc::Sender<()>) {
    let (permit, gate) = mpsc::channel();
    let session = Box::new(FakeSession { gate: Some(gate), sizes: None });
    permit.send(()).unwrap(); // for the lane's first run
    (Batcher::start("gated", vec![session], limits, rows(&[0]), cost).unwrap(), permit)
}

fn request(ids: &[i64], deadline: Instant) -> Request {
    Request { inputs: rows(ids), rows: ids.len(), priority: queue::Priority::Normal, deadline }
}

/// The ids that came back.
fn ids(scores: &Scores) -> Vec<i64> {
    let Elements::I64(ids) = &scores.outputs[1].elements else { panic!("{scores:?}") };
    ids.clone()
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
    /// gets exactly its own rows in its own order, whatever their type; failures and panics reach only batches that held one.
    #[test]
    fn each_caller_gets_its_own_rows(
        sizes in proptest::collection::vec((1usize..30, proptest::bool::weighted(0.2)), 1..40),
        bad in proptest::option::of((0usize..40, proptest::bool::ANY)),
        lanes in 1usize..4,
        padded in proptest::bool::ANY,
        inline in proptest::bool::ANY,
    ) {
        let inline = if inline { Duration::from_millis(1) } else { Duration::ZERO };
        let batcher = batcher(lanes, BatchLimits { padded, inline, ..LIMITS });
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
            let mut calls: Vec<_> = requests.iter().map(|ids| Box::pin(batcher.score(request(ids, deadline), now))).collect();
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
                    let numbers = ids.iter().map(|id| *id as f32).collect();
                    prop_assert_eq!(&scores.outputs[0], &Tensor { shape: vec![ids.len()], elements: Elements::F32(numbers) });
                    prop_assert_eq!(&scores.outputs[1..], rows(ids));
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
    let (batcher, permit) = gated(LIMITS, cost());
    runtime().block_on(async {
        let now = Instant::now();
        let mut first = Box::pin(batcher.score(request(&[1], soon()), now));
        let _ = tokio::time::timeout(Duration::ZERO, &mut first).await;
        until_empty(&batcher);
        let brief = now + Duration::from_millis(20);
        let error = batcher.score(request(&[2, 3], brief), now).await.unwrap_err();
        assert_eq!(error, ScoreError::DeadlineExceeded);
        permit.send(()).unwrap();
        assert_eq!(ids(&first.await.unwrap()), [1]);
        drop(permit);
        assert_eq!(ids(&batcher.score(request(&[4], soon()), Instant::now()).await.unwrap()), [4]);
    });
    let counters = batcher.counters();
    assert_eq!(read(&counters.rows), 2, "rows 1 and 4 only");
    assert_eq!((read(&counters.expired_rows), read(&counters.abandoned_rows)), (2, 0));
}

#[test]
fn a_deadline_in_the_past_is_refused_at_admission() {
    let batcher = batcher(1, LIMITS);
    let now = Instant::now();
    let error = runtime().block_on(batcher.score(request(&[1, 2], now), now)).unwrap_err();
    assert_eq!(error, ScoreError::DeadlineExceeded);
    assert_eq!(read(&batcher.counters().expired_rows), 2);
    assert_eq!(read(&batcher.counters().batches), 0);
}

#[test]
fn a_full_queue_refuses_at_once_and_a_request_it_could_never_hold_is_invalid() {
    let (batcher, permit) =
        gated(BatchLimits { max_batch_rows: 4, preferred_batch_rows: 4, queue_rows: 6, ..LIMITS }, cost());
    runtime().block_on(async {
        let start = |ids: &[i64]| {
            let mut call = Box::pin(batcher.score(request(ids, soon()), Instant::now()));
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
        let low = Request { priority: queue::Priority::Low, ..request(&[0; 4], soon()) };
        let error = batcher.score(low, Instant::now()).await.unwrap_err();
        assert_eq!(error, ScoreError::TooLarge { rows: 4, capacity: 3 }, "no retry would help");
        drop(permit);
        assert_eq!(ids(&first.await.unwrap()), [1]);
        assert_eq!(ids(&stays.await.unwrap()), [5, 6, 7]);
        assert_eq!(ids(&makes_use.await.unwrap()), [8, 9, 10]);
    });
    assert_eq!(read(&batcher.counters().refused_rows), 1);
    assert_eq!(read(&batcher.counters().abandoned_rows), 3);
}

#[test]
fn dropping_the_batcher_finishes_what_waits_and_frees_the_sessions() {
    let (batcher, permit) = gated(LIMITS, cost());
    let lanes = batcher.lanes();
    let Submitted::Queued(answer) = batcher.submit(request(&[7], soon()), Instant::now()) else { panic!("not queued") };
    drop(batcher);
    assert!(lanes.upgrade().is_some(), "the lane still works");
    drop(permit);
    assert_eq!(ids(&answer.blocking_recv().unwrap().unwrap()), [7]);
    while lanes.upgrade().is_some() {
        std::thread::yield_now();
    }
}

#[test]
fn a_lane_that_cannot_make_its_first_run_is_not_started() {
    for (id, expect) in [(FAIL, "told to fail"), (PANIC, "panicked")] {
        let session: Box<dyn Session> = Box::new(FakeSession::default());
        let error = Batcher::start("fake", vec![session], LIMITS, rows(&[id]), cost()).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
}

#[test]
fn a_request_for_an_idle_engine_runs_on_its_callers_thread() {
    let (sizes, ran) = mpsc::channel();
    let session = Box::new(FakeSession { gate: None, sizes: Some(sizes) });
    let limits = BatchLimits { inline: Duration::from_millis(1), ..LIMITS };
    let batcher = Batcher::start("fake", vec![session], limits, rows(&[0]), cost()).unwrap();
    let Submitted::Answered(answer) = batcher.submit(request(&[5, 6], soon()), Instant::now()) else {
        panic!("was queued")
    };
    let scores = answer.unwrap();
    assert_eq!((ids(&scores), scores.queue), (vec![5, 6], Duration::ZERO));
    // A failure there is the request's own, and the session is back for the next one.
    for bad in [FAIL, PANIC] {
        let Submitted::Answered(answer) = batcher.submit(request(&[bad], soon()), Instant::now()) else {
            panic!("was queued")
        };
        assert!(matches!(answer, Err(ScoreError::Failed(_))));
    }
    let Submitted::Answered(Ok(_)) = batcher.submit(request(&[7], soon()), Instant::now()) else { panic!("no answer") };
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [1, 2, 1, 1, 1]);
    let counters = batcher.counters();
    assert_eq!((read(&counters.rows), read(&counters.failed_rows)), (3, 2));
}

#[test]
fn padded_batches_run_at_bucket_sizes_and_nobody_sees_the_padding() {
    let (sizes, ran) = mpsc::channel();
    let session = Box::new(FakeSession { gate: None, sizes: Some(sizes) });
    let limits = BatchLimits { padded: true, ..LIMITS };
    let batcher = Batcher::start("fake", vec![session], limits, rows(&[0]), cost()).unwrap();
    let scores = runtime().block_on(batcher.score(request(&[1, 2, 3], soon()), Instant::now())).unwrap();
    assert_eq!((ids(&scores), scores.batch_rows), (vec![1, 2, 3], 3));
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [1, 4]);
}

/// Runs on the thread of its first run alone, as what CUDA records does.
#[derive(Default)]
struct Homebody {
    session: FakeSession,
    home: Option<std::thread::ThreadId>,
}

impl Session for Homebody {
    fn signature(&self) -> aibuyer_domain::model::Signature {
        self.session.signature()
    }

    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let here = std::thread::current().id();
        if *self.home.get_or_insert(here) != here {
            return Err(RunError("away from home".to_owned()));
        }
        self.session.run(inputs)
    }
}

#[test]
fn without_runs_on_callers_threads_each_session_stays_on_its_lane() {
    let sessions = (0..3).map(|_| Box::new(Homebody::default()) as Box<dyn Session>).collect();
    let limits = BatchLimits { padded: true, ..LIMITS };
    let batcher = Batcher::start("home", sessions, limits, rows(&[0; 8]), cost()).unwrap();
    let requests: Vec<Vec<i64>> = (0..200).map(|i| (i..i + 1 + i % 20).collect()).collect();
    runtime().block_on(async {
        let mut calls: Vec<_> =
            requests.iter().map(|ids| Box::pin(batcher.score(request(ids, soon()), Instant::now()))).collect();
        let mut early = Vec::new();
        for call in &mut calls {
            early.push(tokio::time::timeout(Duration::ZERO, call).await.ok());
        }
        for ((call, early), wanted) in calls.into_iter().zip(early).zip(&requests) {
            let result = match early {
                Some(result) => result,
                None => call.await,
            };
            assert_eq!(&ids(&result.unwrap()), wanted);
        }
    });
}

#[test]
fn where_batches_are_padded_a_lane_has_run_every_size_before_it_takes_work() {
    let (sizes, ran) = mpsc::channel();
    let session = Box::new(FakeSession { gate: None, sizes: Some(sizes) });
    let limits = BatchLimits { padded: true, ..LIMITS };
    let _batcher = Batcher::start("fake", vec![session], limits, rows(&[0; 8]), cost()).unwrap();
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [1, 2, 4, 8]);
}

#[test]
fn a_backlog_lasts_as_long_as_the_lanes_are_behind() {
    let (batcher, permit) = gated(LIMITS, CostModel::new(&[(1, Duration::from_secs(1))]).unwrap());
    let submit = |ids| batcher.submit(request(ids, soon()), Instant::now());
    let behind = || batcher.shared.state().backlog.is_some();
    let _runs = submit(&[1]);
    until_empty(&batcher);
    assert!(!behind(), "nothing waits");
    let _waits = submit(&[2]);
    assert!(behind());
    permit.send(()).unwrap();
    until_empty(&batcher);
    assert!(!behind());
    drop(permit);
}

#[test]
fn what_would_be_late_is_refused_at_once_and_what_was_computed_in_vain_is_counted() {
    let slow = CostModel::new(&[(1, Duration::from_secs(1)), (8, Duration::from_secs(8))]).unwrap();
    let (batcher, permit) = gated(LIMITS, slow);
    runtime().block_on(async {
        let now = Instant::now();
        // On an idle engine nothing is refused, or a wrong estimate would stay wrong.
        let mut first = Box::pin(batcher.score(request(&[1, 2], now + Duration::from_millis(500)), now));
        let _ = tokio::time::timeout(Duration::ZERO, &mut first).await;
        until_empty(&batcher);
        let error = batcher.score(request(&[3], now + Duration::from_secs(2)), now).await.unwrap_err();
        assert!(matches!(error, ScoreError::Late { predicted } if predicted.as_secs() >= 2), "{error}");
        drop(first);
        drop(permit);
    });
    let counters = batcher.shared.clone();
    drop(batcher);
    while counters.state().idle.is_empty() && Arc::strong_count(&counters) > 1 {
        std::thread::yield_now();
    }
    let counters = &counters.counters;
    while read(&counters.rows) == 0 {
        std::thread::yield_now();
    }
    assert_eq!((read(&counters.late_rows), read(&counters.expired_rows)), (1, 0));
}
