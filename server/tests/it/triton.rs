//! Triton's extensions of the Open Inference Protocol. `examples/demo_ctr/tests` runs Triton's own client against
//! them.

use std::{fs, time::Duration};

use aibuyer_proto::inference::{
    self as pb, grpc_inference_service_client::GrpcInferenceServiceClient, infer_parameter::ParameterChoice,
    model_config::SchedulingChoice, model_version_policy::PolicyChoice,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, transport::Channel};

use crate::{
    harness::{MODEL, Models, Server, ready, repository, two},
    open_inference::golden,
};

fn client(server: &Server) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(server.channel.clone())
}

fn parameter(choice: ParameterChoice) -> pb::InferParameter {
    pb::InferParameter { parameter_choice: Some(choice) }
}

#[tokio::test]
async fn a_stream_answers_in_order_and_survives_what_is_wrong() {
    let server = ready(&repository().join("models"), &[]).await;
    let request = |id: &str| pb::ModelInferRequest { id: id.to_owned(), ..golden().0 };
    let timed = |id: &str, choice| {
        let parameters = [("timeout".to_owned(), parameter(choice))].into();
        pb::ModelInferRequest { parameters, ..request(id) }
    };
    let requests = vec![
        request("good"),
        pb::ModelInferRequest { model_name: "none".to_owned(), ..request("unknown") },
        pb::ModelInferRequest { inputs: vec![], ..request("empty") },
        timed("no time", ParameterChoice::Int64Param(1)),
        timed("time", ParameterChoice::Int64Param(5_000_000)),
        timed("as if it had none", ParameterChoice::Uint64Param(0)),
        timed("nonsense", ParameterChoice::StringParam("1s".to_owned())),
        request("last"),
    ];
    let expect = [
        ("good", ""),
        ("unknown", "no model \"none\" here; there are: ctr-upworthy"),
        ("empty", "lacks ids int64 [batch, 19]"),
        ("no time", "the deadline passed"),
        ("time", ""),
        ("as if it had none", ""),
        ("nonsense", "must be a whole number of microseconds"),
        ("last", ""),
    ];
    let answers = client(&server).model_stream_infer(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), expect.len());
    for (answer, (id, error)) in answers.iter().zip(expect) {
        let response = answer.infer_response.as_ref().unwrap();
        assert_eq!(response.id, id);
        assert!(answer.error_message.contains(error), "{id}: {}", answer.error_message);
        assert_eq!(answer.error_message.is_empty(), error.is_empty(), "{id}: {}", answer.error_message);
        let last = response.parameters.get("triton_final_response");
        assert_eq!(last, error.is_empty().then_some(&parameter(ParameterChoice::BoolParam(true))), "{id}");
        assert_eq!(response.outputs.len(), if error.is_empty() { 2 } else { 0 }, "{id}");
    }
    let (_, metrics) = server.get("/metrics").await;
    let method = "rpc_method=\"inference.GRPCInferenceService/ModelStreamInfer\"";
    for (code, count) in [("OK", 4), ("NOT_FOUND", 1), ("INVALID_ARGUMENT", 2), ("DEADLINE_EXCEEDED", 1)] {
        let line =
            format!("rpc_server_call_duration_seconds_count{{{method},rpc_response_status_code=\"{code}\"}} {count}");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn statistics_count_every_request_for_a_version() {
    let models = Models::demo();
    let server = ready(models.path(), &[]).await;
    let mut client = client(&server);
    let mut ask = async |name: &str, version: &str| {
        let request = pb::ModelStatisticsRequest { name: name.to_owned(), version: version.to_owned() };
        client.model_statistics(request).await.map(|r| r.into_inner().model_stats)
    };
    let count = |d: &Option<pb::StatisticDuration>| d.as_ref().unwrap().count;
    let fresh = ask(MODEL, "").await.unwrap();
    assert_eq!((fresh.len(), fresh[0].version.as_str(), fresh[0].last_inference), (1, "1", 0));
    assert_eq!(count(&fresh[0].inference_stats.as_ref().unwrap().success), 0);

    let mut infer = GrpcInferenceServiceClient::new(server.channel.clone());
    let (request, logits) = golden();
    infer.model_infer(request.clone()).await.unwrap();
    infer.model_stream_infer(tokio_stream::once(request.clone())).await.unwrap().into_inner().next().await;
    infer.model_infer(pb::ModelInferRequest { inputs: vec![], ..request }).await.unwrap_err();
    server.predict(two()).await.unwrap();

    let [all, model, version] = [ask("", "").await, ask(MODEL, "").await, ask(MODEL, "1").await].map(Result::unwrap);
    assert!(all == model && model == version && all.len() == 1, "{all:?}");
    let rows = 2 * logits.len() as u64 + 2;
    assert_eq!((all[0].name.as_str(), all[0].inference_count, all[0].execution_count), (MODEL, rows, 3));
    assert!(all[0].last_inference > 1_700_000_000_000, "milliseconds: {}", all[0].last_inference);
    let stats = all[0].inference_stats.unwrap();
    assert_eq!((count(&stats.success), count(&stats.fail)), (3, 1));
    let stages = [stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output];
    assert!(stages.iter().all(|s| count(s) == 3), "{stages:?}");
    let within: u64 = stages.iter().map(|s| s.as_ref().unwrap().ns).sum();
    assert!(within <= stats.success.unwrap().ns, "stages are parts of the whole");
    let batches: Vec<_> = all[0].batch_stats.iter().map(|b| (b.batch_size, count(&b.compute_infer))).collect();
    assert_eq!(batches, [(2, 1), (logits.len() as u64, 2)]);
    assert!(all[0].batch_stats.iter().all(|b| b.compute_infer.unwrap().ns > 0));
    // The same requests, as Prometheus sees them.
    let (_, metrics) = server.get("/metrics").await;
    let staged = "aibuyer_stage_duration_seconds_count{model=\"ctr-upworthy\",version=\"1\",stage=\"compute\"} 3";
    assert!(metrics.contains(staged), "{metrics}");

    // Another version begins anew.
    models.add(MODEL, 2, |_| {});
    server.until(&two(), |a| a.as_ref().is_ok_and(|r| r.model.as_ref().is_some_and(|m| m.version == 2))).await.unwrap();
    let stats = ask(MODEL, "2").await.unwrap()[0].inference_stats.unwrap();
    assert_eq!((count(&stats.success), count(&stats.fail)), (1, 0));

    for (name, version) in [("none", ""), (MODEL, "9")] {
        assert_eq!(ask(name, version).await.unwrap_err().code(), Code::NotFound, "{name} {version}");
    }
}

#[tokio::test]
async fn loading_looks_at_the_registry_now_and_tells_why_it_fails() {
    let models = Models::demo();
    // Nobody looks unless asked to.
    let server = ready(models.path(), &["registry.poll_interval=1h"]).await;
    let mut client = client(&server);
    let mut load = async |request: pb::RepositoryModelLoadRequest| {
        let load = client.repository_model_load(request);
        tokio::time::timeout(Duration::from_secs(60), load).await.expect("an answer").map(|_| ())
    };
    let model = |name: &str| pb::RepositoryModelLoadRequest { model_name: name.to_owned(), ..Default::default() };
    load(model(MODEL)).await.expect("what is ready is ready");

    // A version whose files are mended without a trace: only a retry finds out.
    models.add(MODEL, 2, |_| {});
    let file = models.path().join(MODEL).join("2/golden.jsonl");
    let (good, touched) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());
    let write = |content: &[u8]| {
        fs::write(&file, content).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_modified(touched).unwrap();
    };
    write(&vec![b' '; good.len()]);
    let status = load(model(MODEL)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("version 2 failed the digest check: golden.jsonl"), "{}", status.message());
    let index = index(&server, false).await;
    assert_eq!([&index[0].0, &index[0].1, &index[1].0, &index[1].1], ["1", "READY", "2", "UNAVAILABLE"]);
    assert!(index[0].2.is_empty() && index[1].2.starts_with("digest: golden.jsonl"), "{index:?}");
    assert_eq!(self::index(&server, true).await.len(), 1);
    write(&good);
    load(model(MODEL)).await.expect("a second try at once");
    assert_eq!(server.predict(two()).await.unwrap().model.unwrap().version, 2);

    let status = load(model("none")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "the registry has no model \"none\""));
    models.aliases(MODEL, "champion: [");
    let status = load(model(MODEL)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert!(status.message().contains("aliases.yaml: lines must read"), "{}", status.message());
    models.aliases(MODEL, "champion: 2\nchallenger: 7\n");
    let status = load(model(MODEL)).await.unwrap_err();
    assert!(status.message().contains("version 7, which has no files"), "{}", status.message());

    let parameters = [("config".to_owned(), pb::ModelRepositoryParameter::default())].into();
    let refused = [
        pb::RepositoryModelLoadRequest { parameters, ..model(MODEL) },
        pb::RepositoryModelLoadRequest { repository_name: "other".to_owned(), ..model(MODEL) },
    ];
    for request in refused {
        assert_eq!(load(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

/// Version, state and reason of each version.
async fn index(server: &Server, ready: bool) -> Vec<(String, String, String)> {
    let request = pb::RepositoryIndexRequest { ready, ..Default::default() };
    let models = client(server).repository_index(request).await.unwrap().into_inner().models;
    models.into_iter().filter(|m| m.name == MODEL).map(|m| (m.version, m.state, m.reason)).collect()
}

#[tokio::test]
async fn unloading_is_the_registrys_affair() {
    let server = ready(&repository().join("models"), &[]).await;
    let request = pb::RepositoryModelUnloadRequest { model_name: MODEL.to_owned(), ..Default::default() };
    let status = client(&server).repository_model_unload(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("unload is not allowed if polling is enabled"), "{}", status.message());
    server.predict(two()).await.expect("it still serves");
}

#[tokio::test]
async fn the_configuration_is_the_signature_without_the_batch() {
    let models = Models::demo();
    let server = ready(models.path(), &["limits.max_candidates=500"]).await;
    let mut client = client(&server);
    let about = client.server_metadata(pb::ServerMetadataRequest {}).await.unwrap().into_inner();
    assert_eq!(about.extensions, ["model_repository", "model_configuration", "statistics"]);
    let mut config = async |version: &str| {
        let request = pb::ModelConfigRequest { name: MODEL.to_owned(), version: version.to_owned() };
        client.model_config(request).await.map(|r| r.into_inner().config.unwrap())
    };
    let found = config("").await.unwrap();
    assert_eq!((found.name.as_str(), found.max_batch_size), (MODEL, 500));
    assert_eq!((found.platform.as_str(), found.backend.as_str()), ("onnxruntime_onnx", "onnxruntime"));
    let inputs: Vec<_> = found.input.iter().map(|i| (i.name.as_str(), i.data_type(), i.dims.as_slice())).collect();
    let ids = ("ids", pb::DataType::TypeInt64, [19].as_slice());
    assert_eq!(inputs, [ids, ("dense", pb::DataType::TypeFp32, [6].as_slice())]);
    let outputs: Vec<_> = found.output.iter().map(|o| (o.name.as_str(), o.data_type(), o.dims.as_slice())).collect();
    assert_eq!(outputs, ["logit", "logit_variance"].map(|name| (name, pb::DataType::TypeFp32, [].as_slice())));
    assert!(matches!(found.scheduling_choice, Some(SchedulingChoice::DynamicBatching(_))));
    assert!(!found.model_transaction_policy.unwrap().decoupled);
    assert!(
        matches!(found.version_policy.unwrap().policy_choice, Some(PolicyChoice::Latest(l)) if l.num_versions == 1)
    );
    assert_eq!(config("9").await.unwrap_err().code(), Code::NotFound);
}
