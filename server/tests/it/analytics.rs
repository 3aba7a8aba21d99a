//! What has happened, over gRPC, from a real ClickHouse.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aibuyer_domain::ctr::text_digest;
use aibuyer_features::{Connection, schema::migrate};
use aibuyer_proto::serving::v1::{
    self as pb, DriftReading, analytics_service_client::AnalyticsServiceClient, model_selector::Pick,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    clickhouse::Engine,
    harness::{MODEL, Models, Server, ready, start, two},
};

const DAY: u64 = 86_400;

/// Begin of the day before yesterday: rows of long ago would be deleted by the tables' own rules.
fn begin() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    now / DAY * DAY - 2 * DAY
}

fn at(second: u64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: i64::try_from(second).unwrap(), nanos: 0 })
}

/// A database with the tables.
async fn tables(database: &str) -> Option<Arc<Engine>> {
    let engine = Engine::shared()?;
    let connection = Connection { url: engine.url(), database: database.to_owned(), user: None, password: None };
    migrate(&connection, Duration::from_secs(60)).await.unwrap();
    Some(engine)
}

fn settings(engine: &Engine, database: &str) -> [String; 2] {
    [format!("clickhouse.url={}", engine.url()), format!("clickhouse.database={database}")]
}

async fn server(models: &Path, engine: &Engine, database: &str) -> Server {
    let settings = settings(engine, database);
    start(models, &[&settings[0], &settings[1]]).await
}

fn client(server: &Server) -> AnalyticsServiceClient<Channel> {
    AnalyticsServiceClient::new(server.channel.clone())
}

async fn summary(server: &Server, request: pb::CampaignSummaryRequest) -> Result<pb::CampaignSummaryResponse, Status> {
    client(server).campaign_summary(request).await.map(tonic::Response::into_inner)
}

async fn quality(server: &Server, request: pb::ModelQualityRequest) -> Result<pb::ModelQualityResponse, Status> {
    client(server).model_quality(request).await.map(tonic::Response::into_inner)
}

/// Both days of the tests' rows.
fn both_days(engine: &Engine) -> pb::CampaignSummaryRequest {
    let date = |second: u64| engine.sql("system", &format!("SELECT toDate({second})")).unwrap().trim().to_owned();
    pb::CampaignSummaryRequest {
        user_id: "u".to_owned(),
        first_date: date(begin()),
        last_date: date(begin() + DAY),
        ..Default::default()
    }
}

/// A version from the begin on.
fn version(name: &str, version: u64, hours: u64) -> pb::ModelQualityRequest {
    pb::ModelQualityRequest {
        model: Some(pb::ModelSelector { name: name.to_owned(), pick: Some(Pick::Version(version)) }),
        start_time: at(begin()),
        end_time: at(begin() + hours * 3600),
        bins: 0,
    }
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
}

#[tokio::test]
async fn campaigns_by_day_count_each_row_as_it_came_last() {
    let Some(engine) = tables("summary").await else { return };
    let insert = |rows: &str| {
        let columns = "user_id, campaign_id, timestamp, impressions, clicks, spend, conversions";
        engine.sql("summary", &format!("INSERT INTO campaign_metrics ({columns}) VALUES {rows}")).unwrap();
    };
    let (first, second) = (begin() + 60, begin() + DAY);
    insert(&format!("('u', 'a', {first}, 200, 10, 12.34, 1), ('u', 'a', {second}, 7, 0, 0.10, 0)"));
    insert(&format!("('u', 'b', {second}, 3, 3, 0.20, 2), ('v', 'a', {first}, 1000, 1, 1, 0)"));
    // A correction of the first row, a day late.
    insert(&format!("('u', 'a', {first}, 100, 5, 6.17, 1)"));
    let server = server(Models::demo().path(), &engine, "summary").await;
    let asked = pb::CampaignSummaryRequest { fill_empty_days: true, page_size: 3, ..both_days(&engine) };
    let page = summary(&server, asked.clone()).await.unwrap();
    let (day, next) = (asked.first_date.as_str(), asked.last_date.as_str());
    let row = |campaign: &str, date: &str, impressions, clicks, spend, conversions, ctr| pb::CampaignDay {
        campaign_id: campaign.to_owned(),
        date: date.to_owned(),
        figures: Some(pb::CampaignFigures { impressions, clicks, spend, conversions, ctr }),
    };
    let expected = [
        row("a", day, 100, 5, 6.17, 1, Some(0.05)),
        row("a", next, 7, 0, 0.1, 0, Some(0.0)),
        row("b", day, 0, 0, 0.0, 0, None),
    ];
    assert_eq!(page.days, expected);
    let totals = page.totals.unwrap();
    assert_eq!((totals.campaigns, totals.campaign_days), (2, 3));
    let figures =
        pb::CampaignFigures { impressions: 110, clicks: 8, spend: 6.47, conversions: 3, ctr: Some(8.0 / 110.0) };
    assert_eq!(totals.figures, Some(figures));
    let last = summary(&server, pb::CampaignSummaryRequest { page_token: page.next_page_token, ..asked.clone() })
        .await
        .unwrap();
    assert_eq!(last.days, [row("b", next, 3, 3, 0.2, 2, Some(1.0))]);
    assert_eq!((last.totals, last.next_page_token.as_str()), (None, ""));
    let only = pb::CampaignSummaryRequest { campaign_ids: vec!["b".to_owned()], ..both_days(&engine) };
    let only = summary(&server, only).await.unwrap();
    assert_eq!((only.days.len(), only.totals.unwrap().figures.unwrap().impressions), (1, 3));
}

#[tokio::test]
async fn a_model_that_promises_too_much_is_told_from_a_calibrated_one() {
    let Some(engine) = tables("quality").await else { return };
    // 30 campaigns by 4 hours, with rates of 0.010 to 0.155 that come about exactly. Version 2 says twice as much.
    let log = "INSERT INTO prediction_log (ts, user_id, campaign_id, model, model_version, score, feature_fallback) \
               SELECT {begin} + 3600 * intDiv(number, 60) + number % 2, 'u', toString(intDiv(number, 2) % 30), 'm', \
               toString({version}), {version} * (0.010 + 0.005 * (intDiv(number, 2) % 30)), number < 60 FROM numbers(240)";
    for version in ["1", "2"] {
        let log = log.replace("{begin}", &begin().to_string()).replace("{version}", version);
        engine.sql("quality", &log).unwrap();
    }
    let metrics = format!(
        "INSERT INTO campaign_metrics (user_id, campaign_id, timestamp, impressions, clicks, spend, conversions) \
         SELECT 'u', toString(number % 30), {} + 3600 * intDiv(number, 30) + 600, 1000, 10 + 5 * (number % 30), 0, 0 \
         FROM numbers(120)",
        begin()
    );
    engine.sql("quality", &metrics).unwrap();
    let server = server(Models::demo().path(), &engine, "quality").await;
    let calibrated = quality(&server, version("m", 1, 4)).await.unwrap();
    let figures = calibrated.figures.unwrap();
    assert_eq!((figures.impressions, figures.clicks), (120_000, 9900));
    near(figures.calibration_error, 0.0);
    near(figures.predicted_over_observed.unwrap(), 1.0);
    let entropy = |p: f64| -(p * p.ln() + (1.0 - p) * (1.0 - p).ln());
    let rates: Vec<f64> = (0..30).map(|n| 0.010 + 0.005 * f64::from(n)).collect();
    // Right rates lose what their own law leaves open.
    near(figures.log_loss, rates.iter().map(|p| entropy(*p)).sum::<f64>() / 30.0);
    near(figures.base_log_loss, entropy(0.0825));
    near(figures.normalized_entropy.unwrap(), figures.log_loss / figures.base_log_loss);
    assert_eq!((calibrated.predictions, calibrated.fallback_share), (240, Some(0.25)));
    assert_eq!((calibrated.predictions_without_impressions, calibrated.impressions_without_predictions), (0, 0));
    assert_eq!(calibrated.bins.len(), 10);
    for bin in &calibrated.bins {
        assert_eq!((bin.cells, bin.predictions, bin.impressions), (12, 24, 12_000));
        near(bin.predicted_ctr, bin.observed_ctr);
        assert!(bin.lowest_score <= bin.predicted_ctr && bin.predicted_ctr <= bin.highest_score);
        assert!(bin.observed_ctr_lower < bin.observed_ctr && bin.observed_ctr < bin.observed_ctr_upper);
    }
    let half_hours = pb::ModelQualityRequest {
        start_time: at(begin() + 1800),
        end_time: at(begin() + 3 * 3600 + 1),
        bins: 2,
        ..version("m", 2, 0)
    };
    let twice = quality(&server, half_hours).await.unwrap();
    assert_eq!((twice.start_time, twice.end_time, twice.bins.len()), (at(begin()), at(begin() + 4 * 3600), 2));
    let figures = twice.figures.unwrap();
    near(figures.predicted_over_observed.unwrap(), 2.0);
    near(figures.calibration_error, 0.0825);
    assert!(figures.normalized_entropy.unwrap() > 1.0, "{figures:?}");
    assert!(twice.bins[1].predicted_ctr > twice.bins[1].observed_ctr_upper);
    // A day later there is nothing, which is an answer too.
    let nothing = pb::ModelQualityRequest {
        start_time: at(begin() + DAY),
        end_time: at(begin() + 2 * DAY),
        ..version("m", 1, 0)
    };
    let nothing = quality(&server, nothing).await.unwrap();
    assert_eq!((nothing.predictions, nothing.fallback_share, nothing.figures), (0, None, None));
    assert!(nothing.drift.is_empty() && nothing.drift_unavailable.contains("not loaded"), "{nothing:?}");
}

/// Gives a model's folder a training profile.
fn add_profile(folder: &Path, profile: &Value) {
    let content = profile.to_string();
    let digest: String = Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
    fs::write(folder.join("profile.json"), content).unwrap();
    edit_spec(folder, |spec| {
        spec["profile"] = "profile.json".into();
        spec["files_sha256"]["profile.json"] = digest.into();
    });
}

fn edit_spec(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("feature_spec.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut spec);
    fs::write(path, spec.to_string()).unwrap();
}

#[tokio::test]
async fn features_that_moved_are_told_by_their_index() {
    let Some(engine) = tables("drift").await else { return };
    let models = Models::empty();
    models.add(MODEL, 1, |folder| {
        let profile = json!({"fields": {
            "headline_chars": {"kind": "numeric", "edges": [10, 20], "shares": [0.25, 0.5, 0.25], "missing": 0},
            "week": {"kind": "categorical", "values": {"201301": 0.5, "201302": 0.3}, "other": 0.1, "missing": 0.1},
            "has_digit": {"kind": "numeric", "edges": [1], "shares": [0.5, 0.5], "missing": 0},
            "has_question": {"kind": "numeric", "edges": [1], "shares": [0.75, 0.25], "missing": 0},
        }});
        add_profile(folder, &profile);
    });
    let digest = |text: &str| format!("'{}'", text_digest(text));
    let weeks =
        ["'201301'", "'201301'", &digest("201301"), &digest("201301"), &digest("201302"), "'201303'", "''", "''"];
    let rows = [9, 9, 9, 0, 10, 15, 19, 20].iter().zip(weeks).enumerate().map(|(i, (chars, week))| {
        let numbers = format!("map('headline_chars', {chars}, 'has_question', {})", i / 6);
        format!("({}, 'a', '{MODEL}', '1', 0.5, {numbers}, map('week', {week}))", begin())
    });
    let columns = "ts, campaign_id, model, model_version, score, numbers, texts";
    let rows = rows.collect::<Vec<_>>().join(", ");
    engine.sql("drift", &format!("INSERT INTO prediction_log ({columns}) VALUES {rows}")).unwrap();
    let settings = settings(&engine, "drift");
    let server = ready(models.path(), &[&settings[0], &settings[1]]).await;
    let reply = quality(&server, version(MODEL, 1, 1)).await.unwrap();
    assert_eq!((reply.predictions, reply.predictions_without_impressions, reply.figures), (8, 8, None));
    let [digits, question, chars, week] = &reply.drift[..] else { panic!("{reply:?}") };
    assert_eq!((digits.feature.as_str(), digits.values, digits.psi), ("has_digit", 0, None));
    assert!(digits.unavailable.contains("no row of the log has a value"), "{digits:?}");
    assert_eq!((question.psi, question.reading()), (Some(0.0), DriftReading::Stable));
    // Half, three eighths and an eighth in place of a quarter, half and a quarter.
    near(chars.psi.unwrap(), 0.25 * 2.0_f64.ln() - 0.125 * 0.75_f64.ln() - 0.125 * 0.5_f64.ln());
    assert_eq!((chars.values, chars.reading()), (8, DriftReading::Drifted));
    // 0.5 as expected, 0.125 for 0.3, 0.125 for 0.1 of others, 0.25 for 0.1 missing.
    let expected = -0.175 * (0.125_f64 / 0.3).ln() + 0.025 * 1.25_f64.ln() + 0.15 * 2.5_f64.ln();
    near(week.psi.unwrap(), expected);
    assert_eq!((week.values, week.missing_share, week.expected_missing_share), (6, 0.25, 0.1));
    // Another has no profile in its files.
    models.add(MODEL, 2, |folder| {
        edit_spec(folder, |spec| drop(spec.as_object_mut().unwrap().remove("profile")));
    });
    let reply =
        server.until(&two(), |answer| answer.as_ref().is_ok_and(|a| a.model.as_ref().unwrap().version == 2)).await;
    assert!(reply.is_ok());
    let reply = quality(&server, version(MODEL, 2, 1)).await.unwrap();
    assert!(reply.drift_unavailable.contains("no training profile"), "{reply:?}");
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_told_by_field() {
    // Questions are read before ClickHouse is asked, which is not there.
    let server = start(Models::demo().path(), &["clickhouse.url=http://127.0.0.1:1"]).await;
    let good = pb::CampaignSummaryRequest {
        user_id: "u".to_owned(),
        first_date: "2026-01-01".to_owned(),
        last_date: "2026-01-31".to_owned(),
        ..Default::default()
    };
    let summaries = [
        ("user_id", "required", pb::CampaignSummaryRequest { user_id: String::new(), ..good.clone() }),
        ("first_date", "write it as", pb::CampaignSummaryRequest { first_date: "1.1.2026".to_owned(), ..good.clone() }),
        ("last_date", "required", pb::CampaignSummaryRequest { last_date: String::new(), ..good.clone() }),
        ("last_date", "before", pb::CampaignSummaryRequest { last_date: "2025-12-31".to_owned(), ..good.clone() }),
        ("last_date", "401 days", pb::CampaignSummaryRequest { last_date: "2027-02-05".to_owned(), ..good.clone() }),
        (
            "campaign_ids",
            "1000",
            pb::CampaignSummaryRequest { campaign_ids: vec!["a".to_owned(); 1001], ..good.clone() },
        ),
        (
            "campaign_ids[1]",
            "1 to 500",
            pb::CampaignSummaryRequest { campaign_ids: vec!["a".to_owned(), String::new()], ..good.clone() },
        ),
        ("page_size", "10000", pb::CampaignSummaryRequest { page_size: 10_001, ..good.clone() }),
        ("page_token", "next_page_token", pb::CampaignSummaryRequest { page_token: "x".to_owned(), ..good.clone() }),
    ];
    for (field, part, request) in summaries {
        told(&summary(&server, request).await.unwrap_err(), field, part);
    }
    let whole = version("m", 1, 1);
    let model = |pick| Some(pb::ModelSelector { name: "m".to_owned(), pick });
    let qualities = [
        (
            "model.name",
            "required",
            pb::ModelQualityRequest {
                model: Some(pb::ModelSelector { name: String::new(), pick: Some(Pick::Version(1)) }),
                ..whole.clone()
            },
        ),
        ("model.version", "required", pb::ModelQualityRequest { model: model(None), ..whole.clone() }),
        (
            "model.version",
            "alias",
            pb::ModelQualityRequest { model: model(Some(Pick::Alias("champion".to_owned()))), ..whole.clone() },
        ),
        (
            "model.version",
            "1 or greater",
            pb::ModelQualityRequest { model: model(Some(Pick::Version(0))), ..whole.clone() },
        ),
        ("start_time", "required", pb::ModelQualityRequest { start_time: None, ..whole.clone() }),
        ("end_time", "after", pb::ModelQualityRequest { end_time: whole.start_time, ..whole.clone() }),
        ("end_time", "92 days", pb::ModelQualityRequest { end_time: at(begin() + 93 * DAY), ..whole.clone() }),
        ("bins", "2 to 100", pb::ModelQualityRequest { bins: 101, ..whole.clone() }),
    ];
    for (field, part, request) in qualities {
        told(&quality(&server, request).await.unwrap_err(), field, part);
    }
    // The very longest that is allowed is a question.
    let longest = pb::CampaignSummaryRequest { last_date: "2027-02-04".to_owned(), ..good };
    assert_eq!(summary(&server, longest).await.unwrap_err().code(), Code::Unavailable);
}

fn told(status: &Status, field: &str, part: &str) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let found = violations.iter().any(|v| v.field == field && v.description.contains(part));
    assert!(found, "{field} {part}: {violations:?}");
}

#[tokio::test]
async fn without_clickhouse_only_analytics_are_missing() {
    let Some(mut engine) = Engine::start() else { return };
    let models = Models::demo();
    let unset = start(models.path(), &[]).await;
    let error = quality(&unset, version("m", 1, 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("clickhouse.url"), "{error:?}");
    let connection = Connection { url: engine.url(), database: "aibuyer".to_owned(), user: None, password: None };
    migrate(&connection, Duration::from_secs(60)).await.unwrap();
    let settings = settings(&engine, "aibuyer");
    let server = ready(models.path(), &[&settings[0], &settings[1]]).await;
    let asked = both_days(&engine);
    assert!(summary(&server, asked.clone()).await.unwrap().days.is_empty());
    for (change, part) in [
        ("DROP VIEW daily_campaign_summary", "daily_campaign_summary"),
        ("ALTER TABLE prediction_log DROP COLUMN feature_fallback", "feature_fallback"),
    ] {
        engine.sql("aibuyer", change).unwrap();
        let error = match part {
            "feature_fallback" => quality(&server, version("m", 1, 1)).await.unwrap_err(),
            _ => summary(&server, asked.clone()).await.unwrap_err(),
        };
        assert_eq!(error.code(), Code::FailedPrecondition, "{error:?}");
        assert!(error.message().contains("aibuyer-server migrate") && error.message().contains(part), "{error:?}");
    }
    engine.kill();
    let error = summary(&server, asked).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("clickhouse.url") && error.get_details_retry_info().is_some(), "{error:?}");
    let error = quality(&server, version("m", 1, 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(server.predict(two()).await.unwrap().predictions.len(), 2);
}

#[tokio::test]
async fn a_deadline_ends_a_question() {
    let Some(engine) = tables("late").await else { return };
    let endless = "CREATE OR REPLACE VIEW daily_campaign_summary AS SELECT 'u' AS user_id, 'a' AS campaign_id, today() - number % 9 AS date, \
                   number AS impressions, number AS clicks, toDecimal32(0, 2) AS spend, number AS conversions \
                   FROM numbers(1000000000000) WHERE number % 7 = 8";
    engine.sql("late", endless).unwrap();
    let settings = settings(&engine, "late");
    // Of the server, since a client's own timer may be first.
    let server = start(Models::demo().path(), &[&settings[0], &settings[1], "limits.default_deadline=300ms"]).await;
    let error = summary(&server, both_days(&engine)).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
    assert!(error.message().contains("did not answer within"), "{error:?}");
}
