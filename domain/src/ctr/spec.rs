//! `feature_spec.json`: how named features become tensors, as shipped with a model.
//!
//! [`FeatureSpec::parse`] reads the file and checks everything that can be checked without the model:
//! afterwards rows lie inside the table, no two fields share a row, and slots and columns fill the input
//! tensors exactly. An unknown key is an error: a misspelt `normalize` that went unnoticed would skew every
//! prediction.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::{Signature, TensorInfo, digests};

use super::{
    field::{FieldSpec, Occupied, Source},
    hash::SCHEME,
    interval::Level,
};

/// Version of the artifact contract that this engine reads.
pub const CONTRACT_VERSION: u32 = 1;

/// Columns of an input, at most: a bound on what a few bytes of JSON can make the engine allocate.
const MAX_WIDTH: usize = 65_536;

/// A spec that cannot be served, and what to mend.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Not JSON of the expected shape.
    #[error("feature_spec.json is not a valid feature spec: {0}")]
    Json(#[from] serde_json::Error),
    /// Made for another engine.
    #[error(
        "feature_spec.json has contract_version {0}, this engine reads version {CONTRACT_VERSION}: export the model again"
    )]
    ContractVersion(u32),
    /// A value that contradicts the contract or another value.
    #[error("feature_spec.json: {at}: {reason}")]
    Invalid {
        /// Where, as a path of keys.
        at: String,
        /// What is wrong.
        reason: String,
    },
}

impl SpecError {
    pub(super) fn at(at: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { at: at.into(), reason: reason.into() }
    }
}

/// A feature spec that passed every check.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSpec {
    /// Version of the contract, [`CONTRACT_VERSION`].
    pub contract_version: u32,
    /// The model file and its signature.
    pub model: ModelSpec,
    /// The hash scheme.
    hash: HashSpec,
    /// Rows of the model's shared table: every id is below.
    pub table_rows: u32,
    /// The features, in no particular order.
    pub fields: Vec<FieldSpec>,
    /// How to read `logit_variance`; absent where the model has none.
    pub interval: Option<IntervalSpec>,
    /// Worked examples.
    pub golden: GoldenSpec,
    /// File of the [`Profile`](super::Profile); absent where the trainer made none.
    pub profile: Option<String>,
    /// SHA-256 in lower-case hex of every other file of the artifact that the engine reads.
    pub files_sha256: BTreeMap<String, String>,
}

/// The model file and its signature.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Registered name that the trainer had in mind; the directory's name is what counts.
    pub name: String,
    kind: String,
    /// File name of the ONNX model.
    pub file: String,
    /// ONNX operator set.
    pub opset: u32,
    #[serde(rename = "ir_version")]
    _ir_version: Option<u32>,
    inputs: BTreeMap<String, TensorSpec>,
    outputs: BTreeMap<String, TensorSpec>,
}

/// Element type and shape of an input or output.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorSpec {
    dtype: String,
    shape: Vec<Dimension>,
}

impl TensorSpec {
    fn info((name, spec): (&String, &Self)) -> TensorInfo {
        let shape = spec.shape.iter().map(|d| match d {
            Dimension::Fixed(n) => Some(*n),
            Dimension::Symbol(_) => None,
        });
        TensorInfo { name: name.clone(), dtype: spec.dtype.clone(), shape: shape.collect() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Dimension {
    Fixed(usize),
    Symbol(String),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct HashSpec {
    scheme: String,
    #[serde(rename = "algorithm")]
    _algorithm: Option<String>,
    #[serde(rename = "seed")]
    _seed: Option<u64>,
    #[serde(rename = "message")]
    _message: Option<String>,
    #[serde(rename = "row")]
    _row: Option<String>,
}

/// How to read `logit_variance`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalSpec {
    /// How the variance was made, for people.
    pub method: String,
    /// What one interval is about, for example a creative.
    pub unit: String,
    /// Level of a request that names none.
    pub default_level: f64,
    /// File of [`Calibration`](super::Calibration).
    pub calibration: String,
}

/// Where worked examples are and how closely they must be reproduced.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenSpec {
    /// File of worked examples, one JSON object a line.
    pub file: String,
    /// Largest absolute difference of a logit.
    pub logit_abs_tol: f32,
    /// Largest relative difference of a variance.
    pub variance_rel_tol: f32,
}

impl FeatureSpec {
    /// Reads and checks a feature spec.
    ///
    /// # Errors
    /// [`SpecError`] names the first thing that is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        struct OnlyVersion {
            contract_version: u32,
        }
        let OnlyVersion { contract_version } = serde_json::from_slice(json)?;
        if contract_version != CONTRACT_VERSION {
            return Err(SpecError::ContractVersion(contract_version));
        }
        let spec: Self = serde_json::from_slice(json)?;
        spec.check_model()?;
        spec.check_fields()?;
        spec.check_interval()?;
        spec.check_files()?;
        Ok(spec)
    }

    /// Columns of the input `ids`, int64 `[batch, slots]`.
    #[must_use]
    pub fn slots(&self) -> usize {
        width(self.model.inputs.get("ids"))
    }

    /// Columns of the input `dense`, float32 `[batch, columns]`; 0 where the model has no such input.
    #[must_use]
    pub fn columns(&self) -> usize {
        width(self.model.inputs.get("dense"))
    }

    /// Whether the model gives `logit_variance` beside `logit`.
    #[must_use]
    pub fn has_variance(&self) -> bool {
        self.model.outputs.contains_key("logit_variance")
    }

    /// The least and greatest id that the encoder puts in each slot.
    #[must_use]
    pub fn id_bounds(&self) -> Vec<(i64, i64)> {
        let mut bounds = vec![(0, 0); self.slots()];
        for field in &self.fields {
            if let Occupied::Rows { offset, rows, slots } = field.occupied() {
                for &slot in slots {
                    bounds[slot] = (i64::from(offset), i64::from(offset) + i64::from(rows) - 1);
                }
            }
        }
        bounds
    }

    /// Input name of the feature that fills each column of `ids`.
    #[must_use]
    pub fn slot_inputs(&self) -> Vec<String> {
        let mut inputs = vec![String::new(); self.slots()];
        for field in &self.fields {
            if let Occupied::Rows { slots, .. } = field.occupied() {
                slots.iter().for_each(|&slot| inputs[slot] = field.input().to_owned());
            }
        }
        inputs
    }

    /// Input name of the feature that fills each column of `dense`.
    #[must_use]
    pub fn column_inputs(&self) -> Vec<String> {
        let mut inputs = vec![String::new(); self.columns()];
        for field in &self.fields {
            if let Occupied::Column(column) = field.occupied() {
                inputs[column] = field.input().to_owned();
            }
        }
        inputs
    }

    /// Request inputs that name entities whose features are stored; each once.
    #[must_use]
    pub fn entity_keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        for field in &self.fields {
            if let Source::FeatureStore { entity_key, .. } = field.source()
                && !keys.contains(&entity_key.as_str())
            {
                keys.push(entity_key);
            }
        }
        keys
    }

    /// Whether rows of some feature mean something to this version only.
    #[must_use]
    pub fn has_vocabulary(&self) -> bool {
        self.fields.iter().any(|f| f.vocabulary_file().is_some())
    }

    /// What the model's session must look like.
    #[must_use]
    pub fn signature(&self) -> Signature {
        let tensors = |group: &BTreeMap<String, TensorSpec>| group.iter().map(TensorSpec::info).collect();
        Signature { inputs: tensors(&self.model.inputs), outputs: tensors(&self.model.outputs) }
    }

    fn check_model(&self) -> Result<(), SpecError> {
        let model = &self.model;
        if model.kind != "ctr" {
            return Err(SpecError::at("model.kind", format!("is {:?}, must be \"ctr\"", model.kind)));
        }
        if self.hash.scheme != SCHEME {
            return Err(SpecError::at("hash.scheme", format!("is {:?}, must be {SCHEME:?}", self.hash.scheme)));
        }
        let check = |group: &str, tensors: &BTreeMap<String, TensorSpec>, rules: &[(&str, &str, usize)]| {
            for (name, tensor) in tensors {
                let at = format!("model.{group}.{name}");
                let Some((_, dtype, rank)) = rules.iter().find(|(known, ..)| known == name) else {
                    let known: Vec<_> = rules.iter().map(|(known, ..)| *known).collect();
                    return Err(SpecError::at(at, format!("is not in the contract, which has {}", known.join(", "))));
                };
                let fits = tensor.dtype == *dtype
                    && tensor.shape.len() == *rank
                    && matches!(tensor.shape[0], Dimension::Symbol(_))
                    && tensor.shape[1..].iter().all(|d| matches!(d, Dimension::Fixed(1..=MAX_WIDTH)));
                if !fits {
                    let shape =
                        if *rank == 1 { "[\"batch\"]".to_owned() } else { format!("[\"batch\", 1 to {MAX_WIDTH}]") };
                    return Err(SpecError::at(at, format!("must be {dtype} {shape}")));
                }
            }
            Ok(())
        };
        check("inputs", &model.inputs, &[("ids", "int64", 2), ("dense", "float32", 2)])?;
        check("outputs", &model.outputs, &[("logit", "float32", 1), ("logit_variance", "float32", 1)])?;
        if !model.inputs.contains_key("ids") {
            return Err(SpecError::at("model.inputs.ids", "is missing"));
        }
        if !model.outputs.contains_key("logit") {
            return Err(SpecError::at("model.outputs.logit", "is missing"));
        }
        Ok(())
    }

    fn check_fields(&self) -> Result<(), SpecError> {
        let mut inputs = BTreeSet::new();
        let mut names = BTreeSet::new();
        let mut slots = Tiling::new("ids", self.slots());
        let mut columns = Tiling::new("dense", self.columns());
        let mut ranges: Vec<(u32, u32, &str)> = Vec::new();
        for field in &self.fields {
            let name = field.name();
            let at = format!("fields[{name:?}]");
            if !names.insert(name) {
                return Err(SpecError::at(at, "stands twice"));
            }
            if !inputs.insert(field.input()) {
                return Err(SpecError::at(at, format!("shares the input {:?} with another field", field.input())));
            }
            field.check(&at)?;
            match field.occupied() {
                Occupied::Column(column) => columns.take(column, &at)?,
                Occupied::Rows { offset, rows, slots: taken } => {
                    for &slot in taken {
                        slots.take(slot, &at)?;
                    }
                    let end = offset.checked_add(rows).filter(|end| *end <= self.table_rows).ok_or_else(|| {
                        let reason = format!("rows {offset} + {rows} reach past table_rows {}", self.table_rows);
                        SpecError::at(&at, reason)
                    })?;
                    ranges.push((offset, end, name));
                }
            }
        }
        slots.finish()?;
        columns.finish()?;
        self.check_keys()?;
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if pair[1].0 < pair[0].1 {
                let at = format!("fields[{:?}]", pair[1].2);
                return Err(SpecError::at(at, format!("shares table rows with {:?}", pair[0].2)));
            }
        }
        Ok(())
    }

    /// An input that names entities may be a feature too, if requests carry it as one value.
    fn check_keys(&self) -> Result<(), SpecError> {
        for key in self.entity_keys() {
            let Some(field) = self.fields.iter().find(|field| field.input() == key) else { continue };
            let one_value = matches!(field, FieldSpec::Categorical { multi: None, .. });
            if !one_value || matches!(field.source(), Source::FeatureStore { .. }) {
                let at = format!("fields[{:?}]", field.name());
                return Err(SpecError::at(at, "holds keys of entities, so it must be a category that requests carry"));
            }
        }
        Ok(())
    }

    fn check_interval(&self) -> Result<(), SpecError> {
        match (&self.interval, self.has_variance()) {
            (Some(interval), true) => Level::new(interval.default_level)
                .map(|_| ())
                .map_err(|e| SpecError::at("interval.default_level", e.to_string())),
            (None, false) => Ok(()),
            (Some(_), false) => Err(SpecError::at("interval", "needs a model output `logit_variance`")),
            (None, true) => Err(SpecError::at("interval", "is missing although the model gives `logit_variance`")),
        }
    }

    fn check_files(&self) -> Result<(), SpecError> {
        digests::check(&self.files_sha256, self.required_files()).map_err(|(at, reason)| SpecError::at(at, reason))?;
        let tolerances = [self.golden.logit_abs_tol, self.golden.variance_rel_tol];
        if !tolerances.iter().all(|t| t.is_finite() && *t > 0.0) {
            return Err(SpecError::at("golden", "tolerances must be finite and above 0"));
        }
        Ok(())
    }

    /// Every file that the spec refers to.
    pub fn required_files(&self) -> impl Iterator<Item = &str> {
        let vocabularies = self.fields.iter().filter_map(FieldSpec::vocabulary_file);
        let calibration = self.interval.as_ref().map(|i| i.calibration.as_str());
        let files = [self.model.file.as_str(), self.golden.file.as_str()].into_iter();
        files.chain(vocabularies).chain(calibration).chain(self.profile.as_deref())
    }
}

fn width(tensor: Option<&TensorSpec>) -> usize {
    match tensor.and_then(|t| t.shape.get(1)) {
        Some(Dimension::Fixed(n)) => *n,
        _ => 0,
    }
}

/// Checks that fields fill an input's columns exactly once.
struct Tiling {
    input: &'static str,
    taken: Vec<bool>,
}

impl Tiling {
    fn new(input: &'static str, width: usize) -> Self {
        Self { input, taken: vec![false; width] }
    }

    fn take(&mut self, index: usize, at: &str) -> Result<(), SpecError> {
        let (input, width) = (self.input, self.taken.len());
        match self.taken.get_mut(index) {
            Some(taken) if *taken => Err(SpecError::at(at, format!("takes column {index} of `{input}` a second time"))),
            Some(taken) => {
                *taken = true;
                Ok(())
            }
            None => Err(SpecError::at(at, format!("takes column {index} of `{input}`, which has {width}"))),
        }
    }

    fn finish(&self) -> Result<(), SpecError> {
        match self.taken.iter().position(|taken| !taken) {
            Some(index) => Err(SpecError::at("fields", format!("none fills column {index} of `{}`", self.input))),
            None => Ok(()),
        }
    }
}
