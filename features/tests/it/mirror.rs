//! Mirrors of ClickHouse.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aibuyer_features::{
    CacheOptions, CachedView, ClickHouseStore, FeatureSource, Lookup, Mirror, MirrorOptions,
    store::StoreError,
    view::{FeatureRow, FeatureValue, FeatureView},
};
use tokio::{runtime::Handle, time::sleep};

use crate::{
    engine::Engine,
    lookups::{WITHIN, far, kept, store, value},
};

/// Quick, so that tests see many refreshes.
const OPTIONS: MirrorOptions =
    MirrorOptions { interval: Duration::from_millis(200), hard_age: Duration::from_secs(3600), capacity: 1 << 26 };

fn mirror(store: ClickHouseStore, options: MirrorOptions) -> FeatureSource {
    FeatureSource::Mirror(Mirror::new(FeatureView::campaign(), Arc::new(store), options, &Handle::current()))
}

/// Looks a campaign up until the answer is as it should be.
async fn until(
    source: &FeatureSource,
    campaign: &str,
    fits: impl Fn(&Result<Lookup, StoreError>) -> bool,
) -> Result<Lookup, StoreError> {
    let started = Instant::now();
    loop {
        let answer = source.read(&[campaign], far(), kept).await.remove(0);
        if fits(&answer) {
            return answer;
        }
        assert!(started.elapsed() < WITHIN, "{campaign}: {answer:?}");
        sleep(Duration::from_millis(10)).await; // another process: nothing to wait on but its answers
    }
}

fn clicks(row: &FeatureRow) -> FeatureValue {
    value(&FeatureView::campaign(), row, "clicks_1h")
}

fn present(answer: &Result<Lookup, StoreError>, clicked: i64) -> bool {
    matches!(answer, Ok(Lookup::Present(row)) if clicks(row) == FeatureValue::Integer(clicked))
}

/// A table that only the test fills.
async fn filled(engine: &Engine, database: &str, values: &str) -> ClickHouseStore {
    let store = store(engine, database).await;
    engine.sql(database, "SYSTEM STOP VIEW campaign_features_refresh").unwrap();
    insert(engine, database, values);
    store
}

fn insert(engine: &Engine, database: &str, values: &str) {
    let into = "INSERT INTO campaign_features (campaign_id, user_id, computed_at, clicks_1h)";
    engine.sql(database, &format!("{into} {values}")).unwrap();
}

#[tokio::test]
async fn a_refresh_brings_new_and_changed_campaigns_and_forgets_removed_ones() {
    let Some(engine) = Engine::shared() else { return };
    // More rows than come in one part of the answer.
    let many = "SELECT concat('c', toString(number)), 'u', now(), number FROM numbers(20000)";
    let source = mirror(filled(&engine, "mirrored", many).await, OPTIONS);
    until(&source, "c19999", |answer| present(answer, 19_999)).await.unwrap();
    let all: Vec<_> = (0..20_000).map(|n| format!("c{n}")).collect();
    let keys: Vec<_> = all.iter().map(String::as_str).collect();
    for (number, answer) in source.read(&keys, far(), kept).await.iter().enumerate() {
        assert!(present(answer, number.try_into().unwrap()), "c{number}: {answer:?}");
    }
    assert_eq!(source.read(&["nobody"], far(), kept).await, [Ok(Lookup::Absent)]);
    engine.sql("mirrored", "TRUNCATE TABLE campaign_features").unwrap();
    insert(&engine, "mirrored", "VALUES ('c1', 'u', now(), 100), ('new', 'u', now(), 7)");
    until(&source, "new", |answer| present(answer, 7)).await.unwrap();
    let answers = source.read(&["c1", "c2"], far(), kept).await;
    assert!(present(&answers[0], 100) && answers[1] == Ok(Lookup::Absent), "{answers:?}");
    let stats = source.stats();
    assert_eq!((stats.entries, stats.failed_queries), (2, 0));
    assert!(stats.refreshed.is_some_and(|age| age < WITHIN));
}

#[tokio::test]
async fn while_clickhouse_is_away_a_mirror_answers_with_stale_rows_and_finds_it_again() {
    let Some(mut engine) = Engine::start() else { return };
    let source = mirror(filled(&engine, "outage", "VALUES ('a', 'u', now() - 100, 1)").await, OPTIONS);
    let Ok(Lookup::Present(first)) = until(&source, "a", Result::is_ok).await else { panic!("not there") };
    let failed = source.stats().failed; // while it was loading
    engine.kill();
    let stale = |answer: &Result<Lookup, StoreError>| matches!(answer, Ok(Lookup::Stale(_)));
    let Ok(Lookup::Stale(row)) = until(&source, "a", stale).await else { panic!("not stale") };
    assert!(row.computed_at == first.computed_at && row.age(SystemTime::now()) >= Duration::from_secs(100));
    assert_eq!(source.read(&["nobody"], far(), kept).await, [Ok(Lookup::Absent)]);
    let stats = source.stats();
    assert!(stats.refreshed.is_some_and(|age| age >= 2 * OPTIONS.interval), "{stats:?}");
    assert!(stats.failed_queries > 0 && stats.failed == failed, "{stats:?}");
    engine.restart();
    engine.sql("outage", "SYSTEM STOP VIEW campaign_features_refresh").unwrap();
    engine.sql("outage", "TRUNCATE TABLE campaign_features").unwrap();
    insert(&engine, "outage", "VALUES ('a', 'u', now(), 2)");
    until(&source, "a", |answer| present(answer, 2)).await.unwrap();
}

#[tokio::test]
async fn a_view_that_is_too_large_is_refused_with_what_to_do() {
    let Some(engine) = Engine::shared() else { return };
    let rows = "SELECT concat('c', toString(number)), 'u', now(), number FROM numbers(20000)";
    let store = filled(&engine, "large", rows).await;
    let options = MirrorOptions { capacity: 1 << 20, ..OPTIONS };
    let source = mirror(store.clone(), options);
    let refused = |answer: &Result<Lookup, StoreError>| matches!(answer, Err(StoreError::TooLarge { .. }));
    let Err(error) = until(&source, "c1", refused).await else { panic!("served") };
    assert!(error.to_string().contains("use the cache for this view"), "{error}");
    assert_eq!(source.stats().entries, 0);
    // The cache does.
    let age = Duration::from_secs(30);
    let options = CacheOptions { soft_age: age, hard_age: age, absent_age: age, capacity: 1 << 20 };
    let cached = CachedView::new(FeatureView::campaign(), Arc::new(store), options, Handle::current());
    let source = FeatureSource::Cached(cached);
    until(&source, "c1", |answer| present(answer, 1)).await.unwrap();
    let stats = source.stats();
    assert_eq!((stats.queries, stats.fetched, stats.entries, stats.present), (1, 1, 1, 1));
}

#[tokio::test]
async fn a_mirror_without_a_table_says_so() {
    let Some(engine) = Engine::shared() else { return };
    let store = store(&engine, "bare").await;
    engine.sql("bare", "DROP TABLE campaign_features").unwrap();
    let source = mirror(store, OPTIONS);
    let missing = |answer: &Result<Lookup, StoreError>| matches!(answer, Err(StoreError::Schema { .. }));
    let Err(error) = until(&source, "a", missing).await else { panic!("served") };
    assert!(error.to_string().contains("aibuyer-server migrate"), "{error}");
}
