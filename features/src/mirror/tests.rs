//! On a paused clock, against a store whose rows the test sets.

use super::*;
use crate::fake::{Fake, SECOND, State, key, seen};

const OPTIONS: MirrorOptions =
    MirrorOptions { interval: Duration::from_secs(60), hard_age: Duration::from_secs(600), capacity: 1 << 20 };

fn mirror(fake: Fake) -> (Mirror, Arc<Fake>) {
    let fake = Arc::new(fake);
    let store = Arc::clone(&fake) as Arc<dyn FeatureStore>;
    (Mirror::new(FeatureView::campaign(), store, OPTIONS, &Handle::current()), fake)
}

/// What a caller of campaigns 1 and 2 sees.
fn get(mirror: &Mirror) -> Vec<String> {
    mirror.read(&["camp_1", "camp_2"], seen)
}

fn put(fake: &Fake, number: usize, value: Option<i64>) {
    let mut rows = fake.rows.lock().unwrap();
    match value {
        Some(value) => rows.insert(key(number), value),
        None => rows.remove(&key(number)),
    };
}

#[tokio::test(start_paused = true)]
async fn all_rows_are_there_after_one_query_and_follow_the_store() {
    let (mirror, fake) = mirror(Fake { takes: SECOND, ..Fake::default() });
    put(&fake, 1, Some(1));
    mirror.read(&["camp_1", ""], |loading| assert_eq!(loading, [Err(&StoreError::Loading("campaign")); 2]));
    time::sleep(2 * SECOND).await;
    assert_eq!(get(&mirror), ["P1", "A"]);
    assert_eq!(mirror.read(&["", "camp_1", "camp_1", &"x".repeat(1000)], seen), ["A", "P1", "P1", "A"]);
    put(&fake, 1, None);
    put(&fake, 2, Some(2));
    // Asked for again a minute after the first query began.
    time::sleep(58 * SECOND).await;
    assert_eq!(get(&mirror), ["P1", "A"]);
    time::sleep(2 * SECOND).await;
    assert_eq!(get(&mirror), ["A", "P2"]);
    assert_eq!(*fake.queries.lock().unwrap(), vec![vec![]; 2]);
    let stats = mirror.stats();
    let expected = SourceStats {
        present: 5,
        absent: 5,
        failed: 2,
        queries: 2,
        fetched: 2,
        entries: 1,
        refreshed: Some(2 * SECOND),
        ..stats
    };
    assert_eq!(stats, expected);
    assert!((100..1000).contains(&stats.bytes), "{} bytes", stats.bytes);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_rows_become_stale_then_go_and_come_back() {
    for down in [State::Down, State::Panics] {
        let start = Instant::now();
        let (mirror, fake) = mirror(Fake::default());
        put(&fake, 1, Some(1));
        time::sleep(SECOND).await;
        *fake.state.lock().unwrap() = down;
        for (at, expected) in [(119, ["P1", "A"]), (121, ["S1", "A"]), (599, ["S1", "A"]), (601, ["E", "E"])] {
            time::sleep_until(start + at * SECOND).await;
            assert_eq!(get(&mirror), expected, "at {at} s");
        }
        mirror.read(&["camp_1"], |broken| assert_eq!(broken, [Err(&StoreError::Broken("campaign"))]));
        let stats = mirror.stats();
        assert_eq!((stats.queries - stats.failed_queries, stats.refreshed), (1, Some(601 * SECOND)));
        *fake.state.lock().unwrap() = State::Up;
        put(&fake, 1, Some(2));
        time::sleep(OPTIONS.interval).await;
        assert_eq!(get(&mirror), ["P2", "A"]);
    }
}

#[tokio::test(start_paused = true)]
async fn tries_after_a_failure_come_at_growing_distances() {
    let start = Instant::now();
    let (mirror, fake) = mirror(Fake::default());
    *fake.state.lock().unwrap() = State::Down;
    // At 0, 1, 3, 7, 15, 31, 63 and 123 seconds.
    for (until, tries) in [(2, 2), (8, 4), (32, 6), (124, 8)] {
        time::sleep_until(start + until * SECOND).await;
        assert_eq!(fake.queries.lock().unwrap().len(), tries, "by {until} s");
    }
    *fake.state.lock().unwrap() = State::Up;
    time::sleep(OPTIONS.interval).await;
    assert_eq!(get(&mirror), ["A", "A"]);
}

#[tokio::test(start_paused = true)]
async fn too_many_rows_are_refused_and_the_ones_before_stay() {
    let (mirror, fake) = mirror(Fake::default());
    put(&fake, 1, Some(1));
    time::sleep(SECOND).await;
    for number in 0..10_000 {
        put(&fake, number, Some(2));
    }
    time::sleep(OPTIONS.interval).await;
    assert_eq!(get(&mirror), ["P1", "A"]);
    time::sleep(OPTIONS.hard_age).await;
    let Err(error) = mirror.read(&["camp_1"], |answers| answers[0].map(drop).map_err(Clone::clone)) else {
        panic!("served")
    };
    let text = error.to_string();
    for part in ["campaign_features", "1048576 bytes", "use the cache"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_is_dropped_asks_no_more() {
    let (mirror, fake) = mirror(Fake::default());
    time::sleep(SECOND).await;
    drop(mirror);
    time::sleep(10 * OPTIONS.interval).await;
    assert_eq!(fake.queries.lock().unwrap().len(), 1);
    assert_eq!(Arc::strong_count(&fake), 1);
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_being_read_are_dropped_afterwards() {
    let (mirror, fake) = mirror(Fake::default());
    put(&fake, 1, Some(1));
    time::sleep(SECOND).await;
    let reader = mirror.shared.loaded.load_full().unwrap();
    let gone = Arc::downgrade(&reader);
    for _ in 0..3 {
        time::sleep(OPTIONS.interval).await;
    }
    assert_eq!(reader.rows.len(), 1);
    assert_eq!(fake.queries.lock().unwrap().len(), 2, "the next waits until they are gone");
    drop(reader);
    time::sleep(SECOND).await;
    assert!(gone.upgrade().is_none());
    assert_eq!(fake.queries.lock().unwrap().len(), 3);
}
