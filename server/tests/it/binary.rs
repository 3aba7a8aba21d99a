//! The binary as a person at a terminal meets it.

use std::{
    fs,
    process::{Command, Output},
};

use crate::harness::{MODEL, library, ready, repository};

fn aibuyer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aibuyer-server"));
    command.args(arguments).current_dir(repository()).env("ORT_DYLIB_PATH", library());
    command
}

fn text(output: &Output) -> (bool, String, String) {
    let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), string(&output.stdout), string(&output.stderr))
}

#[test]
fn config_prints_the_effective_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aibuyer.toml");
    fs::write(&file, "[batching]\nlanes = 3\n").unwrap();
    let output = aibuyer(&["config", "--config", file.to_str().unwrap(), "--set", "log.format=json"])
        .env("AIBUYER_LIMITS__DEFAULT_DEADLINE", "250ms")
        .output()
        .unwrap();
    let (ok, out, err) = text(&output);
    assert!(ok, "{err}");
    for part in ["lanes = 3", "default_deadline = \"250ms\"", "format = \"json\"", "# From --set; the default is"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn a_misspelt_setting_fails_and_names_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aibuyer.toml");
    fs::write(&file, "[server]\ngrpc_listn = \"0.0.0.0:1\"\n").unwrap();
    let (ok, _, err) = text(&aibuyer(&["serve", "--config", file.to_str().unwrap()]).output().unwrap());
    assert!(!ok);
    assert!(err.contains("no setting `server.grpc_listn`; did you mean `server.grpc_listen`?"), "{err}");
}

#[test]
fn a_library_that_is_missing_or_wrong_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("libonnxruntime.so");
    fs::write(&junk, b"\x7fELF but not really").unwrap();
    let missing = folder.path().join("none.so");
    for (path, expect) in [(&missing, "was not found"), (&junk, "is not a usable ONNX Runtime library")] {
        let output = aibuyer(&["serve"]).env("AIBUYER_ONNXRUNTIME__LIBRARY", path).output().unwrap();
        let (ok, _, err) = text(&output);
        assert!(!ok);
        assert!(err.contains(expect) && err.contains("make onnxruntime"), "{err}");
        assert!(err.contains(path.to_str().unwrap()), "{err}");
    }
}

#[test]
fn a_gpu_that_was_asked_for_and_is_not_there_is_told_at_the_start() {
    for command in [&["serve"][..], &["inspect", "models/ctr-upworthy/1"]] {
        let (ok, _, err) = text(&aibuyer(command).env("AIBUYER_ONNXRUNTIME__DEVICE", "cuda:0").output().unwrap());
        assert!(!ok);
        for part in ["cuda:0 cannot be used: this ONNX Runtime library has no CUDA provider", "LD_LIBRARY_PATH", "auto"]
        {
            assert!(err.contains(part), "{part}: {err}");
        }
    }
}

#[test]
fn a_model_folder_that_is_not_there_is_told_at_the_start() {
    let (ok, _, err) = text(&aibuyer(&["serve", "--set", "registry.path=/nowhere"]).output().unwrap());
    assert!(!ok);
    assert!(err.contains("/nowhere") && err.contains("registry.path"), "{err}");
}

#[test]
fn inspect_describes_a_model_and_names_what_is_wrong_with_a_broken_one() {
    let (ok, out, err) = text(&aibuyer(&["inspect", &format!("models/{MODEL}/1")]).output().unwrap());
    assert!(ok, "{err}");
    for part in [
        "ctr-upworthy version 1",
        "ids int64 [batch, 19]",
        "examples reproduced",
        "string_lists or strings",
        "  device    cpu: this ONNX Runtime library has no CUDA provider",
        " 32: ",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (ok, _, err) = text(&aibuyer(&["inspect", "docs"]).output().unwrap());
    assert!(!ok);
    assert!(err.contains("MLmodel cannot be read") && err.contains("docs"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_prints_a_table_and_explains_what_is_wrong() {
    let server = ready(&repository().join("models"), &[]).await;
    let address = server.app.grpc_address.to_string();
    let folder = tempfile::tempdir().unwrap();
    let ask = |json: &str| {
        let file = folder.path().join("request.json");
        fs::write(&file, json).unwrap();
        text(&aibuyer(&["predict", file.to_str().unwrap(), "--address", &address]).output().unwrap())
    };
    let (ok, out, err) = ask(r#"{"model": "ctr-upworthy", "context": {"week": "201303"},
            "candidates": [{"headline": ["a", "dog"], "headline_chars": 5}, {"headline_chars": -5}]}"#);
    assert!(ok, "{err}");
    for part in ["ctr-upworthy version 1", "90 % interval", "headline_chars: -5 is negative", "µs on the server"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (ok, _, err) = ask(r#"{"model": "ctr-upworthy", "candidates": [{"wek": "a", "hour": 3}]}"#);
    assert!(!ok);
    assert!(err.contains("INVALID_ARGUMENT") && err.contains("candidates[\"wek\"]"), "{err}");
    assert!(err.contains("candidates[\"hour\"]"), "all of it: {err}");
    let (ok, _, err) =
        text(&aibuyer(&["predict", "examples/requests/upworthy.json", "--address", "127.0.0.1:1"]).output().unwrap());
    assert!(!ok);
    assert!(err.contains("cannot reach an engine at 127.0.0.1:1") && err.contains("make run"), "{err}");
}
