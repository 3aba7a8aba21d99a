//! Features that requests do not carry: looked up in a real ClickHouse, by the keys of their entities.

use std::{fs, path::Path, time::Duration};

use aibuyer_proto::serving::v1::{self as pb, candidate_error::Kind, entity_features::Status as State};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    clickhouse::Engine,
    harness::{MODEL, Models, Server, doubles, int64s, ready, refused, repository, start, strings, two},
};

/// Makes features of the demo model stored ones: two counts and a smoothed rate of the campaign.
fn stored(folder: &Path) {
    edit(folder, |name, field| {
        let source = |more: Value| {
            let mut source = json!({"kind": "feature_store", "entity": "campaign", "entity_key": "campaign_id"});
            source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            source
        };
        match name {
            "headline_words" => field["source"] = source(json!({"feature": "clicks_1d"})),
            "headline_chars" => field["source"] = source(json!({"feature": "impressions_28d", "max_age": 600})),
            "has_digit" => {
                let smoothed = json!({"successes": "clicks_7d", "trials": "impressions_7d", "a": 2, "b": 98});
                field["source"] = source(json!({"smoothed": smoothed}));
            }
            _ => {}
        }
    });
}

/// As [`stored`], with one feature that nothing may stand in for.
fn needed(folder: &Path) {
    stored(folder);
    edit(folder, |name, field| {
        if name == "headline_words" {
            field.as_object_mut().unwrap().remove("default");
        }
    });
    // An example without the value would be refused.
    let path = folder.join("golden.jsonl");
    let golden = fs::read_to_string(&path).unwrap();
    let kept = golden.lines().filter(|line| {
        let example: Value = serde_json::from_str(line).unwrap();
        !example["inputs"]["headline_words"].is_null()
    });
    let golden = kept.map(|line| format!("{line}\n")).collect::<String>();
    fs::write(&path, &golden).unwrap();
    let path = folder.join("feature_spec.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    spec["files_sha256"]["golden.jsonl"] = sha256(golden.as_bytes()).into();
    fs::write(path, spec.to_string()).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn edit(folder: &Path, change: impl Fn(&str, &mut Value)) {
    let path = folder.join("feature_spec.json");
    let mut spec: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for field in spec["fields"].as_array_mut().unwrap() {
        let name = field["name"].as_str().unwrap().to_owned();
        change(&name, field);
    }
    fs::write(path, spec.to_string()).unwrap();
}

fn models(edit: impl Fn(&Path)) -> Models {
    let models = Models::empty();
    models.add(MODEL, 1, edit);
    models
}

/// A database with the engine's tables, whose snapshots are written by the test alone.
async fn database(engine: &Engine, name: &str) -> [String; 2] {
    let connection =
        aibuyer_features::Connection { url: engine.url(), database: name.to_owned(), user: None, password: None };
    aibuyer_features::schema::migrate(&connection, Duration::from_secs(60)).await.unwrap();
    for view in ["campaign_features_refresh", "user_features_refresh"] {
        engine.sql(name, &format!("SYSTEM STOP VIEW {view}")).unwrap();
    }
    [format!("clickhouse.url={}", engine.url()), format!("clickhouse.database={name}")]
}

/// Puts a campaign's sums into the snapshot, computed `age` seconds ago.
fn campaign(engine: &Engine, database: &str, id: &str, age: u32, clicks: u32, impressions: u32) {
    let row = format!(
        "INSERT INTO campaign_features (campaign_id, user_id, computed_at, clicks_1d, clicks_7d, impressions_7d, \
         impressions_28d) VALUES ('{id}', 'u', now() - {age}, {clicks}, {clicks}, {impressions}, {impressions})"
    );
    engine.sql(database, &row).unwrap();
}

async fn serve(models: &Models, clickhouse: &[String], more: &[&str]) -> Server {
    // A busy machine must not turn rows into defaults.
    let patient = "features.max_wait=30s";
    let settings: Vec<&str> =
        clickhouse.iter().map(String::as_str).chain([patient]).chain(more.iter().copied()).collect();
    ready(models.path(), &settings).await
}

/// [`two`] candidates that name campaigns in place of what is stored.
fn by_id(ids: [&str; 2]) -> pb::PredictCtrRequest {
    let mut request = two();
    request.candidates = vec![request.candidates.swap_remove(0), strings("campaign_id", &ids)];
    request
}

/// The same with the features themselves.
fn carrying(clicks: [f64; 2], impressions: [f64; 2]) -> pb::PredictCtrRequest {
    let rate = |i: usize| (clicks[i] + 2.0) / (impressions[i] + 100.0);
    let mut request = two();
    request.candidates.truncate(1);
    request.candidates.extend([
        doubles("headline_words", &clicks),
        doubles("headline_chars", &impressions),
        doubles("has_digit", &[rate(0), rate(1)]),
    ]);
    request
}

/// Without any of them.
fn without() -> pb::PredictCtrRequest {
    let mut request = two();
    request.candidates.truncate(1);
    request
}

fn states(reply: &pb::PredictCtrResponse) -> Vec<State> {
    let [features] = &*reply.features else { panic!("{reply:?}") };
    features.statuses().collect()
}

#[tokio::test]
async fn a_campaigns_id_stands_for_its_features() {
    let Some(engine) = Engine::shared() else { return };
    let clickhouse = database(&engine, "stored_ids").await;
    campaign(&engine, "stored_ids", "a", 5, 30, 900);
    campaign(&engine, "stored_ids", "17", 5, 4, 70);
    let server = serve(&models(stored), &clickhouse, &[]).await;
    let reply = server.predict(pb::PredictCtrRequest { include_timings: true, ..by_id(["a", "17"]) }).await.unwrap();
    let carried = server.predict(carrying([30.0, 4.0], [900.0, 70.0])).await.unwrap();
    assert_eq!(reply.predictions, carried.predictions);
    assert!(carried.features.is_empty(), "nothing was looked up");
    let [features] = &*reply.features else { panic!("{reply:?}") };
    assert_eq!((features.view.as_str(), features.entity_key.as_str()), ("campaign", "campaign_id"));
    assert_eq!(states(&reply), [State::Present; 2]);
    assert!(features.ages_ms.iter().all(|age| (4_000..120_000).contains(age)), "{features:?}");
    assert!(reply.timings.unwrap().features_ns > 0);

    // As a number, of all candidates; and with a feature of the request's own in its place.
    let mut request = by_id(["", ""]);
    request.candidates.truncate(1);
    request.context.push(int64s("campaign_id", &[17]));
    let reply = server.predict(request.clone()).await.unwrap();
    let carried = server.predict(carrying([4.0; 2], [70.0; 2])).await.unwrap();
    assert_eq!(reply.predictions, carried.predictions);
    assert_eq!(states(&reply), [State::Present]);
    request.candidates.push(doubles("headline_words", &[9.0, 9.0]));
    let reply = server.predict(request).await.unwrap();
    let mut carrying = carrying([4.0; 2], [70.0; 2]);
    carrying.candidates[1] = doubles("headline_words", &[9.0, 9.0]);
    assert_eq!(reply.predictions, server.predict(carrying).await.unwrap().predictions);

    // Nobody knows the one, and the other is not named.
    let reply = server.predict(by_id(["nobody", ""])).await.unwrap();
    assert_eq!(states(&reply), [State::Absent; 2]);
    assert_eq!(reply.features[0].ages_ms, [0, 0]);
    assert_eq!(reply.predictions, server.predict(by_default()).await.unwrap().predictions);
}

/// What defaults give: the model as it was trained, without the features.
fn by_default() -> pb::PredictCtrRequest {
    let spec: Value =
        serde_json::from_slice(&fs::read(repository().join("models/ctr-upworthy/1/feature_spec.json")).unwrap())
            .unwrap();
    let default = |name: &str| {
        let field = spec["fields"].as_array().unwrap().iter().find(|field| field["name"] == name).unwrap();
        field["default"].as_f64().unwrap()
    };
    let mut request = without();
    for name in ["headline_words", "headline_chars", "has_digit"] {
        request.candidates.push(doubles(name, &[default(name); 2]));
    }
    request
}

#[tokio::test]
async fn rows_beyond_the_age_that_is_allowed_are_not_used() {
    let Some(engine) = Engine::shared() else { return };
    let clickhouse = database(&engine, "stored_ages").await;
    campaign(&engine, "stored_ages", "young", 1, 30, 900);
    campaign(&engine, "stored_ages", "old", 700, 30, 900);
    let server = serve(&models(stored), &clickhouse, &[]).await;
    // The model allows one of the features 600 seconds: for it the default stands in.
    let reply = server.predict(by_id(["young", "old"])).await.unwrap();
    assert_eq!(states(&reply), [State::Present, State::Defaulted]);
    assert!(reply.features[0].ages_ms[1] >= 700_000, "{reply:?}");
    let all = server.predict(carrying([30.0; 2], [900.0; 2])).await.unwrap().predictions;
    let none = server.predict(by_default()).await.unwrap().predictions;
    assert_eq!(reply.predictions[0], all[0]);
    assert_ne!(reply.predictions[1], all[1]);
    assert_ne!(reply.predictions[1], none[1], "the others are used");
    // The request allows less.
    let request = pb::PredictCtrRequest { max_feature_age_ms: Some(500), ..by_id(["young", "old"]) };
    let reply = server.predict(request).await.unwrap();
    assert_eq!(states(&reply), [State::Defaulted; 2]);
    assert_eq!(reply.predictions, none);
}

#[tokio::test]
async fn what_has_no_default_is_told_with_its_reason() {
    let Some(engine) = Engine::shared() else { return };
    let clickhouse = database(&engine, "stored_needed").await;
    campaign(&engine, "stored_needed", "a", 5, 30, 900);
    let server = serve(&models(needed), &clickhouse, &[]).await;
    let reply = server.predict(by_id(["nobody", "a"])).await.unwrap();
    let error = reply.predictions[0].error.clone().unwrap();
    assert_eq!((error.kind(), error.field.as_str()), (Kind::StoredFeature, "headline_words"));
    assert!(error.reason.contains("the view campaign has no \"nobody\""), "{error:?}");
    assert!(reply.predictions[1].ctr.is_some());
    assert_eq!(states(&reply), [State::Absent, State::Present]);
    let status = server.predict(by_id(["nobody", ""])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains("has no \"nobody\""), "{status:?}");
    let mut request = without();
    request.context.push(strings("campaign_id", &["nobody"]));
    let status = server.predict(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn a_request_without_keys_is_told_what_to_send() {
    let server = ready(models(stored).path(), &[]).await;
    let status = server.predict(without()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let message = status.message();
    assert!(
        message.contains("campaign_id: is required") && message.contains("has_digit of the view campaign"),
        "{message}"
    );
    for (column, part) in [
        (doubles("campaign_id", &[1.0, 2.0]), "has doubles, this feature takes strings or int64s"),
        (strings("campaign_id", &["a"]), "has 1 rows, needs 2"),
        (strings("campaign", &["a", "b"]), "campaign_id: is required"),
    ] {
        let mut request = by_id(["a", "b"]);
        request.candidates[1] = column;
        let message = server.predict(request).await.unwrap_err().message().to_owned();
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test]
async fn without_clickhouse_defaults_stand_in_and_are_marked() {
    for clickhouse in [&[][..], &["clickhouse.url=http://127.0.0.1:9".to_owned()]] {
        let server = serve(&models(stored), clickhouse, &[]).await;
        let reply = server.predict(by_id(["a", "b"])).await.unwrap();
        assert_eq!(states(&reply), [State::Defaulted; 2]);
        assert_eq!(reply.predictions, server.predict(by_default()).await.unwrap().predictions);
        let server = serve(&models(needed), clickhouse, &[]).await;
        let status = server.predict(by_id(["a", "b"])).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains("headline_words cannot be looked up"), "{status:?}");
        let mut request = without();
        request.context.push(strings("campaign_id", &["a"]));
        assert_eq!(server.predict(request).await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn clickhouse_may_go_and_come_back() {
    let Some(mut engine) = Engine::start() else { return };
    let clickhouse = database(&engine, "stored_away").await;
    campaign(&engine, "stored_away", "a", 1, 30, 900);
    campaign(&engine, "stored_away", "b", 1, 4, 70);
    let server = serve(&models(stored), &clickhouse, &["features.soft_age=50ms", "features.absent_age=50ms"]).await;
    let first = server.predict(by_id(["a", "a"])).await.unwrap();
    assert_eq!(states(&first), [State::Present; 2]);
    engine.kill();
    // What is known goes on answering, older and older; what is not known has defaults.
    let stale = server
        .until(&by_id(["a", "b"]), |reply| states(reply.as_ref().unwrap()) == [State::Stale, State::Defaulted])
        .await
        .unwrap();
    assert_eq!(stale.predictions[0], first.predictions[0]);
    let age = stale.features[0].ages_ms[0];
    let older = server
        .until(&by_id(["a", "b"]), |reply| reply.as_ref().unwrap().features[0].ages_ms[0] > age + 200)
        .await
        .unwrap();
    assert_eq!(states(&older), [State::Stale, State::Defaulted]);
    engine.restart();
    // Snapshots are made again after a restart, here of no metrics.
    database(&engine, "stored_away").await;
    campaign(&engine, "stored_away", "b", 0, 4, 70);
    campaign(&engine, "stored_away", "c", 0, 4, 70);
    server.until(&by_id(["b", "c"]), |reply| states(reply.as_ref().unwrap()) == [State::Present; 2]).await.unwrap();
}

#[tokio::test]
async fn tables_that_do_not_fit_end_the_start() {
    let Some(engine) = Engine::shared() else { return };
    for (name, change, part) in [
        ("stored_type", "ALTER TABLE campaign_features MODIFY COLUMN clicks_1d String", "clicks_1d"),
        ("stored_column", "ALTER TABLE campaign_features DROP COLUMN clicks_1d", "clicks_1d"),
        ("stored_table", "DROP TABLE user_features", "user_features"),
    ] {
        let clickhouse = database(&engine, name).await;
        engine.sql(name, change).unwrap();
        let settings: Vec<&str> = clickhouse.iter().map(String::as_str).collect();
        let error = refused(models(stored).path(), &settings).await;
        assert!(error.contains(part) && error.contains("aibuyer-server migrate"), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_model_that_names_what_no_view_has_is_refused() {
    let models = models(|folder| {
        edit(folder, |name, field| {
            if name == "has_digit" {
                field["source"] =
                    json!({"kind": "feature_store", "entity": "campaign", "entity_key": "id", "feature": "x"});
            }
        });
    });
    let server = start(models.path(), &[]).await;
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (_, page) = server.get("/").await;
        if page.contains("has no feature &quot;x&quot;") || page.contains("has no feature \"x\"") {
            break;
        }
        assert!(std::time::Instant::now() < give_up, "{page}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_prediction_log_has_what_was_looked_up() {
    let Some(engine) = Engine::shared() else { return };
    let clickhouse = database(&engine, "stored_log").await;
    campaign(&engine, "stored_log", "a", 5, 30, 900);
    let log = ["prediction_log.sample_rate=1.0", "prediction_log.payload=true"];
    let server = serve(&models(stored), &clickhouse, &log).await;
    let request = pb::PredictCtrRequest { request_id: "r".to_owned(), ..by_id(["a", "nobody"]) };
    let reply = server.predict(request).await.unwrap();
    assert_eq!((reply.request_id.as_str(), states(&reply)), ("r", vec![State::Present, State::Absent]));
    assert!(server.app.stop().await);
    let ask = "SELECT candidate, campaign_id, numbers['headline_words'], round(numbers['has_digit'], 6), \
               has(mapKeys(numbers), 'headline_chars'), feature_age_ms >= 4000, mapKeys(feature_ages_ms), feature_fallback \
               FROM prediction_log WHERE request_id = 'r' ORDER BY candidate";
    let rows = engine.sql("stored_log", ask).unwrap();
    let rate = (30.0 + 2.0) / (900.0 + 100.0);
    assert_eq!(rows, format!("0\ta\t30\t{rate}\t1\t1\t['campaign']\tfalse\n1\tnobody\t0\t0\t0\t0\t[]\ttrue\n"));
}

#[tokio::test]
async fn a_mirrored_view_misses_nothing_and_both_are_measured() {
    let Some(engine) = Engine::shared() else { return };
    let clickhouse = database(&engine, "stored_mirror").await;
    campaign(&engine, "stored_mirror", "a", 5, 30, 900);
    let mirror = ["features.mirror=campaign", "features.mirror_interval=1s"];
    let server = serve(&models(stored), &clickhouse, &mirror).await;
    let seen = |reply: &Result<pb::PredictCtrResponse, _>| states(reply.as_ref().unwrap());
    let known = [State::Present, State::Absent];
    let reply = server.until(&by_id(["a", "b"]), |reply| seen(reply) == known).await.unwrap();
    let carried = server.predict(carrying([30.0, 30.0], [900.0, 900.0])).await.unwrap();
    assert_eq!(reply.predictions[0], carried.predictions[0]);
    campaign(&engine, "stored_mirror", "b", 5, 4, 70);
    server.until(&by_id(["a", "b"]), |reply| seen(reply) == [State::Present; 2]).await.unwrap();
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains("aibuyer_feature_rows{view=\"campaign\"} 2"), "{metrics}");
    assert!(metrics.contains("aibuyer_feature_rows{view=\"user\"} 0"), "{metrics}");
    assert!(metrics.contains("aibuyer_feature_mirror_age_seconds{view=\"campaign\"}"), "{metrics}");
    assert!(metrics.contains("aibuyer_feature_lookups_total{view=\"campaign\",outcome=\"present\"}"), "{metrics}");
    let (_, page) = server.get("/").await;
    assert!(page.contains("Feature view campaign: 2 rows mirrored") && page.contains("user: 0 rows cached"), "{page}");
}

#[tokio::test]
async fn thousands_of_entities_are_looked_up_at_once() {
    let Some(engine) = Engine::shared() else { return };
    let clickhouse = database(&engine, "stored_many").await;
    let rows = "INSERT INTO campaign_features (campaign_id, user_id, computed_at, clicks_1d, clicks_7d, impressions_7d, \
                impressions_28d) SELECT concat('c', toString(number)), 'u', now(), number, 1, 10, number FROM numbers(3000)";
    engine.sql("stored_many", rows).unwrap();
    let server = serve(&models(stored), &clickhouse, &[]).await;
    let ids: Vec<String> = (0..3000).map(|n| format!("c{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let request = pb::PredictCtrRequest {
        model: two().model,
        candidates: vec![strings("campaign_id", &ids)],
        ..Default::default()
    };
    let reply = server.predict(request).await.unwrap();
    assert_eq!(states(&reply), vec![State::Present; 3000]);
    let numbers: Vec<f64> = (0..3000).map(f64::from).collect();
    let carried = pb::PredictCtrRequest {
        model: two().model,
        candidates: vec![
            doubles("headline_words", &numbers),
            doubles("headline_chars", &numbers),
            doubles("has_digit", &vec![3.0 / 110.0; 3000]),
        ],
        ..Default::default()
    };
    assert_eq!(reply.predictions, server.predict(carried).await.unwrap().predictions);
}
