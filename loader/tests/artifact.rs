//! Loading the demo model with the real ONNX Runtime, and refusing every way to break it.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    cell::Cell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aibuyer_domain::{
    ctr::OwnedColumn,
    model::{ServableId, Version},
};
use aibuyer_loader::{
    LoadError, Servable,
    batch::{BatchLimits, queue::Priority},
    stages::{Fetched, Prepared},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{elsewhere, repository, runtime};

const FILES: [&str; 9] = [
    "MLmodel",
    "feature_spec.json",
    "model.onnx",
    "golden.jsonl",
    "calibration.json",
    "profile.json",
    "vocab/test_id.jsonl",
    "vocab/eyecatcher_id.jsonl",
    "vocab/week.jsonl",
];

/// A copy of the demo model to break.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        fs::create_dir(copy.path("vocab")).unwrap();
        for file in FILES {
            fs::copy(repository().join("models/ctr-upworthy/1").join(file), copy.path(file)).unwrap();
        }
        copy
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    /// Changes the spec as JSON.
    fn edit_spec(&self, edit: impl FnOnce(&mut Value)) {
        let mut spec: Value = serde_json::from_str(&self.read("feature_spec.json")).unwrap();
        edit(&mut spec);
        fs::write(self.path("feature_spec.json"), spec.to_string()).unwrap();
    }

    /// Writes a file and its right hash into the spec: what a careful forger would do.
    fn forge(&self, file: &str, content: &[u8]) {
        fs::write(self.path(file), content).unwrap();
        let digest: String = Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
        self.edit_spec(|spec| spec["files_sha256"][file] = digest.into());
    }

    fn load(&self) -> Result<Prepared, LoadError> {
        load(self.0.path())
    }

    fn refusal(&self) -> (&'static str, String) {
        match self.load() {
            Ok(_) => panic!("a broken model was loaded"),
            Err(error) => (error.check(), error.to_string()),
        }
    }
}

fn load(folder: &Path) -> Result<Prepared, LoadError> {
    let id = ServableId { name: "ctr-upworthy".parse().unwrap(), version: Version::new(1).unwrap() };
    Fetched::local(id, folder).verify()?.prepare(runtime(), 2, 64, &|| true)
}

#[test]
fn the_demo_model_loads_and_answers_as_its_golden_rows_say() {
    let copy = Copy::new();
    let limits = BatchLimits {
        max_batch_rows: 4,
        preferred_batch_rows: 4,
        queue_rows: 1000,
        inline: Duration::ZERO,
        padded: false,
    };
    let Servable::Ctr(servable) = Servable::start(copy.load().unwrap(), limits).unwrap() else {
        panic!("not a CTR model")
    };
    let mut wanted = Vec::new();
    let mut owned: Vec<BTreeMap<String, OwnedColumn>> = Vec::new();
    for line in copy.read("golden.jsonl").lines() {
        let example: Value = serde_json::from_str(line).unwrap();
        let inputs: BTreeMap<String, Value> = serde_json::from_value(example["inputs"].clone()).unwrap();
        let columns = inputs.iter().filter_map(|(k, v)| Some((k.clone(), OwnedColumn::from_json(v).unwrap()?)));
        owned.push(columns.collect());
        wanted.push(serde_json::from_value::<f32>(example["logit"].clone()).unwrap());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (inputs, want) in owned.iter().zip(wanted) {
        let columns: Vec<_> = inputs.iter().map(|(name, column)| column.column(name)).collect();
        // As context of seven bare candidates: two batches of at most four.
        let rows = servable.encoder.encode(&columns, &[], 7).unwrap().rows;
        let now = Instant::now();
        let scores =
            runtime.block_on(servable.score(rows, Priority::Normal, now, now + Duration::from_secs(60))).unwrap();
        assert_eq!(scores.outputs.logits.len(), 7);
        assert!(scores.outputs.logits.iter().all(|z| (z - want).abs() < 1e-5), "{want} {:?}", scores.outputs.logits);
        assert!(scores.outputs.variances.unwrap().iter().all(|v| *v > 0.0));
    }
}

#[test]
fn a_load_ends_when_nobody_wants_it_any_more() {
    let asked = Cell::new(0);
    let id = || ServableId { name: "ctr-upworthy".parse().unwrap(), version: Version::new(1).unwrap() };
    let folder = repository().join("models/ctr-upworthy/1");
    let load = |until: usize| {
        asked.set(0);
        let wanted = || asked.replace(asked.get() + 1) < until;
        Fetched::local(id(), &folder).verify()?.prepare(runtime(), 2, 4, &wanted)
    };
    assert!(load(usize::MAX).is_ok());
    let all = asked.get();
    assert!(all > 40, "asked before each session and each run, not {all} times");
    for until in [0, 1, 2, 10, all - 1] {
        let Err(error) = load(until) else { panic!("a load of no use was finished") };
        assert_eq!(error.check(), "superseded", "{error}");
        assert_eq!(asked.get(), until + 1 + usize::from(until < 2), "no more work once it is not wanted");
    }
}

#[test]
fn a_missing_file_is_named() {
    for file in FILES {
        let copy = Copy::new();
        fs::remove_file(copy.path(file)).unwrap();
        let (check, message) = copy.refusal();
        assert_eq!(check, "files", "{message}");
        assert!(message.starts_with(&format!("{file} cannot be read")), "{message}");
    }
}

#[test]
fn a_truncated_file_is_named() {
    for file in FILES {
        let copy = Copy::new();
        let content = fs::read(copy.path(file)).unwrap();
        fs::write(copy.path(file), &content[..content.len() / 2]).unwrap();
        let (check, message) = copy.refusal();
        assert!(message.starts_with(file), "{message}");
        assert!(["digest", "mlmodel", "feature_spec"].contains(&check), "{check}");
    }
}

#[test]
fn a_swapped_file_is_named() {
    for file in FILES {
        let copy = Copy::new();
        let other = if file == "calibration.json" { "vocab/week.jsonl" } else { "calibration.json" };
        fs::copy(copy.path(other), copy.path(file)).unwrap();
        let (_, message) = copy.refusal();
        assert!(message.starts_with(file), "{message}");
    }
}

#[test]
fn a_model_of_another_flavor_or_contract_is_refused() {
    for (from, to, expect) in [
        ("  onnx:\n", "  sklearn:\n", "has neither an `onnx` nor a `prophet` flavor"),
        ("data: model.onnx", "data: other.onnx", "flavors.onnx.data is \"other.onnx\""),
        ("aibuyer_contract: \"1\"", "aibuyer_contract: \"2\"", "metadata.aibuyer_contract is \"2\""),
        ("aibuyer_contract", "contract", "has no metadata.aibuyer_contract"),
    ] {
        let copy = Copy::new();
        let good = copy.read("MLmodel");
        let bad = good.replace(from, to);
        assert_ne!(good, bad, "{from}");
        fs::write(copy.path("MLmodel"), bad).unwrap();
        let (check, message) = copy.refusal();
        assert_eq!(check, "mlmodel");
        assert!(message.contains(expect), "{message}");
    }
}

#[test]
fn content_that_lies_with_a_right_hash_is_found_out() {
    let forged = |forge: &dyn Fn(&Copy)| {
        let copy = Copy::new();
        forge(&copy);
        copy.refusal()
    };

    let (check, message) = forged(&|c| c.forge("model.onnx", b"not a model"));
    assert_eq!(check, "onnx_scan", "{message}");
    assert!(message.contains("model.onnx: not a whole ONNX model"), "{message}");

    let (check, message) = forged(&|c| {
        c.edit_spec(|spec| {
            spec["model"]["outputs"].as_object_mut().unwrap().remove("logit_variance");
            spec.as_object_mut().unwrap().remove("interval");
        });
        let bare = |line: &str| {
            let mut example: Value = serde_json::from_str(line).unwrap();
            for key in ["logit_variance", "ctr_lower_90", "ctr_upper_90"] {
                example.as_object_mut().unwrap().remove(key);
            }
            format!("{example}\n")
        };
        let golden: String = c.read("golden.jsonl").lines().map(bare).collect();
        c.forge("golden.jsonl", golden.as_bytes());
    });
    assert_eq!(check, "signature", "{message}");
    assert!(message.contains("output `logit_variance` that the spec does not declare"), "{message}");

    let weeks = |c: &Copy| c.read("vocab/week.jsonl");
    let (check, message) = forged(&|c| c.forge("vocab/week.jsonl", format!("{}\"999999\"\n", weeks(c)).as_bytes()));
    assert_eq!(check, "content", "{message}");
    assert!(message.starts_with("vocab/week.jsonl has "), "{message}");

    // Two lines in each other's place: every count is right, only the worked examples tell.
    let (check, message) = forged(&|c| {
        let text = weeks(c);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.reverse();
        c.forge("vocab/week.jsonl", (lines.join("\n") + "\n").as_bytes());
    });
    assert_eq!(check, "golden", "{message}");
    assert!(message.contains("as encoded here"), "{message}");

    let (check, message) = forged(&|c| {
        let profile = c.read("profile.json").replace("\"has_digit\"", "\"has_letter\"");
        c.forge("profile.json", profile.as_bytes());
    });
    assert_eq!(check, "content", "{message}");
    assert_eq!(message, "profile.json: fields[\"has_letter\"]: is not a field of the feature spec");

    let (check, message) = forged(&|c| c.forge("golden.jsonl", b""));
    assert_eq!(check, "golden", "{message}");

    // Outputs of another model: the stored estimates agree with the stored logits, the model does not.
    let (check, message) = forged(&|c| {
        let example = c.read("golden.jsonl").lines().next().unwrap().to_owned();
        let mut example: Value = serde_json::from_str(&example).unwrap();
        example["logit"] = 0.0.into();
        example["logit_variance"] = 0.0.into();
        for key in ["ctr", "ctr_lower_90", "ctr_upper_90"] {
            example[key] = 0.5.into();
        }
        c.forge("golden.jsonl", format!("{example}\n").as_bytes());
    });
    assert_eq!(check, "golden", "{message}");
    assert!(message.contains("logit is -") && message.contains("the file has 0"), "{message}");
}

#[test]
fn outputs_that_are_not_numbers_are_refused() {
    let copy = Copy::new();
    let mut model = fs::read(copy.path("model.onnx")).unwrap();
    // Most of the file is its table; float32 of these bytes is NaN wherever it begins.
    let (from, to) = (model.len() / 4, model.len() / 4 * 3);
    model[from..to].fill(0xFF);
    copy.forge("model.onnx", &model);
    let (check, message) = copy.refusal();
    assert!(["warm_up", "golden"].contains(&check), "{check}");
    assert!(message.contains("NaN"), "{message}");
}

#[test]
fn weights_in_another_file_need_a_hash_like_every_file() {
    let copy = Copy::new();
    let mut model = fs::read(copy.path("model.onnx")).unwrap();
    model.extend(elsewhere("weights.data"));
    copy.forge("model.onnx", &model);
    fs::write(copy.path("weights.data"), [0; 40]).unwrap();
    let (check, message) = copy.refusal();
    assert_eq!(check, "onnx_scan", "{message}");
    assert!(message.contains("\"weights.data\": it is not among files_sha256"), "{message}");
    copy.forge("weights.data", &[0; 40]);
    copy.load().unwrap();
    fs::write(copy.path("weights.data"), [1; 40]).unwrap();
    let (check, message) = copy.refusal();
    assert_eq!(check, "digest", "{message}");
}

#[test]
fn rows_beyond_the_models_table_are_found_before_traffic_finds_them() {
    let copy = Copy::new();
    const SHIFT: i64 = 100_000;
    let mut slots: Vec<usize> = Vec::new();
    copy.edit_spec(|spec| {
        let shift = |v: &mut Value| *v = (v.as_i64().unwrap() + SHIFT).into();
        shift(&mut spec["table_rows"]);
        let field = spec["fields"].as_array_mut().unwrap().iter_mut().find(|f| f["name"] == "headline").unwrap();
        shift(&mut field["row_offset"]);
        slots = serde_json::from_value(field["slots"].clone()).unwrap();
    });
    let shift = |line: &str| {
        let mut example: Value = serde_json::from_str(line).unwrap();
        for &slot in &slots {
            let id: &mut Value = &mut example["ids"][slot];
            *id = (id.as_i64().unwrap() + SHIFT).into();
        }
        format!("{example}\n")
    };
    let golden: String = copy.read("golden.jsonl").lines().map(shift).collect();
    copy.forge("golden.jsonl", golden.as_bytes());
    let (check, message) = copy.refusal();
    assert_eq!(check, "warm_up", "{message}");
    assert!(message.contains("table rows of every field") && message.contains("out of"), "{message}");
}
