//! The status page and the metrics.

use crate::harness::{Models, ready, repository, start, two};

#[tokio::test]
async fn the_page_shows_what_serves_and_the_metrics_count_it() {
    let server = ready(&repository().join("models"), &[]).await;
    server.predict(two()).await.unwrap();
    let (line, page) = server.get("/").await;
    assert!(line.contains("200"), "{line}");
    for part in ["ctr-upworthy", "<span class=\"chip ready\">ready</span>", "default", "/metrics"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (_, metrics) = server.get("/metrics").await;
    for part in [
        "aibuyer_model_phase{model=\"ctr-upworthy\",version=\"1\",phase=\"ready\"} 1",
        "aibuyer_rows_total{model=\"ctr-upworthy\",version=\"1\",outcome=\"computed\"} 2",
        "aibuyer_batches_total{model=\"ctr-upworthy\",version=\"1\"} 1",
        "aibuyer_stage_duration_seconds_count{model=\"ctr-upworthy\",version=\"1\",stage=\"compute\"} 1",
        "rpc_server_call_duration_seconds_count{rpc_method=\"aibuyer.serving.v1.CtrService/PredictCtr\",rpc_response_status_code=\"OK\"} 1",
        "# EOF",
    ] {
        assert!(metrics.contains(part), "{part}: {metrics}");
    }
}

#[tokio::test]
async fn a_machine_without_a_gpu_says_so_and_serves_on_the_cpu() {
    let why = "this ONNX Runtime library has no CUDA provider";
    for (device, reason) in [("auto", why), ("cpu", "")] {
        let server = ready(&repository().join("models"), &[&format!("onnxruntime.device={device}")]).await;
        let (_, page) = server.get("/").await;
        assert_eq!(page.contains(&format!("Models run on cpu: {why}")), device == "auto", "{page}");
        let (_, metrics) = server.get("/metrics").await;
        for part in [
            format!("aibuyer_device{{device=\"cpu\",reason=\"{reason}\"}} 1"),
            "aibuyer_model_device{model=\"ctr-upworthy\",version=\"1\",cuda_graphs=\"false\",device=\"cpu\",reason=\"\"} 1"
                .to_owned(),
        ] {
            assert!(metrics.contains(&part), "{part}: {metrics}");
        }
    }
}

#[tokio::test]
async fn an_empty_folder_is_served_with_a_hint() {
    let models = Models::empty();
    let server = start(models.path(), &[]).await;
    let (_, page) = server.get("/").await;
    assert!(page.contains("No models. Put one at"), "{page}");
    let (line, body) = server.get("/healthz/ready").await;
    assert!(line.contains("503") && body.contains("no models"), "{line} {body}");
    let status = server.predict(two()).await.unwrap_err();
    assert!(status.message().contains("there are: none"), "{}", status.message());
}
