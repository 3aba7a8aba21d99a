//! Health, readiness, reflection and stopping.

use std::{fs, time::Duration};

use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::{MODEL, Models, ready, repository, start, two};

fn service(name: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: name.to_owned() }
}

#[tokio::test]
async fn each_model_has_its_own_health() {
    let models = Models::demo();
    models.add("broken", 1, |folder| fs::remove_file(folder.join("MLmodel")).unwrap());
    let server = ready(models.path(), &[]).await;
    let mut health = HealthClient::new(server.channel.clone());
    let good = [String::new(), "aibuyer.serving.v1.CtrService".to_owned(), format!("models/{MODEL}")];
    for name in good {
        let reply = health.check(service(&name)).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving, "{name:?}");
    }
    let broken = health.check(service("models/broken")).await.unwrap().into_inner();
    assert_eq!(broken.status(), ServingStatus::NotServing);
    assert_eq!(health.check(service("models/none")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn watch_tells_when_a_model_becomes_ready_and_when_the_server_stops() {
    let models = Models::empty();
    models.add(MODEL, 1, |folder| fs::rename(folder.join("MLmodel"), folder.join("MLmodel.part")).unwrap());
    let server = start(models.path(), &[]).await;
    let mut health = HealthClient::new(server.channel.clone());
    let mut news = health.watch(service(&format!("models/{MODEL}"))).await.unwrap().into_inner();
    let mut next = async || {
        let reply = tokio::time::timeout(Duration::from_secs(60), news.next()).await.expect("news");
        reply.unwrap().unwrap().status()
    };
    // Unknown until the folder has been looked at, then known and not serving, then mended.
    let mut status = next().await;
    while status == ServingStatus::ServiceUnknown {
        status = next().await;
    }
    assert_eq!(status, ServingStatus::NotServing);
    let folder = models.path().join(MODEL).join("1");
    fs::rename(folder.join("MLmodel.part"), folder.join("MLmodel")).unwrap();
    while status == ServingStatus::NotServing {
        status = next().await;
    }
    assert_eq!(status, ServingStatus::Serving);
    let stopping = tokio::spawn(server.app.stop());
    assert_eq!(next().await, ServingStatus::NotServing);
    // The watch itself is a call under way: it ends by itself.
    assert!(stopping.await.unwrap());
    assert!(news.next().await.is_none());
}

#[tokio::test]
async fn requests_under_way_are_answered_before_the_server_stops() {
    let server = ready(&repository().join("models"), &[]).await;
    let chars: Vec<i64> = (0..10_000).map(|i| i % 120).collect();
    let large = aibuyer_proto::serving::v1::PredictCtrRequest {
        candidates: vec![crate::harness::int64s("headline_chars", &chars)],
        ..two()
    };
    let mut client = server.client();
    let call = tokio::spawn(async move { client.predict_ctr(large).await });
    // Once its rows are counted or waiting, the call is under way.
    loop {
        let (_, metrics) = server.get("/metrics").await;
        let computed = "aibuyer_rows_total{model=\"ctr-upworthy\",version=\"1\",outcome=\"computed\"} 0";
        if !metrics.contains(computed) {
            break;
        }
    }
    assert!(server.app.stop().await, "everything finished within the grace");
    assert_eq!(call.await.unwrap().unwrap().into_inner().predictions.len(), 10_000);
}

#[tokio::test]
async fn reflection_speaks_both_versions() {
    let server = ready(&repository().join("models"), &[]).await;
    let expected = ["aibuyer.serving.v1.CtrService", "grpc.health.v1.Health"];
    let names = {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(server.channel.clone());
        let mut replies = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        match replies.next().await.unwrap().unwrap().message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.into_iter().map(|s| s.name).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(expected.iter().all(|e| names.iter().any(|n| n == e)), "{names:?}");
    let names = {
        use tonic_reflection::pb::v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(server.channel.clone());
        let mut replies = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        match replies.next().await.unwrap().unwrap().message_response {
            Some(MessageResponse::ListServicesResponse(list)) => {
                list.service.into_iter().map(|s| s.name).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(expected.iter().all(|e| names.iter().any(|n| n == e)), "{names:?}");
}
