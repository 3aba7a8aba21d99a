//! Forecasts of an ONNX model over real gRPC, against its own worked examples.

use std::{fs, path::Path};

use aibuyer_proto::{
    inference as oip,
    serving::v1::{
        self as pb, forecast_batch_response::Result as Outcome, forecast_context::When, forecast_request::Rows,
        forecast_service_client::ForecastServiceClient,
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{Models, Server, ready, repository, start};

pub(crate) const NAME: &str = "forecast-nab";
const HOUR: i64 = 3_600_000_000;
/// 2024-01-01T00:00, a Monday.
const LAST: i64 = 1_704_067_200_000_000;
const QUANTILES: [f64; 7] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95];

/// Adds a version of the demo forecaster: copied aside, edited, renamed into place.
pub(crate) fn add(models: &Models, version: u64, edit: impl FnOnce(&Path)) {
    let aside = models.path().join(".incoming");
    fs::create_dir_all(&aside).unwrap();
    for file in ["MLmodel", "forecast_spec.json", "model.onnx", "golden.jsonl"] {
        fs::copy(repository().join("models").join(NAME).join("1").join(file), aside.join(file)).unwrap();
    }
    edit(&aside);
    let model = models.path().join(NAME);
    fs::create_dir_all(&model).unwrap();
    fs::rename(aside, model.join(version.to_string())).unwrap();
}

fn edit_spec(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let file = folder.join("forecast_spec.json");
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    edit(&mut spec);
    fs::write(file, spec.to_string()).unwrap();
}

/// A worked example: its context, and its quantiles by step, in order.
fn examples() -> Vec<(Vec<f64>, Vec<Vec<f64>>)> {
    let text = fs::read_to_string(repository().join("models").join(NAME).join("1/golden.jsonl")).unwrap();
    let read = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let context: Vec<Option<f64>> = serde_json::from_value(row["context"].clone()).unwrap();
        let mut quantiles: Vec<Vec<f64>> = serde_json::from_value(row["quantiles"].clone()).unwrap();
        quantiles.iter_mut().for_each(|step| step.sort_by(f64::total_cmp));
        (context.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect(), quantiles)
    };
    text.lines().map(read).collect()
}

fn client(server: &Server) -> ForecastServiceClient<Channel> {
    ForecastServiceClient::new(server.channel.clone())
}

async fn ask(server: &Server, request: pb::ForecastRequest) -> Result<pb::ForecastResponse, Status> {
    client(server).forecast(request).await.map(tonic::Response::into_inner)
}

fn range(horizon: u32) -> pb::ForecastRange {
    pb::ForecastRange { horizon, ..Default::default() }
}

/// All steps and quantiles after these values.
fn after(values: &[f64]) -> pb::ForecastRequest {
    pb::ForecastRequest {
        model: Some(pb::ModelSelector { name: NAME.to_owned(), pick: None }),
        context: Some(pb::ForecastContext { values: values.to_vec(), when: Some(When::LastUnixMicros(LAST)) }),
        rows: Some(Rows::Range(range(24))),
        ..Default::default()
    }
}

fn assert_is(answer: &pb::ForecastResponse, quantiles: &[Vec<f64>]) {
    let most = quantiles.concat().iter().fold(0.0f64, |most, value| most.max(value.abs()));
    assert_eq!(answer.quantiles.len(), QUANTILES.len());
    for (place, column) in answer.quantiles.iter().enumerate() {
        assert!((column.probability - QUANTILES[place]).abs() < 1e-12);
        assert_eq!(column.values.len(), quantiles.len());
        for (got, step) in column.values.iter().zip(quantiles) {
            assert!((got - step[place]).abs() <= 1e-4 * most, "{got} for {}", step[place]);
        }
    }
}

#[tokio::test]
async fn the_worked_examples_come_back_alone_and_together() {
    let models = Models::empty();
    add(&models, 1, |_| {});
    // Nothing on the caller's thread, so that all requests meet in the queue.
    let server = ready(models.path(), &["batching.inline_limit=0s"]).await;
    let examples = examples();
    for (context, quantiles) in &examples {
        let answer = ask(&server, after(context)).await.unwrap();
        assert_is(&answer, quantiles);
        assert_eq!(answer.yhat, answer.quantiles[3].values, "the median");
        assert!(answer.unix_micros.iter().copied().eq((1..=24).map(|step| LAST + step * HOUR)));
        assert!(answer.trend.is_empty() && answer.order.is_empty() && !answer.cached);
        assert_eq!(answer.method(), pb::ForecastMethod::Model);
        assert_eq!(answer.model.unwrap().version, 1);
    }
    assert!(!ask(&server, after(&examples[0].0)).await.unwrap().cached);

    let many: Vec<_> = (0..400u64)
        .map(|id| {
            let request = Some(after(&examples[usize::try_from(id).unwrap() % examples.len()].0));
            pb::ForecastBatchRequest { id, request, timeout_micros: None }
        })
        .collect();
    let mut answers = client(&server).forecast_batch(tokio_stream::iter(many)).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        let Some(Outcome::Response(response)) = answer.result else { panic!("{answer:?}") };
        assert_is(&response, &examples[usize::try_from(answer.id).unwrap() % examples.len()].1);
        seen.push(answer.id);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..400));
    // The requests shared runs.
    let mut triton = oip::grpc_inference_service_client::GrpcInferenceServiceClient::new(server.channel.clone());
    let asked = oip::ModelStatisticsRequest { name: NAME.to_owned(), version: String::new() };
    let statistics = triton.model_statistics(asked).await.unwrap().into_inner().model_stats.remove(0);
    let (rows, runs) = (statistics.inference_count, statistics.execution_count);
    assert!(rows >= 400 && runs < rows, "{rows} rows in {runs} runs");
}

#[tokio::test]
async fn quantiles_steps_and_dates_are_those_that_were_asked_for() {
    let models = Models::empty();
    add(&models, 1, |_| {});
    let server = ready(models.path(), &[]).await;
    let (context, quantiles) = &examples()[0];
    let all = ask(&server, after(context)).await.unwrap();
    assert_is(&all, quantiles);
    let some = pb::ForecastRequest {
        quantiles: vec![0.95, 0.25],
        interval_width: Some(0.8),
        rows: Some(Rows::Range(pb::ForecastRange {
            start_unix_micros: Some(LAST + HOUR),
            frequency: "60min".to_owned(),
            horizon: 5,
        })),
        ..after(context)
    };
    let some = ask(&server, some).await.unwrap();
    let given: Vec<f64> = some.quantiles.iter().map(|q| q.probability).collect();
    assert_eq!(given, [0.1, 0.25, 0.9, 0.95]);
    assert_eq!(some.yhat, all.yhat[..5]);
    assert_eq!(some.quantiles[1].values, all.quantiles[2].values[..5]);

    // More history than the model sees, and the same with a date each but those that have no value.
    let mut longer = vec![1e9; 50];
    longer.extend(context);
    assert_eq!(ask(&server, after(&longer)).await.unwrap(), all);
    let mut gaps = after(context);
    gaps.context.as_mut().unwrap().values[100] = f64::NAN;
    let with_nan = ask(&server, gaps.clone()).await.unwrap();
    assert_ne!(with_nan, all);
    let dated = gaps.context.as_mut().unwrap();
    let first = LAST - HOUR * i64::try_from(context.len() - 1).unwrap();
    let hours = (0..dated.values.len()).filter(|place| *place != 100);
    let dates = hours.map(|place| first + HOUR * i64::try_from(place).unwrap()).collect();
    dated.when = Some(When::Dates(pb::ForecastDates { unix_micros: dates }));
    dated.values.remove(100);
    assert_eq!(ask(&server, gaps).await.unwrap(), with_nan);
}

#[tokio::test]
async fn a_wrong_request_names_the_field_and_the_cure() {
    let models = Models::demo();
    add(&models, 1, |_| {});
    let prophet = models.path().join("daily/1");
    fs::create_dir_all(&prophet).unwrap();
    let case = repository().join("domain/testdata/prophet/cases/daily/model.json");
    fs::copy(case, prophet.join("model.pr")).unwrap();
    fs::write(prophet.join("MLmodel"), "flavors:\n  prophet:\n    data: model.pr\n").unwrap();
    let server = ready(models.path(), &[]).await;
    let good = after(&examples()[0].0);
    let with = |edit: &dyn Fn(&mut pb::ForecastRequest)| {
        let mut request = good.clone();
        edit(&mut request);
        request
    };
    let context = |edit: &dyn Fn(&mut pb::ForecastContext)| with(&|request| edit(request.context.as_mut().unwrap()));
    let ranged = |edit: &dyn Fn(&mut pb::ForecastRange)| {
        let mut range = range(24);
        edit(&mut range);
        with(&|request| request.rows = Some(Rows::Range(range.clone())))
    };
    let dates = |unix_micros: Vec<i64>| When::Dates(pb::ForecastDates { unix_micros });
    let cases: Vec<(pb::ForecastRequest, &str)> = vec![
        (with(&|r| r.context = None), "context: is required: the model forecasts from the last 168 values"),
        (context(&|c| c.values.clear()), "context.values: there are no values"),
        (context(&|c| c.values.truncate(23)), "23 values are there of the last 168, and the model needs 24"),
        (context(&|c| c.values[160] = f64::INFINITY), "value 160 is inf"),
        (context(&|c| c.values[160] = 1e300), "which float32, the model's type, does not hold"),
        (context(&|c| c.values = vec![1.0; 100_001]), "must be at most 100000"),
        (context(&|c| c.when = None), "context.when: is required"),
        (context(&|c| c.when = Some(dates(vec![LAST]))), "context.when: 168 values for 1 dates"),
        (
            context(&|c| {
                c.values.truncate(2);
                c.when = Some(dates(vec![LAST, LAST + HOUR / 2]));
            }),
            "date 1, 2024-01-01T00:30:00, is not on a step of `h`",
        ),
        (with(&|r| r.rows = None), "rows: is required"),
        (with(&|r| r.rows = Some(Rows::Dates(pb::ForecastDates { unix_micros: vec![LAST] }))), "so send a range"),
        (ranged(&|r| r.horizon = 25), "range.horizon: is 25, must be 1 to 24"),
        (ranged(&|r| r.horizon = 0), "range.horizon: is 0"),
        (ranged(&|r| r.frequency = "D".to_owned()), "is `D`, the model forecasts steps of `h`"),
        (ranged(&|r| r.frequency = "fortnight".to_owned()), "range.frequency"),
        (ranged(&|r| r.start_unix_micros = Some(LAST)), "2024-01-01T01:00:00 follows the context"),
        (
            with(&|r| r.quantiles = vec![0.5, 0.33]),
            "does not give the quantile 0.33, and none is made up: it gives 0.05",
        ),
        (with(&|r| r.interval_width = Some(0.7)), "interval_width"),
        (with(&|r| r.interval_width = Some(1.0)), "interval_width: must be above 0 and below 1"),
        (with(&|r| r.include_components = true), "include_components: is for Prophet models"),
        (with(&|r| r.include_trend_quantiles = true), "include_trend_quantiles"),
        (with(&|r| r.model.as_mut().unwrap().name = "daily".to_owned()), "context: is for ONNX models"),
    ];
    for (request, expect) in cases {
        let status = ask(&server, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(expect), "{expect}: {}", status.message());
    }
    let ctr = pb::PredictCtrRequest { model: good.model.clone(), ..crate::harness::two() };
    let status = server.predict(ctr).await.unwrap_err();
    assert!(status.message().contains("call aibuyer.serving.v1.ForecastService"), "{status:?}");
}

/// Sends until an answer pleases; the engine looks at its folder ten times a second.
async fn until(server: &Server, request: &pb::ForecastRequest, pleases: impl Fn(&pb::ForecastResponse) -> bool) {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
    loop {
        let answer = ask(server, request.clone()).await.unwrap();
        if pleases(&answer) {
            return;
        }
        assert!(std::time::Instant::now() < give_up, "still {:?}", answer.model);
        tick.tick().await;
    }
}

#[tokio::test]
async fn a_version_that_callers_can_go_on_with_takes_over_and_others_do_not() {
    let models = Models::empty();
    add(&models, 1, |_| {});
    let server = ready(models.path(), &["loading.max_slowdown=0"]).await;
    let asked = after(&examples()[0].0);
    assert_eq!(ask(&server, asked.clone()).await.unwrap().model.unwrap().version, 1);
    let refusals: [(u64, &str, Value, &str); 3] = [
        (2, "frequency", json!("D"), "it goes by steps of `D`"),
        (3, "quantiles", json!([0.05, 0.1, 0.2, 0.5, 0.75, 0.9, 0.95]), "it does not give the quantile 0.25"),
        (4, "missing", json!({"policy": "reject"}), "golden example"),
    ];
    for (version, key, value, part) in refusals {
        add(&models, version, |folder| edit_spec(folder, |spec| spec[key] = value));
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
        while !server.get("/").await.1.replace("&#x27;", "'").contains(part) {
            assert!(std::time::Instant::now() < give_up, "no refusal with {part}: {}", server.get("/").await.1);
            tick.tick().await;
        }
        assert_eq!(ask(&server, asked.clone()).await.unwrap().model.unwrap().version, 1, "{part}");
    }
    // Other examples, the same network.
    add(&models, 5, |folder| {
        let file = folder.join("golden.jsonl");
        let text = fs::read_to_string(&file).unwrap();
        let text: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
        let digest: String = Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect();
        fs::write(file, text).unwrap();
        edit_spec(folder, |spec| spec["files_sha256"]["golden.jsonl"] = digest.into());
    });
    until(&server, &asked, |answer| answer.model.as_ref().is_some_and(|model| model.version == 5)).await;
}

#[tokio::test]
async fn a_forecaster_that_breaks_its_contract_never_serves() {
    let models = Models::demo();
    add(&models, 1, |folder| edit_spec(folder, |spec| spec["context_lenght"] = json!(168)));
    let server = start(models.path(), &[]).await;
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
    let asked = after(&examples()[0].0);
    loop {
        let status = ask(&server, asked.clone()).await.unwrap_err();
        assert!([Code::Unavailable, Code::NotFound].contains(&status.code()), "{status:?}");
        if status.message().contains("unknown field `context_lenght`") {
            break;
        }
        assert!(std::time::Instant::now() < give_up, "still {status:?}");
        tick.tick().await;
    }
}
