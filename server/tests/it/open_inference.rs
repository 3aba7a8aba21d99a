//! The Open Inference Protocol. `examples/demo_ctr/tests` runs Triton's own client against it.

use aibuyer_proto::inference::{
    self as pb, grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
};
use serde_json::Value;
use tonic::Code;

use crate::harness::{MODEL, Models, ready, repository, start, two};

/// The golden examples as typed tensors, and their logits.
pub(crate) fn golden() -> (pb::ModelInferRequest, Vec<f32>) {
    let text = std::fs::read_to_string(repository().join("models").join(MODEL).join("1/golden.jsonl")).unwrap();
    let (mut ids, mut dense, mut logits) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let example: Value = serde_json::from_str(line).unwrap();
        ids.extend(serde_json::from_value::<Vec<i64>>(example["ids"].clone()).unwrap());
        dense.extend(serde_json::from_value::<Vec<f32>>(example["dense"].clone()).unwrap());
        logits.push(serde_json::from_value::<f32>(example["logit"].clone()).unwrap());
    }
    let rows = i64::try_from(logits.len()).unwrap();
    let input = |name: &str, datatype: &str, width: i64, contents| InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: vec![rows, width],
        contents: Some(contents),
        ..Default::default()
    };
    let ids = pb::InferTensorContents { int64_contents: ids, ..Default::default() };
    let dense = pb::InferTensorContents { fp32_contents: dense, ..Default::default() };
    let request = pb::ModelInferRequest {
        model_name: MODEL.to_owned(),
        id: "42".to_owned(),
        inputs: vec![input("dense", "FP32", 6, dense), input("ids", "INT64", 19, ids)],
        ..Default::default()
    };
    (request, logits)
}

/// The same request with its values as raw bytes.
fn raw(mut request: pb::ModelInferRequest) -> pb::ModelInferRequest {
    for input in &mut request.inputs {
        let contents = input.contents.take().unwrap();
        let ids = contents.int64_contents.iter().flat_map(|v| v.to_le_bytes());
        let dense = contents.fp32_contents.iter().flat_map(|v| v.to_le_bytes());
        request.raw_input_contents.push(ids.chain(dense).collect::<Vec<u8>>().into());
    }
    request
}

#[tokio::test]
async fn typed_and_raw_tensors_give_golden_logits() {
    let server = ready(&repository().join("models"), &[]).await;
    let mut client = GrpcInferenceServiceClient::new(server.channel.clone());
    let (request, logits) = golden();
    let near = |got: &[f32]| got.iter().zip(&logits).all(|(a, b)| (a - b).abs() < 1e-4);

    let typed = client.model_infer(request.clone()).await.unwrap().into_inner();
    assert_eq!((typed.model_version.as_str(), typed.id.as_str(), typed.outputs.len()), ("1", "42", 2));
    let output = &typed.outputs[0];
    assert_eq!((output.name.as_str(), output.datatype.as_str(), &output.shape), ("logit", "FP32", &vec![13]));
    assert!(near(&output.contents.as_ref().unwrap().fp32_contents));
    assert!(typed.raw_output_contents.is_empty());

    let mut asked = raw(request);
    asked.outputs =
        vec![pb::model_infer_request::InferRequestedOutputTensor { name: "logit".to_owned(), ..Default::default() }];
    asked.model_version = "1".to_owned();
    let answer = client.model_infer(asked).await.unwrap().into_inner();
    assert_eq!((answer.outputs.len(), answer.raw_output_contents.len()), (1, 1));
    let values: Vec<f32> =
        answer.raw_output_contents[0].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    assert!(near(&values) && answer.outputs[0].contents.is_none());
}

#[tokio::test]
async fn metadata_and_readiness_are_those_of_the_registry() {
    let models = Models::demo();
    let server = ready(models.path(), &[]).await;
    let mut client = GrpcInferenceServiceClient::new(server.channel.clone());
    assert!(client.server_live(pb::ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(pb::ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let about = client.server_metadata(pb::ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(about.name, "aibuyer");
    for (name, version, ready) in [(MODEL, "", true), (MODEL, "1", true), (MODEL, "2", false), ("none", "", false)] {
        let request = pb::ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        assert_eq!(client.model_ready(request).await.unwrap().into_inner().ready, ready, "{name} {version}");
    }
    let request = pb::ModelMetadataRequest { name: MODEL.to_owned(), version: String::new() };
    let model = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!((model.platform.as_str(), model.versions), ("onnxruntime_onnx", vec!["1".to_owned()]));
    let ids = model.inputs.iter().find(|t| t.name == "ids").unwrap();
    assert_eq!((ids.datatype.as_str(), &ids.shape), ("INT64", &vec![-1, 19]));
    assert_eq!(model.outputs.len(), 2);

    let empty = Models::empty();
    let server = start(empty.path(), &[]).await;
    let mut client = GrpcInferenceServiceClient::new(server.channel.clone());
    assert!(!client.server_ready(pb::ServerReadyRequest {}).await.unwrap().into_inner().ready);
}

#[tokio::test]
async fn wrong_tensors_are_refused_by_name() {
    let server = ready(&repository().join("models"), &[]).await;
    let mut client = GrpcInferenceServiceClient::new(server.channel.clone());
    let edit = |change: &dyn Fn(&mut pb::ModelInferRequest)| {
        let (mut request, _) = golden();
        change(&mut request);
        request
    };
    let cases = [
        (edit(&|r| r.model_name = "none".to_owned()), Code::NotFound, "there are: ctr-upworthy"),
        (edit(&|r| r.model_version = "9".to_owned()), Code::NotFound, "it has versions 1"),
        (edit(&|r| r.model_version = "a b".to_owned()), Code::InvalidArgument, "model_version"),
        (edit(&|r| r.inputs.truncate(1)), Code::InvalidArgument, "lacks ids int64 [batch, 19]"),
        (edit(&|r| r.inputs.push(r.inputs[0].clone())), Code::InvalidArgument, "\"dense\" twice"),
        (edit(&|r| r.inputs[0].name = "x".to_owned()), Code::InvalidArgument, "lacks dense"),
        (edit(&|r| r.inputs[1].datatype = "INT32".to_owned()), Code::InvalidArgument, "is INT32, must be INT64"),
        (edit(&|r| r.inputs[1].shape = vec![13, 18]), Code::InvalidArgument, "must have [rows, 19]"),
        (edit(&|r| r.inputs[1].shape = vec![-1, 19]), Code::InvalidArgument, "must have [rows, 19]"),
        (edit(&|r| r.inputs[1].shape = vec![1 << 40, 19]), Code::InvalidArgument, "must have 1 to 10000"),
        (edit(&|r| r.inputs[1].shape = vec![12, 19]), Code::InvalidArgument, "rows"),
        (edit(&|r| r.inputs[0].contents.as_mut().unwrap().fp32_contents[3] = f32::NAN), Code::InvalidArgument, "[0]"),
        (
            edit(&|r| r.inputs[1].contents.as_mut().unwrap().int64_contents[0] = -1),
            Code::InvalidArgument,
            "row -1 is not within",
        ),
        (
            edit(&|r| r.inputs[1].contents.as_mut().unwrap().int64_contents[0] = 14_406),
            Code::InvalidArgument,
            "row 14406",
        ),
        (
            edit(&|r| {
                r.outputs.push(pb::model_infer_request::InferRequestedOutputTensor {
                    name: "p".to_owned(),
                    ..Default::default()
                });
            }),
            Code::InvalidArgument,
            "no output \"p\"; it has logit, logit_variance",
        ),
        (edit(&|r| r.raw_input_contents.push(Vec::new().into())), Code::InvalidArgument, "1 tensors for 2 inputs"),
        (
            raw(edit(&|r| r.inputs.iter_mut().for_each(|i| i.shape[0] = 12))),
            Code::InvalidArgument,
            "which are not 228 of int64",
        ),
    ];
    for (request, code, expect) in cases {
        let status = client.model_infer(request).await.expect_err(expect);
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(expect), "{expect}: {}", status.message());
        server.predict(two()).await.expect("the server is unharmed");
    }
}
