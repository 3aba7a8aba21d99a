//! The prediction log on the real engine: what arrives, and that it arrives once.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aibuyer_features::{
    schema::migrate,
    sink::{PredictionRow, PredictionRows, PredictionSink, Stages},
};

use crate::{engine::Engine, schema::connection};

const WITHIN: Duration = Duration::from_secs(60);

/// Half a second before the engine's last midnight, in milliseconds: rows of another month would be old enough to go.
fn before_midnight(engine: &Engine) -> i64 {
    let midnight = engine.sql("system", "SELECT toUnixTimestamp(toStartOfDay(now()))").unwrap();
    midnight.trim().parse::<i64>().unwrap() * 1000 - 500
}

async fn sink(engine: &Engine, database: &str) -> PredictionSink {
    let connection = connection(engine, database);
    migrate(&connection, WITHIN).await.unwrap();
    PredictionSink::new(&connection, WITHIN)
}

/// Rows of the times.
fn rows(times: impl IntoIterator<Item = i64>) -> PredictionRows {
    let mut rows = PredictionRows::default();
    for (candidate, at_ms) in (0..).zip(times) {
        assert!(rows.push(&PredictionRow { at_ms, candidate, ..PredictionRow::default() }, 1000));
    }
    rows
}

fn count(engine: &Engine, database: &str) -> String {
    engine.sql(database, "SELECT count() FROM prediction_log").unwrap().trim().to_owned()
}

#[tokio::test]
async fn every_column_arrives() {
    let Some(engine) = Engine::shared() else { return };
    let sink = sink(&engine, "columns").await;
    let at_ms = before_midnight(&engine);
    let (numbers, ages) = ([("headline_chars", 22.0)], [("campaign", 1500), ("user", 90_000)]);
    let texts = [("headline", Cow::Borrowed("[\"it's\",\"ü\"]")), ("week", Cow::Borrowed("201303"))];
    let row = PredictionRow {
        at_ms,
        request_id: "r-1",
        candidate: 7,
        user_id: "u",
        campaign_id: "c",
        model: "ctr-upworthy",
        model_version: "3",
        score: 0.125,
        bounds: Some((0.0625, 0.25)),
        level: Some(0.75),
        numbers: &numbers,
        texts: &texts,
        feature_ages_ms: &ages,
        feature_fallback: true,
        stages: Stages { encode_us: 1, features_us: 2, queue_us: 3, compute_us: 4, total_us: 10 },
        batch_rows: 64,
    };
    let mut rows = PredictionRows::default();
    let bare = PredictionRow { at_ms: at_ms + 1, request_id: "r-2", ..PredictionRow::default() };
    assert!(rows.push(&row, 1000) && rows.push(&bare, 1000));
    sink.insert(rows.into_bytes(), "t").await.unwrap();
    let all = format!("SELECT toUnixTimestamp64Milli(ts) - {at_ms}, * EXCEPT ts FROM prediction_log ORDER BY ts");
    let found = engine.sql("columns", &all).unwrap();
    let wanted = [
        "0\tr-1\t7\tu\tc\tctr-upworthy\t3\t0.125\t0.0625\t0.25\t0.75\t{'headline_chars':22}\t\
         {'headline':'[\"it\\'s\",\"ü\"]','week':'201303'}\t{'campaign':1500,'user':90000}\t90000\ttrue\t1\t2\t3\t4\t10\t64",
        "1\tr-2\t0\t\t\t\t\t0\t\\N\t\\N\t\\N\t{}\t{}\t{}\t0\tfalse\t0\t0\t0\t0\t0\t0",
    ];
    assert_eq!(found.lines().collect::<Vec<_>>(), wanted);
}

#[tokio::test]
async fn a_token_adds_its_rows_once_on_both_sides_of_midnight() {
    let Some(engine) = Engine::shared() else { return };
    let sink = sink(&engine, "midnight").await;
    let start = before_midnight(&engine);
    let both = rows((0..1000).map(|i| start + i)).into_bytes();
    for _ in 0..3 {
        sink.insert(both.clone(), "a-1").await.unwrap();
    }
    let parts = "SELECT count(), uniq(partition) FROM system.parts \
                 WHERE database = 'midnight' AND table = 'prediction_log' AND active";
    assert_eq!((count(&engine, "midnight"), engine.sql("midnight", parts).unwrap()), ("1000".into(), "2\t2\n".into()));
    // Half of it is there: the other half is added. So it would be if the engine died between its two parts.
    let partition = "SELECT toYYYYMMDD(max(ts)) FROM prediction_log";
    let partition = engine.sql("midnight", partition).unwrap();
    engine.sql("midnight", &format!("ALTER TABLE prediction_log DROP PARTITION {partition}")).unwrap();
    assert_eq!(count(&engine, "midnight"), "500");
    sink.insert(both.clone(), "a-1").await.unwrap();
    assert_eq!(count(&engine, "midnight"), "1000");
    // The same rows under another token are other rows.
    sink.insert(both, "a-2").await.unwrap();
    assert_eq!(count(&engine, "midnight"), "2000");
}

#[tokio::test]
async fn a_token_is_known_after_a_kill_and_after_many_others() {
    let Some(mut engine) = Engine::start() else { return };
    let sink = sink(&engine, "kept").await;
    let at = before_midnight(&engine);
    let first = rows([at; 10]).into_bytes();
    sink.insert(first.clone(), "first").await.unwrap();
    for other in 0..1100 {
        sink.insert(rows([at]).into_bytes(), &format!("other-{other}")).await.unwrap();
    }
    engine.kill();
    assert!(sink.insert(first.clone(), "first").await.is_err());
    engine.restart();
    sink.insert(first, "first").await.unwrap();
    assert_eq!(count(&engine, "kept"), "1110");
}

/// The engine has no chance to tidy up: it dies before, in and after an insert, and between the two parts of one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_until_acknowledged_is_there_once_whenever_the_engine_dies() {
    const ROWS: i64 = 200;
    let Some(mut engine) = Engine::start() else { return };
    let sink = sink(&engine, "killed").await;
    let (at, over) = (before_midnight(&engine), Arc::new(AtomicBool::new(false)));
    let sender = {
        let over = Arc::clone(&over);
        tokio::spawn(async move {
            let batch = rows((0..ROWS).map(|i| at + 5 * i)).into_bytes();
            let (mut sent, mut failures) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                while sink.insert(batch.clone(), &format!("batch-{sent}")).await.is_err() {
                    failures += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                sent += 1;
            }
            (sent, failures)
        })
    };
    for kill in 0..5 {
        tokio::time::sleep(Duration::from_millis(100 + 37 * kill)).await;
        engine.kill();
        tokio::task::block_in_place(|| engine.restart());
    }
    over.store(true, Ordering::Relaxed);
    let (sent, failures) = sender.await.unwrap();
    assert!(sent > 5 && failures >= 5, "{sent} {failures}");
    assert_eq!(count(&engine, "killed"), (sent * ROWS).to_string());
}

#[tokio::test]
async fn a_table_that_does_not_take_the_rows_says_so() {
    let Some(engine) = Engine::shared() else { return };
    let sink = sink(&engine, "changed").await;
    let at = before_midnight(&engine);
    let one = || rows([at]).into_bytes();
    for (change, undo, says) in [
        ("DROP COLUMN batch_rows", "ADD COLUMN batch_rows UInt32", "batch_rows"),
        ("MODIFY COLUMN candidate UInt64", "MODIFY COLUMN candidate UInt32", "candidate"),
    ] {
        engine.sql("changed", &format!("ALTER TABLE prediction_log {change}")).unwrap();
        let error = sink.insert(one(), "x").await.unwrap_err();
        assert!(error.is_schema() && error.to_string().contains(says), "{error:?}");
        engine.sql("changed", &format!("ALTER TABLE prediction_log {undo}")).unwrap();
    }
    engine.sql("changed", "RENAME TABLE prediction_log TO away").unwrap();
    let error = sink.insert(one(), "x").await.unwrap_err();
    assert!(error.is_schema(), "{error:?}");
    engine.sql("changed", "RENAME TABLE away TO prediction_log").unwrap();
    // None of the failures has used the token up, and a column that the rows do not know is none of theirs.
    engine.sql("changed", "ALTER TABLE prediction_log ADD COLUMN note String").unwrap();
    sink.insert(one(), "x").await.unwrap();
    assert_eq!(count(&engine, "changed"), "1");
}
