//! Loading models without a contract, as MLflow logs them, and refusing those that lie.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

use aibuyer_domain::model::{ServableId, Version};
use aibuyer_loader::{
    LoadError, Servable,
    batch::BatchLimits,
    gate::{self, Gate, SignatureRule},
    stages::{Batching, Fetched, Prepared, Warmed},
    tensor::{Elements, Tensor},
};
use support::{elsewhere, field, number, repository, runtime};

/// A copy of a folder that MLflow could have written.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        fs::create_dir(copy.path("")).unwrap();
        for entry in fs::read_dir(repository().join("server/tests/models/mlflow")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path(entry.file_name().to_str().unwrap())).unwrap();
        }
        copy
    }

    /// One level down, so that there is an outside.
    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join("version").join(file)
    }

    fn edit(&self, file: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut content = fs::read(self.path(file)).unwrap();
        edit(&mut content);
        fs::write(self.path(file), content).unwrap();
    }

    fn load(&self) -> Result<Warmed, LoadError> {
        let id = ServableId { name: "deepfm".parse().unwrap(), version: Version::new(1).unwrap() };
        match Fetched::local(id, self.path("")).verify()?.prepare(runtime(), 2, 8, &|| true)? {
            Prepared::Graph(warmed) => Ok(*warmed),
            Prepared::Forecast(_) => panic!("not a graph"),
        }
    }

    fn refusal(&self) -> (&'static str, String) {
        match self.load() {
            Ok(_) => panic!("a broken model was loaded"),
            Err(error) => (error.check(), error.to_string()),
        }
    }
}

#[test]
fn what_mlflow_says_of_a_model_is_held_against_it() {
    let refused = |part: &str, lie: &dyn Fn(&Copy)| {
        let copy = Copy::new();
        lie(&copy);
        let (check, message) = copy.refusal();
        assert!(message.contains(part), "{part}: {message}");
        check
    };
    let mlmodel = |from: &'static str, to: &'static str| {
        move |copy: &Copy| {
            copy.edit("MLmodel", |text| {
                let edited = String::from_utf8_lossy(text).replace(from, to);
                assert_ne!(edited.as_bytes(), text.as_slice());
                *text = edited.into_bytes();
            });
        }
    };
    let check = refused("MLmodel cannot be read", &|copy| fs::remove_file(copy.path("MLmodel")).unwrap());
    assert_eq!(check, "files");
    assert_eq!(refused("has no `flavors`", &|copy| fs::write(copy.path("MLmodel"), "run_id: x\n").unwrap()), "mlmodel");
    let check = refused(
        "neither an `onnx` nor a `prophet` flavor, but python_function, sklearn",
        &mlmodel("  onnx:", "  sklearn:"),
    );
    assert_eq!(check, "mlmodel");
    let check = refused("\"../model.onnx\" is not inside", &mlmodel("    data: model.onnx", "    data: ../model.onnx"));
    assert_eq!(check, "mlmodel");
    assert_eq!(refused("gone.onnx cannot be read", &mlmodel("    data: model.onnx", "    data: gone.onnx")), "files");
    let check = refused(
        "MLmodel says float64 [-1, 1]",
        &mlmodel("\"float32\", \"shape\": [-1, 1]}}]'\n  outputs", "\"float64\", \"shape\": [-1, 1]}}]'\n  outputs"),
    );
    assert_eq!(check, "signature");
    let check = refused("MLmodel names the input `rows`", &mlmodel("\"name\": \"ids\"", "\"name\": \"rows\""));
    assert_eq!(check, "signature");
}

#[test]
fn an_example_that_does_not_work_refuses_the_version() {
    let refused = |part: &str, lie: &dyn Fn(&Copy)| {
        let copy = Copy::new();
        lie(&copy);
        let (check, message) = copy.refusal();
        assert!(message.contains(part), "{part}: {message}");
        check
    };
    let example =
        |text: &'static str| move |copy: &Copy| fs::write(copy.path("serving_input_example.json"), text).unwrap();
    let part = "serving_input_example.json gives NaN in the output `prob`";
    assert_eq!(refused(part, &|copy| copy.edit("model.data", |data| data.fill(0xFF))), "golden");
    // Row 20 of a table of 20: the model itself refuses it.
    let broken = r#"{"inputs": {"ids": [[1, 20]], "offset": [[0.5]]}}"#;
    assert_eq!(refused("serving_input_example.json fails in the model", &example(broken)), "golden");
    let misfit = r#"{"inputs": {"ids": [[1, 2, 3]], "offset": [[0.5]]}}"#;
    assert_eq!(refused("does not fit the input ids int64 [batch, 2]: its shape is [1, 3]", &example(misfit)), "golden");
    assert_eq!(refused("serving_input_example.json: is not JSON", &example("{\"inputs\": ")), "content");

    // For something else than tensors: nothing can be tried.
    let copy = Copy::new();
    example(r#"{"dataframe_split": {"columns": ["ids", "offset"], "data": [["2012-05-18", null]]}}"#)(&copy);
    copy.load().unwrap();
}

#[test]
fn an_example_tells_whether_requests_may_share_runs() {
    let model = |name: &str, example: &str| {
        let copy = Copy::new();
        fs::remove_dir_all(copy.path("")).unwrap();
        fs::create_dir(copy.path("")).unwrap();
        fs::copy(repository().join("server/tests/models").join(name), copy.path("model.onnx")).unwrap();
        fs::write(copy.path("MLmodel"), "flavors:\n  onnx:\n    data: model.onnx\n").unwrap();
        fs::write(copy.path("input_example.json"), example).unwrap();
        copy.load().unwrap().batching
    };
    assert_eq!(model("rows.onnx", r#"{"x": [[1, 2, 3], [4, 5, 6], [0, 0, 1]], "count": [1, 2, 3]}"#), Batching::Rows);
    assert_eq!(model("centred.onnx", "[[1, 2, 3]]"), Batching::None);
    assert_eq!(model("series.onnx", "[[1, 2, 3]]"), Batching::None);
    assert_eq!(model("words.onnx", r#"[["cat", "x"], ["", "dög"]]"#), Batching::Rows);
    assert_eq!(model("small.onnx", r#"{"half": [[0.5, 1, 2]], "brain": [3]}"#), Batching::Rows);
}

/// An input of [batch, 2^31]: nothing has to be there for it, so only the warm-up would notice, too late.
#[test]
fn an_input_that_no_memory_holds_is_refused() {
    let copy = Copy::new();
    for file in ["MLmodel", "input_example.json", "serving_input_example.json"] {
        fs::remove_file(copy.path(file)).unwrap();
    }
    let dim = |value: &[u8]| field(1, value);
    let shape = [dim(&field(2, b"n")), dim(&[8, 0x80, 0x80, 0x80, 0x80, 0x08])].concat();
    let tensor = [number(1, 1), field(2, &shape)].concat();
    let input = [field(1, b"huge"), field(2, &field(1, &tensor))].concat();
    copy.edit("model.onnx", |model| model.extend(field(7, &field(11, &input))));
    let (check, message) = copy.refusal();
    assert_eq!(check, "warm_up", "{message}");
    assert!(message.contains("huge float32 [batch, 2147483648] takes"), "{message}");
}

fn servable(copy: &Copy) -> Servable {
    let limits = BatchLimits {
        max_batch_rows: 8,
        preferred_batch_rows: 8,
        queue_rows: 100,
        inline: Duration::ZERO,
        padded: false,
    };
    Servable::start(Prepared::Graph(Box::new(copy.load().unwrap())), limits).unwrap()
}

#[test]
fn a_version_takes_over_from_one_that_it_can_stand_in_for() {
    let serving = servable(&Copy::new());
    let gate = Gate { max_slowdown: 1000.0, signature: SignatureRule::Compatible };
    gate::check(&servable(&Copy::new()), &serving, &gate).unwrap();

    let strict = Gate { max_slowdown: 1e-6, ..gate };
    let error = gate::check(&servable(&Copy::new()), &serving, &strict).unwrap_err();
    assert_eq!(error.check(), "latency", "{error}");
    assert!(error.to_string().contains("of version 1, which serves; loading.max_slowdown"), "{error}");

    let other = Copy::new();
    for file in ["MLmodel", "input_example.json", "serving_input_example.json"] {
        fs::remove_file(other.path(file)).unwrap();
    }
    fs::copy(repository().join("server/tests/models/rows.onnx"), other.path("model.onnx")).unwrap();
    let other = servable(&other);
    let error = gate::check(&other, &serving, &gate).unwrap_err();
    assert_eq!(error.check(), "compatibility", "{error}");
    assert!(error.to_string().contains("callers send the input `ids`, which it does not have"), "{error}");
    gate::check(&other, &serving, &Gate { max_slowdown: 0.0, signature: SignatureRule::Any }).unwrap();
}

#[test]
fn weights_in_a_file_of_their_own_are_part_of_the_model() {
    let copy = Copy::new();
    let mut warmed = copy.load().unwrap();
    let on_disk = |file: &str| fs::metadata(copy.path(file)).unwrap().len();
    assert!(warmed.verified.bytes >= on_disk("model.onnx") + on_disk("model.data") + on_disk("MLmodel"));
    // They were read once: what becomes of the file after that is nothing to a session.
    fs::remove_file(copy.path("model.data")).unwrap();
    let ids = Tensor { shape: vec![2, 2], elements: Elements::I64(vec![1, 2, 3, 19]) };
    let offset = Tensor { shape: vec![2, 1], elements: Elements::F32(vec![0.25, -0.5]) };
    for session in &mut warmed.sessions {
        let outputs = session.run(&[ids.clone(), offset.clone()]).unwrap();
        let Elements::F32(prob) = &outputs[0].elements else { panic!("not float32") };
        // As ONNX Runtime gives them when it opens the file by itself.
        assert!((prob[0] - 0.666_391_2).abs() < 1e-6 && (prob[1] - 0.392_090_1).abs() < 1e-6, "{prob:?}");
    }
}

#[test]
fn weights_outside_the_folder_are_refused() {
    let refused = |location: &str, prepare: &dyn Fn(&Copy)| {
        let copy = Copy::new();
        fs::write(copy.path("../outside.data"), [0; 40]).unwrap();
        prepare(&copy);
        copy.edit("model.onnx", |model| model.extend(elsewhere(location)));
        let (check, message) = copy.refusal();
        assert_eq!(check, "onnx_scan", "{message}");
        let named = format!("model.onnx: tensor \"elsewhere\" is stored in {location:?}: ");
        assert!(message.starts_with(&named) && message.contains("export the model again"), "{message}");
        message
    };
    let nothing = |_: &Copy| {};
    for location in ["/etc/passwd", "../outside.data", "sub/../../outside.data", "", ".", "./model.data"] {
        let message = refused(location, &nothing);
        assert!(message.contains("not a relative path of a file"), "{message}");
    }
    let message = refused("link.data", &|copy| symlink(copy.path("../outside.data"), copy.path("link.data")).unwrap());
    assert!(message.contains("a link to a file outside the model's folder"), "{message}");
    let message = refused("sub/outside.data", &|copy| symlink(copy.path(".."), copy.path("sub")).unwrap());
    assert!(message.contains("a link to a file outside the model's folder"), "{message}");
    let message = refused("folder", &|copy| fs::create_dir(copy.path("folder")).unwrap());
    assert!(message.contains("it is not a file"), "{message}");
    assert!(refused("gone.data", &nothing).contains("No such file"));
}

/// As Kubernetes mounts a volume: every file is a link to one in the same folder.
#[test]
fn links_that_stay_inside_are_followed() {
    let copy = Copy::new();
    fs::create_dir(copy.path("..data")).unwrap();
    fs::rename(copy.path("model.data"), copy.path("..data/model.data")).unwrap();
    symlink("..data/model.data", copy.path("model.data")).unwrap();
    copy.load().unwrap();
}

#[test]
fn a_file_that_is_not_whole_is_refused() {
    let copy = Copy::new();
    copy.edit("model.onnx", |model| model.truncate(model.len() - 7));
    let (check, message) = copy.refusal();
    assert_eq!(check, "onnx_scan", "{message}");
    assert!(message.contains("truncated"), "{message}");

    let copy = Copy::new();
    copy.edit("model.data", |data| data.truncate(100));
    let (check, message) = copy.refusal();
    assert_eq!(check, "onnx_scan", "{message}");
    assert!(message.contains("320 bytes from 0 on are wanted of a file of 100"), "{message}");

    let copy = Copy::new();
    fs::write(copy.path("model.onnx"), "").unwrap();
    assert!(copy.refusal().1.contains("no graph in it"));
}
