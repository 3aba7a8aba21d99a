//! Anomalies over gRPC: windows, streams, states.

use std::time::Duration;

use aibuyer_proto::serving::v1::{
    self as pb, AnomalyDirection, anomaly_service_client::AnomalyServiceClient, detect_anomalies_request::Judge,
    stream_anomalies_response::Result as Outcome, streaming_detector::Start,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::harness::{Server, repository, start};

/// Detectors need no model: they work from the start.
async fn server(settings: &[&str]) -> Server {
    start(&repository().join("models"), settings).await
}

fn client(server: &Server) -> AnomalyServiceClient<Channel> {
    AnomalyServiceClient::new(server.channel.clone()).max_encoding_message_size(64 << 20)
}

/// Noise around 100; from value 600 on around 200.
fn shifted(seed: u64) -> Vec<pb::SeriesPoint> {
    let mut state = seed;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(state >> 40).unwrap()) / f64::from(1 << 24) - 0.5
    };
    let level = |i| if i < 600 { 100.0 } else { 200.0 };
    (0..800i64)
        .map(|i| pb::SeriesPoint { unix_micros: Some(i * 60_000_000), value: Some(level(i) + 10.0 * noise()) })
        .collect()
}

fn window(points: &[pb::SeriesPoint]) -> pb::DetectAnomaliesRequest {
    pb::DetectAnomaliesRequest { points: points.to_vec(), return_state: true, ..Default::default() }
}

async fn detect(server: &Server, request: pb::DetectAnomaliesRequest) -> Result<pb::DetectAnomaliesResponse, Status> {
    client(server).detect_anomalies(request).await.map(tonic::Response::into_inner)
}

fn from_state(state: Option<prost::bytes::Bytes>) -> pb::StreamingDetector {
    pb::StreamingDetector { start: Some(Start::State(state.unwrap())) }
}

fn with_settings(settings: pb::DetectorSettings) -> pb::StreamingDetector {
    pb::StreamingDetector { start: Some(Start::Settings(settings)) }
}

/// A detector that only the shift can alarm: the usual one is rightly nervous while it has seen little.
fn quiet() -> pb::StreamingDetector {
    with_settings(pb::DetectorSettings { threshold: Some(6.0), ..Default::default() })
}

#[tokio::test]
async fn an_event_in_a_window_raises_one_alert() {
    let server = server(&[]).await;
    let points = shifted(1);
    let window = pb::DetectAnomaliesRequest { judge: Some(Judge::Detector(quiet())), ..window(&points) };
    let reply = detect(&server, window.clone()).await.unwrap();
    assert_eq!((reply.readings.len(), reply.alerts), (800, 1));
    let alert = reply.readings.iter().find(|r| r.alert).unwrap();
    assert!((600..620).contains(&alert.index), "{alert:?}");
    assert_eq!(alert.unix_micros, Some(i64::from(alert.index) * 60_000_000));
    assert_eq!(alert.direction(), AnomalyDirection::High);
    assert!(alert.score > 6.0 && (alert.expected.unwrap() - 100.0).abs() < 5.0, "{alert:?}");

    let only = detect(&server, pb::DetectAnomaliesRequest { alerts_only: true, return_state: false, ..window.clone() });
    let only = only.await.unwrap();
    assert_eq!((only.readings, only.alerts, only.state), (vec![*alert], 1, None));

    let deaf = pb::DetectorSettings { threshold: Some(1e6), ..Default::default() };
    let deaf = Some(Judge::Detector(with_settings(deaf)));
    let deaf = detect(&server, pb::DetectAnomaliesRequest { judge: deaf, ..window }).await.unwrap();
    assert_eq!(deaf.alerts, 0);
}

#[tokio::test]
async fn missing_values_are_no_anomaly_and_teach_nothing() {
    let server = server(&[]).await;
    let mut points = shifted(2);
    let whole = detect(&server, window(&points[..590])).await.unwrap();
    let gap = [None, Some(f64::NAN), Some(f64::INFINITY)].map(|value| pb::SeriesPoint { unix_micros: None, value });
    points.splice(300..300, gap);
    let reply = detect(&server, window(&points[..593])).await.unwrap();
    assert!(reply.readings[300..303].iter().all(|r| !r.alert && r.score == 0.0 && r.expected.is_none()));
    assert_eq!(reply.state, whole.state);
    let none = detect(&server, window(&[])).await.unwrap();
    assert!(none.readings.is_empty() && none.state.is_some());
}

#[tokio::test]
async fn a_state_goes_on_where_it_was_taken() {
    let server = server(&[]).await;
    let points = shifted(3);
    let whole = detect(&server, window(&points)).await.unwrap();
    let first = detect(&server, window(&points[..333])).await.unwrap();
    let judge = Some(Judge::Detector(from_state(first.state)));
    let second = detect(&server, pb::DetectAnomaliesRequest { judge, ..window(&points[333..]) }).await.unwrap();
    let scores = |all: &[pb::AnomalyReading]| all.iter().map(|r| (r.score, r.alert)).collect::<Vec<_>>();
    assert_eq!(scores(&second.readings), scores(&whole.readings[333..]));
    assert_eq!(second.state, whole.state);
    assert!(whole.state.unwrap().len() < 8192, "a few kilobytes");
}

fn violation(status: &Status) -> (String, String) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let bad = status.get_details_bad_request().unwrap_or_else(|| panic!("no violations in {status:?}"));
    let first = bad.field_violations.into_iter().next().unwrap();
    (first.field, first.description)
}

#[tokio::test]
async fn a_wrong_window_names_the_field_and_the_cure() {
    let server = server(&["executor.queue_rows=300000"]).await;
    let none = pb::DetectorSettings::default;
    let settings = |settings| Some(Judge::Detector(with_settings(settings)));
    let state = |bytes: &'static [u8]| Some(Judge::Detector(from_state(Some(bytes.into()))));
    let cases = [
        (settings(pb::DetectorSettings { short: Some(1), ..none() }), "detector.settings.short", "2 or more"),
        (settings(pb::DetectorSettings { long: Some(56), ..none() }), "detector.settings.long", "above short"),
        (settings(pb::DetectorSettings { step: Some(0), ..none() }), "detector.settings.step", "2 or more"),
        (settings(pb::DetectorSettings { block: Some(0), ..none() }), "detector.settings.block", "2 or more"),
        (settings(pb::DetectorSettings { threshold: Some(f64::NAN), ..none() }), "detector.settings.threshold", "NaN"),
        (state(b""), "detector.state", "cannot be read"),
        (state(b"\x01{}"), "detector.state", "begin anew"),
        (state(b"\x02{}"), "detector.state", "begin anew"),
    ];
    for (judge, field, expect) in cases {
        let status = detect(&server, pb::DetectAnomaliesRequest { judge, ..window(&[]) }).await.unwrap_err();
        let found = violation(&status);
        assert!(found.0 == field && found.1.contains(expect), "{field}: {found:?}");
    }
    let many = vec![pb::SeriesPoint::default(); 200_001];
    let found = violation(&detect(&server, window(&many)).await.unwrap_err());
    assert!(found.0 == "points" && found.1.contains("200000"), "{found:?}");
    let server = start(&repository().join("models"), &["limits.default_deadline=1ms"]).await;
    let status = detect(&server, window(&many[1..])).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

/// Two ends of an open stream.
struct Open {
    ask: mpsc::Sender<pb::StreamAnomaliesRequest>,
    answers: Streaming<pb::StreamAnomaliesResponse>,
}

async fn open(server: &Server) -> Open {
    let (ask, requests) = mpsc::channel(1);
    let answers = client(server).stream_anomalies(ReceiverStream::new(requests)).await.unwrap().into_inner();
    Open { ask, answers }
}

impl Open {
    /// The answer to the next request.
    async fn ask(&mut self, request: pb::StreamAnomaliesRequest) -> Outcome {
        let series = request.series.clone();
        self.ask.send(request).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(60), self.answers.message()).await.expect("an answer");
        let answer = answer.unwrap().unwrap();
        assert_eq!(answer.series, series);
        answer.result.unwrap()
    }

    async fn readings(&mut self, request: pb::StreamAnomaliesRequest) -> pb::SeriesReadings {
        match self.ask(request).await {
            Outcome::Readings(readings) => readings,
            Outcome::Error(error) => panic!("{error:?}"),
        }
    }

    async fn violation(&mut self, request: pb::StreamAnomaliesRequest) -> (String, String) {
        match self.ask(request).await {
            Outcome::Error(error) => {
                assert_eq!(error.code, i32::from(Code::InvalidArgument), "{error:?}");
                let first = error.get_details_bad_request().unwrap().field_violations.into_iter().next().unwrap();
                (first.field, first.description)
            }
            Outcome::Readings(readings) => panic!("{readings:?}"),
        }
    }
}

fn next(series: &str, points: &[pb::SeriesPoint]) -> pb::StreamAnomaliesRequest {
    pb::StreamAnomaliesRequest { series: series.to_owned(), points: points.to_vec(), ..Default::default() }
}

#[tokio::test]
async fn series_of_a_stream_are_judged_as_windows_are_and_do_not_mix() {
    let server = server(&[]).await;
    let series = [("a", shifted(4)), ("b", shifted(5))];
    let mut stream = open(&server).await;
    let mut got = [Vec::new(), Vec::new()];
    for i in (0..800).step_by(50) {
        for ((name, points), got) in series.iter().zip(&mut got) {
            let request = next(name, &points[i..i + 50]);
            got.extend(stream.readings(request.clone()).await.readings);
            // A wrong request in between teaches the series nothing.
            let again = Some(with_settings(pb::DetectorSettings::default()));
            let wrong = pb::StreamAnomaliesRequest { detector: again, ..request };
            let found = stream.violation(wrong).await;
            assert!(found.0 == "detector" && found.1.contains("first request of a series"), "{found:?}");
        }
    }
    for ((name, points), got) in series.iter().zip(&got) {
        let window = detect(&server, window(points)).await.unwrap();
        let of = |all: &[pb::AnomalyReading]| all.iter().map(|r| (r.unix_micros, r.score, r.alert)).collect::<Vec<_>>();
        assert_eq!(of(got), of(&window.readings), "{name}");
        let state = pb::StreamAnomaliesRequest { return_state: true, ..next(name, &[]) };
        assert_eq!(stream.readings(state).await.state, window.state, "{name}");
    }
    drop(stream.ask);
    assert!(stream.answers.message().await.unwrap().is_none(), "the stream ends with its caller's side");
}

#[tokio::test]
async fn a_series_goes_on_on_another_stream_and_begins_anew_after_its_last_request() {
    let server = server(&[]).await;
    let points = shifted(6);
    let mut first = open(&server).await;
    let last = pb::StreamAnomaliesRequest {
        detector: Some(quiet()),
        return_state: true,
        last: true,
        ..next("a", &points[..590])
    };
    let state = first.readings(last).await.state;
    let anew = first.readings(next("a", &points[..1])).await;
    assert_eq!(anew.readings[0].expected, None, "nothing is known of it");
    let mut second = open(&server).await;
    let on = pb::StreamAnomaliesRequest {
        detector: Some(from_state(state)),
        alerts_only: true,
        ..next("a", &points[590..])
    };
    let alerts = second.readings(on).await.readings;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert!((600..620).contains(&(alerts[0].index + 590)), "{alerts:?}");
}

#[tokio::test]
async fn a_wrong_request_of_a_stream_ends_nothing() {
    let server = server(&[]).await;
    let mut stream = open(&server).await;
    let many = vec![pb::SeriesPoint::default(); 1_001];
    let long = "x".repeat(257);
    let deaf = pb::DetectorSettings { threshold: Some(0.0), ..Default::default() };
    let cases = [
        (next("", &[]), "series", "name the series"),
        (next(&long, &[]), "series", "257 bytes"),
        (next("a", &many), "points", "more than the 1000"),
        (
            pb::StreamAnomaliesRequest { detector: Some(with_settings(deaf)), ..next("a", &[]) },
            "detector.settings.threshold",
            "above 0",
        ),
        (
            pb::StreamAnomaliesRequest { detector: Some(from_state(Some("?".into()))), ..next("a", &[]) },
            "detector.state",
            "cannot be read",
        ),
    ];
    for (request, field, expect) in cases {
        let found = stream.violation(request).await;
        assert!(found.0 == field && found.1.contains(expect), "{field}: {found:?}");
    }
    stream.readings(next("a", &shifted(7)[..10])).await;
}
