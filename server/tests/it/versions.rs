//! Versions come, go and fail while requests run.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aibuyer_proto::serving::v1::{self as pb, model_selector::Pick};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::harness::{MODEL, Models, ready, start, two};

pub(crate) type Answer = Result<pb::PredictCtrResponse, Status>;

pub(crate) fn version(answer: &Answer) -> Option<u64> {
    answer.as_ref().ok().and_then(|r| r.model.as_ref()).map(|m| m.version)
}

pub(crate) fn pick(pick: Pick) -> pb::PredictCtrRequest {
    let model = Some(pb::ModelSelector { name: MODEL.to_owned(), pick: Some(pick) });
    pb::PredictCtrRequest { model, ..two() }
}

pub(crate) fn alias(name: &str) -> pb::PredictCtrRequest {
    pick(Pick::Alias(name.to_owned()))
}

/// Cuts a model file in half.
pub(crate) fn truncated(folder: &Path) {
    let file = folder.join("model.onnx");
    let content = fs::read(&file).unwrap();
    fs::write(file, &content[..content.len() / 2]).unwrap();
}

/// Removes the graph's second output and all that speaks of it: an honest model without intervals.
pub(crate) fn without_variance(folder: &Path) {
    let forge = |file: &str, content: Vec<u8>, spec: &mut Value| {
        let digest: String = Sha256::digest(&content).iter().map(|b| format!("{b:02x}")).collect();
        spec["files_sha256"][file] = digest.into();
        fs::write(folder.join(file), content).unwrap();
    };
    let mut spec: Value = serde_json::from_slice(&fs::read(folder.join("feature_spec.json")).unwrap()).unwrap();
    spec["model"]["outputs"].as_object_mut().unwrap().remove("logit_variance");
    spec.as_object_mut().unwrap().remove("interval");
    let golden = fs::read_to_string(folder.join("golden.jsonl")).unwrap();
    let bare = |line: &str| {
        let mut example: Value = serde_json::from_str(line).unwrap();
        for key in ["logit_variance", "ctr_lower_90", "ctr_upper_90"] {
            example.as_object_mut().unwrap().remove(key);
        }
        format!("{example}\n")
    };
    forge("golden.jsonl", golden.lines().map(bare).collect::<String>().into_bytes(), &mut spec);
    let model = fs::read(folder.join("model.onnx")).unwrap();
    forge("model.onnx", drop_output(&model, "logit_variance"), &mut spec);
    fs::write(folder.join("feature_spec.json"), spec.to_string()).unwrap();
}

/// Removes a graph output from a serialised ONNX model: `ModelProto.graph` is field 7, `GraphProto.output`
/// is field 12, `ValueInfoProto.name` is field 1 (onnx.proto).
fn drop_output(model: &[u8], name: &str) -> Vec<u8> {
    fields(model)
        .flat_map(|(number, whole, content)| match number {
            7 => {
                let keep = |(number, _, content): &(u64, &[u8], &[u8])| {
                    *number != 12 || fields(content).all(|(n, _, text)| n != 1 || text != name.as_bytes())
                };
                let graph: Vec<u8> = fields(content).filter(keep).flat_map(|(_, whole, _)| whole.to_vec()).collect();
                let mut field = vec![7 << 3 | 2];
                let mut length = graph.len();
                while length >= 0x80 {
                    field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                    length >>= 7;
                }
                field.push(u8::try_from(length).unwrap());
                [field, graph].concat()
            }
            _ => whole.to_vec(),
        })
        .collect()
}

/// The fields of a protobuf message: number, whole bytes, content.
fn fields(message: &[u8]) -> impl Iterator<Item = (u64, &[u8], &[u8])> {
    fn varint(bytes: &[u8]) -> (u64, usize) {
        let end = bytes.iter().position(|b| b & 0x80 == 0).unwrap();
        let value = bytes[..=end].iter().rev().fold(0, |value, b| value << 7 | u64::from(b & 0x7f));
        (value, end + 1)
    }
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (key, start) = varint(rest);
        let (content, end) = match key & 7 {
            0 => (start, start + varint(&rest[start..]).1),
            1 => (start, start + 8),
            2 => {
                let (length, width) = varint(&rest[start..]);
                (start + width, start + width + usize::try_from(length).unwrap())
            }
            5 => (start, start + 4),
            other => panic!("wire type {other}"),
        };
        let field = (key >> 3, &rest[..end], &rest[content..end]);
        rest = &rest[end..];
        Some(field)
    })
}

#[tokio::test]
async fn a_new_version_takes_over_and_the_old_one_goes() {
    let models = Models::demo();
    let server = ready(models.path(), &["loading.keep_warm=0s"]).await;
    assert_eq!(version(&server.predict(two()).await), Some(1));
    models.add(MODEL, 2, |_| {});
    server.until(&two(), |a| version(a) == Some(2)).await.unwrap();
    // The old one drains, then is not found.
    let gone = |a: &Answer| a.as_ref().is_err_and(|s| s.code() == Code::NotFound);
    server.until(&pick(Pick::Version(1)), gone).await.unwrap_err();
    assert_eq!(version(&server.predict(pick(Pick::Version(2))).await), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_versions_change_under_load() {
    let models = Models::demo();
    let server = ready(models.path(), &[]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, stop) = (server.client(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut last, mut answers) = (0, 0u64);
                while !stop.load(Ordering::Relaxed) {
                    let reply = client.predict_ctr(two()).await.expect("no request fails").into_inner();
                    let now = reply.model.unwrap().version;
                    assert!(now >= last, "version {now} after {last}");
                    last = now;
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    for next in 2..=6 {
        models.add(MODEL, next, |_| {});
        server.until(&two(), |a| version(a) == Some(next)).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_bad_version_never_replaces_a_good_one_and_is_loaded_once_mended() {
    let models = Models::demo();
    let server = ready(models.path(), &[]).await;
    models.add(MODEL, 2, truncated);
    let failed = |a: &Answer| a.as_ref().is_err_and(|s| s.message().contains("version 2 failed"));
    let status = server.until(&pick(Pick::Version(2)), failed).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("model.onnx has SHA-256"), "{}", status.message());
    assert_eq!(version(&server.predict(two()).await), Some(1), "the good one still serves");
    let (line, _) = server.get("/healthz/ready").await;
    assert!(line.contains("200"), "{line}");
    let (_, metrics) = server.get("/metrics").await;
    let failure = "aibuyer_model_load_failures{model=\"ctr-upworthy\",version=\"2\",check=\"digest\"}";
    assert!(metrics.contains(failure), "{metrics}");
    let (_, page) = server.get("/").await;
    assert!(page.contains("class=why>digest: model.onnx has SHA-256"), "{page}");

    let good = models.path().join(MODEL).join("1/model.onnx");
    fs::copy(good, models.path().join(MODEL).join("2/model.onnx")).unwrap();
    server.until(&two(), |a| version(a) == Some(2)).await.unwrap();
}

#[tokio::test]
async fn after_a_restart_beside_a_broken_newest_version_an_older_one_stands_in() {
    let models = Models::demo();
    models.add(MODEL, 2, |_| {});
    models.add(MODEL, 3, truncated);
    let server = ready(models.path(), &[]).await;
    assert_eq!(version(&server.predict(two()).await), Some(2));
    let (_, page) = server.get("/").await;
    assert!(page.contains("class=why>digest"), "{page}");
    models.add(MODEL, 4, |_| {});
    server.until(&two(), |a| version(a) == Some(4)).await.unwrap();
}

#[tokio::test]
async fn problems_of_the_registry_are_on_the_page_and_counted() {
    let models = Models::demo();
    models.aliases(MODEL, "champion: 1\nchallenger: 9\n");
    let server = ready(models.path(), &[]).await;
    // The watcher's first look may still be under way.
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(10));
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !server.get("/metrics").await.1.contains("aibuyer_registry_problems 1") {
        assert!(std::time::Instant::now() < give_up, "the problem is not counted");
        tick.tick().await;
    }
    let (_, page) = server.get("/").await;
    assert!(page.contains("points challenger at version 9, which has no folder"), "{page}");
}

#[tokio::test]
async fn a_model_that_never_loaded_is_not_ready_and_says_why() {
    let models = Models::empty();
    models.add(MODEL, 1, |folder| fs::remove_file(folder.join("vocab/week.jsonl")).unwrap());
    let server = start(models.path(), &[]).await;
    let failed = |a: &Answer| a.as_ref().is_err_and(|s| s.message().contains("failed"));
    let status = server.until(&two(), failed).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("vocab/week.jsonl cannot be read"), "{}", status.message());
    let (line, body) = server.get("/healthz/ready").await;
    assert!(line.contains("503") && body.contains("vocab/week.jsonl"), "{line} {body}");
    let (line, _) = server.get("/healthz/live").await;
    assert!(line.contains("200"), "{line}");
}

#[tokio::test]
async fn aliases_choose_versions_and_move_without_a_gap() {
    let models = Models::demo();
    for next in 2..=3 {
        models.add(MODEL, next, |_| {});
    }
    models.aliases(MODEL, "champion: 1\nchallenger: 2\n");
    let server = ready(models.path(), &[]).await;
    server.until(&alias("challenger"), |a| version(a) == Some(2)).await.unwrap();
    assert_eq!(version(&server.predict(two()).await), Some(1), "champion is the default");
    let status = server.predict(alias("canary")).await.unwrap_err();
    assert!(status.message().contains("it has aliases challenger, champion"), "{}", status.message());
    assert_eq!(server.predict(pick(Pick::Version(3))).await.unwrap_err().code(), Code::NotFound);

    models.aliases(MODEL, "champion: 3\n");
    let answers = |a: &Answer| version(a).expect("champion always answers") == 3;
    server.until(&alias("champion"), answers).await.unwrap();
    assert_eq!(version(&server.predict(alias("challenger")).await), Some(2), "a deleted alias goes on answering");
    let page = server.get("/").await.1;
    assert!(page.contains("challenger (gone from the registry)"), "{page}");
    let metrics = server.get("/metrics").await.1;
    assert!(metrics.contains(r#"aibuyer_model_route_lost{model="ctr-upworthy",alias="challenger"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_typo_in_an_alias_takes_nothing_away() {
    let models = Models::demo();
    models.add(MODEL, 2, |_| {});
    models.aliases(MODEL, "champion: 2\nchallenger: 1\n");
    let server = ready(models.path(), &[]).await;
    server.until(&alias("challenger"), |a| version(a) == Some(1)).await.unwrap();
    models.aliases(MODEL, "champion: 22\nchallenger: 1\nnew: 1\n");
    // The new alias shows that the file has been read.
    server.until(&alias("new"), |a| version(a) == Some(1)).await.unwrap();
    assert_eq!(version(&server.predict(two()).await), Some(2));
    assert_eq!(version(&server.predict(alias("champion")).await), Some(2));
}

#[tokio::test]
async fn an_alias_whose_version_failed_is_not_ready_rather_than_unknown() {
    let models = Models::demo();
    models.add(MODEL, 2, truncated);
    models.aliases(MODEL, "champion: 2\nchallenger: 1\n");
    let server = start(models.path(), &[]).await;
    server.until(&alias("challenger"), |a| version(a) == Some(1)).await.unwrap();
    for request in [two(), alias("champion")] {
        let status = server.predict(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains("version 2 failed"), "{}", status.message());
    }
    let (line, _) = server.get("/healthz/ready").await;
    assert!(line.contains("503"), "{line}");
}

#[tokio::test]
async fn a_broken_model_that_is_taken_away_is_forgotten() {
    let models = Models::demo();
    models.add("broken", 1, truncated);
    let server = ready(models.path(), &[]).await;
    let broken =
        pb::PredictCtrRequest { model: Some(pb::ModelSelector { name: "broken".to_owned(), pick: None }), ..two() };
    assert_eq!(server.predict(broken.clone()).await.unwrap_err().code(), Code::Unavailable);
    fs::remove_dir_all(models.path().join("broken")).unwrap();
    let gone = |a: &Answer| a.as_ref().is_err_and(|s| s.code() == Code::NotFound);
    server.until(&broken, gone).await.unwrap_err();
}

#[tokio::test]
async fn a_registry_that_vanishes_takes_nothing_away() {
    let models = Models::demo();
    models.add("other", 1, |_| {});
    let server = ready(models.path(), &[]).await;
    fs::rename(models.path().join(MODEL), models.path().join(".away")).unwrap();
    models.add("other", 2, |_| {});
    let other =
        pb::PredictCtrRequest { model: Some(pb::ModelSelector { name: "other".to_owned(), pick: None }), ..two() };
    server.until(&other, |a| version(a) == Some(2)).await.unwrap();
    assert_eq!(version(&server.predict(two()).await), Some(1), "still serves although its folder is gone");
}
