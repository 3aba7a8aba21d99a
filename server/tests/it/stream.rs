//! Streams of CTR requests.

use std::{collections::BTreeMap, time::Duration};

use aibuyer_proto::serving::v1::{
    self as pb, model_selector::Pick, stream_predict_ctr_request::Form, stream_predict_ctr_response::Result as Outcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::{
    encoded::golden,
    harness::{MODEL, Models, Server, int64s, ready, repository, selector, two},
};

/// Two ends of an open stream.
struct Open {
    ask: mpsc::Sender<pb::StreamPredictCtrRequest>,
    answers: Streaming<pb::StreamPredictCtrResponse>,
}

async fn open(server: &Server) -> Open {
    let (ask, requests) = mpsc::channel(1);
    let answers = server.client().stream_predict_ctr(ReceiverStream::new(requests)).await.unwrap().into_inner();
    Open { ask, answers }
}

fn named(id: u64, request: pb::PredictCtrRequest) -> pb::StreamPredictCtrRequest {
    pb::StreamPredictCtrRequest { id, timeout_micros: None, form: Some(Form::Named(request)) }
}

/// 10,000 candidates: far slower than [`two`].
fn large() -> pb::PredictCtrRequest {
    let chars: Vec<i64> = (0..10_000).map(|i| i % 120).collect();
    pb::PredictCtrRequest {
        model: selector(),
        candidates: vec![int64s("headline_chars", &chars)],
        ..Default::default()
    }
}

impl Open {
    async fn ask(&self, request: pb::StreamPredictCtrRequest) {
        self.ask.send(request).await.unwrap();
    }

    /// The next answer; an error at the end of the stream.
    async fn next(&mut self) -> Result<Option<pb::StreamPredictCtrResponse>, tonic::Status> {
        tokio::time::timeout(Duration::from_secs(60), self.answers.message()).await.expect("the stream is stuck")
    }
}

/// How many requests of streams ended with a code.
async fn counted(server: &Server, code: &str) -> u64 {
    let (_, metrics) = server.get("/metrics").await;
    let labels = format!(
        "{{rpc_method=\"aibuyer.serving.v1.CtrService/StreamPredictCtr\",rpc_response_status_code=\"{code}\"}} "
    );
    let line =
        metrics.lines().find_map(|l| l.strip_prefix("rpc_server_call_duration_seconds_count")?.strip_prefix(&labels));
    line.map_or(0, |n| n.parse().unwrap())
}

#[tokio::test]
async fn both_forms_are_answered_as_the_calls_answer_them_and_a_bad_request_harms_none() {
    let server = ready(&repository().join("models"), &[]).await;
    let Open { ask, answers } = open(&server).await;
    let mut stream = Open { ask, answers };
    let unknown = pb::PredictCtrRequest { candidates: vec![int64s("headlin", &[1])], ..two() };
    let encoded = pb::PredictCtrEncodedRequest { model: selector(), candidate_count: 1, ..Default::default() };
    stream.ask(named(1, two())).await;
    stream.ask(named(2, unknown.clone())).await;
    stream.ask(pb::StreamPredictCtrRequest { timeout_micros: Some(0), ..named(3, two()) }).await;
    stream.ask(pb::StreamPredictCtrRequest { form: None, ..named(4, two()) }).await;
    stream.ask(pb::StreamPredictCtrRequest { form: Some(Form::Encoded(encoded.clone())), ..named(5, two()) }).await;
    stream.ask(named(6, two())).await;
    let (golden, _) = golden();
    stream.ask(pb::StreamPredictCtrRequest { form: Some(Form::Encoded(golden.clone())), ..named(7, two()) }).await;
    drop(stream.ask);
    let mut answers = BTreeMap::new();
    while let Some(answer) = stream.answers.message().await.unwrap() {
        answers.insert(answer.id, answer.result.unwrap());
    }
    assert_eq!(answers.len(), 7);

    let rates = |outcome: &Outcome| match outcome {
        Outcome::Named(reply) => reply.predictions.iter().filter_map(|p| p.ctr).collect(),
        Outcome::Encoded(reply) => reply.ctr.clone(),
        Outcome::Error(error) => panic!("{error:?}"),
    };
    let named = Outcome::Named(server.predict(two()).await.unwrap());
    let encoded_reply = Outcome::Encoded(server.client().predict_ctr_encoded(golden).await.unwrap().into_inner());
    for (id, expect) in [(1, &named), (6, &named), (7, &encoded_reply)] {
        let (got, expect): (Vec<f64>, Vec<f64>) = (rates(&answers[&id]), rates(expect));
        assert!(got.len() == expect.len() && got.iter().zip(&expect).all(|(a, b)| (a / b - 1.0).abs() < 1e-6), "{id}");
    }
    let error = |id: u64| match &answers[&id] {
        Outcome::Error(status) => status.clone(),
        other => panic!("{id}: {other:?}"),
    };
    let same = server.predict(unknown).await.unwrap_err();
    assert_eq!((error(2).code, error(2).message.as_str()), (Code::InvalidArgument.into(), same.message()));
    let (told, violations) = (error(2).get_details_bad_request(), same.get_details_bad_request());
    assert!(told.is_some() && format!("{told:?}") == format!("{violations:?}"), "{told:?}");
    assert_eq!(error(3).code, i32::from(Code::DeadlineExceeded));
    assert!(error(4).message.contains("set named or encoded"), "{}", error(4).message);
    let same = server.client().predict_ctr_encoded(encoded).await.unwrap_err();
    assert_eq!((error(5).code, error(5).message.as_str()), (same.code().into(), same.message()));

    // Each request counts as a call; the stream itself does not.
    assert_eq!((counted(&server, "OK").await, counted(&server, "INVALID_ARGUMENT").await), (3, 3));
    assert_eq!(counted(&server, "DEADLINE_EXCEEDED").await, 1);
}

#[tokio::test]
async fn a_small_request_overtakes_a_large_one() {
    // One lane and no batch larger than the small one, so that the large requests take tens of thousands of batches.
    let settings = ["batching.lanes=1", "batching.max_batch_rows=2", "batching.queue_rows=100000"];
    let server = ready(&repository().join("models"), &settings).await;
    let mut stream = open(&server).await;
    for id in 1..=5 {
        stream.ask(named(id, large())).await;
    }
    // The more urgent one goes first at the next batch.
    stream.ask(pb::StreamPredictCtrRequest { timeout_micros: Some(5_000_000), ..named(6, two()) }).await;
    let mut order = Vec::new();
    for _ in 1..=6 {
        order.push(stream.next().await.unwrap().unwrap().id);
    }
    assert!(order.contains(&6) && order[5] != 6, "{order:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_in_a_hurry_waits_rather_than_being_refused() {
    // As many rows may wait as requests may be under way: one more would be refused.
    let settings = ["batching.queue_rows=256", "limits.max_candidates=256", "limits.default_deadline=60s"];
    let server = ready(&repository().join("models"), &settings).await;
    let Open { ask, mut answers } = open(&server).await;
    let one = pb::PredictCtrRequest {
        model: selector(),
        candidates: vec![int64s("headline_chars", &[40])],
        ..Default::default()
    };
    let asking = tokio::spawn(async move {
        for id in 0..5_000 {
            ask.send(named(id, one.clone())).await.unwrap();
        }
    });
    let mut ids = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(matches!(answer.result, Some(Outcome::Named(_))), "{answer:?}");
        ids.push(answer.id);
    }
    asking.await.unwrap();
    ids.sort_unstable();
    assert_eq!(ids, (0..5_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_new_version_answers_from_the_next_request_on() {
    let models = Models::demo();
    let server = ready(models.path(), &[]).await;
    let mut stream = open(&server).await;
    let mut ids = 0..;
    let mut version = async || {
        let id = ids.next().unwrap();
        stream.ask(named(id, two())).await;
        let answer = stream.next().await.unwrap().unwrap();
        assert_eq!(answer.id, id);
        match answer.result.unwrap() {
            Outcome::Named(reply) => reply.model.unwrap().version,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(version().await, 1);
    models.add(MODEL, 2, |_| {});
    let newer = pb::ModelSelector { name: MODEL.to_owned(), pick: Some(Pick::Version(2)) };
    let newer = pb::PredictCtrRequest { model: Some(newer), ..two() };
    server.until(&newer, Result::is_ok).await.unwrap();
    // The route moves in the same step in which the version becomes ready.
    assert_eq!(version().await, 2);
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_requests_along() {
    let settings = ["batching.lanes=1", "batching.queue_rows=1000000", "batching.max_batch_rows=1"];
    let server = ready(&repository().join("models"), &settings).await;
    let stream = open(&server).await;
    for id in 0..20 {
        stream.ask(named(id, large())).await;
    }
    let waiting = "aibuyer_queue_rows{model=\"ctr-upworthy\",version=\"1\"} ";
    until(&server, |m| value(m, waiting) > 0).await;
    drop(stream);
    let abandoned = "aibuyer_rows_total{model=\"ctr-upworthy\",version=\"1\",outcome=\"abandoned\"} ";
    until(&server, |m| value(m, abandoned) > 0 && value(m, waiting) == 0).await;
    assert!(counted(&server, "CANCELLED").await > 0);
    server.predict(two()).await.expect("the server is unharmed");
}

#[tokio::test]
async fn a_stop_ends_a_stream_once_what_is_under_way_is_answered() {
    let server = ready(&repository().join("models"), &["batching.lanes=1", "batching.max_batch_rows=1"]).await;
    let mut idle = open(&server).await;
    let mut busy = open(&server).await;
    busy.ask(named(7, large())).await;
    until(&server, |m| value(m, "aibuyer_queue_rows{model=\"ctr-upworthy\",version=\"1\"} ") > 0).await;
    assert!(server.app.stop().await, "everything finished within the grace");
    let answer = busy.next().await.unwrap().unwrap();
    assert!(answer.id == 7 && matches!(answer.result, Some(Outcome::Named(_))), "{answer:?}");
    for stream in [&mut idle, &mut busy] {
        let end = stream.next().await.unwrap_err();
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        assert!(end.message().contains("open a new stream") && end.get_details_retry_info().is_some(), "{end:?}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_stream_in_the_words_of_a_call() {
    let server = ready(&repository().join("models"), &["limits.max_message_bytes=10000"]).await;
    let mut stream = open(&server).await;
    stream.ask(named(1, two())).await;
    stream.ask(named(2, large())).await;
    assert_eq!(stream.next().await.unwrap().unwrap().id, 1);
    let end = stream.next().await.unwrap_err();
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
    assert!(end.message().contains("10000 bytes"), "{end:?}");
    assert_eq!(counted(&server, "RESOURCE_EXHAUSTED").await, 1);
}

/// Reads the metrics until they please.
async fn until(server: &Server, pleases: impl Fn(&str) -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        while !pleases(&server.get("/metrics").await.1) {
            tick.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("metrics that please");
}

/// The value of the line that begins so.
fn value(metrics: &str, line: &str) -> u64 {
    metrics.lines().find_map(|l| l.strip_prefix(line)).map_or(0, |n| n.parse().unwrap())
}
