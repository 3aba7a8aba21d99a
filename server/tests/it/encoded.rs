//! Tensors that the caller encoded.

use aibuyer_proto::serving::v1::{self as pb, candidate_error::Kind, model_selector::Pick};
use serde_json::Value;
use tonic::{Code, Status};

use crate::harness::{MODEL, Server, ready, repository, two};

fn bytes<const N: usize, T>(values: &[T], le: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(le).collect()
}

fn pinned() -> Option<pb::ModelSelector> {
    Some(pb::ModelSelector { name: MODEL.to_owned(), pick: Some(Pick::Version(1)) })
}

/// The golden examples' tensors as one request, and their rates.
pub(crate) fn golden() -> (pb::PredictCtrEncodedRequest, Vec<f64>) {
    let text = std::fs::read_to_string(repository().join("models").join(MODEL).join("1/golden.jsonl")).unwrap();
    let (mut ids, mut dense, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let example: Value = serde_json::from_str(line).unwrap();
        ids.extend(serde_json::from_value::<Vec<u32>>(example["ids"].clone()).unwrap());
        dense.extend(serde_json::from_value::<Vec<f32>>(example["dense"].clone()).unwrap());
        rates.push(example["ctr"].as_f64().unwrap());
    }
    let request = pb::PredictCtrEncodedRequest {
        model: pinned(),
        candidate_count: u32::try_from(rates.len()).unwrap(),
        candidate_ids: bytes(&ids, |v| v.to_le_bytes()).into(),
        candidate_dense: bytes(&dense, |v| v.to_le_bytes()).into(),
        ..Default::default()
    };
    (request, rates)
}

async fn ask(server: &Server, request: pb::PredictCtrEncodedRequest) -> Result<pb::PredictCtrEncodedResponse, Status> {
    server.client().predict_ctr_encoded(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn golden_tensors_give_golden_rates() {
    let server = ready(&repository().join("models"), &[]).await;
    let (request, rates) = golden();
    let reply = ask(&server, pb::PredictCtrEncodedRequest { include_timings: true, ..request }).await.unwrap();
    assert_eq!(reply.ctr.len(), rates.len());
    for (i, (got, want)) in reply.ctr.iter().zip(rates).enumerate() {
        assert!((got / want - 1.0).abs() < 1e-5, "{got} {want}");
        assert!(reply.ctr_lower[i] < *got && *got < reply.ctr_upper[i]);
    }
    assert_eq!((reply.interval_level, reply.errors.len()), (Some(0.9), 0));
    assert!(reply.timings.is_some());
}

#[tokio::test]
async fn columns_of_the_context_hold_for_every_candidate() {
    let server = ready(&repository().join("models"), &[]).await;
    let (mut request, _) = golden();
    let plain = ask(&server, request.clone()).await.unwrap();
    // All candidates become the first one: its first column moves to the context.
    let first = request.candidate_ids.slice(..19 * 4);
    let dense = request.candidate_dense.slice(..6 * 4);
    request.context_slots = vec![0];
    request.context_ids = first.slice(..4);
    request.candidate_ids = first.slice(4..).repeat(2).into();
    request.context_columns = (0..6).collect();
    request.context_dense = dense;
    request.candidate_dense = Vec::new().into();
    request.candidate_count = 2;
    let reply = ask(&server, request).await.unwrap();
    for rate in reply.ctr {
        assert!((rate / plain.ctr[0] - 1.0).abs() < 1e-6);
    }
}

#[tokio::test]
async fn bad_tensors_are_refused_or_fail_their_candidate_alone() {
    let server = ready(&repository().join("models"), &[]).await;
    let (good, _) = golden();
    let plain = ask(&server, good.clone()).await.unwrap();

    let mut ids = good.candidate_ids.to_vec();
    ids[19 * 4..19 * 4 + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let reply = ask(&server, pb::PredictCtrEncodedRequest { candidate_ids: ids.into(), ..good.clone() }).await.unwrap();
    assert!(reply.ctr[1].is_nan() && reply.ctr_upper[1].is_nan());
    assert!((reply.ctr[0] / plain.ctr[0] - 1.0).abs() < 1e-6 && (reply.ctr[2] / plain.ctr[2] - 1.0).abs() < 1e-6);
    let error = reply.errors[0].error.clone().unwrap();
    assert_eq!((reply.errors.len(), reply.errors[0].candidate, error.field.as_str()), (1, 1, "test_id"));
    assert_eq!(error.kind(), Kind::InvalidFeature);
    assert!(error.reason.contains("not within the feature's rows"), "{}", error.reason);

    let any = Some(pb::ModelSelector { pick: None, ..pinned().unwrap() });
    let cases = [
        (pb::PredictCtrEncodedRequest { model: any, ..good.clone() }, "model.version: is required"),
        (pb::PredictCtrEncodedRequest { candidate_count: 0, ..good.clone() }, "candidate_count: is required"),
        (pb::PredictCtrEncodedRequest { candidate_count: 10_001, ..good.clone() }, "limits.max_candidates"),
        (pb::PredictCtrEncodedRequest { candidate_count: 1, ..good.clone() }, "candidate_ids: has"),
        (pb::PredictCtrEncodedRequest { context_slots: vec![19], ..good.clone() }, "the model has 19 slots"),
    ];
    for (request, expect) in cases {
        let status = ask(&server, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(expect), "{}", status.message());
        server.predict(two()).await.expect("the server is unharmed");
    }
}
