//! Lookups through cache and ClickHouse.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use aibuyer_features::{
    Answer, CacheOptions, CachedView, ClickHouseStore, Lookup,
    schema::migrate,
    store::{FeatureStore, Fetch, StoreError},
    view::{EntityKey, FeatureKind, FeatureRow, FeatureValue, FeatureView},
};
use tokio::{runtime::Handle, time::Instant};

use crate::{engine::Engine, schema::connection};

pub(crate) const WITHIN: Duration = Duration::from_secs(30);
const OPTIONS: CacheOptions = CacheOptions {
    soft_age: Duration::from_secs(30),
    hard_age: Duration::from_secs(300),
    absent_age: Duration::from_secs(5),
    capacity: 1 << 28,
};

/// Counts the queries that go through.
struct Counted {
    store: ClickHouseStore,
    queries: AtomicUsize,
}

impl FeatureStore for Counted {
    fn fetch<'a>(&'a self, view: &'a FeatureView, keys: &'a [EntityKey]) -> Fetch<'a> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        self.store.fetch(view, keys)
    }

    fn fetch_all<'a>(&'a self, view: &'a FeatureView, most: u64, within: Duration) -> Fetch<'a> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        self.store.fetch_all(view, most, within)
    }
}

pub(crate) async fn store(engine: &Engine, database: &str) -> ClickHouseStore {
    migrate(&connection(engine, database), WITHIN).await.unwrap();
    ClickHouseStore::new(&connection(engine, database), WITHIN)
}

fn cached(store: ClickHouseStore, options: CacheOptions) -> (Arc<CachedView>, Arc<Counted>) {
    let counted = Arc::new(Counted { store, queries: AtomicUsize::new(0) });
    let store = Arc::clone(&counted) as Arc<dyn FeatureStore>;
    (Arc::new(CachedView::new(FeatureView::campaign(), store, options, Handle::current())), counted)
}

/// Answers, to keep.
pub(crate) fn kept(answers: &[Answer<'_>]) -> Vec<Result<Lookup, StoreError>> {
    answers.iter().map(|answer| answer.map(Lookup::cloned).map_err(Clone::clone)).collect()
}

/// As long as it takes.
pub(crate) fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn keys<const N: usize>(names: [&str; N]) -> [EntityKey; N] {
    names.map(|name| EntityKey::new(name).unwrap())
}

/// Computes the features anew, as happens each minute.
fn refresh(engine: &Engine, database: &str) {
    for view in ["campaign_features_refresh", "user_features_refresh"] {
        engine.sql(database, &format!("SYSTEM REFRESH VIEW {view}")).unwrap();
        engine.sql(database, &format!("SYSTEM WAIT VIEW {view}")).unwrap();
    }
}

pub(crate) fn value(view: &FeatureView, row: &FeatureRow, feature: &str) -> FeatureValue {
    row.values[view.position(feature).unwrap()].clone()
}

#[tokio::test]
async fn replaced_rows_and_late_corrections_count_once_and_absent_campaigns_are_absent() {
    let Some(engine) = Engine::shared() else { return };
    let store = store(&engine, "sums").await;
    let insert = |values: &str| {
        let columns = "user_id, campaign_id, timestamp, impressions, clicks, spend, conversions";
        engine.sql("sums", &format!("INSERT INTO campaign_metrics ({columns}) VALUES {values}")).unwrap();
    };
    let (recent, old) = ("toStartOfMinute(now()) - INTERVAL 10 MINUTE", "toStartOfMinute(now()) - INTERVAL 3 DAY");
    // Fixed once, so that what is sent again has the same key.
    let time = |sql: &str| engine.sql("sums", &format!("SELECT {sql}")).unwrap().trim().to_owned();
    let (recent, old) = (time(recent), time(old));
    insert(&format!("('u', 'it''s', '{recent}', 100, 5, 1.25, 1), ('u', 'it''s', '{old}', 1000, 50, 10.5, 2)"));
    insert(&format!("('u', 'it''s', '{recent}', 120, 6, 1.5, 1)"));
    refresh(&engine, "sums");
    let campaign = FeatureView::campaign();
    let asked = keys(["it's", "nobody?", "back\\slash"]);
    let rows = store.fetch(&campaign, &asked).await.unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[&asked[0]];
    for (feature, expected) in [
        ("impressions_1h", FeatureValue::Integer(120)),
        ("impressions_7d", FeatureValue::Integer(1120)),
        ("clicks_1d", FeatureValue::Integer(6)),
        ("clicks_28d", FeatureValue::Integer(56)),
        ("spend_28d", FeatureValue::Number(12.0)),
        ("conversions_7d", FeatureValue::Integer(3)),
    ] {
        assert_eq!(value(&campaign, row, feature), expected, "{feature}");
    }
    assert!(row.age(SystemTime::now()) < WITHIN, "{:?}", row.computed_at);
    // A correction of three days ago, which arrives now.
    insert(&format!("('u', 'it''s', '{old}', 900, 40, 9.5, 2)"));
    refresh(&engine, "sums");
    let rows = store.fetch(&campaign, &asked).await.unwrap();
    assert_eq!(value(&campaign, &rows[&asked[0]], "impressions_28d"), FeatureValue::Integer(1020));
    let user = FeatureView::user();
    let account = keys(["u"]);
    let rows = store.fetch(&user, &account).await.unwrap();
    assert_eq!(value(&user, &rows[&account[0]], "campaigns_28d"), FeatureValue::Integer(1));
    assert_eq!(value(&user, &rows[&account[0]], "spend_7d"), FeatureValue::Number(11.0));
}

#[tokio::test]
async fn a_campaign_of_two_accounts_is_absent_and_holds_up_no_other() {
    let Some(engine) = Engine::shared() else { return };
    let store = store(&engine, "twice").await;
    let row = "INSERT INTO campaign_features (campaign_id, user_id, computed_at) VALUES";
    engine.sql("twice", "SYSTEM STOP VIEW campaign_features_refresh").unwrap();
    engine.sql("twice", &format!("{row} ('both', 'a', now()), ('both', 'b', now()), ('one', 'a', now())")).unwrap();
    let rows = store.fetch(&FeatureView::campaign(), &keys(["both", "one"])).await.unwrap();
    assert_eq!(rows.keys().collect::<Vec<_>>(), [&keys(["one"])[0]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_burst_of_64_requests_needs_few_queries() {
    let Some(engine) = Engine::shared() else { return };
    let store = store(&engine, "burst").await;
    engine.sql("burst", "SYSTEM STOP VIEW campaign_features_refresh").unwrap();
    let fill = "INSERT INTO campaign_features (campaign_id, user_id, computed_at, impressions_1h) \
                SELECT concat('c', toString(number)), 'u', now(), number FROM numbers(10000)";
    engine.sql("burst", fill).unwrap();
    let (view, counted) = cached(store, OPTIONS);
    let requests: Vec<_> = (0..64_usize)
        .map(|request| {
            let view = Arc::clone(&view);
            tokio::spawn(async move {
                let numbers: Vec<usize> = (0..256).map(|n| (request * 156 + n) % 10_000).collect();
                let keys: Vec<_> = numbers.iter().map(|n| format!("c{n}")).collect();
                let keys: Vec<_> = keys.iter().map(String::as_str).collect();
                (numbers, view.read(&keys, far(), kept).await)
            })
        })
        .collect();
    let campaign = FeatureView::campaign();
    for request in requests {
        let (numbers, lookups) = request.await.unwrap();
        for (number, lookup) in numbers.into_iter().zip(lookups) {
            let Ok(Lookup::Present(row)) = lookup else { panic!("c{number}: {lookup:?}") };
            let expected = FeatureValue::Integer(number.try_into().unwrap());
            assert_eq!(value(&campaign, &row, "impressions_1h"), expected);
        }
    }
    let queries = counted.queries.load(Ordering::SeqCst);
    assert!(queries <= 8, "{queries} queries");
}

#[tokio::test]
async fn while_clickhouse_is_away_rows_are_served_with_their_age_and_it_is_found_again() {
    let Some(mut engine) = Engine::start() else { return };
    let store = store(&engine, "outage").await;
    engine.sql("outage", "SYSTEM STOP VIEW campaign_features_refresh").unwrap();
    let insert = "INSERT INTO campaign_features (campaign_id, user_id, computed_at, clicks_1h) VALUES";
    engine.sql("outage", &format!("{insert} ('a', 'u', now() - 100, 1)")).unwrap();
    // Stale at once: each lookup asks for a newer one.
    let (view, _) = cached(store, CacheOptions { soft_age: Duration::ZERO, ..OPTIONS });
    let Ok(Lookup::Present(first)) = view.read(&["a"], far(), kept).await.remove(0) else { panic!("not there") };
    engine.kill();
    let now = SystemTime::now();
    let Ok(Lookup::Stale(row)) = view.read(&["a"], far(), kept).await.remove(0) else { panic!("not stale") };
    assert!(row.age(now) >= Duration::from_secs(99), "{:?}", row.age(now));
    assert!(row.age(now + WITHIN) == row.age(now) + WITHIN && row.computed_at == first.computed_at);
    let Err(StoreError::Call { error, .. }) = view.read(&["b"], far(), kept).await.remove(0) else {
        panic!("no error")
    };
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    engine.restart();
    engine.sql("outage", "SYSTEM STOP VIEW campaign_features_refresh").unwrap();
    engine.sql("outage", &format!("{insert} ('b', 'u', now(), 2)")).unwrap();
    assert!(matches!(view.read(&["b"], far(), kept).await.remove(0), Ok(Lookup::Present(_))));
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_an_error_that_names_it() {
    let Some(engine) = Engine::shared() else { return };
    let store = store(&engine, "misfit").await;
    let view = FeatureView::campaign();
    store.check(&view).await.unwrap();
    engine.sql("misfit", "SYSTEM STOP VIEW campaign_features_refresh").unwrap();
    let row = "INSERT INTO campaign_features (campaign_id, user_id, computed_at) VALUES ('a', 'u', now())";
    engine.sql("misfit", row).unwrap();
    for (change, part) in [
        (
            "ALTER TABLE campaign_features MODIFY COLUMN clicks_1h String",
            "column clicks_1h is String, not a whole number",
        ),
        ("ALTER TABLE campaign_features DROP COLUMN clicks_1h", "clicks_1h"),
        ("DROP TABLE campaign_features", "campaign_features"),
    ] {
        engine.sql("misfit", change).unwrap();
        let error = store.check(&view).await.unwrap_err();
        assert!(matches!(error, StoreError::Schema { .. }), "{error:?}");
        let text = error.to_string();
        for part in [part, "feature view campaign", "aibuyer-server migrate"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.len() < 1000, "{text}");
        // With a key the same, and the key is not told to whoever reads the log.
        assert_eq!(store.fetch(&view, &keys(["a"])).await.unwrap_err(), error);
    }
}

#[tokio::test]
async fn values_of_every_type_are_read_and_a_slow_query_is_given_up() {
    let Some(engine) = Engine::shared() else { return };
    migrate(&connection(&engine, "types"), WITHIN).await.unwrap();
    let table = "CREATE TABLE odd (id String, at DateTime64(3), small Int8, big UInt64, decimal Decimal(10, 2), \
                 wide Decimal(38, 4), gone Nullable(Float64), nan Float32, word LowCardinality(Nullable(String))) \
                 ENGINE = MergeTree ORDER BY id";
    engine.sql("types", table).unwrap();
    let row = "INSERT INTO odd VALUES ('k', '2026-01-02 03:04:05.678', -3, 18446744073709551615, -12.34, 5.0625, NULL, \
               nan, 'wörd')";
    engine.sql("types", row).unwrap();
    let column =
        |(name, kind): (&str, FeatureKind)| aibuyer_features::view::FeatureColumn { name: name.to_owned(), kind };
    let mut odd = FeatureView {
        name: "odd",
        table: "odd",
        key: "id",
        computed_at: "at",
        columns: [
            ("small", FeatureKind::Integer),
            ("small", FeatureKind::Number),
            ("big", FeatureKind::Integer),
            ("decimal", FeatureKind::Number),
            ("wide", FeatureKind::Number),
            ("gone", FeatureKind::Number),
            ("nan", FeatureKind::Number),
            ("word", FeatureKind::Text),
        ]
        .map(column)
        .into(),
    };
    let store = ClickHouseStore::new(&connection(&engine, "types"), WITHIN);
    let rows = store.fetch(&odd, &keys(["k"])).await.unwrap();
    let row = &rows[&keys(["k"])[0]];
    let expected = [
        FeatureValue::Integer(-3),
        FeatureValue::Number(-3.0),
        FeatureValue::Missing,
        FeatureValue::Number(-12.34),
        FeatureValue::Number(5.0625),
        FeatureValue::Missing,
        FeatureValue::Missing,
        FeatureValue::text("wörd"),
    ];
    assert_eq!(*row.values, expected);
    let at = row.computed_at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let server = engine.sql("types", "SELECT toUnixTimestamp64Milli(at) FROM odd").unwrap();
    assert_eq!(at.as_millis().to_string(), server.trim());
    // A view that never ends.
    engine.sql("types", "CREATE VIEW endless AS SELECT * FROM odd WHERE sleepEachRow(3) = 0").unwrap();
    odd.table = "endless";
    let short = Duration::from_millis(100);
    let error = ClickHouseStore::new(&connection(&engine, "types"), short).fetch(&odd, &keys(["k"])).await.unwrap_err();
    assert!(error.to_string().contains("did not answer within 100ms"), "{error}");
}
