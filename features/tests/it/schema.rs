//! Migrations on the real engine.

use std::time::Duration;

use aibuyer_features::{
    Connection,
    schema::{MIGRATIONS, SchemaError, migrate},
};

use crate::engine::Engine;

const WITHIN: Duration = Duration::from_secs(60);

pub(crate) fn connection(engine: &Engine, database: &str) -> Connection {
    Connection { url: engine.url(), database: database.to_owned(), user: None, password: None }
}

#[tokio::test]
async fn a_fresh_database_gets_every_table_and_a_second_run_does_nothing() {
    let Some(engine) = Engine::shared() else { return };
    let connection = connection(&engine, "odd `name'");
    let report = migrate(&connection, WITHIN).await.unwrap();
    assert!(report.created_database);
    assert_eq!((report.applied.len(), report.version), (MIGRATIONS.len(), 7));
    let again = migrate(&connection, WITHIN).await.unwrap();
    assert!(!again.created_database && again.applied.is_empty(), "{again:?}");
    // The comparison after the run has looked at each column; here only that the record is whole.
    let record = "SELECT version, name FROM schema_migrations ORDER BY version LIMIT 2";
    let record = engine.sql("odd%20%60name%27", record).unwrap();
    assert_eq!(record, "1\tcampaign_metrics\n2\tcampaign_features\n");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let Some(engine) = Engine::shared() else { return };
    let connection = connection(&engine, "newer");
    migrate(&connection, WITHIN).await.unwrap();
    engine.sql("newer", "INSERT INTO schema_migrations (version, name) VALUES (9, 'later')").unwrap();
    let error = migrate(&connection, WITHIN).await.unwrap_err();
    assert_eq!(error, SchemaError::Newer { database: "newer".to_owned(), found: 9, known: 7 });
}

#[tokio::test]
async fn a_table_that_differs_is_refused_before_anything_changes() {
    let Some(engine) = Engine::shared() else { return };
    let tables =
        |database: &str| engine.sql(database, "SELECT count() FROM system.tables WHERE database = currentDatabase()");
    for (database, before, parts) in [
        (
            "narrow",
            "CREATE TABLE campaign_metrics (user_id String, campaign_id String, timestamp DateTime, impressions UInt32, \
             clicks UInt32, spend Decimal(10, 2), conversions UInt16) ENGINE = ReplacingMergeTree \
             ORDER BY (user_id, campaign_id, timestamp)",
            ["no column ingested_at DateTime64(3)", "ALTER TABLE campaign_metrics ADD COLUMN ingested_at"],
        ),
        (
            "mistyped",
            "CREATE TABLE prediction_log (ts DateTime64(3), score Float64) ENGINE = MergeTree ORDER BY ts",
            ["column score of prediction_log is Float64, not Float32", "MODIFY COLUMN score Float32"],
        ),
        (
            "summing",
            "CREATE TABLE daily_campaign_summary (user_id String, date Date, clicks UInt64) \
             ENGINE = SummingMergeTree ORDER BY (user_id, date)",
            ["daily_campaign_summary is a SummingMergeTree, not a View", "RENAME TABLE daily_campaign_summary"],
        ),
        (
            "materialized",
            "CREATE MATERIALIZED VIEW daily_campaign_summary ENGINE = SummingMergeTree ORDER BY x AS SELECT 1 AS x",
            ["daily_campaign_summary is a MaterializedView, not a View", "wrong sums"],
        ),
    ] {
        engine.sql("system", &format!("CREATE DATABASE {database}")).unwrap();
        engine.sql(database, before).unwrap();
        let there = tables(database);
        let error = migrate(&connection(&engine, database), WITHIN).await.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(tables(database), there, "{database}");
    }
}

#[tokio::test]
async fn a_database_of_version_6_is_brought_up_to_date_and_its_rows_stay() {
    let Some(engine) = Engine::shared() else { return };
    let connection = connection(&engine, "six");
    migrate(&connection, WITHIN).await.unwrap();
    // As version 6 left it: the table of its own migration, and no later record.
    engine.sql("six", "DROP TABLE prediction_log").unwrap();
    let made = include_str!("../../migrations/0006_prediction_log.sql");
    let made = made.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    engine.sql("six", made.trim().trim_end_matches(';')).unwrap();
    engine.sql("six", "INSERT INTO prediction_log (ts, request_id, score) VALUES (now(), 'old', 0.5)").unwrap();
    engine.sql("six", "DELETE FROM schema_migrations WHERE version = 7").unwrap();
    // Only what the migration mends is let through.
    engine.sql("six", "ALTER TABLE prediction_log ADD COLUMN region String").unwrap();
    let error = migrate(&connection, WITHIN).await.unwrap_err().to_string();
    assert!(error.contains("DROP COLUMN region") && !error.contains("COLUMN features"), "{error}");
    engine.sql("six", "ALTER TABLE prediction_log DROP COLUMN region").unwrap();
    let report = migrate(&connection, WITHIN).await.unwrap();
    assert_eq!(report.applied.iter().map(|m| m.name).collect::<Vec<_>>(), ["prediction_log_columns"]);
    let old = "SELECT request_id, score, score_lower, numbers, batch_rows FROM prediction_log";
    assert_eq!(engine.sql("six", old).unwrap(), "old\t0.5\t\\N\t{}\t0\n");
    // A table that is gone needs both of its migrations again.
    engine.sql("six", "DROP TABLE prediction_log").unwrap();
    let report = migrate(&connection, WITHIN).await.unwrap();
    let applied: Vec<_> = report.applied.iter().map(|m| m.name).collect();
    assert_eq!(applied, ["prediction_log", "prediction_log_columns"]);
}

#[tokio::test]
async fn the_remedies_work() {
    let Some(engine) = Engine::shared() else { return };
    let connection = connection(&engine, "mended");
    engine.sql("system", "CREATE DATABASE mended").unwrap();
    let raw = "CREATE TABLE campaign_metrics (user_id String, campaign_id String, timestamp DateTime, impressions UInt32, \
               clicks UInt32, spend Decimal(10, 2), conversions UInt16) ENGINE = ReplacingMergeTree \
               ORDER BY (user_id, campaign_id, timestamp)";
    engine.sql("mended", raw).unwrap();
    let error = migrate(&connection, WITHIN).await.unwrap_err().to_string();
    engine.sql("mended", error.split('`').nth(1).unwrap()).unwrap();
    migrate(&connection, WITHIN).await.unwrap();
    // The platform's own columns in the raw table are none of the engine's business.
    engine.sql("mended", "ALTER TABLE campaign_metrics ADD COLUMN currency String").unwrap();
    engine.sql("mended", "ALTER TABLE campaign_features ADD COLUMN ctr Float64").unwrap();
    engine.sql("mended", "DROP TABLE user_features_refresh").unwrap();
    let error = migrate(&connection, WITHIN).await.unwrap_err().to_string();
    let remedy = error.split('`').nth(1).unwrap();
    assert_eq!(remedy, "ALTER TABLE campaign_features DROP COLUMN ctr", "{error}");
    engine.sql("mended", remedy).unwrap();
    // What is gone is made again.
    let report = migrate(&connection, WITHIN).await.unwrap();
    assert_eq!(report.applied.iter().map(|m| m.name).collect::<Vec<_>>(), ["user_features"]);
}

#[tokio::test]
async fn a_server_that_is_away_is_told_with_its_address() {
    let Some(mut engine) = Engine::start() else { return };
    let connection = connection(&engine, "away");
    engine.kill();
    let error = migrate(&connection, WITHIN).await.unwrap_err().to_string();
    assert!(error.contains(&connection.url) && error.contains("clickhouse.url"), "{error}");
}
