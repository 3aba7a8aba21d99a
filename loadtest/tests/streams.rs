//! Streams against a real tonic server.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use aibuyer_loadtest::{
    client::{Answer, Stream, Target, framed},
    code::Code,
    load::Load,
    requests::{PREDICT_CTR, PREDICT_CTR_ENCODED, Pool, STREAM_PREDICT_CTR},
    schedule::Schedule,
    tally::Shared,
};
use aibuyer_proto::serving::v1::{self as pb, stream_predict_ctr_request::Form};
use bytes::Bytes;
use prost::Message as _;
use support::{pool, serve};

fn message(form: Form) -> Bytes {
    framed(&pb::StreamPredictCtrRequest { form: Some(form), ..Default::default() }.encode_to_vec())
}

/// For a model, which the server does not have.
fn named(model: &str) -> Bytes {
    let model = Some(pb::ModelSelector { name: model.to_owned(), pick: None });
    message(Form::Named(pb::PredictCtrRequest { model, ..Default::default() }))
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (target, permits) = serve(0, STREAM_PREDICT_CTR).await;
    let stream = Stream::open(&Target { deadline: Some(Duration::from_secs(20)), ..target }).await.unwrap();
    let encoded = message(Form::Encoded(pb::PredictCtrEncodedRequest::default()));
    let first = stream.call(&encoded);
    let second = async {
        let answer = stream.call(&named("m")).await;
        // Only now can the first be answered.
        permits.add_permits(1);
        answer
    };
    let (first, second) = tokio::join!(first, second);
    // gRPC's five bytes, an id and an empty answer of two each.
    assert_eq!(first, Answer { code: Code::OK, message: String::new(), bytes: 9 });
    assert_eq!(second.code.to_string(), "NotFound");
    assert_eq!(second.message, "no „m“; timeout Some(20000000)");
}

#[tokio::test]
async fn a_passed_deadline_is_one_requests_own() {
    let (target, _) = serve(0, STREAM_PREDICT_CTR).await;
    let stream = Stream::open(&Target { deadline: Some(Duration::from_millis(2)), ..target }).await.unwrap();
    // Without permits the server never answers.
    let encoded = message(Form::Encoded(pb::PredictCtrEncodedRequest::default()));
    assert_eq!(stream.call(&encoded).await.code, Code::DEADLINE_EXCEEDED);
    assert_eq!(stream.call(&named("m")).await.code.to_string(), "NotFound");
}

#[tokio::test]
async fn a_stream_that_ends_takes_all_its_requests_along() {
    let (target, _) = serve(0, STREAM_PREDICT_CTR).await;
    let stream = Stream::open(&target).await.unwrap();
    let encoded = message(Form::Encoded(pb::PredictCtrEncodedRequest::default()));
    let (waiting, end) = (stream.call(&encoded), named("end"));
    let (waiting, end) = tokio::join!(waiting, stream.call(&end));
    for answer in [waiting, end, stream.call(&named("m")).await] {
        assert_eq!((answer.code, answer.message.as_str()), (Code::UNAVAILABLE, "stops"));
    }
}

#[tokio::test]
async fn both_loops_travel_on_streams() {
    let (target, _) = serve(0, STREAM_PREDICT_CTR).await;
    let load = Load::open(&target, 3, pool(PREDICT_CTR).streamed().unwrap(), None).await.unwrap();
    let trace = Schedule::Trace(vec![Duration::ZERO; 500]);
    let tally = load.run_open(trace, 10_000, &Shared::default()).await.unwrap().tally;
    assert_eq!((tally.succeeded(), tally.sent(), tally.dropped), (500, 500, 0), "{:?}", tally.errors);
    assert_eq!((tally.latency.count(), tally.lag.count()), (500, 500));
    let tally = load.run_closed(8, Duration::from_millis(1), &Shared::default()).await.tally;
    assert!(tally.succeeded() >= 8 && tally.error_ratio() == 0.0, "{:?}", tally.codes);
}

#[tokio::test]
async fn arrivals_beyond_the_cap_are_dropped_on_streams_too() {
    // One permit for the request that each stream makes when it opens.
    let (target, permits) = serve(1, STREAM_PREDICT_CTR).await;
    let pool = pool(PREDICT_CTR_ENCODED).streamed().unwrap();
    let load = Load::open(&target, 1, pool, None).await.unwrap();
    let tally = Shared::default();
    let release = async {
        while tally.lock().dropped < 90 {
            tokio::task::yield_now().await;
        }
        permits.add_permits(10);
    };
    let trace = Schedule::Trace(vec![Duration::ZERO; 100]);
    let (measured, ()) = tokio::join!(load.run_open(trace, 10, &tally), release);
    let tally = measured.unwrap().tally;
    assert_eq!((tally.succeeded(), tally.dropped, tally.outstanding), (10, 90, 0));
}

#[tokio::test]
async fn failures_on_a_stream_are_counted_by_code_and_message() {
    let (target, _) = serve(0, STREAM_PREDICT_CTR).await;
    let messages = ["m", "n"].map(|model| named(model).split_off(5).to_vec());
    let load = Load::open(&target, 1, Pool::new(STREAM_PREDICT_CTR, messages, None), None).await.unwrap();
    let trace = Schedule::Trace(vec![Duration::ZERO; 6]);
    let tally = load.run_open(trace, 10, &Shared::default()).await.unwrap().tally;
    let counts: Vec<_> = tally.errors.iter().map(|((code, text), n)| (code.to_string(), text.as_str(), *n)).collect();
    let expect = ["no „m“; timeout None", "no „n“; timeout None"].map(|text| ("NotFound".to_owned(), text, 3));
    assert_eq!((counts.as_slice(), tally.error_ratio()), (expect.as_slice(), 1.0));
}

#[tokio::test]
async fn a_server_without_the_method_is_named_and_so_is_a_method_without_a_stream() {
    let (target, _) = serve(0, "no.Service/Stream").await;
    let error = Load::open(&target, 1, pool(PREDICT_CTR).streamed().unwrap(), None).await.unwrap_err().to_string();
    assert!(error.contains("does not serve no.Service/Stream"), "{error}");
    let error = pool("p.S/Method").streamed().unwrap_err().to_string();
    assert!(error.contains("`p.S/Method` has no stream"), "{error}");
}
