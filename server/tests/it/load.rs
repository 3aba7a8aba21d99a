//! The load generator and the server understand each other.

use std::time::Duration;

use aibuyer_loadtest::{
    client::Target,
    load::Load,
    requests::{self, Entities, Form, Keys, PREDICT_CTR, Pool, Synthetic},
    schedule::Schedule,
    tally::Shared,
};
use aibuyer_proto::serving::v1 as pb;
use prost::Message as _;

use crate::harness::{MODEL, ready, repository};

/// Sends a pool's requests at once and expects every one to be answered.
async fn all_answered(address: &str, pool: Pool) {
    let calls = pool.len();
    let target = Target { address: address.to_owned(), path: pool.method.clone(), deadline: None };
    let load = Load::open(&target, 4, pool, None).await.unwrap();
    let tally =
        load.run_open(Schedule::Trace(vec![Duration::ZERO; calls]), 10_000, &Shared::default()).await.unwrap().tally;
    assert_eq!((tally.succeeded(), tally.dropped), (calls as u64, 0), "{:?}", tally.errors);
}

#[tokio::test]
async fn requests_made_for_a_model_are_answered_without_an_error() {
    let server = ready(&repository().join("models"), &[]).await;
    let address = server.app.grpc_address.to_string();
    for (form, keys) in [(Form::Named, Keys::Uniform), (Form::Encoded, Keys::Zipf)] {
        let context = vec!["week".to_owned(), "test_id".to_owned()];
        let wanted =
            Synthetic { form, keys, candidates: 5, context, entities: Entities::default(), count: 50, seed: 7 };
        let pool = wanted.pool(&repository().join("models").join(MODEL).join("1")).unwrap();
        // A call succeeds even if some of its candidates fail: look into one.
        let (body, mut client) = (pool.body(0).split_off(5), server.client());
        if form == Form::Named {
            let request = pb::PredictCtrRequest::decode(body).unwrap();
            let reply = client.predict_ctr(request).await.unwrap().into_inner();
            assert!(reply.predictions.len() == 5 && reply.predictions.iter().all(|p| p.error.is_none()), "{reply:?}");
        } else {
            let request = pb::PredictCtrEncodedRequest::decode(body).unwrap();
            let reply = client.predict_ctr_encoded(request).await.unwrap().into_inner();
            assert!(reply.ctr.len() == 5 && reply.errors.is_empty(), "{reply:?}");
        }
        all_answered(&address, pool.clone().streamed().unwrap()).await;
        all_answered(&address, pool).await;
    }
}

#[tokio::test]
async fn recorded_requests_are_answered_without_an_error() {
    let server = ready(&repository().join("models"), &[]).await;
    let pool = requests::read(&repository().join("loadtest/ghz/data/upworthy.json"), PREDICT_CTR).unwrap();
    assert!(pool.len() >= 32, "{}", pool.len());
    for n in 0..pool.len() {
        let request = pb::PredictCtrRequest::decode(pool.body(n).split_off(5)).unwrap();
        let reply = server.predict(request).await.unwrap();
        assert!(reply.predictions.iter().all(|p| p.error.is_none()), "request {n}: {reply:?}");
    }
    all_answered(&server.app.grpc_address.to_string(), pool).await;
}
