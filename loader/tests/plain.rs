//! Loading models without a contract, as MLflow logs them, and refusing those that lie.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

use aibuyer_domain::model::{ServableId, Version};
use aibuyer_loader::{
    LoadError, Servable,
    batch::BatchLimits,
    gate::{self, Gate, SignatureRule},
    stages::{Fetched, Warmed},
    tensor::{Elements, Tensor},
};
use support::{elsewhere, repository, runtime};

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
        Fetched::local(id, self.path("")).verify()?.open(runtime(), 2, &|| true)?.warm(8, &|| true)
    }

    fn refusal(&self) -> (&'static str, String) {
        match self.load() {
            Ok(_) => panic!("a broken model was loaded"),
            Err(error) => (error.check(), error.to_string()),
        }
    }
}

#[test]
fn a_version_takes_over_from_one_that_it_can_stand_in_for() {
    let limits = BatchLimits { max_batch_rows: 8, queue_rows: 100, inline: Duration::ZERO, padded: false };
    let serving = Servable::start(Copy::new().load().unwrap(), limits).unwrap();
    let gate = Gate { max_slowdown: 1000.0, signature: SignatureRule::Compatible };
    gate::check(&Copy::new().load().unwrap(), &serving, &gate).unwrap();

    let strict = Gate { max_slowdown: 1e-6, ..gate };
    let error = gate::check(&Copy::new().load().unwrap(), &serving, &strict).unwrap_err();
    assert_eq!(error.check(), "latency", "{error}");
    assert!(error.to_string().contains("of version 1, which serves; loading.max_slowdown"), "{error}");

    let other = Copy::new();
    for file in ["MLmodel", "input_example.json", "serving_input_example.json"] {
        fs::remove_file(other.path(file)).unwrap();
    }
    fs::copy(repository().join("server/tests/models/rows.onnx"), other.path("model.onnx")).unwrap();
    let other = other.load().unwrap();
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
