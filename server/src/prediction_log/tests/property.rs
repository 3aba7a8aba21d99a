//! Whatever the sink does, and however often the engine starts anew: a row is written once, or counted as dropped.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use super::{
    config,
    fake::{Fake, Outcome},
    offer, start,
};
use crate::config::PredictionLogConfig;

#[derive(Debug, Clone)]
enum Step {
    Offer(usize),
    Wait(u64),
    /// What the next inserts do.
    Inserts(Vec<Outcome>),
    /// Stops with so many milliseconds of grace, and starts.
    Restart(u64),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Take),
        2 => Just(Outcome::LoseAnswer),
        2 => Just(Outcome::Away),
        1 => Just(Outcome::Hang),
        1 => Just(Outcome::Slow),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..40_usize).prop_map(Step::Offer),
        4 => (0..4000_u64).prop_map(Step::Wait),
        2 => prop::collection::vec(outcome(), 1..6).prop_map(Step::Inserts),
        1 => (0..6000_u64).prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_row_is_lost_or_doubled(
        steps in prop::collection::vec(step(), 1..40),
        spill_bytes in prop_oneof![Just(0), Just(3000), Just(1 << 30)],
        buffer_rows in prop_oneof![Just(60), Just(100_000)],
    ) {
        let config = PredictionLogConfig { spill_bytes, buffer_rows, ..config() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (offered, dropped, found) = runtime.block_on(run(&config, steps));
        let mut order = found.clone();
        order.sort_unstable();
        prop_assert_eq!(&order, &found, "in the order of the offers");
        order.dedup();
        prop_assert_eq!(order.len(), found.len(), "none twice");
        // A row whose acknowledgement was lost may be there although it counts as dropped: only where there is no room.
        prop_assert!(found.len() <= offered && found.len() + dropped >= offered);
        if spill_bytes > 3000 && buffer_rows > 60 {
            prop_assert_eq!((found.len(), dropped), (offered, 0));
        }
    }
}

/// Rows offered, rows dropped, and the rows in the table at last.
async fn run(config: &PredictionLogConfig, steps: Vec<Step>) -> (usize, usize, Vec<usize>) {
    let (sink, folder) = (Fake::default(), tempfile::tempdir().unwrap());
    let (mut log, mut running) = start(config, &sink, folder.path());
    let (mut offered, mut dropped) = (0, 0);
    let drops =
        |log: &crate::prediction_log::PredictionLog| log.counters().dropped().map(|(_, rows)| rows).sum::<u64>();
    for step in steps {
        match step {
            Step::Offer(rows) => {
                offer(&log, offered..offered + rows);
                offered += rows;
            }
            Step::Wait(millis) => sleep(Duration::from_millis(millis)).await,
            Step::Inserts(outcomes) => sink.state().script.extend(outcomes),
            Step::Restart(grace) => {
                running.stop(Instant::now() + Duration::from_millis(grace)).await;
                dropped += drops(&log);
                (log, running) = start(config, &sink, folder.path());
            }
        }
    }
    sink.state().script.clear();
    sleep(Duration::from_secs(60)).await;
    running.stop(Instant::now() + Duration::from_secs(20)).await;
    dropped += drops(&log);
    assert_eq!(log.on_disk(), (0, 0, 0));
    let found = sink.ids().iter().map(|id| id[1..].parse().unwrap()).collect();
    (offered, usize::try_from(dropped).unwrap(), found)
}
