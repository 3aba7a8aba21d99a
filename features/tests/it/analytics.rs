//! Questions about the past: known rows in, exact answers out.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aibuyer_domain::ErrorKind;
use aibuyer_features::{
    analytics::{Analytics, AnalyticsError, Cells, Field, Groups, Log, Page, Scored, Selection},
    schema::migrate,
};

use crate::{engine::Engine, schema::connection};

const WITHIN: Duration = Duration::from_secs(60);

fn soon() -> Instant {
    Instant::now() + WITHIN
}

/// The day before yesterday, since 1970: rows of long ago would be deleted by the tables' own rules.
fn recent() -> u16 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u16::try_from(now.as_secs() / 86_400).unwrap() - 2
}

async fn tables(database: &str) -> Option<(Arc<Engine>, Analytics)> {
    let engine = Engine::shared()?;
    migrate(&connection(&engine, database), WITHIN).await.unwrap();
    let analytics = Analytics::new(&connection(&engine, database));
    Some((engine, analytics))
}

/// Rows of `campaign_metrics`: account, campaign, seconds after the begin of the day, impressions, clicks.
fn metrics(engine: &Engine, database: &str, rows: &[(&str, &str, u32, u32, u32)]) {
    let mut sql =
        "INSERT INTO campaign_metrics (user_id, campaign_id, timestamp, impressions, clicks, spend, conversions) \
                   VALUES "
            .to_owned();
    for (user, campaign, second, impressions, clicks) in rows {
        let at = u32::from(recent()) * 86_400 + second;
        let spend = f64::from(*impressions) / 10.0;
        write!(sql, "('{user}', '{campaign}', {at}, {impressions}, {clicks}, {spend}, {}), ", clicks / 2).unwrap();
    }
    engine.sql(database, sql.trim_end_matches(", ")).unwrap();
}

/// Rows of `prediction_log` of version 2 of model m: account, campaign, seconds after the begin of the day, score.
fn predictions(engine: &Engine, database: &str, rows: &[(&str, &str, f64, f32)]) {
    let mut sql =
        "INSERT INTO prediction_log (ts, user_id, campaign_id, model, model_version, score) VALUES ".to_owned();
    for (user, campaign, second, score) in rows {
        let at = f64::from(recent()) * 86_400.0 + second;
        write!(sql, "({at:.3}, '{user}', '{campaign}', 'm', '2', {score}), ").unwrap();
    }
    engine.sql(database, sql.trim_end_matches(", ")).unwrap();
}

/// Of so many hours of the day.
fn log(hours: u32) -> Log {
    let since = u32::from(recent()) * 86_400;
    Log { model: "m".to_owned(), version: 2, since, until: since + hours * 3600 }
}

fn selection(campaigns: &[&str], days: u16) -> Selection {
    let campaign_ids = campaigns.iter().map(|c| (*c).to_owned()).collect();
    Selection { user_id: "it's".to_owned(), campaign_ids, first: recent(), last: recent() + days - 1 }
}

#[tokio::test]
async fn days_are_summed_from_the_rows_that_count() {
    let Some((engine, analytics)) = tables("summary").await else { return };
    // The second statement sends a row of the first again, and one that comes late for the day before.
    let first = [("it\\'s", "a", 10, 100, 10), ("it\\'s", "a", 3600, 50, 0), ("it\\'s", "b", 90_000, 30, 3)];
    metrics(&engine, "summary", &first);
    metrics(&engine, "summary", &[("other", "a", 10, 7, 7), ("it\\'s", "c", 200_000, 5, 5)]);
    let all = |campaigns: &[&str], days| {
        let of = selection(campaigns, days);
        let analytics = analytics.clone();
        async move {
            let page = Page { fill: false, after: None, rows: 100 };
            analytics.days(&of, &page, true, soon()).await.unwrap()
        }
    };
    let (days, totals) = all(&[], 2).await;
    let found: Vec<_> =
        days.iter().map(|d| (d.campaign_id.as_str(), d.day - recent(), d.impressions, d.clicks)).collect();
    assert_eq!(found, [("a", 0, 150, 10), ("b", 1, 30, 3)]);
    let totals = totals.unwrap();
    assert_eq!((totals.campaigns, totals.days, totals.impressions, totals.clicks), (2, 2, 180, 13));
    assert_eq!((days[0].spend.to_bits(), days[0].conversions), (15.0_f64.to_bits(), 5));
    metrics(&engine, "summary", &[("it\\'s", "a", 10, 120, 11), ("it\\'s", "a", 7200, 1, 1)]);
    let (days, totals) = all(&["a", "none"], 2).await;
    assert_eq!((days.len(), days[0].impressions, days[0].clicks), (1, 171, 12));
    assert!((days[0].spend - 17.1).abs() < 1e-9, "{}", days[0].spend);
    assert_eq!(totals.unwrap().clicks, 12);
    let (none, totals) = all(&["none"], 2).await;
    assert_eq!((none.len(), totals.unwrap().impressions), (0, 0));
}

#[tokio::test]
async fn pages_follow_each_other_and_empty_days_can_be_filled() {
    let Some((engine, analytics)) = tables("pages").await else { return };
    metrics(
        &engine,
        "pages",
        &[("it\\'s", "a", 0, 1, 0), ("it\\'s", "a", 180_000, 2, 0), ("it\\'s", "b", 90_000, 3, 1)],
    );
    for (fill, rows) in [
        (false, vec![("a", 0, 1), ("a", 2, 2), ("b", 1, 3)]),
        (true, vec![("a", 0, 1), ("a", 1, 0), ("a", 2, 2), ("b", 0, 0), ("b", 1, 3), ("b", 2, 0)]),
    ] {
        for size in 1..=4 {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = Page { fill, after, rows: size };
                let (days, totals) = analytics.days(&selection(&[], 3), &page, false, soon()).await.unwrap();
                assert_eq!(totals, None);
                assert!(days.len() <= size);
                let Some(last) = days.last() else { break };
                after = Some((last.campaign_id.clone(), last.day));
                found.extend(days.iter().map(|d| (d.campaign_id.clone(), d.day - recent(), d.impressions)));
            }
            let found: Vec<_> = found.iter().map(|(c, d, i)| (c.as_str(), *d, *i)).collect();
            assert_eq!(found, rows, "{size}");
        }
    }
}

#[tokio::test]
async fn predictions_meet_the_outcomes_of_their_hour() {
    let Some((engine, analytics)) = tables("cells").await else { return };
    predictions(
        &engine,
        "cells",
        &[
            // One cell of mean 0.25; its last prediction a millisecond before the hour ends.
            ("u", "a", 0.0, 0.125),
            ("u", "a", 3599.999, 0.375),
            // The next hour of the same campaign, and another account's campaign of that name.
            ("u", "a", 3600.0, 0.5),
            ("v", "a", 10.0, 0.75),
            // Nothing was shown of it.
            ("u", "never", 10.0, 0.5),
            // Before and after the time.
            ("u", "a", -0.001, 0.5),
            ("u", "a", 7200.0, 0.5),
            // No account, and not a number.
            ("", "x", 10.0, 0.0625),
            ("u", "x", 20.0, 0.1875),
            ("u", "a", 30.0, f32::NAN),
        ],
    );
    let other = "INSERT INTO prediction_log (ts, user_id, campaign_id, model, model_version, score, feature_fallback) \
                 SELECT ts, user_id, campaign_id, model, '1', 0.9, true FROM prediction_log";
    engine.sql("cells", other).unwrap();
    engine.sql("cells", "ALTER TABLE prediction_log UPDATE feature_fallback = true WHERE score = 0.5 AND model_version = '2' SETTINGS mutations_sync = 1").unwrap();
    metrics(
        &engine,
        "cells",
        &[
            ("u", "a", 0, 100, 20),
            ("u", "a", 1800, 100, 30),
            ("v", "a", 1800, 40, 50),
            // An hour without predictions, and one without impressions but with late clicks.
            ("v", "a", 3600, 11, 1),
            ("u", "a", 3600, 0, 2),
            ("u", "x", 5, 10, 1),
            ("v", "x", 15, 30, 2),
            // Never scored.
            ("u", "else", 0, 1000, 0),
            ("u", "a", 7200, 1000, 0),
        ],
    );
    // Sent again.
    metrics(&engine, "cells", &[("u", "a", 0, 100, 10)]);
    let Scored { bins, alone } = analytics.scored(&log(2), 2, soon()).await.unwrap();
    // Scores 0.125 (x, both accounts), 0.25 (u a), 0.75 (v a), with 40, 200 and 40 impressions: half of 280 lies in the
    // second, whose last impression is in the second half.
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    let [low, high] = &bins[..] else { panic!("{bins:?}") };
    let counts = |c: &Cells| (c.bin, c.cells, c.predictions, c.fallbacks, c.impressions, c.clicks, c.clicks_beyond);
    assert_eq!(counts(low), (1, 1, 2, 0, 40, 3, 0));
    assert_eq!(counts(high), (2, 2, 3, 0, 240, 80, 10));
    near(low.lowest, 0.125);
    near(low.highest, 0.125);
    near(low.predicted_clicks, 5.0);
    near(low.loss, -(3.0 * 0.125_f64.ln() + 37.0 * 0.875_f64.ln()));
    near(high.lowest, 0.25);
    near(high.highest, 0.75);
    near(high.predicted_clicks, 50.0 + 30.0);
    // Of 40 impressions with 50 clicks 40 count.
    near(high.loss, -(40.0 * 0.25_f64.ln() + 160.0 * 0.75_f64.ln()) - 40.0 * 0.75_f64.ln());
    let alone = alone.unwrap();
    assert_eq!(counts(&alone), (0, 3, 2, 2, 11, 1, 2));
    // Equal scores share a bin, however many are asked for.
    assert_eq!(analytics.scored(&log(2), 100, soon()).await.unwrap().bins.len(), 3);
    let nothing = Log { version: 3, ..log(2) };
    assert_eq!(analytics.scored(&nothing, 10, soon()).await.unwrap(), Scored::default());
    engine
        .sql("cells", "ALTER TABLE prediction_log DELETE WHERE campaign_id != 'never' SETTINGS mutations_sync = 1")
        .unwrap();
    let Scored { bins, alone } = analytics.scored(&log(2), 10, soon()).await.unwrap();
    assert_eq!((bins.len(), alone.unwrap().predictions), (0, 1));
}

#[tokio::test]
async fn values_are_counted_by_group() {
    let Some((engine, analytics)) = tables("groups").await else { return };
    let at = u32::from(recent()) * 86_400;
    let row = |numbers: &str, texts: &str| {
        let sql = format!(
            "INSERT INTO prediction_log (ts, campaign_id, model, model_version, score, numbers, texts) \
             VALUES ({at}, 'a', 'm', '2', 0.5, {numbers}, {texts})"
        );
        engine.sql("groups", &sql).unwrap();
    };
    row("map('n', 0.5)", "map('t', 'it\\'s')");
    row("map('n', 1)", "map('t', 'digest of b')");
    row("map('n', 5, 'other', 1)", "map('t', 'else')");
    row("map('n', nan)", "map('t', '')");
    row("map()", "map('u', 'b')");
    let texts = |plain: &[&str], digests: &[&str]| Groups::Texts {
        plain: plain.iter().map(|t| (*t).to_owned()).collect(),
        digests: digests.iter().map(|t| (*t).to_owned()).collect(),
    };
    let field = |name: &str, groups| Field { name: name.to_owned(), groups };
    let fields = [
        field("t", texts(&["it's", "b"], &["digest of a", "digest of b"])),
        field("n", Groups::Edges(vec![1.0, 2.5])),
        field("absent", Groups::Edges(vec![])),
        field("none known", texts(&[], &[])),
    ];
    let counts = analytics.values(&log(1), &fields, soon()).await.unwrap();
    assert_eq!(counts, [vec![1, 1, 1, 2], vec![1, 1, 1, 2], vec![0, 5], vec![0, 5]]);
    // Of one kind only, and of no row.
    let counts = analytics.values(&log(1), &fields[1..3], soon()).await.unwrap();
    assert_eq!(counts, [vec![1, 1, 1, 2], vec![0, 5]]);
    let nothing = Log { version: 3, ..log(1) };
    assert_eq!(analytics.values(&nothing, &fields[..1], soon()).await.unwrap(), [[0, 0, 0, 0]]);
}

#[tokio::test]
async fn a_table_that_does_not_fit_is_told_with_what_to_do() {
    let Some((engine, analytics)) = tables("unfit").await else { return };
    let field = Field { name: "n".to_owned(), groups: Groups::Edges(vec![]) };
    engine.sql("unfit", "ALTER TABLE prediction_log DROP COLUMN numbers").unwrap();
    let error = analytics.values(&log(1), &[field], soon()).await.unwrap_err();
    assert!(matches!(error, AnalyticsError::Schema(_)), "{error:?}");
    engine.sql("unfit", "DROP TABLE prediction_log").unwrap();
    let gone = analytics.scored(&log(1), 10, soon()).await.unwrap_err();
    for (error, part) in [(error, "numbers"), (gone, "prediction_log")] {
        assert_eq!(error.kind(), ErrorKind::Unprepared);
        let text = error.to_string();
        assert!(text.contains(part) && text.contains("aibuyer-server migrate"), "{text}");
    }
}

#[tokio::test]
async fn a_slow_question_ends_with_its_time_and_with_its_caller() {
    let Some((engine, analytics)) = tables("slow").await else { return };
    metrics(&engine, "slow", &[("it\\'s", "a", 0, 1, 0)]);
    engine.sql("slow", "DROP VIEW daily_campaign_summary").unwrap();
    let endless = "CREATE VIEW daily_campaign_summary AS SELECT user_id, campaign_id, toDate(timestamp) AS date, impressions, \
                   clicks, spend, conversions FROM campaign_metrics, numbers(1000000000000) AS n WHERE n.number % 7 = 8";
    engine.sql("slow", endless).unwrap();
    let page = Page { fill: false, after: None, rows: 10 };
    let deadline = Instant::now() + Duration::from_millis(300);
    let error = analytics.days(&selection(&[], 1), &page, false, deadline).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
    let running = || {
        let sql = "SELECT count() FROM system.processes WHERE query LIKE '%daily_campaign_summary%' AND current_database = 'slow' \
                   AND query NOT LIKE '%system.processes%'";
        engine.sql("slow", sql).unwrap()
    };
    let until = async |wanted: &str| {
        let give_up = soon();
        while running().trim() != wanted {
            assert!(Instant::now() < give_up, "still {}", running());
            tokio::time::sleep(Duration::from_millis(10)).await; // another process decides
        }
    };
    until("0").await;
    let left = {
        let analytics = analytics.clone();
        tokio::spawn(async move { analytics.days(&selection(&[], 1), &page, false, soon()).await.map(drop) })
    };
    until("1").await;
    left.abort();
    until("0").await;
    assert!(left.await.unwrap_err().is_cancelled());
}
