//! Loading the demo forecaster with the real ONNX Runtime, and refusing every way to break it.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use aibuyer_domain::model::{ServableId, Version};
use aibuyer_loader::{
    LoadError, Servable,
    batch::BatchLimits,
    gate::{self, Gate, SignatureRule},
    stages::{Fetched, Prepared},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{elsewhere, repository, runtime};

const LIMITS: BatchLimits =
    BatchLimits { max_batch_rows: 8, preferred_batch_rows: 8, queue_rows: 1000, inline: Duration::ZERO, padded: false };

/// A copy of the demo forecaster to break.
struct Copy(tempfile::TempDir);

impl Copy {
    fn new() -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        for file in ["MLmodel", "forecast_spec.json", "model.onnx", "golden.jsonl"] {
            fs::copy(repository().join("models/forecast-nab/1").join(file), copy.path(file)).unwrap();
        }
        copy
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn edit(&self, file: &str, edit: impl FnOnce(String) -> String) {
        fs::write(self.path(file), edit(self.read(file))).unwrap();
    }

    fn edit_spec(&self, edit: impl FnOnce(&mut Value)) {
        let mut spec: Value = serde_json::from_str(&self.read("forecast_spec.json")).unwrap();
        edit(&mut spec);
        fs::write(self.path("forecast_spec.json"), spec.to_string()).unwrap();
    }

    /// Writes a file and its right hash into the spec: what a careful forger would do.
    fn forge(&self, file: &str, content: &[u8]) {
        fs::write(self.path(file), content).unwrap();
        let digest: String = Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect();
        self.edit_spec(|spec| spec["files_sha256"][file] = digest.into());
    }

    /// Forges the worked examples.
    fn forge_golden(&self, edit: impl FnOnce(&mut Vec<Value>)) {
        let mut rows: Vec<Value> =
            self.read("golden.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        edit(&mut rows);
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        self.forge("golden.jsonl", text.as_bytes());
    }

    fn load(&self) -> Result<Prepared, LoadError> {
        let id = ServableId { name: "forecast-nab".parse().unwrap(), version: Version::new(1).unwrap() };
        Fetched::local(id, self.0.path()).verify()?.prepare(runtime(), 2, 8, &|| true)
    }

    fn start(&self) -> Servable {
        Servable::start(self.load().unwrap(), LIMITS).unwrap()
    }

    fn refusal(&self) -> (&'static str, String) {
        match self.load() {
            Ok(_) => panic!("a broken model was loaded"),
            Err(error) => (error.check(), error.to_string()),
        }
    }
}

#[test]
fn the_demo_forecaster_gives_what_its_worked_examples_say() {
    let copy = Copy::new();
    let Servable::Window(servable) = copy.start() else { panic!("not a forecaster") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for line in copy.read("golden.jsonl").lines() {
        let example: Value = serde_json::from_str(line).unwrap();
        let context: Vec<Option<f32>> = serde_json::from_value(example["context"].clone()).unwrap();
        let quantiles: Vec<Vec<f32>> = serde_json::from_value(example["quantiles"].clone()).unwrap();
        let length = servable.spec.context_length;
        let mut window: Vec<f32> = context.iter().map(|value| value.unwrap_or(f32::NAN)).collect();
        window = window.split_off(window.len().saturating_sub(length));
        window.splice(0..0, vec![f32::NAN; length - window.len()]);
        let now = Instant::now();
        let scores = runtime.block_on(servable.score(window, now, now + Duration::from_secs(60))).unwrap();
        let wanted = quantiles.concat();
        let most = wanted.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        assert_eq!(scores.outputs.len(), wanted.len());
        assert!(scores.outputs.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= 1e-4 * most), "{}", example["note"]);
    }
}

#[test]
fn whatever_is_broken_is_refused_and_named() {
    type Break = Box<dyn Fn(&Copy)>;
    let spec = |pointer: &'static str, value: Value| -> Break {
        Box::new(move |copy| copy.edit_spec(|spec| *spec.pointer_mut(pointer).unwrap() = value.clone()))
    };
    let golden = |edit: fn(&mut Vec<Value>)| -> Break { Box::new(move |copy| copy.forge_golden(edit)) };
    let cases: Vec<(&str, &str, Break)> = vec![
        ("files", "golden.jsonl cannot be read", Box::new(|c| fs::remove_file(c.path("golden.jsonl")).unwrap())),
        ("digest", "forecast_spec.json says", Box::new(|c| c.edit("golden.jsonl", |text| text + " "))),
        ("mlmodel", "has no metadata.aibuyer_contract", {
            Box::new(|c| c.edit("MLmodel", |text| text.split("metadata").next().unwrap().to_owned()))
        }),
        ("mlmodel", "forecast_spec.json has \"model.onnx\"", {
            Box::new(|c| c.edit("MLmodel", |text| text.replace("model.onnx", "other.onnx")))
        }),
        (
            "content",
            "lies beside feature_spec.json",
            Box::new(|c| fs::write(c.path("feature_spec.json"), "{}").unwrap()),
        ),
        ("forecast_spec", "unknown variant `fill`", spec("/missing/policy", json!("fill"))),
        ("forecast_spec", "missing.min_values: is 0", spec("/missing/min_values", json!(0))),
        ("signature", "the spec says context float32 [batch, 100]", spec("/context_length", json!(100))),
        ("golden", "are not 7 numbers at each of 12 steps", spec("/horizon", json!(12))),
        ("golden", "the model needs 100", spec("/missing/min_values", json!(100))),
        ("golden", "golden example 1: quantile 0.05 at step 0", golden(|rows| rows[0]["quantiles"][0][0] = json!(0))),
        ("golden", "there must be two", golden(|rows| rows.truncate(1))),
        ("onnx_scan", "not among files_sha256 of forecast_spec.json", {
            Box::new(|c| {
                fs::write(c.path("elsewhere"), [0; 40]).unwrap();
                c.forge("model.onnx", &[fs::read(c.path("model.onnx")).unwrap(), elsewhere("elsewhere")].concat());
            })
        }),
        // A graph that divides by a deviation: no change, no forecast.
        ("warm_up", "the fewest values", Box::new(without_floor)),
    ];
    for (check, part, broken) in cases {
        let copy = Copy::new();
        broken(&copy);
        let (found, message) = copy.refusal();
        assert!(found == check && message.contains(part), "{check} {part}: {found} {message}");
    }
}

/// Takes away what keeps the deviation of a steady series above zero.
fn without_floor(copy: &Copy) {
    let mut model = fs::read(copy.path("model.onnx")).unwrap();
    for constant in [1e-3f32, 1e-12] {
        let bytes = constant.to_le_bytes();
        let at: Vec<usize> = (0..model.len() - 4).filter(|at| model[*at..at + 4] == bytes).collect();
        assert_eq!(at.len(), 1, "{constant} stands once");
        model[at[0]..at[0] + 4].fill(0);
    }
    copy.forge("model.onnx", &model);
    // One of the examples is such a series.
    copy.forge_golden(|rows| rows.retain(|row| row["note"] != "no change"));
}

#[test]
fn prophet_and_onnx_forecasters_do_not_take_over_from_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let case = repository().join("domain/testdata/prophet/cases/daily/model.json");
    fs::copy(case, folder.path().join("model.pr")).unwrap();
    fs::write(folder.path().join("MLmodel"), "flavors:\n  prophet:\n    data: model.pr\n").unwrap();
    let id = ServableId { name: "daily".parse().unwrap(), version: Version::new(1).unwrap() };
    let prophet = Fetched::local(id, folder.path()).verify().unwrap().prepare(runtime(), 1, 8, &|| true).unwrap();
    let (prophet, onnx) = (Servable::start(prophet, LIMITS).unwrap(), Copy::new().start());
    let gate = |signature| Gate { max_slowdown: 3.0, signature };
    let refused = |candidate: &Servable, serving: &Servable| {
        gate::check(candidate, serving, &gate(SignatureRule::Compatible)).unwrap_err().to_string()
    };
    assert!(refused(&onnx, &prophet).contains("it needs a context, the last values of the series"));
    assert!(refused(&prophet, &onnx).contains("it is a Prophet model, which takes no context"));
    assert!(gate::check(&onnx, &prophet, &gate(SignatureRule::Any)).is_ok());
    assert!(gate::check(&onnx, &onnx, &gate(SignatureRule::Compatible)).is_ok());
}
