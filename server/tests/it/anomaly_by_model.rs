//! Windows judged by a Prophet model, over real gRPC, against the same model's forecasts.

use aibuyer_proto::serving::v1::{
    self as pb, AnomalyDirection as Side, AnomalySeverity as Severity, anomaly_service_client::AnomalyServiceClient,
    detect_anomalies_request::Judge, forecast_request::Rows,
};
use tonic::{Code, Status};

use crate::{
    forecast::{add, ask, daily, request, selector},
    forecast_onnx,
    harness::{MODEL, Models, Server, ready},
};

async fn detect(server: &Server, request: pb::DetectAnomaliesRequest) -> Result<pb::DetectAnomaliesResponse, Status> {
    let client = AnomalyServiceClient::new(server.channel.clone());
    { client }.detect_anomalies(request).await.map(tonic::Response::into_inner)
}

fn judged(by: pb::ModelJudge, points: Vec<pb::SeriesPoint>) -> pb::DetectAnomaliesRequest {
    pb::DetectAnomaliesRequest { points, judge: Some(Judge::ByModel(by)), ..Default::default() }
}

fn by(name: &str) -> pb::ModelJudge {
    pb::ModelJudge { model: selector(name), ..Default::default() }
}

fn points(times: &[i64], values: &[Option<f64>]) -> Vec<pb::SeriesPoint> {
    let pairs = times.iter().zip(values);
    pairs.map(|(time, value)| pb::SeriesPoint { unix_micros: Some(*time), value: *value }).collect()
}

/// The model's forecast with the ends of the usual interval.
async fn forecast(server: &Server, mut request: pb::ForecastRequest) -> (pb::ForecastResponse, Vec<f64>, Vec<f64>) {
    request.interval_width = Some(0.99);
    let answer = ask(server, request).await.unwrap();
    let [lower, upper] = &answer.quantiles[..] else { panic!("{answer:?}") };
    let (lower, upper) = (lower.values.clone(), upper.values.clone());
    (answer, lower, upper)
}

#[tokio::test]
async fn bounds_and_p_values_are_those_of_the_forecast() {
    let models = Models::empty();
    add(&models, "daily");
    let server = ready(models.path(), &[]).await;
    let (answer, lower, upper) = forecast(&server, daily(9)).await;
    let values: Vec<Option<f64>> = upper.iter().map(|upper| Some(*upper)).collect();
    let found = detect(&server, judged(by("daily"), points(&answer.unix_micros, &values))).await.unwrap();
    assert_eq!(found.model, answer.model);
    assert_eq!(found.method(), pb::ForecastMethod::Exact);
    for (row, reading) in found.readings.iter().enumerate() {
        assert_eq!(reading.expected, Some(answer.yhat[row]));
        let close = |got: Option<f64>, expected: f64| (got.unwrap() - expected).abs() <= 1e-9 * expected.abs();
        assert!(close(reading.lower, lower[row]) && close(reading.upper, upper[row]), "{reading:?}");
        assert!((reading.p_value.unwrap() - 0.01).abs() < 1e-7, "{reading:?}");
        assert_eq!(reading.direction(), Side::High);
    }
}

#[tokio::test]
async fn an_event_lasts_while_values_leave_the_interval_on_one_side() {
    let models = Models::empty();
    add(&models, "daily");
    let server = ready(models.path(), &[]).await;
    let (answer, lower, upper) = forecast(&server, daily(9)).await;
    let at = |row: usize, half_widths: f64| {
        let half = if half_widths > 0.0 { upper[row] - answer.yhat[row] } else { answer.yhat[row] - lower[row] };
        Some(answer.yhat[row] + half_widths * half)
    };
    let values = [at(0, 0.1), at(1, 1.1), at(2, 2.0), None, at(4, 1.1), at(5, -1.1), at(6, 0.5), at(7, -9.0), None];
    let window = points(&answer.unix_micros, &values);
    let found = detect(&server, judged(by("daily"), window.clone())).await.unwrap();
    let alerts = |found: &pb::DetectAnomaliesResponse| -> Vec<u32> {
        found.readings.iter().filter(|reading| reading.alert).map(|reading| reading.index).collect()
    };
    assert_eq!((alerts(&found), found.alerts), (vec![1, 5, 7], 3));
    let severities: Vec<Severity> = found.readings.iter().map(pb::AnomalyReading::severity).collect();
    use Severity::{Critical, Low, Normal, Unspecified};
    assert_eq!(severities, [Normal, Low, Critical, Unspecified, Low, Low, Normal, Critical, Unspecified]);
    assert_eq!(found.readings[7].direction(), Side::Low);
    assert!(found.readings[3].p_value.is_none() && found.readings[3].upper.is_some(), "missing, and yet expected");
    let p = found.readings[7].p_value.unwrap();
    assert!(p > 0.0 && p < 1e-12, "far out there is still a difference: {p}");
    // Dates decide about what follows what, and the answer keeps the points' places.
    let backwards: Vec<pb::SeriesPoint> = window.iter().rev().cloned().collect();
    let reversed = detect(&server, judged(by("daily"), backwards.clone())).await.unwrap();
    assert_eq!(alerts(&reversed), [1, 3, 7]);
    let few = pb::DetectAnomaliesRequest { alerts_only: true, ..judged(by("daily"), backwards) };
    let few = detect(&server, few).await.unwrap();
    assert_eq!((few.readings.len(), few.alerts), (3, 3));
    // A wider interval lets more pass.
    let wide = pb::ModelJudge { interval_width: Some(0.999_999), ..by("daily") };
    assert_eq!(alerts(&detect(&server, judged(wide, window)).await.unwrap()), [2, 7]);
}

#[tokio::test]
async fn columns_and_simulations_are_those_of_a_forecast() {
    let models = Models::empty();
    for name in ["effects", "saturating"] {
        add(&models, name);
    }
    let server = ready(models.path(), &[]).await;
    for (name, method) in [("effects", pb::ForecastMethod::Exact), ("saturating", pb::ForecastMethod::MonteCarlo)] {
        let asked = request(name);
        let Some(Rows::Dates(dates)) = asked.rows.clone() else { panic!() };
        let (answer, ..) = forecast(&server, asked.clone()).await;
        let judge = pb::ModelJudge { columns: asked.columns, samples: 400, ..by(name) };
        let far = vec![Some(1e9); dates.unix_micros.len()];
        let window = points(&dates.unix_micros, &far);
        let found = detect(&server, judged(judge.clone(), window.clone())).await.unwrap();
        assert_eq!((found.method(), found.alerts), (method, 1), "one event");
        for (row, place) in answer.order.iter().enumerate() {
            let reading = &found.readings[*place as usize];
            assert_eq!(reading.unix_micros, Some(answer.unix_micros[row]));
            if method == pb::ForecastMethod::Exact {
                assert_eq!(reading.expected, Some(answer.yhat[row]));
            } else {
                assert!((reading.p_value.unwrap() - 2.0 / 401.0).abs() < 1e-12, "{reading:?}");
            }
        }
        assert_eq!(detect(&server, judged(judge, window)).await.unwrap(), found, "the same seed");
    }
}

#[tokio::test]
async fn a_wrong_window_names_the_field_and_the_cure() {
    let models = Models::demo();
    for name in ["daily", "effects"] {
        add(&models, name);
    }
    forecast_onnx::add(&models, 1, |_| {});
    let server = ready(models.path(), &[]).await;
    let day = || points(&[1_684_368_000_000_000], &[Some(1.0)]);
    let timeless = vec![pb::SeriesPoint { unix_micros: None, value: Some(1.0) }];
    let wide = |width| pb::ModelJudge { interval_width: Some(width), ..by("daily") };
    let cases = [
        (judged(by(MODEL), day()), "is not a forecaster"),
        (judged(by(forecast_onnx::NAME), day()), "by_model.model: gives a few quantiles"),
        (judged(pb::ModelJudge::default(), day()), "model.name: is required"),
        (judged(by("daily"), timeless), "points[0].unix_micros: is required where a model judges"),
        (judged(wide(1.0), day()), "by_model.interval_width: must be above 0 and below 1"),
        (judged(wide(f64::NAN), day()), "by_model.interval_width: must be above 0 and below 1"),
        (judged(by("effects"), day()), "by_model.columns[\"spend\"]"),
        (judged(pb::ModelJudge { samples: 1_000_000, ..by("daily") }, day()), "by_model.samples: must be at most"),
        (pb::DetectAnomaliesRequest { return_state: true, ..judged(by("daily"), day()) }, "a model has no state"),
    ];
    for (request, expected) in cases {
        let error = detect(&server, request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains(expected), "{expected}: {error}");
    }
    let error = detect(&server, judged(by("nobody"), day())).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}
