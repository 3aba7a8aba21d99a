//! What a promotion leaves behind: warm versions, a log, and what a restart knows.

use std::fs;

use aibuyer_proto::serving::v1::{self as pb, model_selector::Pick, model_service_client::ModelServiceClient};
use tonic::Code;

use crate::{
    harness::{MODEL, Models, Server, ready, start, two},
    versions::{Answer, alias, pick, truncated, version, without_variance},
};

async fn status(server: &Server) -> pb::ModelStatus {
    let mut client = ModelServiceClient::new(server.channel.clone());
    let request = pb::ListModelsRequest { name: MODEL.to_owned() };
    client.list_models(request).await.unwrap().into_inner().models.remove(0)
}

#[tokio::test]
async fn a_replaced_version_stays_warm_and_a_rollback_loads_nothing() {
    let models = Models::demo();
    models.add(MODEL, 2, |_| {});
    models.aliases(MODEL, "champion: 1\n");
    let server = ready(models.path(), &[]).await;
    models.aliases(MODEL, "champion: 2\n");
    server.until(&two(), |a| version(a) == Some(2)).await.unwrap();
    assert_eq!(version(&server.predict(pick(Pick::Version(1))).await), Some(1), "still there by its number");
    // Were it loaded again, this would be refused.
    truncated(&models.path().join(MODEL).join("1"));
    models.aliases(MODEL, "champion: 1\n");
    server.until(&two(), |a| version(a) == Some(1)).await.unwrap();
    let told: Vec<String> = status(&server).await.transitions.into_iter().map(|t| t.description).collect();
    let loads = told.iter().filter(|text| text.contains("ready after")).count();
    assert_eq!(loads, 2, "{told:?}");
}

#[tokio::test]
async fn a_restart_beside_a_broken_champion_serves_what_answered_last() {
    let models = Models::demo();
    models.add(MODEL, 2, |_| {});
    models.add(MODEL, 3, truncated);
    models.aliases(MODEL, "champion: 2\n");
    let storage = format!("storage.path={}", models.path().join(".storage").display());
    let server = ready(models.path(), &[&storage]).await;
    models.aliases(MODEL, "champion: 3\nother: 1\n");
    server.until(&alias("other"), |a| version(a) == Some(1)).await.unwrap();
    drop(server);

    let server = ready(models.path(), &[&storage]).await;
    assert_eq!(version(&server.predict(two()).await), Some(2), "version 3 is broken");
    let status = status(&server).await;
    let champion = status.routes.iter().find(|route| route.alias == "champion").unwrap();
    assert_eq!((champion.version, champion.wanted_version), (2, 3));
    let broken = status.versions.iter().find(|v| v.version == 3).unwrap();
    assert_eq!(broken.phase(), pb::ModelPhase::Failed);
    let refusal = broken.refusal.as_ref().unwrap();
    assert_eq!(refusal.check, "digest", "{refusal:?}");
    let told: Vec<&str> = status.transitions.iter().map(|t| t.description.as_str()).collect();
    assert!(told.iter().any(|text| text.starts_with("version 3 refused by the digest check")), "{told:?}");
    assert!(told.contains(&"version 2 answers as champion"), "{told:?}");
}

#[tokio::test]
async fn a_version_that_would_disappoint_callers_may_be_a_challenger_but_not_champion() {
    let models = Models::demo();
    models.add(MODEL, 2, without_variance);
    models.aliases(MODEL, "champion: 1\nchallenger: 2\n");
    let server = ready(models.path(), &[]).await;
    server.until(&alias("challenger"), |a| version(a) == Some(2)).await.unwrap();
    models.aliases(MODEL, "champion: 3\nchallenger: 2\nthird: 2\n");
    models.add(MODEL, 3, without_variance);
    let refusal = refusal(&server, 3).await;
    assert_eq!(refusal.check, "compatibility", "{refusal:?}");
    assert!(refusal.reason.contains("loading.signature"), "{refusal:?}");
    assert_eq!(version(&server.predict(two()).await), Some(1));
    drop(server);
    let server = ready(models.path(), &["loading.signature=any"]).await;
    assert_eq!(version(&server.predict(two()).await), Some(3));
}

/// Asks until a version is refused.
async fn refusal(server: &Server, number: u64) -> pb::ModelRefusal {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let found = status(server).await.versions.into_iter().find(|v| v.version == number);
        match found.and_then(|v| v.refusal) {
            Some(refusal) => return refusal,
            None => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
        assert!(std::time::Instant::now() < give_up, "never refused");
    }
}

#[tokio::test]
async fn a_challenger_that_would_disappoint_callers_is_not_promoted_although_it_is_loaded() {
    let models = Models::demo();
    models.add(MODEL, 2, without_variance);
    models.aliases(MODEL, "champion: 1\nchallenger: 2\n");
    let server = ready(models.path(), &[]).await;
    server.until(&alias("challenger"), |a| version(a) == Some(2)).await.unwrap();
    models.aliases(MODEL, "champion: 2\nchallenger: 2\n");
    assert_eq!(refusal(&server, 2).await.check, "compatibility");
    assert_eq!(version(&server.predict(two()).await), Some(1));
    assert_eq!(version(&server.predict(alias("champion")).await), Some(1));
    assert_eq!(version(&server.predict(alias("challenger")).await), Some(2), "its own callers know it");
    let page = server.get("/").await.1;
    assert!(page.contains("what serves keeps serving"), "{page}");
    // The way back is never held up, although version 2 gives less than version 3.
    models.add(MODEL, 3, |_| {});
    models.aliases(MODEL, "champion: 3\nchallenger: 2\n");
    server.until(&two(), |a| version(a) == Some(3)).await.unwrap();
    models.aliases(MODEL, "champion: 2\nchallenger: 2\n");
    server.until(&two(), |a| version(a) == Some(2)).await.unwrap();
}

#[tokio::test]
async fn a_version_that_was_refused_is_refused_after_a_restart_too() {
    let models = Models::demo();
    models.add(MODEL, 2, without_variance);
    models.aliases(MODEL, "champion: 1\n");
    let storage = format!("storage.path={}", models.path().join(".storage").display());
    let server = ready(models.path(), &[&storage]).await;
    models.aliases(MODEL, "champion: 2\n");
    assert_eq!(refusal(&server, 2).await.check, "compatibility");
    drop(server);
    for _ in 0..5 {
        let server = ready(models.path(), &[&storage]).await;
        assert_eq!(version(&server.predict(two()).await), Some(1));
        assert_eq!(refusal(&server, 2).await.check, "compatibility");
        assert_eq!(version(&server.predict(two()).await), Some(1));
    }
}

#[tokio::test]
async fn a_deleted_alias_is_forgotten_at_the_next_start() {
    let models = Models::demo();
    models.add(MODEL, 2, |_| {});
    models.aliases(MODEL, "champion: 1\nold: 2\n");
    let storage = format!("storage.path={}", models.path().join(".storage").display());
    let server = ready(models.path(), &[&storage]).await;
    server.until(&alias("old"), |a| version(a) == Some(2)).await.unwrap();
    models.aliases(MODEL, "champion: 1\nnew: 1\n");
    server.until(&alias("new"), |a| version(a) == Some(1)).await.unwrap();
    assert_eq!(version(&server.predict(alias("old")).await), Some(2));
    drop(server);
    let server = ready(models.path(), &[&storage]).await;
    assert_eq!(server.predict(alias("old")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn new_files_of_a_version_that_serves_are_checked_beside_it() {
    let models = Models::demo();
    let server = ready(models.path(), &[]).await;
    let file = models.path().join(MODEL).join("1").join("model.onnx");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    let refused = |status: &pb::ModelStatus| status.versions[0].refusal.is_some();
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !refused(&status(&server).await) {
        assert!(std::time::Instant::now() < give_up, "never refused");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        assert_eq!(version(&server.predict(two()).await), Some(1), "serves meanwhile");
    }
    fs::write(&file, &good).unwrap();
    while refused(&status(&server).await) {
        assert!(std::time::Instant::now() < give_up, "refused for ever");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_model_that_nobody_knows_is_not_found() {
    let models = Models::demo();
    let server = start(models.path(), &[]).await;
    let request = pb::ListModelsRequest { name: "nope".to_owned() };
    let error = ModelServiceClient::new(server.channel.clone()).list_models(request).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("there are: ctr-upworthy"), "{error:?}");
    let _: Answer = server.until(&two(), |a| version(a) == Some(1)).await;
    let all = ModelServiceClient::new(server.channel.clone()).list_models(pb::ListModelsRequest::default()).await;
    assert_eq!(all.unwrap().into_inner().models.len(), 1);
}
