//! `forecast_spec.json`: what a forecaster takes and gives, as shipped with the model.
//!
//! [`ForecastSpec::parse`] reads the file and checks all that can be checked without the model. An unknown key is an
//! error: a misspelt `missing` that went unnoticed would let gaps pass for values.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    forecast::frequency::{Frequency, FrequencyError},
    model::{Signature, TensorInfo, digests},
};

/// Version of the contract that this engine reads.
const CONTRACT_VERSION: u32 = 1;

/// Values of one row of an input or output, at most: a bound on what a few bytes of JSON can make the engine allocate.
const MAX_WIDTH: usize = 1 << 20;
/// Quantiles, at most.
const MAX_QUANTILES: usize = 100;

/// Name of the model's input.
const INPUT: &str = "context";
/// Name of the model's output.
const OUTPUT: &str = "quantiles";
/// The probability whose quantile is the point forecast.
pub(super) const MEDIAN: f64 = 0.5;

/// A spec that cannot be served, and what to mend.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Not JSON of the expected shape.
    #[error("forecast_spec.json is not a valid forecast spec: {0}")]
    Json(#[from] serde_json::Error),
    /// Made for another engine.
    #[error(
        "forecast_spec.json has contract_version {0}, this engine reads version {CONTRACT_VERSION}: export the model again"
    )]
    ContractVersion(u32),
    /// A value that contradicts the contract or another value.
    #[error("forecast_spec.json: {at}: {reason}")]
    Invalid {
        /// Where, as a path of keys.
        at: String,
        /// What is wrong.
        reason: String,
    },
}

fn at(at: impl Into<String>, reason: impl Into<String>) -> SpecError {
    SpecError::Invalid { at: at.into(), reason: reason.into() }
}

/// A forecast spec that passed every check.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastSpec {
    /// Version of the contract, 1.
    pub contract_version: u32,
    /// The model file.
    pub model: ModelSpec,
    /// The step between values, and between forecasts.
    pub frequency: Step,
    /// Values that the model sees.
    pub context_length: usize,
    /// Steps that it forecasts.
    pub horizon: usize,
    /// Probabilities of its quantiles, ascending; 0.5 is among them.
    pub quantiles: Vec<f64>,
    /// What becomes of missing values.
    pub missing: Missing,
    /// Worked examples.
    pub golden: GoldenSpec,
    /// SHA-256 in lower-case hex of every other file of the artifact that the engine reads.
    pub files_sha256: BTreeMap<String, String>,
}

/// The model file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
}

/// A frequency and its name in the spec.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Step {
    name: String,
    /// What it does.
    pub frequency: Frequency,
}

impl TryFrom<String> for Step {
    type Error = FrequencyError;

    fn try_from(name: String) -> Result<Self, FrequencyError> {
        Ok(Self { frequency: Frequency::parse(&name)?, name })
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// What becomes of missing values: NaN, dates left out, and those that a short series lacks at its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum Missing {
    /// None may be.
    Reject {},
    /// The model takes them as NaN.
    Nan {
        /// Values that must be there.
        min_values: usize,
    },
}

/// Where worked examples are and how closely they must be reproduced.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenSpec {
    /// File of worked examples, one JSON object a line.
    pub file: String,
    /// Largest difference of an output, as a share of the example's largest absolute output.
    pub relative_tolerance: f32,
}

impl ForecastSpec {
    /// Reads and checks a forecast spec.
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
        spec.check_sizes()?;
        spec.check_quantiles()?;
        spec.check_files()?;
        Ok(spec)
    }

    /// What the model's session must look like.
    #[must_use]
    pub fn signature(&self) -> Signature {
        let tensor = |name: &str, sizes: &[usize]| TensorInfo {
            name: name.to_owned(),
            dtype: "float32".to_owned(),
            shape: std::iter::once(None).chain(sizes.iter().copied().map(Some)).collect(),
        };
        Signature {
            inputs: vec![tensor(INPUT, &[self.context_length])],
            outputs: vec![tensor(OUTPUT, &[self.horizon, self.quantiles.len()])],
        }
    }

    /// Values that must be there, of the last [`context_length`](Self::context_length).
    #[must_use]
    pub fn min_values(&self) -> usize {
        match self.missing {
            Missing::Reject {} => self.context_length,
            Missing::Nan { min_values } => min_values,
        }
    }

    fn check_sizes(&self) -> Result<(), SpecError> {
        if self.model.kind != "forecast" {
            return Err(at("model.kind", format!("is {:?}, must be \"forecast\"", self.model.kind)));
        }
        let within = |name: &str, size: usize, most: usize| match size {
            size if (1..=most).contains(&size) => Ok(()),
            size => Err(at(name, format!("is {size}, must be 1 to {most}"))),
        };
        within("context_length", self.context_length, MAX_WIDTH)?;
        within("horizon", self.horizon, MAX_WIDTH / MAX_QUANTILES)?;
        within("missing.min_values", self.min_values(), self.context_length)
    }

    fn check_quantiles(&self) -> Result<(), SpecError> {
        let quantiles = &self.quantiles;
        if quantiles.len() > MAX_QUANTILES {
            return Err(at("quantiles", format!("are {}, at most {MAX_QUANTILES} may be", quantiles.len())));
        }
        if let Some(bad) = quantiles.iter().find(|p| !(**p > 0.0 && **p < 1.0)) {
            return Err(at("quantiles", format!("{bad} is not above 0 and below 1")));
        }
        if let Some(pair) = quantiles.windows(2).find(|pair| pair[1] <= pair[0]) {
            return Err(at("quantiles", format!("must ascend, and {} follows {}", pair[1], pair[0])));
        }
        if !quantiles.contains(&MEDIAN) {
            return Err(at("quantiles", "lack 0.5, the point forecast"));
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), SpecError> {
        let required = [self.model.file.as_str(), self.golden.file.as_str()];
        digests::check(&self.files_sha256, required).map_err(|(key, reason)| at(key, reason))?;
        let tolerance = self.golden.relative_tolerance;
        if !(tolerance.is_finite() && tolerance > 0.0) {
            return Err(at("golden.relative_tolerance", "must be finite and above 0"));
        }
        Ok(())
    }
}

/// A spec of the tests' forecasters, by its keys.
#[cfg(test)]
pub(super) fn example() -> serde_json::Value {
    serde_json::json!({
        "contract_version": 1,
        "model": {"name": "m", "kind": "forecast", "file": "model.onnx", "opset": 17},
        "frequency": "h",
        "context_length": 4,
        "horizon": 2,
        "quantiles": [0.1, 0.5, 0.9],
        "missing": {"policy": "nan", "min_values": 2},
        "golden": {"file": "golden.jsonl", "relative_tolerance": 1e-4},
        "files_sha256": {"model.onnx": "0".repeat(64), "golden.jsonl": "0".repeat(64)},
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_spec_says_what_the_session_must_look_like() {
        let spec = ForecastSpec::parse(example().to_string().as_bytes()).unwrap();
        let signature = spec.signature();
        assert_eq!(signature.inputs[0].to_string(), "context float32 [batch, 4]");
        assert_eq!(signature.outputs[0].to_string(), "quantiles float32 [batch, 2, 3]");
        assert_eq!((spec.min_values(), spec.frequency.to_string()), (2, "h".to_owned()));
        let strict = ForecastSpec { missing: Missing::Reject {}, ..spec };
        assert_eq!(strict.min_values(), 4);
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        let with = |pointer: &str, value: Value| {
            let mut spec = example();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
            spec
        };
        let cases = [
            (with("/contract_version", json!(2)), "contract_version 2"),
            (with("/scaling", json!("in_graph")), "unknown field `scaling`"),
            (with("/missing/fill", json!(0)), "unknown field `fill`"),
            (with("/missing", json!({"policy": "reject", "min_values": 3})), "unknown field `min_values`"),
            (with("/missing", json!({"policy": "nan"})), "missing field `min_values`"),
            (with("/missing/min_values", json!(5)), "missing.min_values: is 5, must be 1 to 4"),
            (with("/missing/min_values", json!(0)), "missing.min_values: is 0"),
            (with("/model/kind", json!("ctr")), "model.kind: is \"ctr\""),
            (with("/frequency", json!("fortnight")), "frequency `fortnight` is unknown"),
            (with("/context_length", json!(0)), "context_length: is 0"),
            (with("/context_length", json!(1 << 30)), "context_length: is 1073741824, must be 1 to 1048576"),
            (with("/horizon", json!(0)), "horizon: is 0"),
            (with("/quantiles", json!([0.1, 0.9])), "lack 0.5"),
            (with("/quantiles", json!([0.5, 0.1])), "must ascend, and 0.1 follows 0.5"),
            (with("/quantiles", json!([0.5, 0.5])), "must ascend"),
            (with("/quantiles", json!([0.5, 1.0])), "1 is not above 0 and below 1"),
            (with("/files_sha256/model.onnx", json!("A")), "is not a SHA-256"),
            (with("/files_sha256/..", json!("0".repeat(64))), "files_sha256[\"..\"]: is not a plain path"),
            (with("/model/file", json!("other.onnx")), "files_sha256: lacks \"other.onnx\""),
            (with("/golden/relative_tolerance", json!(0)), "golden.relative_tolerance"),
        ];
        for (spec, part) in cases {
            let error = ForecastSpec::parse(spec.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("forecast_spec.json") && error.contains(part), "{part}: {error}");
        }
    }
}
