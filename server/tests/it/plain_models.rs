//! ONNX models without a contract, over the Open Inference Protocol.

use std::{
    fs,
    time::{Duration, Instant},
};

use aibuyer_proto::inference::{
    self as pb, InferTensorContents, grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::InferInputTensor,
};
use half::{bf16, f16};
use prost::bytes::Bytes;
use tonic::{Code, Status, transport::Channel};

use crate::harness::{self, Models, Server, repository, selector, start, two};

type Client = GrpcInferenceServiceClient<Channel>;

/// A registry of the small models, laid out as Triton wants it.
fn models(names: &[&str]) -> Models {
    let models = Models::empty();
    for name in names {
        let folder = models.path().join(name).join("1");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(repository().join("server/tests/models").join(format!("{name}.onnx")), folder.join("model.onnx"))
            .unwrap();
    }
    models
}

async fn ready(models: &Models, settings: &[&str]) -> (Server, Client) {
    let server = harness::ready(models.path(), settings).await;
    let client = Client::new(server.channel.clone());
    (server, client)
}

fn input(name: &str, datatype: &str, shape: &[i64], contents: InferTensorContents) -> InferInputTensor {
    InferInputTensor {
        name: name.to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        contents: Some(contents),
        ..Default::default()
    }
}

fn floats(values: &[f32]) -> InferTensorContents {
    InferTensorContents { fp32_contents: values.to_vec(), ..Default::default() }
}

fn request(model: &str, inputs: Vec<InferInputTensor>) -> pb::ModelInferRequest {
    pb::ModelInferRequest { model_name: model.to_owned(), inputs, ..Default::default() }
}

/// Three numbers a row, beginning with `from`, and a count.
fn rows(from: f32, rows: i64) -> pb::ModelInferRequest {
    let values: Vec<f32> = (0..rows * 3).map(|i| from + i as f32).collect();
    let count = InferTensorContents { int_contents: vec![7; usize::try_from(rows).unwrap()], ..Default::default() };
    request("rows", vec![input("x", "FP32", &[rows, 3], floats(&values)), input("count", "INT32", &[rows], count)])
}

fn violation(status: &Status) -> &str {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    status.message()
}

#[tokio::test]
async fn requests_of_rows_share_batches_and_each_gets_its_own() {
    let (server, client) = ready(&models(&["rows"]), &["batching.max_batch_rows=8", "batching.lanes=1"]).await;
    let calls = (0..40u8).map(|i| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let from = f32::from(i) * 100.0;
            // Up to 12 rows: some are cut.
            let response = client.model_infer(rows(from, i64::from(i % 12) + 1)).await.unwrap().into_inner();
            let doubles = &response.outputs[0].contents.as_ref().unwrap().fp32_contents;
            let expect: Vec<f32> = (0..(i64::from(i % 12) + 1) * 3).map(|k| (from + k as f32) * 2.0).collect();
            assert_eq!(*doubles, expect);
            assert_eq!(response.outputs[0].shape, [i64::from(i % 12) + 1, 3]);
            let counts = &response.outputs[1];
            assert_eq!((counts.name.as_str(), counts.datatype.as_str()), ("count_out", "FP64"));
            assert!(counts.contents.as_ref().unwrap().fp64_contents.iter().all(|c| *c == 7.0));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let (_, metrics) = server.get("/metrics").await;
    let computed = "aibuyer_rows_total{model=\"rows\",version=\"1\",outcome=\"computed\"}";
    assert!(metrics.contains(computed), "{metrics}");
}

#[tokio::test]
async fn a_model_whose_rows_affect_each_other_runs_each_request_by_itself() {
    let (_server, mut client) = ready(&models(&["centred"]), &[]).await;
    let x = input("x", "FP32", &[2, 3], floats(&[0.0, 1.0, 2.0, 2.0, 3.0, 4.0]));
    let response = client.model_infer(request("centred", vec![x])).await.unwrap().into_inner();
    let y = &response.outputs[0].contents.as_ref().unwrap().fp32_contents;
    assert_eq!(*y, [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]);
    let config = pb::ModelConfigRequest { name: "centred".to_owned(), ..Default::default() };
    let config = client.model_config(config).await.unwrap().into_inner().config.unwrap();
    assert_eq!((config.max_batch_size, config.input[0].dims.as_slice()), (0, [-1, 3].as_slice()));
}

#[tokio::test]
async fn dimensions_that_vary_take_any_size() {
    let (_server, mut client) = ready(&models(&["series"]), &[]).await;
    for length in [1i64, 4] {
        let values = vec![1.5; 2 * usize::try_from(length).unwrap()];
        let history = input("history", "FP32", &[2, length], floats(&values));
        let response = client.model_infer(request("series", vec![history])).await.unwrap().into_inner();
        assert_eq!(response.outputs[0].shape, [length]);
        assert_eq!(
            response.outputs[0].contents.as_ref().unwrap().fp32_contents,
            vec![3.0; usize::try_from(length).unwrap()]
        );
    }
}

#[tokio::test]
async fn wrong_tensors_are_named_and_harm_nobody() {
    let (_server, mut client) = ready(&models(&["rows"]), &["limits.max_candidates=100"]).await;
    let with = |edit: &dyn Fn(&mut pb::ModelInferRequest)| {
        let mut request = rows(0.0, 2);
        edit(&mut request);
        request
    };
    for (bad, expect) in [
        (with(&|r| r.inputs[0].shape = vec![2, 4]), "has shape [2, 4], must have [rows, 3]"),
        (with(&|r| r.inputs[0].shape = vec![-2, 3]), "has shape [-2, 3], must have [rows, 3]"),
        (with(&|r| r.inputs[0].shape = vec![0, 3]), "has 0 rows, must have 1 to 100"),
        (with(&|r| r.inputs[0].shape = vec![1 << 40, 3]), "rows, must have 1 to 100"),
        (with(&|r| r.inputs[1].shape = vec![3]), "\"count\" has 3 rows, another input 2"),
        (with(&|r| r.inputs[1].datatype = "INT64".to_owned()), "\"count\" is INT64, must be INT32"),
        (with(&|r| drop(r.inputs.pop())), "lacks count int32 [batch]"),
        (with(&|r| r.inputs[1].name = "cuont".to_owned()), "lacks count int32 [batch]"),
        (with(&|r| r.inputs[0].contents = None), "has 0 values, its shape needs 6"),
    ] {
        let error = client.model_infer(bad).await.unwrap_err();
        assert!(violation(&error).contains(expect), "{error}");
    }
    client.model_infer(rows(0.0, 2)).await.unwrap();
}

#[tokio::test]
async fn it_is_not_a_ctr_model_and_says_so() {
    let (server, _) = ready(&models(&["rows"]), &[]).await;
    let mut model = selector();
    model.as_mut().unwrap().name = "rows".to_owned();
    let error = server.predict(aibuyer_proto::serving::v1::PredictCtrRequest { model, ..two() }).await.unwrap_err();
    assert!(violation(&error).contains("\"rows\" is not a CTR model: call inference.GRPCInferenceService"), "{error}");
}

/// A raw tensor of texts.
fn texts(words: &[&[u8]]) -> Bytes {
    words.iter().flat_map(|w| [&u32::try_from(w.len()).unwrap().to_le_bytes()[..], w].concat()).collect()
}

fn words(rows: i64, contents: InferTensorContents) -> pb::ModelInferRequest {
    request("words", vec![input("word", "BYTES", &[rows, 2], contents)])
}

#[tokio::test]
async fn texts_share_batches_raw_and_typed_and_each_request_gets_its_own() {
    let (_server, client) = ready(&models(&["words"]), &["batching.max_batch_rows=8", "batching.lanes=1"]).await;
    let calls = (0..40usize).map(|i| {
        let mut client = client.clone();
        tokio::spawn(async move {
            // Up to 12 rows: some are cut.
            let rows = i % 12 + 1;
            let all: Vec<String> =
                (0..rows).flat_map(|row| ["dög".to_owned(), "é".repeat(i) + &row.to_string()]).collect();
            let bytes: Vec<&[u8]> = all.iter().map(String::as_bytes).collect();
            let typed = InferTensorContents {
                bytes_contents: all.iter().map(|w| Bytes::from(w.clone())).collect(),
                ..Default::default()
            };
            let raw = i % 2 == 0;
            let mut request = words(i64::try_from(rows).unwrap(), if raw { Default::default() } else { typed.clone() });
            if raw {
                request.raw_input_contents = vec![texts(&bytes)];
            }
            let response = client.model_infer(request).await.unwrap().into_inner();
            let [id, same] = &response.outputs[..] else { panic!("{response:?}") };
            assert_eq!((id.datatype.as_str(), same.datatype.as_str()), ("INT64", "BYTES"));
            assert_eq!(same.shape, [i64::try_from(rows).unwrap(), 2]);
            let ids: Vec<i64> = (0..rows).flat_map(|_| [2, 0]).collect();
            if raw {
                let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
                assert_eq!(response.raw_output_contents, [Bytes::from(ids), texts(&bytes)]);
            } else {
                assert_eq!(id.contents.as_ref().unwrap().int64_contents, ids);
                assert_eq!(same.contents.as_ref().unwrap(), &typed);
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn a_bad_text_is_named_and_harms_nobody() {
    let (_server, mut client) = ready(&models(&["words"]), &[]).await;
    let typed = |words: &[&'static [u8]]| InferTensorContents {
        bytes_contents: words.iter().map(|w| Bytes::from_static(w)).collect(),
        ..Default::default()
    };
    let raw = |bytes: Bytes| pb::ModelInferRequest { raw_input_contents: vec![bytes], ..words(1, Default::default()) };
    for (bad, expect) in [
        (words(1, typed(&[b"cat", b"d\xf6g"])), "inputs[\"word\"][1]: is not UTF-8"),
        (raw(texts(&[b"\xff", b"cat"])), "inputs[\"word\"][0]: is not UTF-8"),
        (raw(texts(&[b"cat", b"c\0t"])), "inputs[\"word\"][1]: has a NUL"),
        (words(1, typed(&[b"cat"])), "has 1 values, its shape needs 2"),
        (words(1, InferTensorContents::default()), "has 0 values, its shape needs 2"),
        (raw(texts(&[b"cat"])), "has 7 bytes, which are not 2 of BYTES"),
    ] {
        let error = client.model_infer(bad).await.unwrap_err();
        assert!(violation(&error).contains(expect), "{expect}: {error}");
    }
    let response = client.model_infer(words(1, typed(&[b"cat", b""]))).await.unwrap().into_inner();
    assert_eq!(response.outputs[0].contents.as_ref().unwrap().int64_contents, [1, 0]);
}

#[tokio::test]
async fn numbers_of_16_bits_travel_as_bytes_only() {
    let (_server, mut client) = ready(&models(&["small"]), &[]).await;
    let inputs = || {
        let input = |name: &str, datatype: &str, shape: &[i64]| InferInputTensor {
            contents: None,
            ..input(name, datatype, shape, Default::default())
        };
        vec![input("half", "FP16", &[2, 3]), input("brain", "BF16", &[2])]
    };
    let halves = |values: [f32; 6]| values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect::<Bytes>();
    let brains = |values: [f32; 2]| values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect::<Bytes>();
    let raw = pb::ModelInferRequest {
        raw_input_contents: vec![halves([0.5, -1.0, 2.0, 3.0, 1e-7, 0.0]), brains([1e30, -3.0])],
        ..request("small", inputs())
    };
    let response = client.model_infer(raw.clone()).await.unwrap().into_inner();
    let types: Vec<_> = response.outputs.iter().map(|o| (o.name.as_str(), o.datatype.as_str())).collect();
    assert_eq!(types, [("half2", "FP16"), ("brain2", "BF16")]);
    // Twice the nearest number of 16 bits to 1e-7.
    let tiny = f16::from_f32(1e-7).to_f32() * 2.0;
    let expect = [halves([1.0, -2.0, 4.0, 6.0, tiny, 0.0]), brains([2e30, -6.0])];
    assert_eq!(response.raw_output_contents, expect);

    for (bad, expect) in [
        (
            pb::ModelInferRequest { raw_input_contents: vec![], ..raw.clone() },
            "float16, for which there is no typed field",
        ),
        (
            pb::ModelInferRequest { raw_input_contents: vec![Bytes::from_static(&[0; 11]), brains([0.0, 0.0])], ..raw },
            "\"half\" has 11 bytes, which are not 6 of float16",
        ),
    ] {
        let error = client.model_infer(bad).await.unwrap_err();
        assert!(violation(&error).contains(expect), "{error}");
    }
    let config = pb::ModelConfigRequest { name: "small".to_owned(), ..Default::default() };
    let config = client.model_config(config).await.unwrap().into_inner().config.unwrap();
    let types: Vec<pb::DataType> = config.input.iter().map(pb::ModelInput::data_type).collect();
    assert_eq!(types, [pb::DataType::TypeFp16, pb::DataType::TypeBf16]);
}

#[tokio::test]
async fn a_type_that_no_request_can_carry_is_refused_at_the_load() {
    let models = models(&["tiny"]);
    let server = start(models.path(), &[]).await;
    let expect = "s f8_e4m3fn [batch]: only booleans, integers, floats of 16 to 64 bits and strings";
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, page) = server.get("/").await;
        if page.contains(expect) {
            return;
        }
        assert!(Instant::now() < give_up, "{page}");
        tick.tick().await;
    }
}
