//! The client and both loops against a real tonic server.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::time::Duration;

use aibuyer_loadtest::{
    client::{Answer, Connection, Target, framed},
    code::Code,
    load::Load,
    requests::{PREDICT_CTR, PREDICT_CTR_ENCODED},
    schedule::Schedule,
    tally::Shared,
};
use aibuyer_proto::serving::v1 as pb;
use prost::Message as _;
use support::{pool, serve};
use tokio::net::TcpListener;

#[tokio::test]
async fn the_status_is_read_from_trailers() {
    let (target, _) = serve(0, PREDICT_CTR).await;
    let connection = Connection::open(&target).await.unwrap();
    let answer = connection.call(framed(&[])).await;
    // A field of nine bytes after gRPC's five.
    assert_eq!(answer, Answer { code: Code::OK, message: String::new(), bytes: 14 });
}

#[tokio::test]
async fn a_refusal_without_a_body_is_read_and_the_deadline_reaches_the_server() {
    let (target, _) = serve(0, PREDICT_CTR).await;
    let target = Target { deadline: Some(Duration::from_secs(20)), ..target };
    let connection = Connection::open(&target).await.unwrap();
    let model = Some(pb::ModelSelector { name: "m".to_owned(), pick: None });
    let request = pb::PredictCtrRequest { model, ..Default::default() };
    let answer = connection.call(framed(&request.encode_to_vec())).await;
    assert_eq!(answer.code.to_string(), "NotFound");
    assert_eq!(answer.message, "no „m“; deadline Some(\"20000000u\")");
}

#[tokio::test]
async fn an_unknown_method_and_a_passed_deadline_have_their_codes() {
    let (target, _) = serve(0, PREDICT_CTR_ENCODED).await;
    let unknown = Target { path: "no.Service/Method".to_owned(), ..target.clone() };
    let answer = Connection::open(&unknown).await.unwrap().call(framed(&[])).await;
    assert_eq!(answer.code, Code::UNIMPLEMENTED);
    let error = Load::open(&unknown, 1, pool(PREDICT_CTR), None).await.unwrap_err().to_string();
    assert!(error.contains("does not serve no.Service/Method"), "{error}");
    // Without permits the server never answers.
    let hasty = Target { deadline: Some(Duration::from_millis(2)), ..target };
    let answer = Connection::open(&hasty).await.unwrap().call(framed(&[])).await;
    assert_eq!(answer.code, Code::DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let (target, _) = serve(0, PREDICT_CTR).await;
    // Bound and closed again: nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let error = Connection::open(&Target { address: closed.clone(), ..target.clone() }).await.unwrap_err().to_string();
    assert!(error.contains(&closed) && error.contains("is the server running"), "{error}");
    let error = Connection::open(&Target { address: "no port".to_owned(), ..target }).await.unwrap_err().to_string();
    assert!(error.contains("give `host:port`"), "{error}");
}

#[tokio::test]
async fn an_open_loop_sends_every_arrival_of_its_trace() {
    let (target, _) = serve(0, PREDICT_CTR).await;
    let load = Load::open(&target, 3, pool(PREDICT_CTR), None).await.unwrap();
    let trace = Schedule::Trace(vec![Duration::ZERO; 500]);
    let measured = load.run_open(trace, 10_000, &Shared::default()).await.unwrap();
    assert_eq!((measured.tally.succeeded(), measured.tally.sent(), measured.tally.dropped), (500, 500, 0));
    assert_eq!((measured.tally.latency.count(), measured.tally.lag.count()), (500, 500));
    assert_eq!(measured.tally.bytes, 500 * 14);
}

#[tokio::test]
async fn arrivals_beyond_the_cap_are_dropped_not_delayed() {
    // One permit for the call that each connection makes when it opens.
    let (target, permits) = serve(1, PREDICT_CTR_ENCODED).await;
    let load = Load::open(&target, 1, pool(PREDICT_CTR_ENCODED), None).await.unwrap();
    let tally = Shared::default();
    let release = async {
        while tally.lock().dropped < 90 {
            tokio::task::yield_now().await;
        }
        permits.add_permits(10);
    };
    let trace = Schedule::Trace(vec![Duration::ZERO; 100]);
    let (measured, ()) = tokio::join!(load.run_open(trace, 10, &tally), release);
    let measured = measured.unwrap();
    assert_eq!((measured.tally.succeeded(), measured.tally.dropped, measured.tally.outstanding), (10, 90, 0));
}

#[tokio::test]
async fn a_closed_loop_answers_all_its_callers() {
    let (target, _) = serve(0, PREDICT_CTR).await;
    let load = Load::open(&target, 2, pool(PREDICT_CTR), None).await.unwrap();
    let measured = load.run_closed(8, Duration::from_millis(1), &Shared::default()).await;
    assert!(measured.tally.succeeded() >= 8, "{:?}", measured.tally.codes);
    assert_eq!(measured.tally.error_ratio(), 0.0);
}
