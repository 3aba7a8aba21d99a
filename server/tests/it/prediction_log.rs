//! The prediction log in a real ClickHouse, counted on both sides.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aibuyer_features::{Connection, schema::migrate};
use aibuyer_proto::serving::v1 as pb;
use sha2::{Digest as _, Sha256};

use crate::{
    clickhouse::Engine,
    encoded,
    harness::{MODEL, Models, Server, ready, repository, strings, two},
};

const WITHIN: Duration = Duration::from_secs(60);

async fn tables(engine: &Engine, database: &str) {
    let connection = Connection { url: engine.url(), database: database.to_owned(), user: None, password: None };
    migrate(&connection, WITHIN).await.unwrap();
}

/// A server that logs to the database, with these settings beside.
async fn logging(engine: &Engine, database: &str, storage: Option<&Path>, settings: &[&str]) -> Server {
    let url = format!("clickhouse.url={}", engine.url());
    let database = format!("clickhouse.database={database}");
    let storage = storage.map(|path| format!("storage.path={}", path.display()));
    let mut all = vec![url.as_str(), &database, "prediction_log.sample_rate=1"];
    all.extend(storage.as_deref());
    all.extend(settings);
    ready(&repository().join("models"), &all).await
}

/// Asks the engine until the answer is the one.
async fn until(engine: &Engine, database: &str, sql: &str, wanted: &str) {
    let give_up = Instant::now() + WITHIN;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        let found = engine.sql(database, sql);
        if found.as_deref().is_ok_and(|found| found.trim() == wanted) {
            return;
        }
        assert!(Instant::now() < give_up, "{sql}: still {found:?}, not {wanted}");
        tick.tick().await;
    }
}

async fn until_page(server: &Server, path: &str, pleases: impl Fn(&str) -> bool) -> String {
    let give_up = Instant::now() + WITHIN;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        let (_, page) = server.get(path).await;
        if pleases(&page) {
            return page;
        }
        assert!(Instant::now() < give_up, "{page}");
        tick.tick().await;
    }
}

fn named(id: &str) -> pb::PredictCtrRequest {
    pb::PredictCtrRequest { request_id: id.to_owned(), ..two() }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_loses_no_row_and_doubles_none() {
    let Some(mut engine) = Engine::start() else { return };
    tables(&engine, "load").await;
    let server = logging(&engine, "load", None, &[]).await;
    let over = Arc::new(AtomicBool::new(false));
    let callers = (0..8).map(|caller| {
        let (mut client, over) = (server.client(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut answered = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                let id = format!("{caller}-{}", answered.len());
                let reply = client.predict_ctr(named(&id)).await.unwrap().into_inner();
                assert_eq!((reply.request_id.as_str(), reply.predictions.len()), (id.as_str(), 2));
                answered.insert(id);
            }
            answered
        })
    });
    let callers: Vec<_> = callers.collect();
    for round in 1..=3_u64 {
        // At another moment of the log's second each time, and away for longer than that.
        tokio::time::sleep(Duration::from_millis(800 + 330 * round)).await;
        engine.kill();
        until_page(&server, "/", |page| page.contains("ClickHouse takes no rows of it, they are kept")).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        tokio::task::block_in_place(|| engine.restart());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    over.store(true, Ordering::Relaxed);
    let mut answered = BTreeSet::new();
    for caller in callers {
        answered.append(&mut caller.await.unwrap());
    }
    let wanted = 2 * answered.len();
    until(&engine, "load", "SELECT count() FROM prediction_log", &wanted.to_string()).await;
    let exact = "SELECT uniqExact(request_id, candidate), uniqExact(request_id) FROM prediction_log";
    assert_eq!(engine.sql("load", exact).unwrap(), format!("{wanted}\t{}\n", answered.len()));
    let found = engine.sql("load", "SELECT DISTINCT request_id FROM prediction_log").unwrap();
    assert_eq!(found.lines().map(str::to_owned).collect::<BTreeSet<_>>(), answered);
    // The engine's own counts say the same.
    let metrics = until_page(&server, "/metrics", |page| page.contains("prediction_log_failing 0")).await;
    let metric = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("aibuyer_prediction_log_{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).split(' ').nth(1).unwrap().parse::<usize>().unwrap()
    };
    assert_eq!((metric("offered_rows_total"), metric("written_rows_total")), (wanted, wanted));
    assert_eq!((metric("waiting_rows"), metric("disk_rows"), metric("disk_bytes")), (0, 0, 0));
    assert!(metric("replayed_rows_total") > 0 && metric("insert_failures_total") > 0, "{metrics}");
    assert!(!metrics.lines().any(|line| line.contains("dropped_rows_total{") && !line.ends_with(" 0")), "{metrics}");
    eprintln!("{wanted} rows, {} of them from the disk", metric("replayed_rows_total"));
}

#[tokio::test]
async fn a_row_says_what_was_answered_and_no_feature_unless_asked() {
    let Some(engine) = Engine::shared() else { return };
    tables(&engine, "plain").await;
    let server = logging(&engine, "plain", None, &[]).await;
    let reply = server.predict(pb::PredictCtrRequest { include_timings: true, ..named("") }).await.unwrap();
    assert!(reply.request_id.len() > 16, "{:?}", reply.request_id);
    let columns = "request_id, candidate, model, model_version, score, score_lower, score_upper, interval_level, numbers, \
                   texts, feature_ages_ms, feature_fallback, batch_rows, now() - ts < 60, \
                   latency_us >= encode_us + compute_us, compute_us > 0";
    #[allow(clippy::cast_possible_truncation)] // as the table has it
    let f = |x: Option<f64>| x.unwrap() as f32;
    let lines = reply.predictions.iter().enumerate().map(|(i, p)| {
        let (score, lower, upper) = (f(p.ctr), f(p.ctr_lower), f(p.ctr_upper));
        let id = &reply.request_id;
        format!("{id}\t{i}\t{MODEL}\t1\t{score}\t{lower}\t{upper}\t0.9\t{{}}\t{{}}\t{{}}\tfalse\t2\t1\t1\t1")
    });
    let wanted = lines.collect::<Vec<_>>().join("\n");
    until(&engine, "plain", &format!("SELECT {columns} FROM prediction_log ORDER BY candidate"), &wanted).await;
}

#[tokio::test]
async fn features_are_logged_where_asked_numbers_readable_and_text_not() {
    let Some(engine) = Engine::shared() else { return };
    tables(&engine, "payload").await;
    let server = logging(&engine, "payload", None, &["prediction_log.payload=true"]).await;
    server.predict(named("p")).await.unwrap();
    let sql = "SELECT numbers, mapKeys(texts), texts['week'] = lower(leftPad(hex(xxh3('201303')), 16, '0')) \
               FROM prediction_log ORDER BY candidate";
    let row = |chars, words| format!("{{'headline_chars':{chars},'headline_words':{words}}}\t['week','headline']\t1");
    until(&engine, "payload", sql, &[row(22, 5), row(21, 4)].join("\n")).await;
    let texts = engine.sql("payload", "SELECT toString(texts) FROM prediction_log").unwrap();
    assert!(!texts.contains("201303") && !texts.contains("dog") && !texts.contains("believe"), "{texts}");
}

#[tokio::test]
async fn bad_candidates_have_no_row_and_encoded_requests_have_theirs() {
    let Some(engine) = Engine::shared() else { return };
    tables(&engine, "forms").await;
    let server = logging(&engine, "forms", None, &[]).await;
    let mut request = named("bad");
    request.candidates[1].values = Some(pb::column::Values::Int64s(pb::Int64Values { values: vec![-1, 21] }));
    let reply = server.predict(request).await.unwrap();
    assert!(reply.predictions[0].error.is_some() && reply.predictions[1].error.is_none());
    let request = pb::PredictCtrEncodedRequest { request_id: "tensors".to_owned(), ..encoded::golden().0 };
    let candidates = request.candidate_count;
    let reply = server.client().predict_ctr_encoded(request).await.unwrap().into_inner();
    assert_eq!(reply.request_id, "tensors");
    let sql = "SELECT request_id, count(), min(candidate) FROM prediction_log GROUP BY request_id ORDER BY request_id";
    until(&engine, "forms", sql, &format!("bad\t1\t1\ntensors\t{candidates}\t0")).await;
    let error = server.predict(named(&"x".repeat(129))).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("request_id: has 129 bytes, at most 128"), "{error}");
}

#[tokio::test]
async fn a_share_is_sampled_and_replies_say_which() {
    let Some(engine) = Engine::shared() else { return };
    tables(&engine, "share").await;
    let server = logging(&engine, "share", None, &["prediction_log.sample_rate=0.5"]).await;
    let mut logged = BTreeSet::new();
    for _ in 0..200 {
        let id = server.predict(two()).await.unwrap().request_id;
        if !id.is_empty() {
            assert!(logged.insert(id));
        }
    }
    assert!((60..=140).contains(&logged.len()), "{}", logged.len());
    until(&engine, "share", "SELECT count() FROM prediction_log", &(2 * logged.len()).to_string()).await;
    let found = engine.sql("share", "SELECT DISTINCT request_id FROM prediction_log").unwrap();
    assert_eq!(found.lines().map(str::to_owned).collect::<BTreeSet<_>>(), logged);
    let (_, metrics) = server.get("/metrics").await;
    let sampled = format!("aibuyer_prediction_log_requests_total{{outcome=\"sampled\"}} {}", logged.len());
    assert!(metrics.contains(&sampled), "{metrics}");
    // A request keeps its own id, logged or not.
    assert_eq!(server.predict(named("mine")).await.unwrap().request_id, "mine");
}

#[tokio::test]
async fn a_table_that_is_not_there_is_told_and_rows_wait_for_it() {
    let Some(engine) = Engine::shared() else { return };
    engine.sql("system", "CREATE DATABASE later").unwrap();
    let server = logging(&engine, "later", None, &[]).await;
    server.predict(named("early")).await.unwrap();
    let page = until_page(&server, "/", |page| page.contains("ClickHouse takes no rows of it")).await;
    assert!(page.contains("prediction_log") && page.contains("run `aibuyer-server migrate`"), "{page}");
    let wait = |metrics: &str| metrics.contains("prediction_log_failing 1") && metrics.contains("_disk_rows 2");
    until_page(&server, "/metrics", wait).await;
    tables(&engine, "later").await;
    until(&engine, "later", "SELECT count(), any(request_id) FROM prediction_log", "2\tearly").await;
    until_page(&server, "/", |page| page.contains("2 rows written, 0 waiting, 0 on disk, 0 dropped")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_server_could_not_write_the_next_one_does() {
    let Some(mut engine) = Engine::start() else { return };
    tables(&engine, "next").await;
    let storage = tempfile::tempdir().unwrap();
    let server = logging(&engine, "next", Some(storage.path()), &[]).await;
    server.predict(named("written")).await.unwrap();
    until(&engine, "next", "SELECT count() FROM prediction_log", "2").await;
    engine.kill();
    server.predict(named("kept")).await.unwrap();
    assert!(server.app.stop().await);
    let kept = fs::read_dir(storage.path().join("prediction-log")).unwrap().count();
    assert_eq!(kept, 1);
    // Nobody is there at the start either.
    let port = engine.url();
    let server = logging(&engine, "next", Some(storage.path()), &[]).await;
    server.predict(named("kept too")).await.unwrap();
    tokio::task::block_in_place(|| engine.restart());
    assert_eq!(engine.url(), port);
    let all = "SELECT groupArray(request_id) FROM (SELECT request_id FROM prediction_log ORDER BY ts, candidate)";
    until(&engine, "next", all, "['written','written','kept','kept','kept too','kept too']").await;
    // What comes at the last moment is written before the stop.
    server.predict(named("last")).await.unwrap();
    assert!(server.app.stop().await);
    assert_eq!(engine.sql("next", "SELECT count() FROM prediction_log WHERE request_id = 'last'").unwrap(), "2\n");
}

#[tokio::test]
async fn account_and_campaign_come_from_the_request() {
    let Some(engine) = Engine::shared() else { return };
    tables(&engine, "who").await;
    let models = Models::empty();
    models.add(MODEL, 1, |folder| {
        // The demo model knows a test, which is its campaign.
        let golden =
            fs::read_to_string(folder.join("golden.jsonl")).unwrap().replace("\"test_id\":", "\"campaign_id\":");
        fs::write(folder.join("golden.jsonl"), &golden).unwrap();
        let hash = Sha256::digest(golden).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let file = folder.join("feature_spec.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        spec["files_sha256"]["golden.jsonl"] = hash.into();
        let test = spec["fields"].as_array_mut().unwrap().iter_mut().find(|field| field["name"] == "test_id").unwrap();
        test["source"]["key"] = "campaign_id".into();
        fs::write(file, spec.to_string()).unwrap();
    });
    let url = format!("clickhouse.url={}", engine.url());
    let settings = [url.as_str(), "clickhouse.database=who", "prediction_log.sample_rate=1"];
    let server = ready(models.path(), &settings).await;
    let mut request = named("w");
    request.candidates.push(strings("campaign_id", &["c1", "c2"]));
    server.predict(request).await.unwrap();
    until(&engine, "who", "SELECT groupArray(campaign_id) FROM prediction_log", "['c1','c2']").await;
}
