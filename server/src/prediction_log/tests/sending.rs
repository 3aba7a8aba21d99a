//! Batches, and what is tried again when.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    config,
    fake::{Fake, HANG, Outcome},
    ids, offer, request, start,
};
use crate::{config::PredictionLogConfig, prediction_log::Reason};

fn dropped(log: &crate::prediction_log::PredictionLog, wanted: Reason) -> u64 {
    log.counters().dropped().find(|(reason, _)| *reason == wanted).unwrap().1
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_closed_when_it_is_full_or_a_second_old() {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let (log, _running) = start(&config(), &sink, folder.path());
    let began = Instant::now();
    log.offer(request("a", 4_000));
    sleep(Duration::from_millis(900)).await;
    assert_eq!(sink.calls().len(), 0);
    sleep(Duration::from_millis(200)).await;
    assert_eq!((sink.calls().len(), sink.ids().len()), (1, 4_000));
    assert_eq!(sink.calls()[0].0 - began, Duration::from_secs(1));
    log.offer(request("b", 25_000));
    sleep(Duration::from_millis(100)).await;
    assert_eq!((sink.calls().len(), sink.ids().len()), (3, 24_000), "two that are full, at once");
    assert_eq!(log.counters().waiting.load(Ordering::Relaxed), 5_000);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((sink.calls().len(), sink.ids().len()), (4, 29_000));
    let candidates: Vec<u32> = sink.state().rows[4_000..].iter().map(|row| row.candidate).collect();
    assert_eq!(candidates, (0..25_000).collect::<Vec<_>>());
    let c = log.counters();
    let counts = [&c.offered, &c.written, &c.inserts, &c.failures, &c.spilled].map(|n| n.load(Ordering::Relaxed));
    assert_eq!((counts, c.waiting.load(Ordering::Relaxed)), ([29_000, 29_000, 4, 0, 0], 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_does_not_double_rows() {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    sink.state().script.extend([Outcome::LoseAnswer, Outcome::Away, Outcome::LoseAnswer]);
    let (log, _running) = start(&config(), &sink, folder.path());
    offer(&log, 0..10);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((sink.ids(), sink.calls().len()), (ids(0..10), 4));
    assert_eq!(log.problem(), None);
}

#[tokio::test(start_paused = true)]
async fn waits_double_up_to_ten_seconds_with_the_same_token() {
    let (sink, folder) = (Fake::that(Outcome::Away), tempfile::tempdir().unwrap());
    let (log, _running) = start(&config(), &sink, folder.path());
    offer(&log, 0..1);
    sleep(Duration::from_secs(120)).await;
    assert!(log.problem().unwrap().contains("is clickhouse.url right"), "{:?}", log.problem());
    let calls = sink.calls();
    assert!(calls.iter().all(|(_, token)| *token == calls[0].1));
    let mut longest = 0.25;
    for pair in calls.windows(2) {
        let waited = (pair[1].0 - pair[0].0).as_secs_f64();
        assert!(waited >= longest * 0.5 && waited <= longest + 0.002, "{waited} {longest}");
        longest = f64::min(10.0, longest * 2.0);
    }
    assert!((14..=28).contains(&calls.len()), "{}", calls.len());
    sink.does(Outcome::Take);
    sleep(Duration::from_secs(11)).await;
    assert_eq!((sink.ids(), log.problem()), (ids(0..1), None));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_in_memory_is_dropped_and_counted() {
    let (sink, folder) = (Fake::that(Outcome::Hang), tempfile::tempdir().unwrap());
    let config = PredictionLogConfig { buffer_rows: 100, ..config() };
    let (log, _running) = start(&config, &sink, folder.path());
    offer(&log, 0..70);
    sleep(Duration::from_secs(2)).await;
    offer(&log, 70..120);
    log.offer(request("large", 2));
    assert_eq!(dropped(&log, Reason::BufferFull), 22);
    // The insert has failed: what waited is on disk, and there is room again.
    sink.does(Outcome::Take);
    sleep(HANG + Duration::from_secs(1)).await;
    offer(&log, 120..130);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(sink.ids(), [ids(0..100), ids(120..130)].concat());
    assert_eq!((dropped(&log, Reason::BufferFull), log.counters().waiting.load(Ordering::Relaxed)), (22, 0));
}

#[tokio::test(start_paused = true)]
async fn outputs_that_are_no_numbers_are_counted() {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let (log, _running) = start(&config(), &sink, folder.path());
    let mut bad = request("a", 3);
    bad.outputs.logits[1] = f32::NAN;
    log.offer(bad);
    sleep(Duration::from_secs(2)).await;
    let candidates: Vec<u32> = sink.state().rows.iter().map(|row| row.candidate).collect();
    assert_eq!((candidates, dropped(&log, Reason::NotFinite)), (vec![0, 2], 1));
    assert_eq!(log.counters().waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn the_share_that_is_sampled_is_the_rate() {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    for (sample_rate, least, most) in [(1.0, 10_000, 10_000), (0.25, 2_300, 2_700), (0.001, 1, 30)] {
        let config = PredictionLogConfig { sample_rate, ..config() };
        let (log, _worker, _running) =
            crate::prediction_log::PredictionLog::new(&config, std::sync::Arc::new(sink.clone()), folder.path());
        let sampled = (0..10_000).filter(|_| log.sample()).count();
        assert!((least..=most).contains(&sampled), "{sample_rate}: {sampled}");
        let c = log.counters();
        let skipped = c.skipped.load(Ordering::Relaxed);
        assert_eq!((c.requests.load(Ordering::Relaxed), skipped), (10_000, 10_000 - sampled as u64));
    }
}

#[test]
fn a_request_without_an_id_gets_one_of_its_own() {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let new = || crate::prediction_log::PredictionLog::new(&config(), std::sync::Arc::new(sink.clone()), folder.path());
    let (log, other) = (new().0, new().0);
    let ids = [log.request_id(String::new()), log.request_id(String::new()), other.request_id(String::new())];
    assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids.iter().all(|id| id.len() >= 18), "{ids:?}");
    assert_eq!(log.request_id("mine".to_owned()), "mine");
}
