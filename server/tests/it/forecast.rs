//! Forecasts over real gRPC, against Prophet's own answers.

use std::{fs, path::PathBuf};

use aibuyer_proto::{
    inference as oip,
    serving::v1::{
        self as pb, forecast_batch_response::Result as Outcome, forecast_request::Rows,
        forecast_service_client::ForecastServiceClient,
    },
};
use serde_json::Value;
use tonic::{Code, Status, transport::Channel};

use crate::harness::{MODEL, Models, Server, doubles, ready, repository, two};

fn case(name: &str) -> PathBuf {
    repository().join("domain/testdata/prophet/cases").join(name)
}

fn json(name: &str, file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(case(name).join(file)).unwrap()).unwrap()
}

/// Adds a model as `mlflow.prophet` logs it.
pub(crate) fn add(models: &Models, name: &str) {
    let folder = models.path().join(name).join("1");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(case(name).join("model.json"), folder.join("model.pr")).unwrap();
    fs::write(folder.join("MLmodel"), "flavors:\n  prophet:\n    data: model.pr\n  python_function: {}\n").unwrap();
}

fn client(server: &Server) -> ForecastServiceClient<Channel> {
    ForecastServiceClient::new(server.channel.clone())
}

pub(crate) async fn ask(server: &Server, request: pb::ForecastRequest) -> Result<pb::ForecastResponse, Status> {
    client(server).forecast(request).await.map(tonic::Response::into_inner)
}

pub(crate) fn selector(name: &str) -> Option<pb::ModelSelector> {
    Some(pb::ModelSelector { name: name.to_owned(), pick: None })
}

fn range(frequency: &str, horizon: u32) -> Option<Rows> {
    Some(Rows::Range(pb::ForecastRange { start_unix_micros: None, frequency: frequency.to_owned(), horizon }))
}

pub(crate) fn daily(horizon: u32) -> pb::ForecastRequest {
    pb::ForecastRequest { model: selector("daily"), rows: range("D", horizon), ..Default::default() }
}

/// The dates and columns of a case.
pub(crate) fn request(name: &str) -> pb::ForecastRequest {
    let future = json(name, "future.json");
    let columns = future["columns"].as_object().unwrap();
    let number = |value: &Value| value.as_f64().or(value.as_bool().map(|b| f64::from(u8::from(b)))).unwrap();
    let numbers = |values: &Value| values.as_array().unwrap().iter().map(number).collect::<Vec<_>>();
    let day = |text: &Value| {
        let at = humantime_seconds(text.as_str().unwrap());
        i64::try_from(at).unwrap() * 1_000_000
    };
    let dates = columns["ds"].as_array().unwrap().iter().map(day).collect();
    let others = columns.iter().filter(|(name, _)| *name != "ds");
    pb::ForecastRequest {
        model: selector(name),
        rows: Some(Rows::Dates(pb::ForecastDates { unix_micros: dates })),
        columns: others.map(|(name, values)| doubles(name, &numbers(values))).collect(),
        ..Default::default()
    }
}

/// Seconds since 1970 of `2023-05-18T00:00:00`.
fn humantime_seconds(text: &str) -> u64 {
    let at = humantime::parse_rfc3339(&format!("{text}Z")).unwrap();
    at.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn assert_close(got: &[f64], expected: &Value) {
    let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= 1e-8 * expected.abs().max(1.0), "{got} for {expected}");
    }
}

#[tokio::test]
async fn a_range_after_the_history_is_what_prophet_forecasts_and_is_computed_once() {
    let models = Models::demo();
    add(&models, "daily");
    let server = ready(models.path(), &[]).await;
    let answer = ask(&server, daily(30)).await.unwrap();
    let expected = json("daily", "expected.json");
    assert_close(&answer.yhat, &expected["exact"]["yhat"]);
    assert_close(&answer.trend, &expected["exact"]["trend"]);
    let probabilities: Vec<f64> = answer.quantiles.iter().map(|q| (q.probability * 1e9).round() / 1e9).collect();
    assert_eq!(probabilities, [0.1, 0.9], "the model's own interval");
    assert_eq!(answer.method(), pb::ForecastMethod::Exact);
    assert!(answer.order.is_empty() && answer.components.is_empty() && !answer.cached);
    let again = ask(&server, daily(30)).await.unwrap();
    assert!(again.cached);
    assert_eq!(pb::ForecastResponse { cached: false, ..again }, answer);
    assert!(!ask(&server, daily(31)).await.unwrap().cached, "another question");
}

#[tokio::test]
async fn columns_reach_the_model_in_the_order_of_the_dates() {
    let models = Models::empty();
    for name in ["effects", "saturating"] {
        add(&models, name);
    }
    let server = ready(models.path(), &[]).await;
    for name in ["effects", "saturating"] {
        let mut asked = request(name);
        asked.include_components = true;
        let answer = ask(&server, asked.clone()).await.unwrap();
        let expected = json(name, "expected.json");
        assert_close(&answer.yhat, &expected["exact"]["yhat"]);
        assert!(!answer.components.is_empty());
        // The other way round: the same rows, and the order says so.
        let Some(Rows::Dates(dates)) = &mut asked.rows else { panic!() };
        dates.unix_micros.reverse();
        for column in &mut asked.columns {
            let Some(pb::column::Values::Doubles(values)) = &mut column.values else { panic!() };
            values.values.reverse();
        }
        let reversed = ask(&server, asked).await.unwrap();
        assert_eq!(reversed.yhat, answer.yhat);
        let last = u32::try_from(answer.yhat.len() - 1).unwrap();
        assert!(reversed.order.iter().map(|place| last - place).eq(answer.order.iter().copied()));
    }
}

#[tokio::test]
async fn components_of_a_model_with_draws_have_quantiles() {
    let models = Models::empty();
    for name in ["draws", "daily"] {
        add(&models, name);
    }
    let server = ready(models.path(), &[]).await;
    let asked = pb::ForecastRequest { include_components: true, quantiles: vec![0.1, 0.9], ..request("draws") };
    let answer = ask(&server, asked).await.unwrap();
    let expected = json("draws", "expected.json");
    let weekly = answer.components.iter().find(|component| component.name == "weekly").unwrap();
    for (quantile, column) in weekly.quantiles.iter().zip(["weekly_lower", "weekly_upper"]) {
        assert_close(&quantile.values, &expected["exact"][column]);
    }
    assert_eq!(weekly.quantiles.len(), 2);
    let certain = ask(&server, pb::ForecastRequest { include_components: true, ..daily(3) }).await.unwrap();
    assert!(certain.components.iter().all(|component| component.quantiles.is_empty()));
}

#[tokio::test]
async fn a_wrong_request_names_the_field_and_the_cure() {
    let models = Models::demo();
    for name in ["daily", "effects"] {
        add(&models, name);
    }
    let server = ready(models.path(), &[]).await;
    let good = || daily(3);
    let effects = |edit: &dyn Fn(&mut pb::ForecastRequest)| {
        let mut request = request("effects");
        edit(&mut request);
        request
    };
    let cases: Vec<(pb::ForecastRequest, &str)> = vec![
        (
            pb::ForecastRequest { model: selector(MODEL), ..good() },
            "is not a forecaster: call aibuyer.serving.v1.CtrService",
        ),
        (pb::ForecastRequest { rows: None, ..good() }, "rows"),
        (pb::ForecastRequest { rows: range("fortnight", 3), ..good() }, "range.frequency"),
        (pb::ForecastRequest { rows: range("D", 0), ..good() }, "range"),
        (pb::ForecastRequest { rows: range("D", 1_000_000), ..good() }, "100000"),
        (pb::ForecastRequest { quantiles: vec![1.0], ..good() }, "quantiles"),
        (pb::ForecastRequest { interval_width: Some(0.0), ..good() }, "interval_width"),
        (pb::ForecastRequest { samples: 1 << 30, ..good() }, "samples"),
        (effects(&|r| r.columns.retain(|c| c.name != "spend")), "columns[\"spend\"]"),
        (effects(&|r| r.columns.push(crate::harness::strings("spend", &["a"]))), "holds text"),
        (effects(&|r| r.columns[0].missing = vec![3]), "row 3 has no value"),
    ];
    for (request, expect) in cases {
        let status = ask(&server, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(expect), "{expect}: {}", status.message());
    }
    let ctr = pb::PredictCtrRequest { model: selector("daily"), ..two() };
    let status = server.predict(ctr).await.unwrap_err();
    assert!(status.message().contains("call aibuyer.serving.v1.ForecastService"), "{status:?}");
    let infer = oip::ModelInferRequest { model_name: "daily".to_owned(), ..Default::default() };
    let mut client = oip::grpc_inference_service_client::GrpcInferenceServiceClient::new(server.channel.clone());
    let status = client.model_infer(infer).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn many_series_on_one_stream_fail_one_by_one() {
    let models = Models::empty();
    add(&models, "daily");
    let server = ready(models.path(), &[]).await;
    let requests = (0..50u64).map(|id| {
        let horizon = u32::try_from(id).unwrap();
        pb::ForecastBatchRequest { id, request: Some(daily(horizon)), timeout_micros: None }
    });
    let stream = tokio_stream::iter(requests.collect::<Vec<_>>());
    let mut answers = client(&server).forecast_batch(stream).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.result.unwrap() {
            Outcome::Response(response) => assert_eq!(response.yhat.len() as u64, answer.id),
            Outcome::Error(error) => assert_eq!((answer.id, error.code), (0, Code::InvalidArgument as i32)),
        }
        seen.push(answer.id);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..50));
}

#[tokio::test]
async fn a_model_that_prophet_did_not_finish_is_refused() {
    let models = Models::demo();
    add(&models, "daily");
    let file = models.path().join("daily/1/model.pr");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    let server = ready(models.path(), &[]).await;
    let status = ask(&server, daily(3)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("model.pr"), "{status:?}");
}
